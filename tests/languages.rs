//! Functions in other languages: each template by `eyot new` and `eyot build`, and the example of each language, built in a
//! folder with nothing else in it and asked over HTTP/3. What was built is kept by the digest of its sources.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use eyot_bundle::digest::Digest;

use crate::harness::client::{Ask, Protocol, ask};
use crate::harness::process::until_within;
use crate::harness::size::size;
use crate::harness::tools;
use crate::harness::upstream::Upstream;
use crate::harness::world::{Node, World, eyot, good};

/// What nobody wrote: it is not copied, and no source.
const MADE: [&str; 5] = [".venv", "dist", "function.wasm", "node_modules", "target"];

/// All files below a folder that somebody wrote, by their paths from it, in order.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).expect("a folder") {
            let entry = entry.expect("an entry");
            if entry.path().is_dir() && MADE.iter().all(|made| entry.file_name() != *made) {
                folders.push(entry.path());
            } else if entry.path().is_file() && entry.file_name() != "function.wasm" {
                found.push(entry.path().strip_prefix(folder).expect("below it").to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Copies what somebody wrote; links become what they point to.
fn copy(from: &Path, to: &Path) {
    for file in sources(from) {
        let target = to.join(&file);
        fs::create_dir_all(target.parent().expect("a folder")).expect("a folder");
        fs::copy(from.join(&file), target).expect("a copy");
    }
}

/// Builds the app in `folder` by `eyot build`, unless that was done for these sources; `root` has all that it is built of.
fn built(root: &Path, folder: &Path) {
    // One at a time: each of them takes all that the machine has.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let all: Vec<u8> = sources(root)
        .iter()
        .flat_map(|file| [file.as_os_str().as_encoded_bytes(), &fs::read(root.join(file)).expect("a source")].concat())
        .collect();
    let kept = tools::target().with_file_name("functions").join(format!("{}.wasm", Digest::of(&all)));
    let wasm = folder.join(component(folder));
    if kept.exists() {
        fs::create_dir_all(wasm.parent().expect("a folder")).expect("a folder");
        fs::copy(&kept, &wasm).expect("a copy");
        return;
    }
    println!("building {}", folder.display());
    let mut build = eyot();
    build.arg("build").arg("--app").arg(folder);
    println!("{}", good(build));
    fs::create_dir_all(kept.parent().expect("a folder")).expect("a folder in target");
    let aside = kept.with_extension(std::process::id().to_string());
    fs::copy(&wasm, &aside).and_then(|_| fs::rename(&aside, &kept)).expect("a copy");
}

/// The `wasm` of its one function.
fn component(folder: &Path) -> String {
    let text = fs::read_to_string(folder.join("eyot.toml")).expect("eyot.toml");
    let line = text.lines().find(|line| line.starts_with("wasm ")).expect("its wasm");
    line.split('"').nth(1).expect("a path").to_owned()
}

/// Publishes what is built, and a node that answers with it.
fn published(world: &World, app: &str, folder: &Path, more: &[&str]) -> Node {
    world.grant(app, &["localhost"], more);
    let mut publish: Command = eyot();
    publish.args(["publish", "--no-build", "--origin", &world.origin_url(), "--app"]).arg(folder);
    publish.arg("--ca").arg(world.ca()).arg("--key").arg(world.path("keys/publisher.key"));
    publish.arg("--root").arg(world.path("keys/root.json"));
    good(publish);
    let node = world.node("a");
    // A whole engine may have to be compiled first, beside all that the machine does.
    until_within(Duration::from_secs(900), "the component is compiled", || {
        let answer = ask(Ask::get(world, &node, Protocol::H2, "localhost", "/hello")).ok()?;
        (answer.code() != "not_ready").then_some(())
    });
    node.wait_for_release(world, "localhost", "/hello", &format!("{app}/1"));
    node
}

/// Status and body over HTTP/3.
fn told(world: &World, node: &Node, method: &str, path: &str, body: &'static str) -> (u16, String) {
    let asked = Ask::get(world, node, Protocol::H3, "localhost", path).method(method);
    let asked = if body.is_empty() { asked } else { asked.body(body) };
    let answer = ask(asked).unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", node.process.log()));
    (answer.status, answer.text())
}

fn template_answers(template: &str) {
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path().join("greeter");
    let mut new = eyot();
    new.args(["new", "greeter", "--template", template, "--path"]).arg(&folder);
    good(new);
    built(&folder, &folder);
    let world = World::new();
    let node = published(&world, "greeter", &folder, &[]);
    for (path, status, text) in [
        ("/", 200, "hello, world\n"),
        ("/?name=eyot", 200, "hello, eyot\n"),
        ("/elsewhere", 404, "nothing at /elsewhere\n"),
    ] {
        assert_eq!(told(&world, &node, "GET", path, ""), (status, text.to_owned()), "{template} {path}");
    }
}

#[test]
fn what_eyot_new_writes_is_built_by_eyot_build_and_answers() {
    for template in ["rust", "c", "python", "javascript", "typescript"].into_iter().take(size().templates) {
        template_answers(template);
    }
}

/// The example of a language, with an upstream that it may ask.
fn example_answers(language: &str) {
    let root = tempfile::tempdir().expect("a folder");
    let functions = Path::new(env!("CARGO_MANIFEST_DIR")).join("functions");
    for part in [&format!("examples/{language}"), "examples/wit", "templates/c/bindings"] {
        copy(&functions.join(part), &root.path().join(part));
    }
    let folder = root.path().join("examples").join(language);
    built(root.path(), &folder);
    let upstream = Upstream::start();
    let port = upstream.address.port();
    let manifest = folder.join("eyot.toml");
    let text = fs::read_to_string(&manifest).expect("eyot.toml");
    let edited = text.replace("https://example.com", &format!("http://localhost:{port}"));
    assert_ne!(text, edited, "its egress");
    fs::write(&manifest, edited).expect("eyot.toml");

    let world = World::new();
    let node = published(&world, "tour", &folder, &["--private", &format!("127.0.0.1/32={port}")]);
    let ask = |method: &str, path: &str, body: &'static str| told(&world, &node, method, path, body);
    let lines: String = (1..=10).map(|number| format!("{number}\n")).collect();
    let fetched = format!("/fetch?url=http://localhost:{port}/from/{language}");
    for (method, path, body, status, text) in [
        ("GET", "/hello", "", 200, "hello, world\n"),
        ("GET", "/hello?name=eyot", "", 200, "hello, eyot\n"),
        ("GET", "/stream", "", 200, lines.as_str()),
        ("GET", "/fetch", "", 400, "say ?url=\n"),
        ("GET", "/config", "", 200, "color = green\ngreeting = hello\n"),
        ("GET", "/kv/a", "", 404, "no note a\n"),
        ("PUT", "/kv/a", "first", 200, "kept a\n"),
        ("PUT", "/kv/a", "second", 200, "kept a\n"),
        ("GET", "/kv/a", "", 200, "second"),
        ("DELETE", "/kv/a", "", 200, "forgot a\n"),
        ("GET", "/kv/a", "", 404, "no note a\n"),
        ("POST", "/kv/a", "x", 405, "GET, PUT or DELETE\n"),
        ("GET", "/elsewhere", "", 404, "nothing at /elsewhere\n"),
    ] {
        assert_eq!(ask(method, path, body), (status, text.to_owned()), "{language} {method} {path}");
    }
    let (status, text) = ask("GET", &fetched, "");
    assert!(status == 200 && text.contains(&format!("/from/{language}")), "{language}: {status} {text}");
    assert_eq!(upstream.asked(), 1, "{language}");
    let (status, _) = ask("GET", "/fetch?url=http://localhost:1/", "");
    assert_eq!((status, upstream.asked()), (502, 1), "{language}: egress does not name it");
}

#[test]
fn the_example_in_rust_answers_on_every_path() {
    example_answers("rust");
}

#[test]
fn the_example_in_javascript_answers_on_every_path() {
    example_answers("javascript");
}

#[test]
fn the_example_in_python_answers_on_every_path() {
    example_answers("python");
}

#[test]
fn the_example_in_c_answers_on_every_path() {
    example_answers("c");
}

#[test]
fn a_toolchain_that_is_missing_is_named_with_what_to_install() {
    let place = tempfile::tempdir().expect("a folder");
    // Programs of another age, and none but these and the shell.
    let bin = place.path().join("bin");
    fs::create_dir(&bin).expect("a folder");
    for (program, version) in [("node", "v18.19.0"), ("npm", "9.2.0"), ("python3", "Python 3.9.2")] {
        let script = bin.join(program);
        fs::write(&script, format!("#!/bin/sh\necho {version}\n")).expect("a script");
        fs::set_permissions(&script, Permissions::from_mode(0o755)).expect("a program");
    }
    let none = place.path().join("none");
    for (template, path, words) in [
        (
            "rust",
            &none,
            "`cargo` is not found: install Rust from https://rustup.rs, then `rustup target add wasm32-wasip2`",
        ),
        ("javascript", &none, "`node` is not found: install Node.js 20 or later"),
        ("javascript", &bin, "Node.js v18.19.0 is too old: install Node.js 20 or later"),
        ("typescript", &bin, "Node.js v18.19.0 is too old"),
        ("python", &none, "`python3` is not found: install Python 3.10 or later"),
        ("python", &bin, "Python 3.9.2 is too old: install Python 3.10 or later"),
        ("c", &bin, "Python 3.9.2 is too old"),
    ] {
        let folder = place.path().join(format!("{template}-{}", path.file_name().expect("a name").display()));
        let mut new = eyot();
        new.args(["new", "shop", "--template", template, "--path"]).arg(&folder);
        good(new);
        let output = eyot().arg("build").arg("--app").arg(&folder).env("PATH", path).output().expect("eyot build");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(words), "{template}: {said}");
    }
}
