//! Databases made here, byte by byte, as the format says (MaxMind DB, version 2).

use super::*;

/// A value of the format.
pub(crate) enum Value {
    Array(Vec<Value>),
    Double(f64),
    Map(Vec<(&'static str, Value)>),
    Text(&'static str),
    Unsigned16(u16),
    Unsigned32(u32),
    Unsigned64(u64),
}

use Value::{Array, Double, Map, Text, Unsigned16, Unsigned32, Unsigned64};

impl Value {
    /// The type's number, and what follows.
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Array(all) => head(out, 11, all.len()),
            Double(_) => head(out, 3, 8),
            Map(all) => head(out, 7, all.len()),
            Text(text) => head(out, 2, text.len()),
            Unsigned16(_) => head(out, 5, 2),
            Unsigned32(_) => head(out, 6, 4),
            Unsigned64(_) => head(out, 9, 8),
        }
        match self {
            Array(all) => all.iter().for_each(|value| value.write(out)),
            Double(number) => out.extend(number.to_be_bytes()),
            Map(all) => all.iter().for_each(|(key, value)| {
                Text(key).write(out);
                value.write(out);
            }),
            Text(text) => out.extend(text.as_bytes()),
            Unsigned16(number) => out.extend(number.to_be_bytes()),
            Unsigned32(number) => out.extend(number.to_be_bytes()),
            Unsigned64(number) => out.extend(number.to_be_bytes()),
        }
    }
}

fn head(out: &mut Vec<u8>, kind: u8, size: usize) {
    let size = u8::try_from(size).expect("small");
    assert!(size < 29, "larger ones are written otherwise");
    match kind {
        ..8 => out.push(kind << 5 | size),
        _ => out.extend([size, kind - 7]),
    }
}

/// A database that knows 203.0.113.0/24 alone.
pub(crate) fn database(record: &Value) -> Vec<u8> {
    const BITS: u32 = 24;
    let mut out = Vec::new();
    for bit in 0..BITS {
        let goes_on = if bit + 1 == BITS { BITS + 16 } else { bit + 1 };
        let one = [203_u8, 0, 113][bit as usize / 8] >> (7 - bit % 8) & 1;
        let mut records = [BITS, BITS];
        records[usize::from(one)] = goes_on;
        records.iter().for_each(|record| out.extend(&record.to_be_bytes()[1..]));
    }
    out.extend([0; 16]);
    record.write(&mut out);
    out.extend(b"\xab\xcd\xefMaxMind.com");
    let metadata = Map(vec![
        ("binary_format_major_version", Unsigned16(2)),
        ("binary_format_minor_version", Unsigned16(0)),
        ("build_epoch", Unsigned64(1)),
        ("database_type", Text("Test")),
        ("description", Map(Vec::new())),
        ("ip_version", Unsigned16(4)),
        ("languages", Array(Vec::new())),
        ("node_count", Unsigned32(BITS)),
        ("record_size", Unsigned16(24)),
    ]);
    metadata.write(&mut out);
    out
}

/// What is known of an address, by these databases.
fn found(places: Option<&Value>, networks: Option<&Value>, client: &str) -> Option<Geo> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, record: Option<&Value>| {
        let path = folder.path().join(name);
        record.map(|record| std::fs::write(&path, database(record)).map(|()| path).expect("written"))
    };
    let (places, networks) = (file("places", places), file("networks", networks));
    let databases = Databases::open(places.as_deref(), networks.as_deref()).expect("databases");
    databases.find(client.parse().expect("an address"))
}

pub(crate) fn place(latitude: f64) -> Value {
    Map(vec![
        ("country", Map(vec![("iso_code", Text("BE"))])),
        ("subdivisions", Array(vec![Map(vec![("iso_code", Text("VLG"))])])),
        ("city", Map(vec![("names", Map(vec![("de", Text("Gent")), ("en", Text("Ghent"))]))])),
        ("location", Map(vec![("latitude", Double(latitude)), ("longitude", Double(3.72))])),
        ("autonomous_system_number", Unsigned32(64_496)),
    ])
}

#[test]
fn a_client_is_where_the_databases_say() {
    let text = |text: &str| Some(text.to_owned());
    let here = Geo {
        country: text("BE"),
        region: text("VLG"),
        city: text("Ghent"),
        latitude: Some(51.05),
        longitude: Some(3.72),
        asn: Some(64_496),
    };
    let network = Map(vec![("autonomous_system_number", Unsigned32(64_500))]);
    assert_eq!(found(Some(&place(51.05)), None, "203.0.113.7"), Some(here.clone()));
    let both = found(Some(&place(51.05)), Some(&network), "203.0.113.7");
    assert_eq!(both, Some(Geo { asn: Some(64_500), ..here.clone() }));
    assert_eq!(found(None, Some(&network), "203.0.113.7"), Some(Geo { asn: Some(64_500), ..Geo::default() }));
    let nowhere = found(Some(&place(f64::NAN)), None, "203.0.113.7");
    assert_eq!(nowhere, Some(Geo { latitude: None, ..here }), "what is out of range is not told");
    let odd = Map(vec![("country", Text("BE")), ("city", Array(Vec::new()))]);
    assert_eq!(found(Some(&odd), None, "203.0.113.7"), Some(Geo::default()), "what has another form is not told");
    for unknown in ["203.0.114.7", "2001:db8::7"] {
        assert_eq!(found(Some(&place(51.05)), Some(&network), unknown), None, "{unknown}");
    }
    assert_eq!(found(None, None, "203.0.113.7"), None);
}

#[test]
fn what_is_no_database_is_refused_when_the_node_starts() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("places");
    assert!(Databases::open(Some(&path), None).is_err());
    std::fs::write(&path, b"no database").expect("written");
    let error = Databases::open(Some(&path), None).expect_err("refused");
    assert!(error.to_string().contains("places"), "{error}");
    let whole = database(&place(51.05));
    std::fs::write(&path, &whole).expect("written");
    assert!(read(&path, whole.len() as u64).is_ok());
    let error = read(&path, whole.len() as u64 - 1).expect_err("too large");
    assert!(error.source.to_string().contains("more than"), "{}", error.source);
}
