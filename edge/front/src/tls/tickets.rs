//! Keys of session tickets: of this process and those that take over from it, rolled by themselves, or read from a file
//! that nodes share. A ticket says when it was made, so that a key which nobody rolls does not make it last.
//!
//! It knows no connection: bytes and a time go in, bytes come out.

use core::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use rustls::server::ProducesTickets;

use crate::error::Error;
use crate::file;

/// How long a ticket is good, and how long a key of our own makes tickets, in seconds.
const LIFETIME_SECONDS: u32 = 12 * 60 * 60;

/// How far ahead the clock of a node that made a ticket may be, in seconds.
const AHEAD_SECONDS: u64 = 60;

/// Keys of a file: the one that makes tickets, and those that only open them.
const KEYS_MAX: usize = 8;

/// A ticket larger than this is none of ours, in bytes.
const TICKET_BYTES_MAX: usize = 4096;

const KEY_BYTES: usize = 32;
const NAME_BYTES: usize = 16;
const TIME_BYTES: usize = 8;

/// The keys of session tickets. Cheap to share; those of a file can be read again.
#[derive(Debug, Default)]
pub struct Tickets {
    /// Where they are read from; none: they are of this process, or of the one before it.
    file: Option<PathBuf>,
    keys: Mutex<Arc<Keys>>,
}

/// Keys that came into use together.
#[derive(Debug, Default)]
struct Keys {
    /// The first makes tickets; all open them.
    keys: Vec<Arc<Key>>,
    /// When the first came into use, in seconds since 1970.
    since: u64,
}

/// One key.
struct Key {
    /// For the process that takes over.
    secret: [u8; KEY_BYTES],
    /// What a ticket begins with, so that its key is found.
    name: [u8; NAME_BYTES],
    /// A nonce that comes twice tells only that two tickets are the same (RFC 8452).
    key: LessSafeKey,
}

impl Tickets {
    /// Keys of this process, made when the first is needed. After 12 hours another makes tickets.
    pub fn of_process() -> Arc<Self> {
        Arc::default()
    }

    /// Keys of a file: a line for each, 64 hexadecimal digits; the first makes tickets, the others open those that were
    /// made before. Empty lines and those that begin with `#` say nothing.
    ///
    /// # Errors
    /// When it cannot be read, holds no key or more than 8, or a line is something else.
    pub fn load(file: &Path) -> Result<Arc<Self>, Error> {
        let keys = Keys::read(file)?;
        Ok(Arc::new(Self { file: Some(file.to_owned()), keys: Mutex::new(Arc::new(keys)) }))
    }

    /// Keys that another process had, as [`Tickets::to_bytes`] gave them; none if they are something else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Arc<Self>> {
        let (since, secrets) = bytes.split_first_chunk::<TIME_BYTES>()?;
        let (secrets, rest) = secrets.as_chunks::<KEY_BYTES>();
        if !rest.is_empty() || !(1..=KEYS_MAX).contains(&secrets.len()) {
            return None;
        }
        let keys = secrets.iter().map(|secret| Key::new(secret).map(Arc::new)).collect::<Option<Vec<_>>>()?;
        // A clock that was set back must not make a key last.
        let keys = Keys { keys, since: u64::from_be_bytes(*since).min(now()) };
        Some(Arc::new(Self { file: None, keys: Mutex::new(Arc::new(keys)) }))
    }

    /// The keys of this process, for the one that takes over and nobody else. None where they are of a file, which that
    /// one reads itself.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let keys = self.at(now()).filter(|_| self.file.is_none())?;
        let secrets = keys.keys.iter().flat_map(|key| key.secret);
        Some(keys.since.to_be_bytes().into_iter().chain(secrets).collect())
    }

    /// Reads the file again.
    ///
    /// # Errors
    /// As [`Tickets::load`]; then the keys stay as they were.
    pub fn reload(&self) -> Result<(), Error> {
        if let Some(file) = &self.file {
            let keys = Arc::new(Keys::read(file)?);
            *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = keys;
        }
        Ok(())
    }

    /// The keys to use now, rolled if they are ours and it is time.
    fn at(&self, now: u64) -> Option<Arc<Keys>> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = keys.keys.is_empty() || now >= keys.since.saturating_add(LIFETIME_SECONDS.into());
        if self.file.is_none() && is_over {
            let mut secret = [0; KEY_BYTES];
            rand::fill(&mut secret).ok()?;
            let previous = keys.keys.first().cloned();
            *keys = Arc::new(Keys {
                keys: [Arc::new(Key::new(&secret)?)].into_iter().chain(previous).collect(),
                since: now,
            });
        }
        Some(keys.clone())
    }

    /// A ticket: the key's name, a nonce, and sealed the time and `plain`.
    fn seal(&self, transport: &'static str, plain: &[u8], now: u64) -> Option<Vec<u8>> {
        let keys = self.at(now)?;
        let key = keys.keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut sealed = [&now.to_be_bytes(), plain].concat();
        key.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(transport), &mut sealed)
            .ok()?;
        let ticket = [&key.name[..], &nonce, &sealed].concat();
        (ticket.len() <= TICKET_BYTES_MAX).then_some(ticket)
    }

    /// What is in a ticket that was made for `transport` within the last 12 hours.
    fn open(&self, transport: &'static str, ticket: &[u8], now: u64) -> Option<Vec<u8>> {
        if ticket.len() > TICKET_BYTES_MAX {
            return None;
        }
        let keys = self.at(now)?;
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let key = keys.keys.iter().find(|key| key.name == *name)?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = key.key.open_in_place(nonce, Aad::from(transport), &mut sealed).ok()?;
        let (made, plain) = opened.split_first_chunk::<TIME_BYTES>()?;
        let made = u64::from_be_bytes(*made);
        let is_good = made <= now.saturating_add(AHEAD_SECONDS) && now < made.saturating_add(LIFETIME_SECONDS.into());
        is_good.then(|| plain.to_vec())
    }
}

impl Keys {
    fn read(path: &Path) -> Result<Self, Error> {
        let wrong = |reason: &str| Error::Certificate { file: path.to_owned(), reason: reason.to_owned() };
        let bytes = file::read(path)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| wrong("is no text"))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let key = |line| secret(line).as_ref().and_then(Key::new).map(Arc::new);
        let keys: Vec<_> = lines
            .map(|line| key(line).ok_or_else(|| wrong("has a line that is no key: 64 hexadecimal digits")))
            .collect::<Result<_, _>>()?;
        match keys.len() {
            0 => Err(wrong("holds no key")),
            1..=KEYS_MAX => Ok(Self { keys, since: 0 }),
            _ => Err(wrong("holds more than 8 keys")),
        }
    }
}

impl Key {
    fn new(secret: &[u8; KEY_BYTES]) -> Option<Self> {
        let hash = digest(&SHA256, &[b"eyot ticket key ", &secret[..]].concat());
        let name = *hash.as_ref().first_chunk()?;
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, secret).ok()?);
        Some(Self { secret: *secret, name, key })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(masked)")
    }
}

fn secret(line: &str) -> Option<[u8; KEY_BYTES]> {
    let digits = line.as_bytes().chunks_exact(2);
    if line.len() != 2 * KEY_BYTES || !line.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.map(byte).collect::<Option<Vec<_>>>()?.try_into().ok()
}

/// Makes and opens the tickets of one transport: those of TCP are of no use in QUIC.
#[derive(Debug)]
pub(crate) struct Ticketer {
    pub(crate) tickets: Arc<Tickets>,
    pub(crate) transport: &'static str,
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_SECONDS
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.tickets.seal(self.transport, plain, now())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.tickets.open(self.transport, ticket, now())
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const HOUR: u64 = 3600;

    fn keys(folder: &TempDir, text: &str) -> PathBuf {
        let file = folder.path().join("ticket.keys");
        std::fs::write(&file, text).expect("a file");
        file
    }

    #[test]
    fn a_ticket_is_good_for_12_hours_at_its_transport_and_not_a_bit_of_it_may_differ() {
        let tickets = Tickets::of_process();
        let ticket = tickets.seal("tcp", b"session", NOW).expect("a ticket");
        for (transport, at, expect) in [
            ("tcp", NOW, true),
            ("quic", NOW, false),
            ("tcp", NOW + 12 * HOUR - 1, true),
            ("tcp", NOW + 12 * HOUR, false),
            ("tcp", NOW - AHEAD_SECONDS, true),
            ("tcp", NOW - AHEAD_SECONDS - 1, false),
        ] {
            let opened = tickets.open(transport, &ticket, at);
            assert_eq!(opened.as_deref(), expect.then_some(&b"session"[..]), "{transport} {at}");
        }
        for place in 0..ticket.len() {
            let mut other = ticket.clone();
            other[place] ^= 1;
            assert_eq!(tickets.open("tcp", &other, NOW), None, "{place}");
            assert_eq!(tickets.open("tcp", &ticket[..place], NOW), None, "{place}");
        }
    }

    #[test]
    fn keys_of_the_process_roll_every_12_hours_and_the_one_before_only_opens() {
        let tickets = Tickets::of_process();
        let mut before: Option<Vec<u8>> = None;
        for round in 0..4 {
            let at = NOW + round * 12 * HOUR;
            let first = tickets.seal("tcp", b"session", at).expect("a ticket");
            let last = tickets.seal("tcp", b"session", at + 12 * HOUR - 1).expect("a ticket");
            assert_eq!(first[..NAME_BYTES], last[..NAME_BYTES], "one key for 12 hours");
            if let Some(before) = before {
                assert_ne!(before[..NAME_BYTES], last[..NAME_BYTES]);
                assert_eq!(tickets.open("tcp", &before, at).as_deref(), Some(&b"session"[..]), "the last key opens");
            }
            assert!(tickets.at(at).expect("keys").keys.len() <= 2, "what no ticket needs is forgotten");
            before = Some(last);
        }
    }

    #[test]
    fn a_process_that_takes_over_opens_tickets_and_rolls_keys_as_the_one_before_would() {
        let now = now();
        let old = Tickets::of_process();
        let first = old.seal("tcp", b"session", now - 12 * HOUR).expect("a ticket");
        let second = old.seal("tcp", b"session", now).expect("a ticket");
        let bytes = old.to_bytes().expect("keys of its own");
        let new = Tickets::from_bytes(&bytes).expect("the same keys");
        assert_eq!(new.to_bytes().as_deref(), Some(&bytes[..]));
        for (ticket, what) in [(&first, "the key before"), (&second, "the key")] {
            assert_eq!(new.open("tcp", ticket, now - 1).as_deref(), Some(&b"session"[..]), "{what}");
        }
        let made = |tickets: &Tickets, at| tickets.seal("tcp", b"", at).expect("a ticket")[..NAME_BYTES].to_vec();
        assert_eq!(made(&new, now + 12 * HOUR - 1), second[..NAME_BYTES]);
        assert_ne!(made(&new, now + 12 * HOUR), second[..NAME_BYTES], "it is rolled when the old one would have been");
        for place in [0, 7, 8, 39, 71] {
            assert!(Tickets::from_bytes(&bytes[..place]).is_none(), "{place}");
        }
        let shown = format!("{new:?}");
        assert!(shown.contains("Key(masked)") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn a_key_from_a_process_whose_clock_was_ahead_lasts_no_longer() {
        let now = now();
        let ahead = [&(now + 1000 * HOUR).to_be_bytes(), &[7; KEY_BYTES][..]].concat();
        let tickets = Tickets::from_bytes(&ahead).expect("a key");
        let first = tickets.seal("tcp", b"", now).expect("a ticket");
        let later = tickets.seal("tcp", b"", now + 13 * HOUR).expect("a ticket");
        assert_ne!(first[..NAME_BYTES], later[..NAME_BYTES]);
    }

    #[test]
    fn keys_of_a_file_are_not_handed_over() {
        let folder = TempDir::new().expect("a folder");
        assert_eq!(Tickets::load(&keys(&folder, &"5b".repeat(32))).expect("a key").to_bytes(), None);
    }

    #[test]
    fn nodes_with_one_file_open_each_others_tickets_and_an_old_key_opens_until_it_is_taken_out() {
        let folder = TempDir::new().expect("a folder");
        let (old, new) = ("0a".repeat(32), "F1".repeat(32));
        let file = keys(&folder, &format!("# of eu-fra\n\n{old}\n"));
        let (one, other) = (Tickets::load(&file).expect("keys"), Tickets::load(&file).expect("keys"));
        let ticket = one.seal("tcp", b"session", NOW).expect("a ticket");
        assert_eq!(other.open("tcp", &ticket, NOW).as_deref(), Some(&b"session"[..]));
        assert_eq!(Tickets::of_process().open("tcp", &ticket, NOW), None);
        keys(&folder, &format!("  {new}\n{old}\n"));
        other.reload().expect("keys");
        assert!(other.open("tcp", &ticket, NOW).is_some(), "the old key opens");
        let newer = other.seal("tcp", b"session", NOW).expect("a ticket");
        assert_eq!(one.open("tcp", &newer, NOW), None, "the new key makes tickets");
        keys(&folder, &new);
        other.reload().expect("keys");
        assert_eq!(other.open("tcp", &ticket, NOW), None);
        keys(&folder, "broken");
        assert!(other.reload().is_err());
        assert!(other.open("tcp", &newer, NOW).is_some(), "what was in use stays in use");
    }

    #[test]
    fn a_file_that_is_no_list_of_keys_is_refused_by_name() {
        let folder = TempDir::new().expect("a folder");
        let key = "5b".repeat(32);
        for (text, says) in [
            (String::new(), "holds no key"),
            ("# nothing\n".to_owned(), "holds no key"),
            (key[1..].to_owned(), "no key: 64"),
            (format!("{key}0"), "no key: 64"),
            (format!("+{}", &key[1..]), "no key: 64"),
            (format!("{key}\n{key} {key}"), "no key: 64"),
            (format!("{key}\n").repeat(9), "more than 8 keys"),
            ("x".repeat((1 << 20) + 1), "is too large"),
        ] {
            let error = Tickets::load(&keys(&folder, &text)).expect_err("no keys").to_string();
            assert!(error.contains(says) && error.contains("ticket.keys"), "{error}");
        }
        assert!(Tickets::load(&keys(&folder, &format!("{key}\n").repeat(8))).is_ok());
    }

    #[test]
    fn a_ticket_over_4_kib_is_neither_made_nor_opened() {
        let tickets = Tickets::of_process();
        let around = NAME_BYTES + NONCE_LEN + TIME_BYTES + AES_256_GCM_SIV.tag_len();
        let fits = vec![0; 4096 - around];
        let ticket = tickets.seal("tcp", &fits, NOW).expect("a ticket");
        assert_eq!((ticket.len(), tickets.open("tcp", &ticket, NOW)), (4096, Some(fits.clone())));
        assert_eq!(tickets.seal("tcp", &[&fits[..], b"x"].concat(), NOW), None);
        assert_eq!(tickets.open("tcp", &[&ticket[..], b"x"].concat(), NOW), None);
    }
}
