//! Folders of files on their way into a release: read, made smaller where that pays, packed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use eyot_bundle::digest::Digest;
use eyot_bundle::files::media::{content_type, is_compressible};
use eyot_bundle::files::{self, Encoding};
use eyot_bundle::manifest::FilesSource;
use eyot_bundle::name::Name;
use eyot_bundle::release::Bundle;
use eyot_bundle::verify::parts::FILES_BYTES_MAX;

/// Files below this are sent as they are, in bytes: they fit into a packet either way.
const SMALLER_FROM_BYTES: usize = 256;
/// Files above this are sent as they are, in bytes: to make them smaller would take minutes.
const SMALLER_TO_BYTES: usize = 16 << 20;

/// A folder, packed.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    /// What the release says of it.
    pub(crate) bundle: Bundle,
    /// Its bytes.
    pub(crate) bytes: Bytes,
    /// Its files.
    pub(crate) count: usize,
}

/// Packs the folder of `source`, below the app's `folder`. Names that begin with a dot stay behind, but for
/// `.well-known`; what is neither file nor folder, a link too, is refused.
pub(crate) fn pack(name: &Name, source: &FilesSource, folder: &Path) -> anyhow::Result<Packed> {
    let (app, folder) = (folder, folder.join(&source.path));
    let about = || format!("files `{name}`: {}", folder.display());
    // All of it is published: a path that leads elsewhere, by itself or by a link, is hardly meant.
    let is_below = folder.canonicalize().with_context(about)?.starts_with(app.canonicalize().with_context(about)?);
    ensure!(is_below, "files `{name}`: {} is not below the app's folder {}", source.path, app.display());
    let mut found = BTreeMap::new();
    gather(&folder, "", &mut found).with_context(about)?;
    for page in [&source.not_found, &source.fallback].into_iter().flatten() {
        ensure!(found.contains_key(page), "files `{name}`: there is no `{page}` in {}", folder.display());
    }
    let count = found.len();
    let files = found.into_iter().map(|(path, bytes)| Ok((path.clone(), variants(&path, bytes)?)));
    let files = files.collect::<anyhow::Result<BTreeMap<_, _>>>()?;
    let bytes = Bytes::from(files::pack(&files).with_context(about)?);
    Ok(Packed { bundle: Bundle { sha256: Digest::of(&bytes), size: bytes.len() as u64 }, bytes, count })
}

/// The files below `folder` by their paths.
fn gather(folder: &Path, within: &str, found: &mut BTreeMap<String, Vec<u8>>) -> anyhow::Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let file = entry.path();
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
            bail!("{}: its name is no text", file.display());
        };
        if name.starts_with('.') && name != ".well-known" {
            continue;
        }
        let path = if within.is_empty() { name } else { format!("{within}/{name}") };
        files::check_path(&path)?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            gather(&file, &path, found)?;
        } else if kind.is_file() {
            ensure!(found.len() < files::COUNT_MAX, "more than {} files", files::COUNT_MAX);
            let mut bytes = Vec::new();
            let opened = fs::File::open(&file).with_context(|| format!("{}", file.display()))?;
            opened.take(FILES_BYTES_MAX + 1).read_to_end(&mut bytes)?;
            ensure!(bytes.len() as u64 <= FILES_BYTES_MAX, "{}: more than {FILES_BYTES_MAX} bytes", file.display());
            found.insert(path, bytes);
        } else {
            bail!("{}: is neither a file nor a folder; a link could name what is not to be published", file.display());
        }
    }
    Ok(())
}

/// A file in the encodings that are worth it.
fn variants(path: &str, bytes: Vec<u8>) -> anyhow::Result<BTreeMap<Encoding, Vec<u8>>> {
    let mut variants = BTreeMap::new();
    if is_compressible(content_type(path)) && (SMALLER_FROM_BYTES..=SMALLER_TO_BYTES).contains(&bytes.len()) {
        for encoding in [Encoding::Br, Encoding::Zstd, Encoding::Gzip] {
            let smaller = compressed(encoding, &bytes).with_context(|| format!("`{path}` as {}", encoding.label()))?;
            // What saves less than a tenth is not worth its place on every node.
            if smaller.len() < bytes.len() - bytes.len() / 10 {
                variants.insert(encoding, smaller);
            }
        }
    }
    variants.insert(Encoding::Identity, bytes);
    Ok(variants)
}

fn compressed(encoding: Encoding, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    Ok(match encoding {
        Encoding::Br => {
            // The best ratio takes a second a megabyte; large files have the next best.
            let quality = if bytes.len() <= 2 << 20 { 11 } else { 9 };
            let mut writer = brotli::CompressorWriter::new(Vec::new(), 4096, quality, 22);
            writer.write_all(bytes)?;
            writer.into_inner()
        }
        Encoding::Zstd => zstd::bulk::compress(bytes, 19)?,
        Encoding::Gzip => {
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            writer.write_all(bytes)?;
            writer.finish()?
        }
        Encoding::Identity => bytes.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(not_found: Option<&str>) -> FilesSource {
        let not_found = not_found.map(str::to_owned);
        FilesSource { path: "public".to_owned(), index: "index.html".to_owned(), not_found, fallback: None }
    }

    fn read(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match encoding {
            Encoding::Br => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out).expect("brotli"),
            Encoding::Zstd => {
                zstd::stream::read::Decoder::new(bytes).expect("zstd").read_to_end(&mut out).expect("zstd")
            }
            Encoding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).expect("gzip"),
            Encoding::Identity => (&bytes[..]).read_to_end(&mut out).expect("bytes"),
        };
        out
    }

    #[test]
    fn nothing_outside_of_the_apps_folder_is_published() {
        let around = tempfile::tempdir().expect("a folder");
        let app = around.path().join("app");
        fs::create_dir_all(app.join("public")).expect("made");
        fs::write(app.join("public/index.html"), "<p>").expect("written");
        std::os::unix::fs::symlink("/etc", app.join("link")).expect("a link");
        let name: Name = "site".parse().expect("a name");
        let of = |path: &str| pack(&name, &FilesSource { path: path.to_owned(), ..source(None) }, &app);
        assert!(of("public").is_ok() && of("./public/../public").is_ok());
        for path in ["/etc", "..", "../..", "public/../..", "link"] {
            let why = of(path).expect_err(path).to_string();
            assert!(why.contains("is not below the app's folder"), "{path}: {why}");
        }
    }

    #[test]
    fn a_folder_is_packed_with_what_makes_it_smaller_and_without_what_is_hidden() {
        let app = tempfile::tempdir().expect("a folder");
        let public = app.path().join("public");
        fs::create_dir_all(public.join("a/.well-known")).expect("made");
        fs::create_dir_all(public.join(".well-known")).expect("made");
        let text = "<p>hello</p>\n".repeat(1000);
        for (path, text) in [
            ("index.html", text.as_str()),
            ("small.html", "<p>"),
            ("a/photo.png", text.as_str()),
            (".well-known/security.txt", "x"),
            ("a/.well-known/acme", "x"),
            (".env", "SECRET"),
        ] {
            fs::write(public.join(path), text).expect("written");
        }
        let name = "site".parse().expect("a name");
        let packed = pack(&name, &source(None), app.path()).expect("packed");
        assert_eq!((packed.count, packed.bundle.size), (5, packed.bytes.len() as u64));
        let again = pack(&name, &source(None), app.path()).expect("packed");
        assert_eq!(packed.bundle, again.bundle);
        let block = |at: u64| {
            let at = usize::try_from(at).expect("small");
            Ok(packed.bytes[at..at + files::BLOCK_BYTES].try_into().expect("a block"))
        };
        let index = files::Index::read(packed.bundle.size, block).expect("good");
        let paths: Vec<_> = index.files().map(|(path, variants)| (path, variants.len())).collect();
        let expect = [
            (".well-known/security.txt", 1),
            ("a/.well-known/acme", 1),
            ("a/photo.png", 1),
            ("index.html", 4),
            ("small.html", 1),
        ];
        assert_eq!(paths, expect);
        for variant in index.get("index.html").expect("there") {
            let (from, size) =
                (usize::try_from(variant.offset).expect("small"), usize::try_from(variant.size).expect("small"));
            assert_eq!(
                read(variant.encoding, &packed.bytes[from..from + size]),
                text.as_bytes(),
                "{:?}",
                variant.encoding
            );
        }
        assert!(!packed.bytes.windows(6).any(|bytes| bytes == b"SECRET"));
        let missing = pack(&name, &source(Some("404.html")), app.path()).expect_err("no such page").to_string();
        assert!(missing.contains("there is no `404.html`"), "{missing}");
        std::os::unix::fs::symlink("/etc/passwd", public.join("link")).expect("linked");
        let linked = format!("{:#}", pack(&name, &source(None), app.path()).expect_err("a link"));
        assert!(linked.contains("neither a file nor a folder"), "{linked}");
    }
}
