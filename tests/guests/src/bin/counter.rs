//! Counts the calls of its instance; what else it does, its path says.

use std::sync::atomic::{AtomicU32, Ordering};

use wasip2::http::types::{IncomingRequest, OutgoingBody, ResponseOutparam};

static CALLS: AtomicU32 = AtomicU32::new(0);

guests::guest!(handle);

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let count = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
    let text = count.to_string();
    let path = guests::path(&request);
    let (what, number) = path.split_once('?').unwrap_or((&path, "0"));
    let number: u64 = number.parse().expect("a number");
    match what {
        "/trap" => panic!("it counted {count}"),
        "/exit" => {
            guests::answer(out, 200, &[], text.as_bytes());
            std::process::exit(0);
        }
        "/spin" => loop {
            std::hint::black_box(count);
        },
        "/sleep" => guests::sleep_ms(3_600_000),
        "/leak" => std::mem::forget(request),
        "/half" => {
            let body = guests::begin(out, 200, &[]);
            let stream = body.write().expect("taken once");
            let _ = guests::write(&stream, text.as_bytes());
            drop(stream);
            std::mem::forget::<OutgoingBody>(body);
            return;
        }
        "/print" => {
            print!("{count}");
            std::io::Write::flush(&mut std::io::stdout()).expect("standard output");
        }
        "/grow" => std::mem::forget(std::hint::black_box(vec![1_u8; (number as usize) << 20])),
        _ => {}
    }
    guests::answer(out, 200, &[], text.as_bytes());
}
