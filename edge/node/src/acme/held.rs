//! A certificate that is in use, as far as its renewal needs to know it.

use eyot_bundle::digest::Digest;
use eyot_bundle::name::Name;
use instant_acme::CertificateIdentifier;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_cert::der::Decode as _;

use super::when::Life;

/// A certificate.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) life: Life,
    /// How its authority knows it (RFC 9773, section 4.1), where it can.
    pub(super) id: Option<CertificateIdentifier<'static>>,
    /// The directory it came from.
    pub(super) directory: String,
    /// Says when in its time of renewal it is renewed: the same at each start, another on each node.
    pub(super) dice: u64,
}

impl Held {
    /// What the first certificate of a PEM text says.
    pub(super) fn of(pem: &str, directory: String, node: &Name) -> Result<Self, String> {
        let leaf = CertificateDer::pem_slice_iter(pem.as_bytes()).next();
        let leaf = leaf.ok_or("it holds no certificate")?.map_err(|error| error.to_string())?;
        let certificate = x509_cert::Certificate::from_der(&leaf).map_err(|error| error.to_string())?;
        let validity = certificate.tbs_certificate.validity;
        let at =
            |time: x509_cert::time::Time| Timestamp::try_from(time.to_system_time()).map_err(|error| error.to_string());
        let life = Life { begins: at(validity.not_before)?, ends: at(validity.not_after)? };
        let id = CertificateIdentifier::try_from(&leaf).ok().map(|id| id.into_owned());
        let dice = Digest::of(format!("{}/{node}", Digest::of(&leaf)).as_bytes());
        let dice = dice.as_bytes().iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        Ok(Self { life, id, directory, dice })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_has_its_own_place_in_the_time_of_renewal_on_each_node() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(["a.example".to_owned()]).expect("a name");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        let held = |node: &str| Held::of(&pem, "d".to_owned(), &node.parse().expect("a name")).expect("read");
        assert_eq!(held("a").dice, held("a").dice);
        assert_ne!(held("a").dice, held("b").dice);
        assert!(held("a").life.begins < held("a").life.ends);
        assert!(Held::of("no PEM", String::new(), &"a".parse().expect("a name")).is_err());
    }
}
