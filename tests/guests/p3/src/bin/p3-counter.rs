//! Counts the calls of its instance.

use std::sync::atomic::{AtomicU32, Ordering};

static CALLS: AtomicU32 = AtomicU32::new(0);

p3::guest!(handle);

async fn handle(request: wasip3::http::types::Request) -> p3::Answer {
    let count = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
    match &*p3::path(&request) {
        "/trap" => panic!("it counted {count}"),
        "/leak" => std::mem::forget(request),
        "/print" => println!("{count}"),
        _ => {}
    }
    p3::answer(200, &[], count.to_string())
}
