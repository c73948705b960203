//! The fleet's own authority and the certificates it signs.

use eyot_bundle::name::Name;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use crate::operator::in_days;

/// How long the authority lives.
const CA_DAYS: i64 = 3_650;
/// How long a certificate lives.
const LEAF_DAYS: i64 = 365;

/// A certificate and its key, both PEM.
pub(crate) struct Pair {
    /// The certificate.
    pub(crate) pem: String,
    /// Its private key.
    pub(crate) key: String,
}

/// The fleet's authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub(crate) pem: String,
}

impl Authority {
    /// A new authority for `fleet`.
    pub(crate) fn new(fleet: &Name) -> anyhow::Result<Self> {
        Self::named(&format!("eyot fleet {fleet}"))
    }

    /// A new authority that shows itself as `common`.
    pub(crate) fn named(common: &str) -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = params(Vec::new(), common, CA_DAYS)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// The authority of this certificate and key, both PEM.
    pub(crate) fn load(pem: &str, key: &str) -> anyhow::Result<Self> {
        Ok(Self { issuer: Issuer::from_ca_cert_pem(pem, KeyPair::from_pem(key)?)?, pem: pem.to_owned() })
    }

    /// The authority's private key.
    pub(crate) fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A server certificate for `names`: hosts or addresses.
    pub(crate) fn server(&self, names: &[String]) -> anyhow::Result<Pair> {
        self.server_of(names, &KeyPair::generate()?)
    }

    /// The same, of a key that is there already.
    pub(crate) fn server_of(&self, names: &[String], key: &KeyPair) -> anyhow::Result<Pair> {
        let common = names.first().map_or("eyot", String::as_str);
        let mut params = params(names.to_vec(), common, LEAF_DAYS)?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Ok(Pair { pem: params.signed_by(key, &self.issuer)?.pem(), key: key.serialize_pem() })
    }
}

/// Valid from yesterday, so that a clock that is a little behind does not refuse it.
fn params(names: Vec<String>, common: &str, days: i64) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common);
    let day = |days| {
        let date = in_days(days).to_zoned(jiff::tz::TimeZone::UTC).date();
        rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    params.not_before = day(-1);
    params.not_after = day(days);
    Ok(params)
}
