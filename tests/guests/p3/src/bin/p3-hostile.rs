//! Ends badly, as its path says, before it answers.

use std::hint::black_box;

use wasip3::clocks::monotonic_clock;
use wasip3::http::types::{ErrorCode, Fields, Request};
use wasip3::{random, wit_bindgen, wit_future, wit_stream};

p3::guest!(handle);

async fn handle(request: Request) -> p3::Answer {
    let path = p3::path(&request);
    let (what, count) = path.split_once('?').unwrap_or((&path, "0"));
    let count: usize = count.parse().expect("a number");
    match what {
        "/spin" => loop {
            black_box(count);
        },
        "/yield" => loop {
            wit_bindgen::yield_async().await;
        },
        "/tasks" => loop {
            wit_bindgen::spawn_local(async { wit_bindgen::yield_async().await });
            wit_bindgen::yield_async().await;
        },
        "/trap" => panic!("at once"),
        "/recurse" => drop(recurse(count)),
        "/allocate" => loop {
            std::mem::forget(black_box(vec![1_u8; 1 << 20]));
        },
        "/sleep" => monotonic_clock::wait_for(if count == 0 { u64::MAX } else { count as u64 * 1_000_000 }).await,
        "/wait" => {
            let (writer, mut reader) = wit_stream::new::<u8>();
            reader.read(Vec::with_capacity(1)).await;
            drop(writer);
        }
        "/error" => return Err(ErrorCode::ConfigurationError),
        "/handles" => {
            let fields: Vec<_> = (0..count).map(|_| Fields::new()).collect();
            black_box(&fields);
        }
        "/streams" => {
            let streams: Vec<_> = (0..count).map(|_| wit_stream::new::<u8>()).collect();
            black_box(&streams);
        }
        "/futures" => {
            let futures: Vec<_> = (0..count).map(|_| wit_future::new::<p3::End>(|| Ok(None))).collect();
            black_box(&futures);
            std::mem::forget(futures);
        }
        "/random" => drop(random::random::get_random_bytes(count as u64)),
        "/fields" => {
            let fields = Fields::new();
            for at in 0..count {
                fields.append(&format!("x-{at}"), &[b'x'; 1000]).expect("room");
            }
        }
        "/print" => {
            println!("a line");
            let (mut line, contents) = wit_stream::new();
            let said = wasip3::cli::stdout::write_via_stream(contents);
            line.write_all(b"another\nand a third".to_vec()).await;
            drop(line);
            let _ = said.await;
        }
        "/exit" => std::process::exit(count as i32),
        _ => {}
    }
    p3::answer(200, &[], *b"done\n")
}

#[inline(never)]
#[allow(unconditional_recursion)]
fn recurse(depth: usize) -> usize {
    black_box(recurse(black_box(depth + 1))) + 1
}
