//! Canonical JSON, in its two uses: what a TUF signature covers, and how a document is written so that the same value
//! always gives the same bytes.

use serde::Serialize;
use serde_json::Value;

use super::SignError;

/// The bytes a TUF signature covers: OLPC canonical JSON. No floats, and control characters stand raw in strings, so
/// this is not always JSON; it is signed and never written.
pub(super) fn covered(value: &Value) -> Result<Vec<u8>, SignError> {
    sigstore_tuf::canonical_json::to_canonical_bytes(value).map_err(|error| SignError::Value(error.to_string()))
}

/// `value` as JSON with sorted keys and no space between: one value, one text.
///
/// # Errors
/// If `value` is no JSON: a map with keys that are not text.
pub fn document<T: Serialize>(value: &T) -> Result<Vec<u8>, SignError> {
    let value = serde_json::to_value(value).map_err(|error| SignError::Value(error.to_string()))?;
    let mut out = Vec::new();
    write(&value, &mut out);
    Ok(out)
}

/// Writes `value` with its keys sorted, however the map beneath orders them.
fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| key.as_str());
            out.push(b'{');
            for (index, (key, item)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(Value::from(key.as_str()).to_string().as_bytes());
                out.push(b':');
                write(item, out);
            }
            out.push(b'}');
        }
        scalar => out.extend_from_slice(scalar.to_string().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_has_sorted_keys_and_reads_back_as_the_same_value() {
        let value = json!({"b": [1, "two\n\"", {"z": null, "a": -5}], "a": 0.5, "é": true});
        let bytes = document(&value).unwrap();
        assert!(bytes.starts_with(br#"{"a":0.5,"b":[1,"two\n\"",{"a":-5,"z":null}],"#));
        assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), value);
    }

    #[test]
    fn what_is_signed_has_no_fractions() {
        assert!(covered(&json!({"share": 0.25})).is_err());
        assert_eq!(covered(&json!({"b": 1, "a": "x\n"})).unwrap(), b"{\"a\":\"x\n\",\"b\":1}");
    }
}
