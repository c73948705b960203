//! Answers to challenges: this node's own, which it tells to the whole fleet, and those that other nodes tell. The
//! authority may ask any node, so all answer; but only for names that their own config has, and only what a node sealed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use eyot_front::{Challenge, Challenges};
use eyot_link::client::Client;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::seal::Seal;

/// What challenges are sealed as.
const ABOUT: &str = "challenge";
/// How long a sealed challenge is believed.
const GOOD: SignedDuration = SignedDuration::from_secs(600);
/// How long a challenge has to reach the other nodes before the authority is told to ask.
const SPREAD: Duration = Duration::from_secs(1);
/// How long the origin may take to pass one on.
const TELL: Duration = Duration::from_secs(10);

/// A challenge as nodes tell it to each other.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    name: String,
    token: String,
    answer: String,
    /// Until when it is answered.
    until: Timestamp,
}

/// The challenges that this node answers. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Answers(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    challenges: Arc<Challenges>,
    /// Names that may be proven here.
    names: BTreeSet<String>,
    /// Without it nothing is told to other nodes, nor believed from them.
    seal: Option<Seal>,
    /// The way to the other nodes.
    origin: Option<Client>,
}

impl Answers {
    /// Answers for `names`, at the listeners that `challenges` is of.
    pub(super) fn new(
        challenges: Arc<Challenges>,
        names: BTreeSet<String>,
        seal: Option<Seal>,
        origin: Option<Client>,
    ) -> Self {
        Self(Arc::new(Inner { challenges, names, seal, origin }))
    }

    /// Answers a challenge of this node's own, here and, when this returns, most likely at all nodes. That some of them
    /// cannot be reached is no error: the authority may ask here.
    pub(super) async fn put(&self, challenge: &Challenge) -> Result<(), eyot_front::Error> {
        self.0.challenges.put(challenge.clone())?;
        let Some((seal, origin)) = self.0.seal.as_ref().zip(self.0.origin.as_ref()) else { return Ok(()) };
        let told = match told(seal, challenge, Timestamp::now()) {
            Some(told) => tokio::time::timeout(TELL, origin.acme_challenge(told)).await,
            None => return Ok(()),
        };
        match told {
            Ok(Ok(())) => tokio::time::sleep(SPREAD).await,
            Ok(Err(error)) => tracing::warn!(%error, "the challenge is answered by this node alone"),
            Err(_) => tracing::warn!("the origin takes no challenge; it is answered by this node alone"),
        }
        Ok(())
    }

    /// Answers a challenge of this node's own no more.
    pub(super) fn remove(&self, challenge: &Challenge) {
        self.0.challenges.remove(challenge);
    }

    /// Takes what another node told through the origin.
    pub fn hear(&self, sealed: &[u8]) {
        let Some(challenge) = self.believed(sealed, Timestamp::now()) else {
            tracing::debug!(
                "a challenge is not answered: it was not sealed by a node of this fleet for a name of ours"
            );
            return;
        };
        if let Err(error) = self.0.challenges.put(challenge) {
            tracing::warn!(%error, "a challenge of another node is not answered");
        }
    }

    fn believed(&self, sealed: &[u8], now: Timestamp) -> Option<Challenge> {
        let told: Told = serde_json::from_slice(&self.0.seal.as_ref()?.open(ABOUT, sealed)?).ok()?;
        let fresh = told.until > now && told.until <= now + GOOD + GOOD;
        if !fresh || !self.0.names.contains(&told.name) {
            return None;
        }
        Challenge::new(&told.name, &told.token, &told.answer)
    }
}

fn told(seal: &Seal, challenge: &Challenge, now: Timestamp) -> Option<Vec<u8>> {
    let told = Told {
        name: challenge.name().to_owned(),
        token: challenge.token().to_owned(),
        answer: challenge.answer().to_owned(),
        until: now + GOOD,
    };
    let sealed = seal.seal(ABOUT, &serde_json::to_vec(&told).ok()?);
    sealed.map_err(|error| tracing::warn!(%error, "the challenge is answered by this node alone")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_believed_from_who_has_the_seal_for_a_name_of_ours_and_for_ten_minutes() {
        let names = BTreeSet::from(["a.example".to_owned()]);
        let answers = Answers::new(Arc::default(), names.clone(), Some(Seal::new([1; 32])), None);
        let alone = Answers::new(Arc::default(), names, None, None);
        let challenge = |name: &str| Challenge::new(name, "token", "token.thumb").expect("a challenge");
        let now = Timestamp::UNIX_EPOCH;
        let say = |key: u8, name: &str| told(&Seal::new([key; 32]), &challenge(name), now).expect("sealed");
        let good = say(1, "a.example");
        assert_eq!(answers.believed(&good, now), Some(challenge("a.example")));
        for (what, answers, sealed, seconds) in [
            ("a name that is not ours", &answers, &say(1, "b.example"), 0),
            ("another key", &answers, &say(2, "a.example"), 0),
            ("no key", &alone, &good, 0),
            ("ten minutes later", &answers, &good, 600),
            ("a clock far behind", &answers, &good, -601),
            ("nonsense", &answers, &b"nonsense".to_vec(), 0),
        ] {
            assert_eq!(answers.believed(sealed, now + SignedDuration::from_secs(seconds)), None, "{what}");
        }
    }
}
