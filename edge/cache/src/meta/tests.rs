//! Tests of what stands beside a body.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use super::*;

fn map(pairs: &[(String, Vec<u8>)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        map.append(name, HeaderValue::from_bytes(value).expect("a value"));
    }
    map
}

fn pairs() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    prop::collection::vec(("[a-z][a-z0-9-]{0,20}", prop::collection::vec(b' '..=b'~', 0..40)), 0..12)
}

prop_compose! {
    fn meta()(
        numbers in any::<[u64; 9]>(),
        error in any::<Option<u64>>(),
        flags in any::<[bool; 2]>(),
        keys in prop::collection::vec(any::<[u8; 16]>(), 0..6),
        status in 200..600_u16,
        headers in pairs(),
        selected in prop::collection::vec(("[a-z]{1,9}", any::<Option<String>>()), 0..=SELECTED_MAX),
        trailers in prop::option::of(pairs()),
    ) -> Meta {
        let [file, life, mark, at_ms, count, answered_ms, initial_age_ms, fresh_ms, stale_while_ms] = numbers;
        let name = |name: String| HeaderName::from_bytes(name.as_bytes()).expect("a name");
        let selected = selected.into_iter().map(|(it, value)| (name(it), value.map(String::into_boxed_str)));
        let [strict, no_cache] = flags;
        Meta {
            file,
            life,
            born: Born { mark, at_ms },
            count,
            url: Hash::key("a", "b"),
            keys: keys.into_iter().map(Hash::from_bytes).collect(),
            kept: Kept {
                status: StatusCode::from_u16(status).expect("a status"),
                headers: map(&headers),
                selected: selected.collect(),
                life: Life {
                    answered_ms, initial_age_ms, fresh_ms, stale_while_ms, stale_error_ms: error, strict, no_cache,
                },
            },
            trailers: trailers.as_deref().map(map),
        }
    }
}

proptest! {
    #[test]
    fn what_was_written_is_read_as_it_was_and_no_shorter_or_longer_text_is_read(meta in meta(), cut in any::<usize>()) {
        let bytes = meta.encode().expect("small enough");
        prop_assert_eq!(Meta::decode(&bytes), Some(meta));
        prop_assert_eq!(Meta::decode(&bytes[..cut % bytes.len()]), None);
        prop_assert_eq!(Meta::decode(&[&bytes[..], &[0]].concat()), None);
    }

    #[test]
    fn what_is_read_of_any_bytes_is_within_its_bounds_and_is_written_so_again(
        meta in meta(),
        turns in prop::collection::vec((any::<usize>(), any::<u8>()), 0..6),
        noise in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut bytes = meta.encode().expect("small enough").to_vec();
        for (at, byte) in turns {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        for bytes in [bytes, noise.clone(), [&[VERSION], &noise[..]].concat()] {
            if let Some(meta) = Meta::decode(&bytes) {
                prop_assert!(meta.keys.len() <= KEYS_MAX && meta.kept.headers.len() <= FIELDS_MAX);
                let again = meta.encode().expect("within its bounds");
                prop_assert_eq!(Meta::decode(&again), Some(meta));
            }
        }
    }
}

#[test]
fn what_has_more_than_it_may_have_is_not_written() {
    let mut tree = proptest::test_runner::TestRunner::deterministic();
    let mut metas: [Meta; 3] = std::array::from_fn(|_| meta().new_tree(&mut tree).expect("one").current());
    assert!(metas.iter().all(|meta| meta.encode().is_some()));
    metas[0].keys = vec![Hash::key("a", "b"); KEYS_MAX + 1];
    for number in 0..=FIELDS_MAX {
        let name = HeaderName::from_bytes(format!("x-{number}").as_bytes()).expect("a name");
        metas[1].kept.headers.insert(name, HeaderValue::from_static(""));
    }
    let long = HeaderValue::from_bytes(&vec![b'a'; META_BYTES_MAX]).expect("a value");
    metas[2].kept.headers.insert("x-long", long);
    assert!(metas.iter().all(|meta| meta.encode().is_none()));
}
