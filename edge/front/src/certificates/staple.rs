//! An OCSP response (RFC 6960) that is sent with a certificate: read just far enough to know that it is about that
//! certificate, says good, and until when. Its signature is the client's to check; a wrong one would harm only us.
//!
//! It knows no clock and no file: bytes go in.

use core::time::Duration;
use std::time::{SystemTime, UNIX_EPOCH};

use x509_cert::der::{Decode as _, asn1::GeneralizedTime};

/// What a staple may measure, in bytes: it is part of every handshake that asks for it.
pub(crate) const STAPLE_BYTES_MAX: usize = 16 << 10;

/// Single responses that are looked at.
const RESPONSES_MAX: usize = 64;

const SEQUENCE: u8 = 0x30;
const OCTET_STRING: u8 = 0x04;
const INTEGER: u8 = 0x02;
const ENUMERATED: u8 = 0x0a;
const OBJECT_IDENTIFIER: u8 = 0x06;
const GENERALIZED_TIME: u8 = 0x18;
const EXPLICIT_0: u8 = 0xa0;
const EXPLICIT_1: u8 = 0xa1;

/// `id-pkix-ocsp-basic`, 1.3.6.1.5.5.7.48.1.1.
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1, 1];

/// `CertStatus`, when it is good: `[0] IMPLICIT NULL`.
const GOOD: u8 = 0x80;

/// A response that may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Staple {
    /// As it was signed.
    pub(crate) response: Vec<u8>,
    /// Not before this.
    pub(crate) from: SystemTime,
    /// Not from this on.
    pub(crate) until: SystemTime,
}

impl Staple {
    /// Reads a response about the certificate with this serial number, the contents of its INTEGER.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub(crate) fn read(response: &[u8], serial: &[u8]) -> Result<Self, &'static str> {
        if response.len() > STAPLE_BYTES_MAX {
            return Err("is larger than 16 KiB");
        }
        let (status, basic) = outer(response).ok_or("is no OCSP response in DER")?;
        if status != [0] {
            return Err("is a responder's error, not a response");
        }
        let responses = basic.and_then(responses).ok_or("is no basic OCSP response")?;
        let found = find(responses, serial).ok_or("holds something that is no response")?;
        let single = found.ok_or("is about another certificate")?;
        if single.status != GOOD {
            return Err("does not say that the certificate is good");
        }
        let until = single.next_update.ok_or("does not say until when it is good")?;
        Ok(Self { response: response.to_vec(), from: single.this_update, until })
    }

    /// Whether it may be sent at this time.
    pub(crate) fn is_fresh(&self, now: SystemTime) -> bool {
        (self.from..self.until).contains(&now)
    }
}

/// One `SingleResponse`.
struct Single<'a> {
    serial: &'a [u8],
    status: u8,
    this_update: SystemTime,
    next_update: Option<SystemTime>,
}

/// `OCSPResponse`: its status, and the `BasicOCSPResponse` in it.
fn outer(response: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let mut input = Der(response);
    let mut outer = Der(input.only(SEQUENCE)?);
    let status = outer.take(ENUMERATED)?;
    Some((status, basic(outer)))
}

fn basic(mut outer: Der<'_>) -> Option<&[u8]> {
    let mut bytes = Der(Der(outer.only(EXPLICIT_0)?).only(SEQUENCE)?);
    (bytes.take(OBJECT_IDENTIFIER)? == BASIC).then_some(())?;
    bytes.only(OCTET_STRING)
}

/// `ResponseData.responses`.
fn responses(basic: &[u8]) -> Option<Der<'_>> {
    let mut basic = Der(Der(basic).only(SEQUENCE)?);
    let mut data = Der(basic.take(SEQUENCE)?);
    let (tag, _) = data.peek()?;
    if tag == EXPLICIT_0 {
        data.take(EXPLICIT_0)?; // the version
    }
    data.any()?; // who responds
    data.take(GENERALIZED_TIME)?; // when it was made
    data.take(SEQUENCE).map(Der)
}

/// The response about `serial`; the outer `None` where something is malformed.
fn find<'a>(mut responses: Der<'a>, serial: &[u8]) -> Option<Option<Single<'a>>> {
    for _ in 0..RESPONSES_MAX {
        if responses.0.is_empty() {
            return Some(None);
        }
        let single = single(Der(responses.take(SEQUENCE)?))?;
        if single.serial == serial {
            return Some(Some(single));
        }
    }
    Some(None)
}

fn single(mut single: Der<'_>) -> Option<Single<'_>> {
    let mut id = Der(single.take(SEQUENCE)?);
    id.take(SEQUENCE)?; // the hash
    id.take(OCTET_STRING)?; // of the issuer's name
    id.take(OCTET_STRING)?; // of the issuer's key
    let serial = id.only(INTEGER)?;
    let (status, _) = single.any()?;
    let this_update = time(single.whole(GENERALIZED_TIME)?)?;
    let next_update = match single.peek() {
        Some((EXPLICIT_0, _)) => Some(time(Der(single.take(EXPLICIT_0)?).whole(GENERALIZED_TIME)?)?),
        Some((EXPLICIT_1, _)) | None => None,
        Some(_) => return None,
    };
    Some(Single { serial, status, this_update, next_update })
}

fn time(whole: &[u8]) -> Option<SystemTime> {
    let since: Duration = GeneralizedTime::from_der(whole).ok()?.to_unix_duration();
    Some(UNIX_EPOCH + since)
}

/// DER that is taken value by value. Lengths are definite and at most four bytes long.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next value's tag and contents, and where it ends.
    fn next(&self) -> Option<(u8, &'a [u8], usize)> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        let (length, head) = match first {
            0..=0x7f => (usize::from(first), 2),
            0x81..=0x83 => {
                let digits = usize::from(first & 0x7f);
                let length = rest.get(..digits)?.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
                (length, 2 + digits)
            }
            _ => return None,
        };
        let end = head + length;
        Some((tag, self.0.get(head..end)?, end))
    }

    fn peek(&self) -> Option<(u8, &'a [u8])> {
        self.next().map(|(tag, contents, _)| (tag, contents))
    }

    fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (tag, contents, end) = self.next()?;
        self.0 = self.0.get(end..)?;
        Some((tag, contents))
    }

    /// The contents of the next value, which has this tag.
    fn take(&mut self, wanted: u8) -> Option<&'a [u8]> {
        self.any().filter(|(tag, _)| *tag == wanted).map(|(_, contents)| contents)
    }

    /// The same with tag and length.
    fn whole(&mut self, wanted: u8) -> Option<&'a [u8]> {
        let (before, (tag, _, end)) = (self.0, self.next()?);
        self.any()?;
        before.get(..end).filter(|_| tag == wanted)
    }

    /// The contents of the last value, which has this tag.
    fn only(&mut self, wanted: u8) -> Option<&'a [u8]> {
        self.take(wanted).filter(|_| self.0.is_empty())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// One value of DER.
    fn value(tag: u8, contents: &[u8]) -> Vec<u8> {
        let length = u16::try_from(contents.len()).expect("small").to_be_bytes();
        let head = if contents.len() < 0x80 { vec![tag, length[1]] } else { vec![tag, 0x82, length[0], length[1]] };
        [&head, contents].concat()
    }

    fn of(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        value(tag, &parts.concat())
    }

    fn single(serial: &[u8], status: u8, this: &str, next: Option<&str>) -> Vec<u8> {
        let id = of(
            SEQUENCE,
            &[
                &of(SEQUENCE, &[]),
                &value(OCTET_STRING, &[1; 20]),
                &value(OCTET_STRING, &[2; 20]),
                &value(INTEGER, serial),
            ],
        );
        let next = next.map(|next| value(EXPLICIT_0, &value(GENERALIZED_TIME, next.as_bytes()))).unwrap_or_default();
        of(SEQUENCE, &[&id, &value(status, &[]), &value(GENERALIZED_TIME, this.as_bytes()), &next])
    }

    fn response(singles: &[&[u8]]) -> Vec<u8> {
        let produced = value(GENERALIZED_TIME, b"20261101000000Z");
        let data = of(SEQUENCE, &[&value(0xa2, &value(OCTET_STRING, &[3; 20])), &produced, &of(SEQUENCE, singles)]);
        let basic = of(SEQUENCE, &[&data, &of(SEQUENCE, &[]), &value(0x03, &[0; 65])]);
        let bytes = of(SEQUENCE, &[&value(OBJECT_IDENTIFIER, BASIC), &value(OCTET_STRING, &basic)]);
        of(SEQUENCE, &[&value(ENUMERATED, &[0]), &value(EXPLICIT_0, &bytes)])
    }

    /// A response that says good from the beginning of 2020 until `until`.
    pub(crate) fn good(serial: &[u8], until: &str) -> Vec<u8> {
        response(&[&single(serial, GOOD, "20200101000000Z", Some(until))])
    }

    fn at(text: &str) -> SystemTime {
        text.parse::<jiff::Timestamp>().expect("a time").into()
    }

    #[test]
    fn a_response_is_good_from_this_update_until_next_update() {
        let bytes = response(&[
            &single(&[1], 0xa1, "20261101000000Z", None),
            &single(&[7, 7], GOOD, "20261101000000Z", Some("20261108000000Z")),
        ]);
        let staple = Staple::read(&bytes, &[7, 7]).expect("a good one");
        assert_eq!(staple.response, bytes);
        for (now, expect) in [
            ("2026-10-31T23:59:59Z", false),
            ("2026-11-01T00:00:00Z", true),
            ("2026-11-07T23:59:59Z", true),
            ("2026-11-08T00:00:00Z", false),
        ] {
            assert_eq!(staple.is_fresh(at(now)), expect, "{now}");
        }
    }

    #[test]
    fn what_is_not_good_for_this_certificate_says_why() {
        let (this, next) = ("20261101000000Z", Some("20261108000000Z"));
        let good = single(&[7], GOOD, this, next);
        let many: Vec<_> = (0..200).map(|number| single(&[8, number], GOOD, this, next)).collect();
        let many: Vec<&[u8]> = many.iter().map(Vec::as_slice).chain([&good[..]]).collect();
        for (bytes, says) in [
            (response(&[&single(&[7], 0xa1, this, next)]), "good"),
            (response(&[&single(&[7], 0x82, this, next)]), "good"),
            (response(&[&single(&[7], GOOD, this, None)]), "until when"),
            (response(&[&single(&[8], GOOD, this, next)]), "another certificate"),
            (response(&[]), "another certificate"),
            (response(&many[..many.len() / 2]), "another certificate"),
            (response(&many), "larger than 16 KiB"),
            (response(&[&single(&[7], GOOD, "yesterday", next)]), "no response"),
            (of(SEQUENCE, &[&value(ENUMERATED, &[6])]), "responder's error"),
            (of(SEQUENCE, &[&value(ENUMERATED, &[0])]), "no basic"),
            (b"-----BEGIN OCSP RESPONSE-----".to_vec(), "no OCSP response"),
            (Vec::new(), "no OCSP response"),
        ] {
            let error = Staple::read(&bytes, &[7]).expect_err(says);
            assert!(error.contains(says), "{error}, not {says}");
        }
        assert!(Staple::read(&response(&many[many.len() - 64..]), &[7]).is_ok(), "the 64th is looked at");
        assert!(Staple::read(&response(&many[many.len() - 65..]), &[7]).is_err(), "the 65th is not");
    }

    #[test]
    fn no_cut_and_no_changed_byte_is_read_as_more_than_it_is() {
        let bytes = good(&[7], "20261108000000Z");
        Staple::read(&bytes, &[7]).expect("a good one");
        for place in 0..bytes.len() {
            assert!(Staple::read(&bytes[..place], &[7]).is_err(), "{place}");
            for byte in [0, 0x30, 0x7f, 0x80, 0x84, 0xff] {
                let mut other = bytes.clone();
                other[place] = byte;
                // It may still be one, but never lasts past what four digits of a year can say.
                if let Ok(staple) = Staple::read(&other, &[7]) {
                    assert!(staple.until < at("9999-12-30T00:00:00Z") && staple.response == other, "{place}");
                }
            }
        }
    }
}
