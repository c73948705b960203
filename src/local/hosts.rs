//! The hosts of an app on its developer's machine: its own, and `localhost`, which stands for the first of them.

use eyot_bundle::host::HostPattern;
use eyot_bundle::manifest::Manifest;
use eyot_bundle::release::Route;

/// What every browser finds on its own machine.
const LOCALHOST: &str = "localhost";

/// The manifest with `localhost` among its hosts, answered by the routes of its first host, where it has none of its own.
pub(crate) fn with_localhost(manifest: &Manifest) -> Manifest {
    let local = HostPattern::Exact(LOCALHOST.to_owned());
    let mut manifest = manifest.clone();
    if !manifest.hosts.iter().any(|host| host.matches(LOCALHOST)) {
        manifest.hosts.push(local.clone());
    }
    let is_answered = manifest.routes.iter().any(|route| route.host.matches(LOCALHOST));
    let first = manifest.hosts.first().cloned().filter(|_| !is_answered);
    let stands_for = |route: &&Route| first.as_ref().is_some_and(|first| route.host.overlaps(first));
    // Of several patterns the first that holds the host: its routes are all that a request to it would see.
    let pattern = manifest.routes.iter().find(stands_for).map(|route| route.host.clone());
    let routes = manifest.routes.iter().filter(|route| Some(&route.host) == pattern.as_ref());
    let copies: Vec<Route> = routes.map(|route| copy(route, &local)).collect();
    manifest.routes.extend(copies);
    manifest
}

/// The same route for another host.
fn copy(route: &Route, host: &HostPattern) -> Route {
    let rest = route.id.strip_prefix(&route.host.to_string()).unwrap_or(&route.id);
    Route { id: format!("{host}{rest}"), host: host.clone(), ..route.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(hosts: &str, routes: &[(&str, &str)]) -> Vec<String> {
        let mut source = format!("app = \"shop\"\nhosts = {hosts}\n");
        for (host, path) in routes {
            source += &format!("[[routes]]\nhost = \"{host}\"\npath = \"{path}\"\nrespond = {{ status = 200 }}\n");
        }
        let manifest = Manifest::parse("eyot.toml", &source).unwrap_or_else(|problems| panic!("{problems}"));
        with_localhost(&manifest).routes.into_iter().map(|route| route.id).collect()
    }

    #[test]
    fn localhost_answers_as_the_first_host_where_it_has_no_routes_of_its_own() {
        let shop = [("shop.test", "/*"), ("shop.test", "/cart"), ("other.test", "/*")];
        let with = ["shop.test/*", "shop.test/cart", "other.test/*", "localhost/*", "localhost/cart"];
        assert_eq!(routes(r#"["shop.test", "other.test"]"#, &shop), with);
        assert_eq!(routes(r#"["localhost", "shop.test"]"#, &[("localhost", "/*")]), ["localhost/*"]);
        assert_eq!(routes(r#"["*.shop.test"]"#, &[("*.shop.test", "/*")]), ["*.shop.test/*", "localhost/*"]);
        assert_eq!(routes(r#"["*"]"#, &[("*", "/*")]), ["*/*"]);
    }
}
