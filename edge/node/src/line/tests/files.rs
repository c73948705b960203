//! Folders of files: what is found at which path, and in which form it is sent. What decides it has its tables in `plan`.

use std::collections::BTreeMap;

use eyot_bundle::digest::Digest;
use eyot_bundle::files::{self, Encoding};

use super::*;

type Written<'a> = (&'a str, &'a [(Encoding, &'a [u8])]);

impl House {
    /// The words of a release for a packed folder, whose blob is put where a stage would.
    pub(super) fn folder(&self, files: &[Written<'_>]) -> Value {
        let variants = |all: &[(Encoding, &[u8])]| all.iter().map(|(at, it)| (*at, it.to_vec())).collect();
        let files: BTreeMap<String, BTreeMap<Encoding, Vec<u8>>> =
            files.iter().map(|(path, all)| ((*path).to_owned(), variants(all))).collect();
        let tar = files::pack(&files).expect("packed");
        let digest = Digest::of(&tar);
        std::fs::write(self.node.blobs.part(digest), &tar).expect("written");
        self.node.blobs.keep(digest, tar.len() as u64).expect("kept");
        json!({"sha256": digest, "size": tar.len()})
    }

    /// A house with a site at `/` and the same below `/docs`.
    fn site(parts: &Value) -> Self {
        let house = house();
        let large = vec![7; 300_000];
        let mut site = json!({"bundle": house.folder(&[
            ("index.html", &[(Encoding::Identity, b"<home>"), (Encoding::Br, b"br!"), (Encoding::Gzip, b"gz")]),
            ("docs/index.html", &[(Encoding::Identity, b"<docs>")]),
            ("docs/a b.txt", &[(Encoding::Identity, b"0123456789")]),
            ("404.html", &[(Encoding::Identity, b"<none>")]),
            ("empty", &[(Encoding::Identity, b"")]),
            ("large.bin", &[(Encoding::Identity, &large)]),
        ]), "index": "index.html"});
        site.as_object_mut().expect("an object").extend(parts.as_object().expect("an object").clone());
        let at = |path: &str| json!({"id": path, "host": "shop.test", "path": path, "target": {"files": "site"}});
        let routes = json!([at("/*"), at("/below/*"), at("/empty")]);
        house.release(1, &json!({"routes": routes, "files": {"site": site}}));
        house
    }
}

#[tokio::test]
async fn a_path_names_a_file_or_the_index_of_a_folder_and_nothing_outside() {
    let house = House::site(&json!({}));
    for (path, status, expect) in [
        ("/", 200, "<home>"),
        ("/index.html", 200, "<home>"),
        ("/docs", 301, "/docs/"),
        ("/docs?a=b", 301, "/docs/?a=b"),
        ("/docs/", 200, "<docs>"),
        ("/docs/index.html", 200, "<docs>"),
        ("/docs/a%20b.txt", 200, "0123456789"),
        ("/empty", 200, ""),
        ("/below", 301, "/below/"),
        ("/below/", 200, "<home>"),
        ("/below/docs/", 200, "<docs>"),
        ("/none", 404, "no_route"),
        ("/index.html/", 404, "no_route"),
        ("/docs%2findex.html", 404, "no_route"),
        ("/%2e%2e/index.html", 404, "no_route"),
        ("/docs/..%2findex.html", 404, "no_route"),
        ("/docs%5cindex.html", 404, "no_route"),
        ("/index.html%00", 404, "no_route"),
        ("/identity/index.html", 404, "no_route"),
        ("//docs", 404, "no_route"),
    ] {
        let response = house.get(path).await;
        assert_eq!(response.status().as_u16(), status, "{path}");
        let location = response.headers().get("location").map(|it| it.to_str().expect("text").to_owned());
        let said = location.unwrap_or(text(response).await);
        assert!(said == expect || (status == 404 && said.contains(expect)), "{path}: {said}");
    }
    house.counts(r#"eyot_requests_total{app="shop",route="/*",target="files:site",protocol="h3",status="301"} 2"#);
    let posted = house.ask(Request::post("https://shop.test/"), body::full("x")).await;
    assert_eq!((posted.status().as_u16(), &posted.headers()["allow"]), (405, &"GET, HEAD".parse().unwrap()));
}

#[tokio::test]
async fn where_there_is_no_file_a_page_answers_as_the_release_says() {
    let house = House::site(&json!({"not_found": "404.html"}));
    let response = house.get("/none/at/all").await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (404, &"text/html; charset=utf-8".parse().unwrap())
    );
    assert!(!response.headers().contains_key("etag"));
    assert_eq!(text(response).await, "<none>");
    let house = House::site(&json!({"fallback": "index.html"}));
    for (path, status) in [("/users/7", 200), ("/users.d/7", 200), ("/app.js", 404), ("/%2e%2e/x", 404)] {
        assert_eq!(house.get(path).await.status().as_u16(), status, "{path}");
    }
    assert_eq!(text(house.get("/users/7").await).await, "<home>");
    let release = json!({"bundle": house.folder(&[("a", &[(Encoding::Identity, b"x")])]), "not_found": "b"});
    let release: eyot_bundle::release::Files = serde_json::from_value(release).expect("files");
    let blob = house.node.blobs.path(release.bundle.sha256);
    let refused = crate::files::Folder::open(&blob, &release).map(drop).expect_err("no such page");
    assert!(refused.detail.contains("`b`"), "{}", refused.detail);
}

#[tokio::test]
async fn a_file_is_sent_in_the_form_that_is_asked_for_with_a_tag_of_its_own() {
    let house = House::site(&json!({}));
    let mut tags = std::collections::BTreeSet::new();
    for (accept, encoding, expect) in
        [("", None, "<home>"), ("gzip", Some("gzip"), "gz"), ("gzip, br", Some("br"), "br!"), ("zstd", None, "<home>")]
    {
        let response =
            house.ask(Request::get("https://shop.test/").header("accept-encoding", accept), body::empty()).await;
        let fields = response.headers().clone();
        assert_eq!(fields.get("content-encoding").map(|it| it.to_str().expect("text")), encoding, "{accept}");
        assert_eq!(
            (&fields["vary"], &fields["content-length"]),
            (&"accept-encoding".parse().unwrap(), &expect.len().into())
        );
        assert_eq!(&fields["cache-control"], "public, max-age=0, must-revalidate");
        assert_eq!(&fields["x-content-type-options"], "nosniff");
        assert_eq!(text(response).await, expect);
        let tag = fields["etag"].clone();
        let had = Request::get("https://shop.test/").header("accept-encoding", accept).header("if-none-match", &tag);
        let response = house.ask(had, body::empty()).await;
        assert_eq!((response.status().as_u16(), &response.headers()["etag"]), (304, &tag));
        assert_eq!(text(response).await, "");
        tags.insert(tag.to_str().expect("text").to_owned());
    }
    assert_eq!(tags.len(), 3, "{tags:?}");
    assert_eq!(tags.iter().map(String::len).max(), Some(34));
    let other = Request::get("https://shop.test/").header("if-match", "\"x\"");
    assert_eq!(house.ask(other, body::empty()).await.status(), 412);
}

#[tokio::test]
async fn parts_are_of_the_file_as_it_is_and_a_head_has_no_body() {
    let house = House::site(&json!({}));
    let get = |range: &str| Request::get("https://shop.test/docs/a%20b.txt").header("range", range);
    let response = house.ask(get("bytes=2-4"), body::empty()).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-range"]),
        (206, &"bytes 2-4/10".parse().unwrap())
    );
    assert_eq!(text(response).await, "234");
    let response = house.ask(get("bytes=10-"), body::empty()).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-range"]),
        (416, &"bytes */10".parse().unwrap())
    );
    assert_eq!(text(house.ask(get("bytes=0-1,4-5"), body::empty()).await).await, "0123456789");
    let both = Request::get("https://shop.test/").header("range", "bytes=1-2").header("accept-encoding", "br");
    let response = house.ask(both, body::empty()).await;
    assert!(!response.headers().contains_key("content-encoding"));
    assert_eq!(text(response).await, "ho");
    let head = Request::head("https://shop.test/large.bin").header("range", "bytes=1-2");
    let response = house.ask(head, body::empty()).await;
    assert_eq!((response.status().as_u16(), &response.headers()["content-length"]), (200, &300_000.into()));
    assert!(response.into_body().collect().await.expect("a body").to_bytes().is_empty());
    let large = house.get("/large.bin").await.into_body().collect().await.expect("a body").to_bytes();
    assert_eq!(large, vec![7; 300_000]);
    let part = Request::get("https://shop.test/large.bin").header("range", "bytes=1000-299998");
    let part = house.ask(part, body::empty()).await.into_body().collect().await.expect("a body").to_bytes();
    assert_eq!(part.len(), 298_999);
}

#[tokio::test]
async fn a_folder_goes_on_when_its_blob_is_swept() {
    let house = House::site(&json!({}));
    assert!(house.node.blobs.sweep(&std::collections::BTreeSet::new()) > 0);
    assert_eq!(text(house.get("/").await).await, "<home>");
}
