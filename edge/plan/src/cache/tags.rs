//! The keys that an answer is purged by, which its upstream gave it: `Surrogate-Key: a b` and `Cache-Tag: a, b`.

use http::header::{HeaderMap, HeaderName};

/// Keys of one answer; more are not heeded.
pub const TAGS_MAX: usize = 128;
/// The bytes of a key; longer ones are not heeded.
pub const TAG_BYTES_MAX: usize = 1024;

const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");

/// Takes the keys out of an answer: they are the node's business, and no client's.
pub fn take(headers: &mut HeaderMap) -> Vec<String> {
    let mut tags = Vec::new();
    for (name, parts) in [(SURROGATE_KEY, &[' '][..]), (CACHE_TAG, &[','])] {
        for value in headers.get_all(&name).iter().filter_map(|value| value.to_str().ok()) {
            let all = value.split(parts).map(str::trim).filter(|tag| !tag.is_empty() && tag.len() <= TAG_BYTES_MAX);
            tags.extend(all.take(TAGS_MAX - tags.len()).map(str::to_owned));
        }
        headers.remove(&name);
    }
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_taken_out_of_both_fields_and_there_are_only_so_many() {
        let mut headers = HeaderMap::new();
        headers.append(SURROGATE_KEY, "a  product-9".parse().expect("a value"));
        headers.append(CACHE_TAG, "b , c d,".parse().expect("a value"));
        assert_eq!(take(&mut headers), ["a", "product-9", "b", "c d"]);
        assert!(headers.is_empty());
        let many = vec!["x"; 200].join(" ");
        headers.append(SURROGATE_KEY, many.parse().expect("a value"));
        headers.append(CACHE_TAG, "y".repeat(TAG_BYTES_MAX + 1).parse().expect("a value"));
        assert_eq!(take(&mut headers).len(), TAGS_MAX);
    }
}
