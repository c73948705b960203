//! Who may ask, by address and country. Where a client is comes in as an argument, and only if a list asks for it.

use core::net::IpAddr;

use eyot_bundle::release::policy::Access;
use ipnet::IpNet;

/// Whether `client` may ask, of whom `country` tells where it is. `deny` goes before `allow`, and each list that is there
/// has its say. A client of unknown country is in no list of countries.
pub fn admits(access: &Access, client: IpAddr, country: impl FnOnce() -> Option<String>) -> bool {
    if holds(&access.deny, client) || (!access.allow.is_empty() && !holds(&access.allow, client)) {
        return false;
    }
    let countries = &access.countries;
    if countries.is_none() {
        return true;
    }
    let country = country();
    let named = |list: &[String]| country.as_ref().is_some_and(|country| list.contains(country));
    !named(&countries.deny) && (countries.allow.is_empty() || named(&countries.allow))
}

/// Whether one of `nets` holds this address; an IPv4 address in its IPv6 form is the IPv4 address.
pub fn holds(nets: &[IpNet], client: IpAddr) -> bool {
    let client = client.to_canonical();
    nets.iter().any(|net| net.contains(&client))
}

#[cfg(test)]
mod tests {
    use eyot_bundle::release::policy::Countries;

    use super::*;

    fn access(allow: &[&str], deny: &[&str], countries: (&[&str], &[&str])) -> Access {
        let nets = |list: &[&str]| list.iter().map(|net| net.parse().expect("a net")).collect();
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let countries = Countries { allow: texts(countries.0), deny: texts(countries.1) };
        Access { allow: nets(allow), deny: nets(deny), countries }
    }

    #[test]
    fn each_list_has_its_say_and_what_is_denied_is_not_allowed() {
        let net = &["203.0.113.0/24", "2001:db8::/32"][..];
        let none = (&[][..], &[][..]);
        for (lists, client, country, expect) in [
            (access(net, &[], none), "203.0.113.9", None, true),
            (access(net, &[], none), "::ffff:203.0.113.9", None, true),
            (access(net, &[], none), "2001:db8:1::1", None, true),
            (access(net, &[], none), "203.0.114.9", None, false),
            (access(net, &[], none), "2001:db9::1", None, false),
            (access(net, &["203.0.113.9/32"], none), "203.0.113.9", None, false),
            (access(net, &["203.0.113.9/32"], none), "::ffff:203.0.113.9", None, false),
            (access(net, &["203.0.113.9/32"], none), "203.0.113.8", None, true),
            (access(&[], &["203.0.113.9/32"], none), "198.51.100.1", None, true),
            (access(&[], &[], (&["DE", "FR"], &[])), "198.51.100.1", Some("FR"), true),
            (access(&[], &[], (&["DE", "FR"], &[])), "198.51.100.1", Some("US"), false),
            (access(&[], &[], (&["DE", "FR"], &[])), "198.51.100.1", None, false),
            (access(&[], &[], (&[], &["US"])), "198.51.100.1", Some("US"), false),
            (access(&[], &[], (&[], &["US"])), "198.51.100.1", Some("DE"), true),
            (access(&[], &[], (&[], &["US"])), "198.51.100.1", None, true),
            (access(net, &[], (&["DE"], &[])), "203.0.113.9", Some("US"), false),
            (access(net, &[], (&["DE"], &[])), "198.51.100.1", Some("DE"), false),
            (access(net, &[], (&["DE"], &[])), "203.0.113.9", Some("DE"), true),
        ] {
            let address = client.parse().expect("an address");
            assert_eq!(
                admits(&lists, address, || country.map(str::to_owned)),
                expect,
                "{lists:?} {client} {country:?}"
            );
        }
    }

    #[test]
    fn where_a_client_is_is_looked_up_only_if_a_list_asks() {
        let address = "203.0.113.9".parse().expect("an address");
        assert!(admits(&access(&["203.0.113.0/24"], &[], (&[], &[])), address, || panic!("nobody asked")));
        assert!(!admits(&access(&[], &["203.0.113.0/24"], (&["DE"], &[])), address, || panic!(
            "it is refused already"
        )));
    }
}
