//! Streams an upstream's page and changes it on its way: images load lazily, links to elsewhere open without a referrer,
//! and a banner stands first in the body.
//!
//! The page is never whole in memory: what comes is rewritten and sent on, piece by piece.
//!
//! ```toml
//! [functions.html-rewrite]
//! env    = { UPSTREAM = "https://www.example", PREFIX = "/html-rewrite", BANNER = "seen through eyot" }
//! egress = ["https://www.example"]
//! ```

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use futures_lite::stream;
use http_body_util::BodyExt;
use lol_html::html_content::ContentType;
use lol_html::send::{HtmlRewriter, Settings};
use lol_html::{OutputSink, element};
use wstd::http::{Body, Client, Error, HeaderMap, HeaderValue, Request, Response};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let prefix = std::env::var("PREFIX").unwrap_or_default();
    let path = path.strip_prefix(prefix.as_str()).unwrap_or(path);
    let slash = if path.starts_with('/') { "" } else { "/" };
    parts.uri = format!("{}{slash}{path}", std::env::var("UPSTREAM")?).parse()?;
    // Only plain text can be rewritten.
    parts.headers.insert("accept-encoding", HeaderValue::from_static("identity"));
    let (mut parts, body) = Client::new().send(Request::from_parts(parts, body)).await?.into_parts();
    if !is_html(&parts.headers) {
        return Ok(Response::from_parts(parts, body));
    }
    // They spoke of the page as it was.
    for field in ["content-length", "content-md5", "etag", "accept-ranges"] {
        parts.headers.remove(field);
    }
    Ok(Response::from_parts(parts, rewrite(body)))
}

fn is_html(fields: &HeaderMap) -> bool {
    let text = |name| fields.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text("content-type").trim_start().starts_with("text/html") && matches!(text("content-encoding"), "" | "identity")
}

/// What the rewriter has written and is not sent yet.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl OutputSink for Written {
    fn handle_chunk(&mut self, chunk: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(chunk);
    }
}

/// The body, changed as it streams.
fn rewrite(body: Body) -> Body {
    let written = Written::default();
    let rewriter = HtmlRewriter::new(settings(), written.clone());
    let state = (body.into_boxed_body(), Some(rewriter), written);
    Body::from_try_stream(stream::try_unfold(state, |(mut body, mut rewriter, written)| async move {
        while let Some(at) = rewriter.as_mut() {
            match body.frame().await {
                Some(frame) => {
                    if let Ok(bytes) = frame.map_err(io::Error::other)?.into_data() {
                        at.write(&bytes).map_err(io::Error::other)?;
                    }
                }
                None => rewriter.take().map_or(Ok(()), HtmlRewriter::end).map_err(io::Error::other)?,
            }
            let piece = written.take();
            if !piece.is_empty() {
                return Ok::<_, io::Error>(Some((piece, (body, rewriter, written))));
            }
        }
        Ok(None)
    }))
}

/// The changes.
fn settings() -> Settings<'static, 'static> {
    let banner = std::env::var("BANNER").unwrap_or_else(|_| "seen through eyot".to_owned());
    Settings {
        element_content_handlers: vec![
            element!("img:not([loading])", |image| Ok(image.set_attribute("loading", "lazy")?)),
            element!("a[href^='http']", |link| Ok(link.set_attribute("rel", "noopener noreferrer")?)),
            element!("body", move |body| {
                // Inserted in turn, each before what stands there already.
                body.prepend("</p>", ContentType::Html);
                body.prepend(&banner, ContentType::Text);
                body.prepend("<p class=\"eyot\">", ContentType::Html);
                Ok(())
            }),
        ],
        ..Settings::new_send()
    }
}
