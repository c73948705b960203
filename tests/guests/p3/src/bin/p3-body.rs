//! Bodies that do not end as they should: `/endless`, `/slow`, `/trap` in its midst, `/leak` without an end, `/trailers`
//! without their end, `/length` shorter than announced, `/error` instead of trailers, `/big-trailers`, `/after` with work
//! after its end, `/spin` with too much of it.

use std::time::Duration;

use wasip3::clocks::monotonic_clock;
use wasip3::http::types::{ErrorCode, Request};
use wasip3::{wit_bindgen, wit_future, wit_stream};

p3::guest!(handle);

async fn handle(request: Request) -> p3::Answer {
    match &*p3::path(&request) {
        "/endless" => p3::begin(200, &[], |mut body| async move {
            while body.write_all(vec![b'x'; 64 << 10]).await.is_empty() {}
            Ok(None)
        }),
        "/slow" => p3::begin(200, &[], |mut body| async move {
            while body.write_all(b"x".to_vec()).await.is_empty() {
                sleep(Duration::from_secs(3600)).await;
            }
            Ok(None)
        }),
        "/trap" => p3::begin(200, &[], |mut body| async move {
            body.write_all(vec![b'x'; 512 << 10]).await;
            panic!("in its midst")
        }),
        "/leak" => p3::begin(200, &[], |mut body| async move {
            body.write_all(b"begun".to_vec()).await;
            std::mem::forget(body);
            Ok(None)
        }),
        "/trailers" => {
            let (mut body, contents) = wit_stream::new();
            let (end, ends) = wit_future::new(|| Ok(None));
            std::mem::forget(end);
            wit_bindgen::spawn_local(async move { drop(body.write_all(b"begun".to_vec()).await) });
            Ok(p3::respond(200, &[], contents, ends))
        }
        "/length" => p3::begin(200, &[("content-length", "10")], |mut body| async move {
            body.write_all(b"begun".to_vec()).await;
            Ok(None)
        }),
        "/error" => p3::begin(200, &[], |mut body| async move {
            body.write_all(b"begun".to_vec()).await;
            Err(ErrorCode::InternalError(Some("no more".to_owned())))
        }),
        "/big-trailers" => p3::begin(200, &[], |mut body| async move {
            body.write_all(b"whole".to_vec()).await;
            drop(body);
            Ok(Some(p3::fields(&[("x-big", &"x".repeat(60 << 10))])))
        }),
        "/after" => p3::begin(200, &[], |mut body| async move {
            body.write_all(b"whole".to_vec()).await;
            drop(body);
            sleep(Duration::from_millis(5)).await;
            println!("said after the answer");
            Ok(None)
        }),
        _ => p3::begin(200, &[], |mut body| async move {
            body.write_all(b"whole".to_vec()).await;
            drop(body);
            wit_bindgen::spawn_local(async {
                loop {
                    std::hint::spin_loop();
                }
            });
            Ok(None)
        }),
    }
}

async fn sleep(time: Duration) {
    monotonic_clock::wait_for(time.as_nanos() as u64).await;
}
