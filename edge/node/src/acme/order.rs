//! One order of one certificate at the authority (RFC 8555, section 7.4): the account, the proof that the name leads
//! here, the certificate.

use std::io;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationHandle, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, Identifier,
    NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};

use eyot_front::Challenge;

use super::answers::Answers;
use super::http::Http;
use super::store::Store;
use crate::config::{Acme, ChallengeKind};

/// How long the authority may take to look at the proof, and then to issue.
const POLL: Duration = Duration::from_secs(90);
/// Authorizations of one order; there is one name.
const AUTHORIZATIONS_MAX: usize = 8;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum OrderError {
    /// What the authority said, or that it did not.
    #[error(transparent)]
    Authority(#[from] Error),
    /// Nothing that it offers is in the config.
    #[error("the authority offers none of the challenges that node.toml names: {offered}")]
    Challenges {
        /// What it offers.
        offered: String,
    },
    /// The disk.
    #[error("the account cannot be kept: {0}")]
    Disk(#[from] io::Error),
    /// The proof was not believed.
    #[error("the authority does not believe that the name leads here: {0}")]
    Proof(String),
    /// The request for it could not be made.
    #[error("the request cannot be made: {0}")]
    Request(String),
}

impl OrderError {
    /// The type of the authority's problem, without its prefix.
    pub(super) fn kind(&self) -> Option<&str> {
        match self {
            Self::Authority(Error::Api(problem)) => {
                problem.r#type.as_deref()?.strip_prefix("urn:ietf:params:acme:error:")
            }
            _ => None,
        }
    }

    /// What an operator may do about it.
    pub(super) fn advice(&self) -> &'static str {
        match (self, self.kind()) {
            (_, Some("rateLimited")) => "wait: it is tried again when the authority allows it",
            (_, Some("accountDoesNotExist")) => "nothing: a new account is made at the next try",
            (_, Some("caa")) => "let the name's CAA record allow this authority",
            (_, Some("rejectedIdentifier")) => "take the name out of `names`, or ask another authority",
            (_, Some("userActionRequired")) => "agree to the authority's new terms where it says",
            (_, Some("externalAccountRequired")) => "name a directory that needs no external account",
            (Self::Proof(_), _) => {
                "let the name's A and AAAA records lead to this fleet, and port 80 (http-01) or 443 (tls-alpn-01) reach it"
            }
            (Self::Challenges { .. }, _) => "name another of `http-01`, `tls-alpn-01` in `challenges`",
            (Self::Disk(_), _) => "make room in the state folder, or let this user write there",
            (Self::Authority(_), None) => "let this node reach `directory`; a private one needs its `ca`",
            _ => "see what the authority says",
        }
    }
}

/// The account at the directory: the one that is kept, or a new one.
pub(super) async fn account(config: &Acme, store: &Store, http: &Http) -> Result<Account, OrderError> {
    let builder = Account::builder_with_http(Box::new(http.clone()));
    if let Some(known) = store.account(&config.directory) {
        return Ok(builder.from_credentials(known).await?);
    }
    let contact: Vec<&str> = config.contact.iter().map(String::as_str).collect();
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let (account, credentials) = builder.create(&new, config.directory.clone(), None).await?;
    // Kept before it is used: an account that is lost is a certificate that cannot be revoked.
    store.put_account(&config.directory, &credentials)?;
    tracing::info!(directory = config.directory, "an ACME account was made");
    Ok(account)
}

/// Orders a certificate for `name`; the key and the chain, PEM. `tries` counts the failures before: each asks for the
/// next of the config's challenges. `replaces` names the certificate that this one follows.
pub(super) async fn order(
    account: &Account,
    name: &str,
    kinds: &[ChallengeKind],
    tries: u32,
    replaces: Option<CertificateIdentifier<'_>>,
    answers: &Answers,
) -> Result<String, OrderError> {
    let mut order = begin(account, name, replaces).await?;
    let mut proven = Vec::new();
    let outcome = prove(&mut order, name, kinds, tries, answers, &mut proven).await;
    for challenge in &proven {
        answers.remove(challenge);
    }
    outcome?;
    let (request, key) = request(name).map_err(|error| OrderError::Request(error.to_string()))?;
    order.finalize_csr(&request).await?;
    let chain = order.poll_certificate(&policy()).await?;
    Ok(format!("{}{chain}", key.serialize_pem()))
}

/// Begins an order. An authority that refuses to hear what it replaces is asked without.
async fn begin(
    account: &Account,
    name: &str,
    replaces: Option<CertificateIdentifier<'_>>,
) -> Result<Order, OrderError> {
    let identifiers = [Identifier::Dns(name.to_owned())];
    if let Some(replaces) = replaces {
        match account.new_order(&NewOrder::new(&identifiers).replaces(replaces)).await {
            Ok(order) => return Ok(order),
            Err(error) => tracing::debug!(name, %error, "the order does not say what it replaces"),
        }
    }
    Ok(account.new_order(&NewOrder::new(&identifiers)).await?)
}

/// Proves what the order asks for; the challenges that are answered are added to `proven`.
async fn prove(
    order: &mut Order,
    name: &str,
    kinds: &[ChallengeKind],
    tries: u32,
    answers: &Answers,
    proven: &mut Vec<Challenge>,
) -> Result<(), OrderError> {
    let mut authorizations = order.authorizations();
    for _ in 0..AUTHORIZATIONS_MAX {
        let Some(authorization) = authorizations.next().await else { break };
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let kind = choose(&authorization, kinds, tries)?;
        let Some(mut challenge) = authorization.challenge(kind) else { continue };
        let answer = Challenge::new(name, &challenge.token, challenge.key_authorization().as_str());
        let answer = answer.ok_or_else(|| OrderError::Proof("its challenge is malformed".to_owned()))?;
        answers.put(&answer).await.map_err(|error| OrderError::Proof(error.to_string()))?;
        proven.push(answer);
        challenge.set_ready().await?;
    }
    match order.poll_ready(&policy()).await {
        Ok(OrderStatus::Ready | OrderStatus::Valid) => Ok(()),
        Ok(_) => Err(OrderError::Proof(why(order).await.unwrap_or_else(|| "it does not say why".to_owned()))),
        // It says of the order what it says better of its authorization.
        Err(error @ Error::Api(_)) => Err(why(order).await.map_or(OrderError::Authority(error), OrderError::Proof)),
        Err(error) => Err(error.into()),
    }
}

/// The first of the config's challenges that is offered, counted from the one whose turn it is.
fn choose(
    authorization: &AuthorizationHandle<'_>,
    kinds: &[ChallengeKind],
    tries: u32,
) -> Result<ChallengeType, OrderError> {
    let offers = |kind: &ChallengeType| authorization.challenges.iter().any(|offered| offered.r#type == *kind);
    let first = usize::try_from(tries).unwrap_or(0) % kinds.len().max(1);
    let turn = kinds.iter().cycle().skip(first).take(kinds.len()).map(|kind| match kind {
        ChallengeKind::Http01 => ChallengeType::Http01,
        ChallengeKind::TlsAlpn01 => ChallengeType::TlsAlpn01,
    });
    turn.into_iter().find(offers).ok_or_else(|| {
        let offered = authorization.challenges.iter().take(8).map(|offered| format!("{:?}", offered.r#type));
        OrderError::Challenges { offered: offered.collect::<Vec<_>>().join(", ") }
    })
}

/// What the authority says against the proof.
async fn why(order: &mut Order) -> Option<String> {
    let mut authorizations = order.authorizations();
    for _ in 0..AUTHORIZATIONS_MAX {
        let mut authorization = authorizations.next().await?.ok()?;
        let state = authorization.refresh().await.ok()?;
        let problem = state.challenges.iter().find_map(|challenge| challenge.error.as_ref());
        if let Some(problem) = problem {
            return Some(problem.to_string());
        }
    }
    None
}

/// A request for a certificate (RFC 2986), DER, and its new key.
fn request(name: &str) -> Result<(Vec<u8>, KeyPair), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    Ok((params.serialize_request(&key)?.der().to_vec(), key))
}

fn policy() -> RetryPolicy {
    RetryPolicy::new().initial_delay(Duration::from_millis(250)).backoff(1.5).timeout(POLL)
}
