//! Who may ask, by credentials. Comparing a password costs work, so it is done aside, by few at once, once for each that
//! is right, and not for who guesses on: those who guess neither hold up other requests nor learn much.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use eyot_bundle::credential::Password;
use eyot_bundle::release::policy;
use eyot_plan::fault::{Code, Fault};
use eyot_plan::policy::auth::{Auth, Shown};
use eyot_plan::policy::rate;
use eyot_plan::windows::Key;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::Semaphore;

use crate::shares::Share;

/// Passwords that are compared at once, of one route.
const AT_ONCE: usize = 1;
/// Requests of one route that may wait for that.
const WAITING_MAX: usize = 32;
/// Wrong passwords of one client in [`GUESSES_MS`].
const GUESSES_MAX: u32 = 10;
const GUESSES_MS: u64 = 60_000;

/// Who may ask at one route.
pub(super) struct Guard {
    auth: Auth,
    /// The passwords that were found right, under a key of this guard: the second time it costs nothing.
    known: Mutex<BTreeMap<String, hmac::Tag>>,
    key: hmac::Key,
    turns: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

/// What is said to who is not let in.
pub(super) struct Refused {
    pub(super) fault: Fault,
    pub(super) challenges: Vec<(HeaderName, HeaderValue)>,
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self { fault, challenges: Vec::new() }
    }
}

impl Guard {
    pub(super) fn new(auth: &policy::Auth) -> Result<Self, String> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Ok(Self {
            auth: Auth::new(auth).map_err(|error| error.to_string())?,
            known: Mutex::default(),
            key: key.map_err(|_| "there is no randomness".to_owned())?,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            places: Arc::new(Semaphore::new(WAITING_MAX)),
        })
    }

    /// Whether the target sees the credentials too.
    pub(super) fn passes(&self) -> bool {
        self.auth.pass
    }

    /// Whether a request of `client` with these fields is let in at the route that `id` stands for.
    pub(super) async fn check(
        &self,
        share: &Share,
        id: &str,
        client: IpAddr,
        headers: &HeaderMap,
    ) -> Result<(), Refused> {
        let shown = self.auth.shown(headers);
        let is_in = match &shown {
            Shown::Nothing => false,
            Shown::Token(token) => self.auth.token(token),
            Shown::Password(name, password) => {
                let guesses = guesses(id, client);
                self.knows(name, password) || self.compare(share, &guesses, name, password).await?
            }
        };
        if is_in {
            return Ok(());
        }
        let challenges = self.auth.challenges(&shown).into_iter().map(|value| (WWW_AUTHENTICATE, value));
        Err(Refused { fault: Code::Unauthorized.into(), challenges: challenges.collect() })
    }

    /// Whether this was found to be the name's password before.
    fn knows(&self, name: &str, password: &[u8]) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(name).is_some_and(|tag| hmac::verify(&self.key, password, tag.as_ref()).is_ok())
    }

    async fn compare(&self, share: &Share, guesses: &Key, name: &str, password: &[u8]) -> Result<bool, Fault> {
        let Some((known, is_there)) = self.auth.password(name) else { return Ok(false) };
        let left = share.look(guesses);
        if !left.allowed {
            let mut fault = Fault::new(Code::RateLimited).because("too many wrong passwords");
            fault.retry_after = Some(u32::try_from(left.reset_ms.div_ceil(1_000)).unwrap_or(u32::MAX));
            return Err(fault);
        }
        let is_right = self.aside(known.clone(), password.to_vec()).await? && is_there;
        if is_right {
            let tag = hmac::sign(&self.key, password);
            self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), tag);
        } else {
            share.count(guesses);
        }
        Ok(is_right)
    }

    /// Compares a password where it holds up nobody. Who leaves meanwhile frees no turn: the work goes on.
    async fn aside(&self, known: Password, password: Vec<u8>) -> Result<bool, Fault> {
        let full = |_| Fault::new(Code::Overloaded).because("too many passwords wait to be compared");
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(full)?;
        let over = |_| Fault::new(Code::InternalError).because("passwords are not compared any more");
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(over)?;
        let compared = tokio::task::spawn_blocking(move || {
            let _held = (place, turn);
            known.is(&password)
        });
        compared.await.map_err(|_| Fault::new(Code::InternalError).because("comparing a password failed"))
    }
}

/// What stands for the wrong passwords of a client at a route.
fn guesses(id: &str, client: IpAddr) -> Key {
    Key { key: format!("{id} guesses {}", rate::network(client)), limit: GUESSES_MAX, window_ms: GUESSES_MS }
}
