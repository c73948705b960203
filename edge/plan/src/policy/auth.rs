//! Who may ask, by credentials: what a request shows, and what is said to who shows nothing (RFC 9110, section 11; Basic by
//! RFC 7617, Bearer by RFC 6750). A password costs work to compare: who asks does that aside, by [`Auth::password`].

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use eyot_bundle::credential::{CredentialError, Password, Token};
use eyot_bundle::release::policy;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

/// Who may ask.
#[derive(Clone, Debug)]
pub struct Auth {
    realm: String,
    basic: BTreeMap<String, Password>,
    bearer: Vec<Token>,
    /// Whether the target sees the credentials too.
    pub pass: bool,
}

/// What a request shows.
#[derive(PartialEq, Eq)]
pub enum Shown {
    /// Nothing that is taken here.
    Nothing,
    /// A name and a password.
    Password(String, Vec<u8>),
    /// A token, by its hash.
    Token(Token),
}

impl Auth {
    /// Who may ask, as a release says it.
    ///
    /// # Errors
    /// When a hash is none.
    pub fn new(auth: &policy::Auth) -> Result<Self, CredentialError> {
        let policy::Auth { realm, basic, bearer, pass } = auth;
        let basic = basic.iter().map(|(name, hash)| Ok((name.clone(), hash.parse()?)));
        Ok(Self {
            realm: realm.clone(),
            basic: basic.collect::<Result<_, CredentialError>>()?,
            bearer: bearer.values().map(|hash| hash.parse()).collect::<Result<_, _>>()?,
            pass: *pass,
        })
    }

    /// What a request shows, of the kinds that are taken here. Several `Authorization` fields are none: who reads it next may
    /// not look at the same one.
    pub fn shown(&self, headers: &HeaderMap) -> Shown {
        let mut all = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (all.next().and_then(|value| value.to_str().ok()), all.next()) else {
            return Shown::Nothing;
        };
        let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
        let rest = rest.trim_matches(' ');
        if scheme.eq_ignore_ascii_case("basic") && !self.basic.is_empty() {
            return basic(rest).unwrap_or(Shown::Nothing);
        }
        if scheme.eq_ignore_ascii_case("bearer") && !self.bearer.is_empty() && !rest.is_empty() {
            return Shown::Token(Token::of(rest.as_bytes()));
        }
        Shown::Nothing
    }

    /// Whether this token lets in. All are compared, each in constant time.
    pub fn token(&self, token: &Token) -> bool {
        self.bearer.iter().fold(false, |found, known| known.is(token) | found)
    }

    /// What the password of this name is compared with, and whether there is such a name: who has none is compared all the
    /// same, so that the time tells nobody which names there are.
    pub fn password(&self, name: &str) -> Option<(&Password, bool)> {
        match self.basic.get(name) {
            Some(password) => Some((password, true)),
            None => self.basic.values().next().map(|password| (password, false)),
        }
    }

    /// What is said to who is not let in (RFC 9110, section 11.6.1), `shown` being what was not taken.
    pub fn challenges(&self, shown: &Shown) -> Vec<HeaderValue> {
        let realm = &self.realm;
        let mut said = Vec::new();
        if !self.basic.is_empty() {
            said.push(format!("Basic realm=\"{realm}\", charset=\"UTF-8\""));
        }
        if !self.bearer.is_empty() {
            // RFC 6750, section 3: an error only where there was a token.
            let error = if matches!(shown, Shown::Token(_)) { ", error=\"invalid_token\"" } else { "" };
            said.push(format!("Bearer realm=\"{realm}\"{error}"));
        }
        said.iter().filter_map(|text| HeaderValue::from_str(text).ok()).collect()
    }
}

/// RFC 7617, section 2: the name ends at the first colon; the password may have more.
fn basic(text: &str) -> Option<Shown> {
    let decoded = STANDARD.decode(text).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let (name, password) = (&decoded[..colon], &decoded[colon + 1..]);
    Some(Shown::Password(String::from_utf8(name.to_vec()).ok()?, password.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::map;
    use super::*;

    fn auth(basic: &[(&str, &str)], bearer: &[&str]) -> Auth {
        let hash = |password: &str| Password::of(password.as_bytes(), b"saltsalt", 10_000).expect("good").to_string();
        let basic = basic.iter().map(|(name, password)| ((*name).to_owned(), hash(password))).collect();
        let token = |token: &&str| {
            let digest = eyot_bundle::digest::Digest::of(token.as_bytes());
            ((*token).to_owned(), format!("sha256${digest}"))
        };
        let bearer = bearer.iter().map(token).collect();
        Auth::new(&policy::Auth { realm: "staff".to_owned(), basic, bearer, pass: false }).expect("good")
    }

    fn passes(auth: &Auth, fields: &[(&str, &str)]) -> bool {
        match auth.shown(&map(fields)) {
            Shown::Nothing => false,
            Shown::Token(token) => auth.token(&token),
            Shown::Password(name, password) => {
                auth.password(&name).is_some_and(|(known, there)| known.is(&password) && there)
            }
        }
    }

    #[test]
    fn only_one_field_with_a_known_name_and_its_password_or_a_known_token_lets_in() {
        let both = auth(&[("alice", "open:sesame"), ("bob", "b")], &["t0ken", "other"]);
        let field = |text: &str| {
            let text = text
                .strip_prefix("basic:")
                .map_or_else(|| text.to_owned(), |pair| format!("Basic {}", STANDARD.encode(pair)));
            passes(&both, &[("authorization", &text)])
        };
        for (text, expect) in [
            ("basic:alice:open:sesame", true),
            ("basic:bob:b", true),
            ("basic:bob:open:sesame", false),
            ("basic:alice:b", false),
            ("basic:alice:", false),
            ("basic:alice", false),
            ("basic:Alice:open:sesame", false),
            ("basic:carol:b", false),
            ("basic::b", false),
            ("basic:", false),
            ("BASIC YWxpY2U6b3BlbjpzZXNhbWU=", true),
            ("Basic  YWxpY2U6b3BlbjpzZXNhbWU=", true),
            ("Basic YWxpY2U6b3BlbjpzZXNhbWU=,x", false),
            ("Basic !", false),
            ("Bearer t0ken", true),
            ("bearer other", true),
            ("Bearer t0ke", false),
            ("Bearer t0ken2", false),
            ("Bearer", false),
            ("Bearer ", false),
            ("Digest t0ken", false),
            ("t0ken", false),
        ] {
            assert_eq!(field(text), expect, "{text}");
        }
        assert!(!passes(&both, &[]));
        assert!(!passes(&both, &[("authorization", "Bearer t0ken"), ("authorization", "Bearer t0ken")]));
        let (basic, bearer) = (auth(&[("a", "b")], &[]), auth(&[], &["t0ken"]));
        assert!(
            !passes(&basic, &[("authorization", "Bearer t0ken")]) && passes(&basic, &[("authorization", "Basic YTpi")])
        );
        assert!(
            !passes(&bearer, &[("authorization", "Basic YTpi")])
                && passes(&bearer, &[("authorization", "Bearer t0ken")])
        );
    }

    #[test]
    fn who_shows_nothing_is_told_what_to_show_and_a_name_that_is_not_there_costs_the_same_work() {
        let both = auth(&[("alice", "a")], &["t"]);
        let basic = "Basic realm=\"staff\", charset=\"UTF-8\"";
        assert_eq!(both.challenges(&Shown::Nothing), [basic, "Bearer realm=\"staff\""]);
        let wrong = both.challenges(&Shown::Token(Token::of(b"x")));
        assert_eq!(wrong, [basic, "Bearer realm=\"staff\", error=\"invalid_token\""]);
        assert_eq!(auth(&[], &["t"]).challenges(&Shown::Nothing), ["Bearer realm=\"staff\""]);
        assert!(matches!(both.password("mallory"), Some((_, false))));
    }
}
