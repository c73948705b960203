//! How each name's certificate is, for the operator: `/status`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde_json::{Value, json};

/// The words of a failure are cut to this, in characters.
const TEXT_CHARS_MAX: usize = 1_000;

/// One name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fact {
    /// When its certificate ends; none: it has none.
    pub(super) expires: Option<Timestamp>,
    /// When something is done about it next.
    pub(super) next: Option<Timestamp>,
    /// Failures since the last success.
    pub(super) failures: u32,
    /// The last of them, and what to do about it.
    pub(super) error: Option<String>,
    /// Whose turn it is, when not this node's.
    pub(super) waiting: bool,
}

/// All of them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Facts(Arc<Mutex<BTreeMap<String, Fact>>>);

impl Facts {
    /// Says how a name's certificate is.
    pub(super) fn set(&self, name: &str, mut fact: Fact) {
        if let Some(error) = &mut fact.error
            && let Some((end, _)) = error.char_indices().nth(TEXT_CHARS_MAX)
        {
            error.truncate(end);
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), fact);
    }

    /// As `/status` shows them.
    pub fn view(&self) -> Value {
        let facts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Timestamp::now();
        let row = |(name, fact): (&String, &Fact)| (name.clone(), view(fact, now));
        Value::Object(facts.iter().map(row).collect())
    }
}

fn view(fact: &Fact, now: Timestamp) -> Value {
    let state = match (fact.expires, &fact.error) {
        (None, None) if fact.waiting => "waiting",
        (None, None) => "ordering",
        (None, Some(_)) => "failed",
        (Some(ends), _) if ends <= now => "expired",
        (Some(_), Some(_)) => "not_renewed",
        (Some(_), None) => "good",
    };
    json!({ "state": state, "expires": fact.expires, "next": fact.next, "failures": fact.failures, "error": fact.error })
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn a_name_says_in_one_word_how_its_certificate_is() {
        let now = Timestamp::UNIX_EPOCH;
        let (past, later) = (Some(now), Some(now + SignedDuration::from_secs(1)));
        let why = || Some("why".to_owned());
        for (expires, error, waiting, expect) in [
            (None, None, false, "ordering"),
            (None, None, true, "waiting"),
            (None, why(), false, "failed"),
            (past, why(), false, "expired"),
            (later, why(), false, "not_renewed"),
            (later, None, true, "good"),
        ] {
            let fact = Fact { expires, error, waiting, ..Fact::default() };
            assert_eq!(view(&fact, now)["state"], expect);
        }
    }

    #[test]
    fn what_an_authority_says_is_shown_to_a_thousand_characters() {
        let facts = Facts::default();
        facts.set("a", Fact { error: Some("é".repeat(2000)), ..Fact::default() });
        assert_eq!(facts.view()["a"]["error"].as_str().map(|text| text.chars().count()), Some(1000));
    }
}
