//! Subjects of messages: tokens between dots. In a pattern `*` stands for one token, and `>` at the end for all that
//! follow, at least one.

/// Whether there is a subject that both patterns hold.
pub fn meet(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_meet_where_one_subject_is_held_by_both() {
        for (one, other, expect) in [
            ("orders", "orders", true),
            ("orders", "orders.new", false),
            ("orders.>", "orders", false),
            ("orders.>", "orders.new", true),
            ("orders.>", "orders.new.large", true),
            ("orders.*", "orders.new.large", false),
            ("orders.*", "*.new", true),
            ("orders.*.a", "orders.b.>", true),
            ("orders.*.a", "orders.b.c", false),
            (">", "a.b.c", true),
            ("*", "a.b", false),
            ("orders.>", "payments.>", false),
        ] {
            assert_eq!(meet(one, other), expect, "{one} {other}");
            assert_eq!(meet(other, one), expect, "{other} {one}");
        }
    }
}
