//! Allocates without end and touches what it gets. `/kind` answers when it gets no more, the others fail.

guests::guest!(|request, out| {
    let kind = guests::path(&request).starts_with("/kind");
    let mut kept: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut next = Vec::new();
        if next.try_reserve_exact(1 << 20).is_err() {
            break;
        }
        next.resize(1 << 20, 1);
        kept.push(next);
    }
    let count = kept.len();
    assert!(kind, "no more memory after {count} MiB");
    drop(kept);
    guests::answer(out, 200, &[], count.to_string().as_bytes());
});
