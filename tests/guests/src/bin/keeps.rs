//! Says of its answer what the query says: `?ms=60000&key=a&key=b`; and answers with a number that no other call has.

wit_bindgen::generate!({
    path: "../../functions/wit",
    inline: "
        package guests:keeps;
        world keeps {
            include eyot:edge/imports@0.1.0;
        }
    ",
    world: "guests:keeps/keeps",
    generate_all,
});

use eyot::edge::cache;

guests::guest!(|request: wasip2::http::types::IncomingRequest, out| {
    let path = request.path_with_query().unwrap_or_default();
    let mut keys = Vec::new();
    for pair in path.split_once('?').map_or("", |(_, query)| query).split('&') {
        match pair.split_once('=') {
            Some(("ms", ms)) => cache::keep(ms.parse().expect("a number")).expect("a time"),
            Some(("key", key)) => keys.push(key.to_owned()),
            _ => {}
        }
    }
    cache::add_keys(&keys).expect("good keys");
    let number = wasip2::random::random::get_random_u64();
    guests::answer(out, 200, &[("cache-control", "no-store")], number.to_string().as_bytes());
});
