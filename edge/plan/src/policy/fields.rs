//! Fields that a route changes, of requests and of answers.

use eyot_bundle::release::policy;
use http::header::{InvalidHeaderName, InvalidHeaderValue};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Changes of fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
}

/// Why something is no change.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// A name.
    #[error("a name that no field has")]
    Name(#[from] InvalidHeaderName),
    /// A value.
    #[error("a value that no field has")]
    Value(#[from] InvalidHeaderValue),
}

impl Changes {
    /// The changes that a release names.
    ///
    /// # Errors
    /// When a name or a value is none of a field.
    pub fn new(changes: &policy::Changes) -> Result<Self, ChangeError> {
        let field =
            |(name, value): (&String, &String)| Ok((HeaderName::try_from(name)?, HeaderValue::try_from(value)?));
        let policy::Changes { set, add, remove } = changes;
        Ok(Self {
            remove: remove.iter().map(HeaderName::try_from).collect::<Result<_, _>>()?,
            set: set.iter().map(field).collect::<Result<_, ChangeError>>()?,
            add: add.iter().map(field).collect::<Result<_, ChangeError>>()?,
        })
    }

    /// Makes them.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::map;
    use super::*;

    #[test]
    fn fields_go_first_and_then_others_take_their_place_or_come_beside_them() {
        let text = r#"{"set": {"X-A": "new", "x-b": "set"}, "add": {"X-B": "added", "vary": "x-d"}, "remove": ["x-C", "x-b"]}"#;
        let changes = Changes::new(&serde_json::from_str(text).expect("changes")).expect("good");
        let mut headers =
            map(&[("x-a", "1"), ("x-a", "2"), ("x-b", "old"), ("x-c", "3"), ("vary", "x-e"), ("x-f", "4")]);
        changes.apply(&mut headers);
        let expect = [("x-a", "new"), ("x-b", "set"), ("x-b", "added"), ("vary", "x-e"), ("vary", "x-d"), ("x-f", "4")];
        assert_eq!(headers, map(&expect));
    }
}
