use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use tempfile::TempDir;

use super::*;

/// Writes a certificate with these names into `folder`; the pair of files.
fn write(folder: &TempDir, file: &str, names: &[&str], key: &KeyPair) -> Files {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let certificate = CertificateParams::new(names).expect("names").self_signed(key).expect("a certificate");
    let (chain_file, key_file) = (folder.path().join(format!("{file}.pem")), folder.path().join(format!("{file}.key")));
    std::fs::write(&chain_file, certificate.pem()).expect("a file");
    std::fs::write(&key_file, key.serialize_pem()).expect("a file");
    Files { chain: chain_file, key: key_file, ocsp: None }
}

fn ecdsa() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key")
}

fn first(certificates: &Certificates, sni: Option<&str>, local: Option<&str>) -> Option<String> {
    let local = local.map(|text| text.parse().expect("an address"));
    certificates.candidates(sni, local).first().map(|entry| entry.name())
}

#[test]
fn a_name_chooses_its_certificate_exact_before_wildcard_and_an_unknown_one_none() {
    let folder = TempDir::new().expect("a folder");
    let certificates = Certificates::load(&[
        write(&folder, "wild", &["*.example.com"], &ecdsa()),
        write(&folder, "shop", &["Shop.example.com", "example.com"], &ecdsa()),
        write(&folder, "ip", &["192.0.2.1", "2001:db8::1"], &ecdsa()),
    ])
    .expect("good files");
    for (sni, local, expect) in [
        (Some("shop.example.com"), None, Some("shop.example.com")),
        (Some("SHOP.example.com"), None, Some("shop.example.com")),
        (Some("api.example.com"), None, Some("*.example.com")),
        (Some("example.com"), None, Some("shop.example.com")),
        (Some("a.b.example.com"), None, None),
        (Some("other.net"), Some("192.0.2.1"), None),
        (None, Some("192.0.2.1"), Some("192.0.2.1")),
        (None, Some("::ffff:192.0.2.1"), Some("192.0.2.1")),
        (None, Some("2001:db8::1"), Some("192.0.2.1")),
        (None, Some("192.0.2.9"), Some("*.example.com")),
        (None, None, Some("*.example.com")),
    ] {
        assert_eq!(first(&certificates, sni, local).as_deref(), expect, "{sni:?} {local:?}");
    }
    assert_eq!(certificates.expiries().len(), 3);
}

#[test]
fn a_certificate_covers_its_names_and_one_label_for_a_star() {
    let folder = TempDir::new().expect("a folder");
    let files = write(&folder, "a", &["*.example.com", "a.net", "127.0.0.1", "::1"], &ecdsa());
    let entry = Entry::read(&files).expect("a good pair");
    for (host, expect) in [
        ("x.example.com", true),
        ("a.net", true),
        ("127.0.0.1", true),
        ("[::1]", true),
        ("example.com", false),
        ("x.y.example.com", false),
        ("b.net", false),
        ("127.0.0.2", false),
        ("[::2]", false),
        ("", false),
        (".example.com", false),
    ] {
        assert_eq!(entry.covers(host), expect, "{host}");
    }
}

#[test]
fn of_two_certificates_for_a_name_the_one_that_is_not_rsa_comes_first() {
    let folder = TempDir::new().expect("a folder");
    let rsa = KeyPair::generate_for(&PKCS_RSA_SHA256).expect("a key");
    let files = [write(&folder, "rsa", &["a.net"], &rsa), write(&folder, "ec", &["a.net"], &ecdsa())];
    let certificates = Certificates::load(&files).expect("good files");
    let rsa_last: Vec<_> = certificates.candidates(Some("a.net"), None).iter().map(|entry| entry.is_rsa()).collect();
    assert_eq!(rsa_last, [false, true]);
}

#[test]
fn a_reload_takes_all_or_keeps_what_was() {
    let folder = TempDir::new().expect("a folder");
    let files = [write(&folder, "a", &["a.net"], &ecdsa()), write(&folder, "b", &["b.net"], &ecdsa())];
    let certificates = Certificates::load(&files).expect("good files");
    write(&folder, "a", &["new.net"], &ecdsa());
    std::fs::write(&files[1].key, "no key").expect("a file");
    let error = certificates.reload().expect_err("the second key is broken").to_string();
    assert!(error.contains("b.key"), "{error}");
    assert_eq!(first(&certificates, Some("a.net"), None).as_deref(), Some("a.net"));
    write(&folder, "b", &["b.net"], &ecdsa());
    certificates.reload().expect("good files");
    assert_eq!(first(&certificates, Some("a.net"), None), None);
    assert_eq!(first(&certificates, Some("new.net"), None).as_deref(), Some("new.net"));
}

#[test]
fn a_pair_that_is_of_no_use_is_refused_by_name() {
    let folder = TempDir::new().expect("a folder");
    let Files { chain, .. } = write(&folder, "a", &["a.net"], &ecdsa());
    let Files { chain: nameless, key: nameless_key, .. } = write(&folder, "nameless", &[], &ecdsa());
    let Files { key: other_key, .. } = write(&folder, "other", &["b.net"], &ecdsa());
    let missing = folder.path().join("missing.pem");
    for (chain, key, blamed) in [
        (&chain, &other_key, "other.key"),
        (&chain, &chain, "a.pem"),
        (&other_key, &other_key, "other.key"),
        (&nameless, &nameless_key, "nameless.pem"),
        (&missing, &other_key, "missing.pem"),
    ] {
        let error = Certificates::load(&[Files { chain: chain.clone(), key: key.clone(), ocsp: None }])
            .expect_err("of no use")
            .to_string();
        assert!(error.contains(blamed), "{error}");
    }
    assert!(matches!(Certificates::load(&[]), Err(Error::NoCertificate)));
}

#[test]
fn a_file_over_a_mib_is_not_loaded_and_a_reload_that_meets_one_keeps_what_was() {
    const MIB: usize = 1 << 20;
    let folder = TempDir::new().expect("a folder");
    let Files { chain, key, .. } = write(&folder, "a", &["a.net"], &ecdsa());
    let certificates =
        Certificates::load(&[Files { chain: chain.clone(), key: key.clone(), ocsp: None }]).expect("good files");
    for file in [&chain, &key] {
        let good = std::fs::read_to_string(file).expect("a file");
        // What stands between the parts of a PEM file is no part of it.
        for (bytes, fits) in [(MIB, true), (MIB + 1, false)] {
            std::fs::write(file, format!("{good}{}", "\n".repeat(bytes - good.len()))).expect("a file");
            let reloaded = certificates.reload().map_err(|error| error.to_string());
            assert_eq!(reloaded.is_ok(), fits, "{bytes}: {reloaded:?}");
            assert!(fits || reloaded.is_err_and(|error| error.contains("is too large")));
            assert_eq!(first(&certificates, Some("a.net"), None).as_deref(), Some("a.net"));
        }
        std::fs::write(file, good).expect("a file");
    }
    let endless = PathBuf::from("/dev/zero");
    let error =
        Certificates::load(&[Files { chain: endless, key, ocsp: None }]).expect_err("it has no end").to_string();
    assert!(error.contains("is too large"), "{error}");
}

/// A response that says this certificate is good, until the end of the century.
pub(crate) fn staple_for(der: &[u8]) -> Vec<u8> {
    use x509_cert::der::Decode as _;
    let certificate = x509_cert::Certificate::from_der(der).expect("a certificate");
    super::staple::tests::good(certificate.tbs_certificate.serial_number.as_bytes(), "20990101000000Z")
}

/// The serial number of the certificate in a file, as its INTEGER has it.
fn serial(files: &Files) -> Vec<u8> {
    use x509_cert::der::DecodePem as _;
    let pem = std::fs::read(&files.chain).expect("a file");
    x509_cert::Certificate::from_pem(pem).expect("a certificate").tbs_certificate.serial_number.as_bytes().to_vec()
}

#[test]
fn a_staple_goes_with_its_certificate_until_it_ends_and_a_bad_one_is_left_out() {
    let folder = TempDir::new().expect("a folder");
    let staple = folder.path().join("a.ocsp");
    let files = Files { ocsp: Some(staple.clone()), ..write(&folder, "a", &["a.net"], &ecdsa()) };
    let (now, serial) = (SystemTime::now(), serial(&files));
    let certificates = Certificates::load(std::slice::from_ref(&files)).expect("without a staple it serves");
    let stapled = |at| certificates.candidates(Some("a.net"), None)[0].key_at(at).ocsp.clone();
    assert_eq!((stapled(now), certificates.shown()[0].stapled_until), (None, None));
    for (bytes, until) in [
        (super::staple::tests::good(&serial, "20990101000000Z"), Some("2099-01-01T00:00:00Z")),
        (b"broken".to_vec(), None),
        (super::staple::tests::good(&serial, "20210101000000Z"), None),
        (super::staple::tests::good(&[1], "20990101000000Z"), None),
    ] {
        std::fs::write(&staple, &bytes).expect("a file");
        certificates.reload().expect("good files");
        let until: Option<SystemTime> = until.map(|until| until.parse::<jiff::Timestamp>().expect("a time").into());
        assert_eq!(stapled(now), until.map(|_| bytes));
        assert_eq!(certificates.shown()[0].stapled_until, until);
        assert_eq!(until.and_then(stapled), None, "it has ended");
    }
}

#[test]
fn what_is_shown_of_a_certificate_is_what_stands_in_it() {
    let folder = TempDir::new().expect("a folder");
    let rsa = KeyPair::generate_for(&PKCS_RSA_SHA256).expect("a key");
    let files = [write(&folder, "ec", &["a.net", "192.0.2.1"], &ecdsa()), write(&folder, "rsa", &["b.net"], &rsa)];
    let shown = Certificates::load(&files).expect("good files").shown();
    assert_eq!(shown[0].names, ["a.net", "192.0.2.1"]);
    assert_eq!((shown[0].algorithm, shown[1].algorithm), ("ECDSA", "RSA"));
    assert_eq!(shown[0].issuer, "CN=rcgen self signed cert");
    assert!(shown[0].begins < SystemTime::now() && SystemTime::now() < shown[0].expires);
}
