//! Sends what it gets to `x-url` and answers with what comes back; `/many?<count>`: asks so often and counts.

use wasip3::http::client;
use wasip3::http::types::{Method, Request, Response, Scheme};
use wasip3::{wit_bindgen, wit_future, wit_stream};

p3::guest!(handle);

async fn handle(request: Request) -> p3::Answer {
    let url = p3::field(&request, "x-url").unwrap_or_else(|| "https://up.example/".to_owned());
    if let Some(count) = p3::path(&request).strip_prefix("/many?") {
        return many(&url, count.parse().expect("a number")).await;
    }
    let unfinished = p3::path(&request) == "/unfinished";
    let (mut body, _) = p3::consume(request);
    let (mut to, contents) = wit_stream::new();
    let (end, ends) = wit_future::new(|| Ok(None));
    let (out, _) = Request::new(p3::fields(&[]), Some(contents), ends, None);
    aim(&out, &url);
    wit_bindgen::spawn_local(async move {
        p3::copy(&mut body, &mut to).await;
        if unfinished {
            std::mem::forget((to, end));
            return;
        }
        drop(to);
        let _ = end.write(Ok(None)).await;
    });
    match client::send(out).await {
        Ok(response) => {
            let status = response.get_status_code();
            let (_, done) = wit_future::new(|| Ok(()));
            let (body, ends) = Response::consume_body(response, done);
            Ok(p3::respond(status, &[], body, ends))
        }
        Err(code) => p3::answer(502, &[], format!("{code:?}")),
    }
}

async fn many(url: &str, count: usize) -> p3::Answer {
    let mut good = 0;
    for _ in 0..count {
        let (_, ends) = wit_future::new(|| Ok(None));
        let (out, _) = Request::new(p3::fields(&[]), None, ends, None);
        aim(&out, url);
        let Ok(_) = client::send(out).await else { break };
        good += 1;
    }
    p3::answer(200, &[], good.to_string())
}

fn aim(request: &Request, url: &str) {
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    request.set_method(&Method::Post).expect("a method");
    request.set_scheme(Some(if scheme == "http" { &Scheme::Http } else { &Scheme::Https })).expect("a scheme");
    request.set_authority(Some(authority)).expect("an authority");
    request.set_path_with_query(Some(path)).expect("a path");
}
