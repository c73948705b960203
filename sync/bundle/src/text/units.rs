//! Durations and sizes as people write them: a whole number and its unit.

/// The microseconds of `"50ms"`, `"10s"`, `"5m"`, `"24h"`, `"7d"` or `"250us"`; `None` if it is no duration.
pub fn duration_us(text: &str) -> Option<u64> {
    with_unit(
        text,
        &[("us", 1), ("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000), ("d", 86_400_000_000)],
    )
}

/// The bytes of `"128MiB"`, `"64KiB"`, `"10GiB"` or `"512B"`; `None` if it is no size.
pub fn size_bytes(text: &str) -> Option<u64> {
    with_unit(text, &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)])
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let scale = units.iter().find(|(name, _)| *name == unit)?.1;
    number.parse::<u64>().ok()?.checked_mul(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_whole_number_and_its_unit() {
        for (text, expect) in [
            ("250us", Some(250)),
            ("50ms", Some(50_000)),
            ("10s", Some(10_000_000)),
            ("5m", Some(300_000_000)),
            ("24h", Some(86_400_000_000)),
            ("7d", Some(604_800_000_000)),
            ("0s", Some(0)),
            ("", None),
            ("s", None),
            ("10", None),
            ("1.5s", None),
            ("-1s", None),
            ("1 s", None),
            ("1S", None),
            ("18446744073709551615s", None),
            ("99999999999999999999ms", None),
        ] {
            assert_eq!(duration_us(text), expect, "{text}");
        }
    }

    #[test]
    fn a_size_is_a_whole_number_and_a_binary_unit() {
        for (text, expect) in [
            ("512B", Some(512)),
            ("64KiB", Some(65_536)),
            ("128MiB", Some(134_217_728)),
            ("10GiB", Some(10 << 30)),
            ("64KB", None),
            ("64", None),
            ("64kib", None),
            ("1e3B", None),
            ("20000000TiB", None),
        ] {
            assert_eq!(size_bytes(text), expect, "{text}");
        }
    }
}
