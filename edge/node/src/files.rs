//! The target that is a folder of files: served from the packed folder as it was published, by an index that is made when
//! its release is. What is sent of a file is decided by `plan::files`.

mod read;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use eyot_bundle::digest::Hasher;
use eyot_bundle::files::{BLOCK_BYTES, Encoding, Index, Variant, media};
use eyot_bundle::refusal::{Reason, Refusal};
use eyot_bundle::release::{self, PathPattern};
use eyot_plan::body::{self, Body};
use eyot_plan::fault::{Code, Fault};
use eyot_plan::files::{self, Sent};
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    HeaderMap, HeaderValue, LOCATION, RANGE, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{Method, Response, StatusCode, Uri};

use crate::record::Record;
use read::Reading;

/// What is kept is asked for anew: who has it is told so in a few bytes, and what was published is seen at once.
const CACHED: HeaderValue = HeaderValue::from_static("public, max-age=0, must-revalidate");

/// A folder of files, as a release names it.
pub struct Folder {
    /// The packed folder. It stays while this does, whatever happens to its name.
    file: Arc<File>,
    held: BTreeMap<String, Vec<Held>>,
    index: Option<String>,
    not_found: Option<String>,
    fallback: Option<String>,
}

/// A file in one encoding.
struct Held {
    variant: Variant,
    /// Its entity tag, once somebody asked for it.
    tag: OnceLock<HeaderValue>,
}

/// A folder at a route.
pub struct Place {
    /// The folder.
    pub folder: Arc<Folder>,
    /// What of a path is the route's, and none of the folder's.
    prefix: usize,
}

impl Folder {
    /// The folder whose packed bytes are at `blob`.
    ///
    /// # Errors
    /// `missing_blob`; `parse` for what is no packed folder, or lacks a file that the release names.
    pub fn open(blob: &Path, files: &release::Files) -> Result<Self, Refusal> {
        let file = File::open(blob).map_err(|error| Refusal::new(Reason::MissingBlob, error.to_string()))?;
        let block = |at| {
            let mut block = [0; BLOCK_BYTES];
            file.read_exact_at(&mut block, at).map(|()| block).map_err(|error| error.to_string())
        };
        let parse = |text: String| Refusal::new(Reason::Parse, text);
        let index = Index::read(files.bundle.size, block).map_err(|error| parse(error.to_string()))?;
        let pages = files.not_found.iter().chain(&files.fallback);
        if let Some(page) = pages.into_iter().find(|page| index.get(page).is_none()) {
            return Err(parse(format!("the file `{page}` is not in the folder")));
        }
        let hold = |variant: &Variant| Held { variant: *variant, tag: OnceLock::new() };
        let held = index.files().map(|(path, all)| (path.to_owned(), all.iter().map(hold).collect()));
        Ok(Self {
            held: held.collect(),
            file: Arc::new(file),
            index: files.index.clone(),
            not_found: files.not_found.clone(),
            fallback: files.fallback.clone(),
        })
    }

    /// What is at `path`, which came with this `raw` one.
    fn find(&self, path: &str, raw: &str) -> Found<'_> {
        let within = |folder: &str| {
            let index = self.index.as_ref()?;
            let at = if folder.is_empty() { index.clone() } else { format!("{folder}/{index}") };
            self.held.get_key_value(at.as_str())
        };
        match path.strip_suffix('/').or_else(|| path.is_empty().then_some("")) {
            Some(folder) if raw.ends_with('/') => within(folder).map_or(Found::Nothing, Found::file),
            folder => match self.held.get_key_value(path) {
                Some(file) => Found::file(file),
                None if within(folder.unwrap_or(path)).is_some() => Found::Folder,
                None => Found::Nothing,
            },
        }
    }

    /// What answers where there is nothing: the page of an app that knows its paths by itself, unless a file was meant.
    fn instead(&self, path: &str) -> Option<(StatusCode, Found<'_>)> {
        let a_file_was_meant = path.rsplit('/').next().is_some_and(|name| name.contains('.'));
        let page =
            |status, page: &Option<String>| Some((status, Found::file(self.held.get_key_value(page.as_deref()?)?)));
        let fallback = if a_file_was_meant { None } else { page(StatusCode::OK, &self.fallback) };
        fallback.or_else(|| page(StatusCode::NOT_FOUND, &self.not_found))
    }
}

/// What is at a path.
enum Found<'a> {
    /// A file.
    File(&'a str, &'a [Held]),
    /// A folder with an index, whose path ends with a slash.
    Folder,
    /// Nothing.
    Nothing,
}

impl<'a> Found<'a> {
    fn file((path, held): (&'a String, &'a Vec<Held>)) -> Self {
        Self::File(path, held)
    }
}

impl Place {
    /// `folder` at a route: what is below `/x/*` are the files, and `/x` alone is the file of that path.
    pub fn new(folder: Arc<Folder>, at: &PathPattern) -> Self {
        let prefix = match at {
            PathPattern::Exact(_) => 0,
            PathPattern::Prefix(prefix) => prefix.len(),
        };
        Self { folder, prefix }
    }

    /// Answers a request that came for the URI `asked`.
    ///
    /// # Errors
    /// `method_not_allowed`, and `no_route` where there is no such file and no page for that.
    pub(crate) async fn answer(
        &self,
        request: &Parts,
        asked: &Uri,
        record: &mut Record,
    ) -> Result<Response<Body>, Fault> {
        let Parts { method, uri, headers, .. } = request;
        if !matches!(*method, Method::GET | Method::HEAD) {
            record.allow = Some(HeaderValue::from_static("GET, HEAD"));
            return Err(Code::MethodNotAllowed.into());
        }
        let raw = uri.path();
        let within = raw.get(self.prefix..).unwrap_or_default();
        let path = files::path(within.strip_prefix('/').unwrap_or(within));
        let found = path.as_ref().map_or(Found::Nothing, |path| self.folder.find(path, raw));
        match found {
            Found::File(path, held) => self.folder.file(path, held, method, headers).await,
            Found::Folder => redirect(asked),
            Found::Nothing => match path.as_ref().and_then(|path| self.folder.instead(path)) {
                Some((StatusCode::OK, Found::File(path, held))) => self.folder.file(path, held, method, headers).await,
                Some((status, Found::File(path, held))) => self.folder.page(status, path, held, method, headers).await,
                _ => Err(Code::NoRoute.into()),
            },
        }
    }
}

/// To the same path with a slash at its end. A path that begins with two would name a host: none does.
fn redirect(uri: &Uri) -> Result<Response<Body>, Fault> {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let location = format!("/{}/{query}", uri.path().trim_start_matches(['/', '\\']));
    let location = HeaderValue::from_str(&location)
        .map_err(|_| Fault::new(Code::BadRequest).because("the path does not go into `Location`"))?;
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().insert(LOCATION, location);
    response.headers_mut().insert(CACHE_CONTROL, CACHED);
    Ok(response)
}

impl Folder {
    /// A file, as the request wants it.
    async fn file(
        &self,
        path: &str,
        all: &[Held],
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, Fault> {
        let held = chosen(all, headers)?;
        let tag = self.tag(held).await?;
        let size = held.variant.size;
        let sent = match (files::sent(headers, tag.to_str().unwrap_or_default(), size), method) {
            // Only what is got has parts (RFC 9110, section 14.2).
            (Sent::Part(..) | Sent::Unsatisfiable, &Method::HEAD) => Sent::Whole,
            (sent, _) => sent,
        };
        let (status, part) = match sent {
            Sent::Whole => (StatusCode::OK, Some((0, size))),
            Sent::Part(from, to) => (StatusCode::PARTIAL_CONTENT, Some((from, to))),
            Sent::NotModified => (StatusCode::NOT_MODIFIED, None),
            Sent::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, None),
            Sent::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, None),
        };
        let mut response = match part {
            Some(part) => self.content(path, held, part, method).await?,
            None => Response::new(body::empty()),
        };
        *response.status_mut() = status;
        let fields = response.headers_mut();
        let range = match sent {
            Sent::Part(from, to) => Some(format!("bytes {from}-{}/{size}", to - 1)),
            Sent::Unsatisfiable => Some(format!("bytes */{size}")),
            _ => None,
        };
        if let Some(range) = range.and_then(|range| HeaderValue::from_str(&range).ok()) {
            fields.insert(CONTENT_RANGE, range);
        }
        fields.insert(ETAG, tag);
        fields.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        about(fields, all);
        Ok(response)
    }

    /// A page that stands for what is not there: whole, and nothing to be kept by its tag.
    async fn page(
        &self,
        status: StatusCode,
        path: &str,
        all: &[Held],
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, Fault> {
        let held = chosen(all, headers)?;
        let mut response = self.content(path, held, (0, held.variant.size), method).await?;
        *response.status_mut() = status;
        about(response.headers_mut(), all);
        Ok(response)
    }

    /// The bytes, and what they are.
    async fn content(
        &self,
        path: &str,
        held: &Held,
        part: (u64, u64),
        method: &Method,
    ) -> Result<Response<Body>, Fault> {
        let (from, to) = part;
        let body = match *method {
            Method::HEAD => body::empty(),
            _ => Reading::of(&self.file, held.variant.offset + from, to - from).await?,
        };
        let mut response = Response::new(body);
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static(media::content_type(path)));
        fields.insert(CONTENT_LENGTH, (to - from).into());
        fields.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if held.variant.encoding != Encoding::Identity {
            fields.insert(CONTENT_ENCODING, HeaderValue::from_static(held.variant.encoding.label()));
        }
        Ok(response)
    }

    /// The strong entity tag of what is sent: the digest of its bytes, read once.
    async fn tag(&self, held: &Held) -> Result<HeaderValue, Fault> {
        if let Some(tag) = held.tag.get() {
            return Ok(tag.clone());
        }
        let (mut reading, mut hasher) =
            (Reading::begin(&self.file, held.variant.offset, held.variant.size), Hasher::default());
        while let Some(piece) = reading.next().await {
            hasher.update(&piece?);
        }
        let digest = hasher.finish().to_string();
        let tag = HeaderValue::from_str(&format!("\"{}\"", &digest[..32]));
        let tag = tag.map_err(|error| Fault::new(Code::InternalError).because(error))?;
        Ok(held.tag.get_or_init(|| tag).clone())
    }
}

/// The form of a file that the request wants.
fn chosen<'a>(all: &'a [Held], headers: &HeaderMap) -> Result<&'a Held, Fault> {
    let of = |encoding| all.iter().find(|held| held.variant.encoding == encoding);
    // The bytes of a part belong to one form; who asks for parts mostly does not mean those of a compressed one.
    let encoding = match headers.contains_key(RANGE) {
        true => Encoding::Identity,
        false => files::encoding(headers, |encoding| of(encoding).is_some()),
    };
    of(encoding).ok_or_else(|| Fault::new(Code::InternalError).because("a file without its plain form"))
}

/// What is said of a file whatever is sent of it.
fn about(fields: &mut HeaderMap, all: &[Held]) {
    fields.insert(CACHE_CONTROL, CACHED);
    if all.len() > 1 {
        fields.insert(VARY, HeaderValue::from_name(ACCEPT_ENCODING));
    }
}
