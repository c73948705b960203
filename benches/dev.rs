//! The developer's loop: from a file that is saved to the new answer over HTTP/3, beside the app's build step alone, of the
//! same change, in the same run; and from `eyot new` to the first answer.
//! `cargo bench --bench dev [-- <saves> <templates>…]`; the figures stand in `docs/benchmarks.md`.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(
    clippy::panic,
    clippy::disallowed_methods,
    reason = "it ends where it cannot measure, and asks as often as it says"
)]

#[path = "common/client.rs"]
#[allow(dead_code, reason = "shared with the benchmarks of requests")]
mod client;
#[path = "../tests/harness/process.rs"]
#[allow(
    dead_code,
    clippy::panic,
    reason = "the tests' own; this takes the process, the free port and the waiting of it"
)]
mod process;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use eyot_link::line::Protocol;
use tokio::runtime::Runtime;

use client::Target;
use process::Process;

/// Saves of one template.
const SAVES: usize = 12;
/// Between the answer and the next save, and between two questions.
const REST: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(3);
/// A first build may install whole toolchains.
const PATIENCE: Duration = Duration::from_secs(900);

/// A template's name, and its source.
const TEMPLATES: [(&str, &str); 5] = [
    ("rust", "src/main.rs"),
    ("c", "main.c"),
    ("javascript", "src/index.js"),
    ("typescript", "src/index.ts"),
    ("python", "app.py"),
];

/// An app made by `eyot new`.
struct App {
    folder: PathBuf,
    source: PathBuf,
    text: String,
    build: String,
}

impl App {
    fn new(place: &Path, name: &str, (template, source): (&str, &str)) -> Self {
        let folder = place.join(name);
        let mut new = eyot();
        new.args(["new", "greeter", "--template", template, "--path"]).arg(&folder);
        assert!(new.output().expect("eyot").status.success(), "eyot new");
        let source = folder.join(source);
        let text = fs::read_to_string(&source).expect("its source");
        let manifest = fs::read_to_string(folder.join("eyot.toml")).expect("eyot.toml");
        let manifest: toml::Table = manifest.parse().expect("TOML");
        let build = manifest["functions"]["greeter"]["build"].as_str().expect("its build").to_owned();
        Self { folder, source, text, build }
    }

    /// Writes the source with another greeting.
    fn save(&self, word: &str) {
        let text = self.text.replace("hello, ", &format!("{word}, "));
        assert_ne!(text, self.text, "it greets");
        fs::write(&self.source, text).expect("saved");
    }

    /// The build step alone, as `eyot build` runs it.
    fn build(&self) -> Duration {
        let path = std::env::var("PATH").expect("a path");
        let (node, python) = (self.folder.join("node_modules/.bin"), self.folder.join(".venv/bin"));
        let began = Instant::now();
        let output = Command::new("/bin/sh")
            .args(["-c", &self.build])
            .current_dir(&self.folder)
            .env("PATH", format!("{}:{}:{path}", node.display(), python.display()))
            .env_remove("CARGO_TARGET_DIR")
            .output()
            .expect("a shell");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        began.elapsed()
    }
}

fn eyot() -> Command {
    let named = std::env::var_os("EYOT").filter(|path| !path.is_empty());
    Command::new(named.unwrap_or_else(|| env!("CARGO_BIN_EXE_eyot").into()))
}

/// `eyot dev` of an app.
struct Dev {
    process: Process,
    runtime: Runtime,
    data: PathBuf,
    port: u16,
}

impl Dev {
    fn start(app: &App, data: PathBuf) -> Self {
        let port = process::free_port();
        let mut dev = eyot();
        dev.env("XDG_DATA_HOME", &data).current_dir(&app.folder).args(["dev", "--json", "--port", &port.to_string()]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { process: Process::start("dev", &mut dev), runtime, data, port }
    }

    /// Asks until this is the answer.
    fn until(&mut self, text: &str) {
        let (ends, text) = (Instant::now() + PATIENCE, Bytes::from(text.to_owned()));
        while Instant::now() < ends {
            assert!(!self.process.has_ended(), "it ended:\n{}", self.process.log());
            let asked = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, self.asked(&text)).await });
            if asked.ok().flatten().is_some() {
                return;
            }
            std::thread::sleep(PAUSE);
        }
        panic!("no such answer:\n{}", self.process.log());
    }

    /// Asks over one connection for as long as it goes.
    async fn asked(&self, text: &Bytes) -> Option<()> {
        let target = Target::of(self.port, fs::read(self.data.join("eyot/dev-ca.pem")).ok()?);
        let mut line = target.connect(Protocol::H3).await.ok()?;
        loop {
            match client::ask(&mut line, &target.uri("/"), text).await {
                Ok(true) => return Some(()),
                Ok(false) => tokio::time::sleep(PAUSE).await,
                Err(_) => return None,
            }
        }
    }
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn measure(template: (&str, &str), saves: usize) {
    let place = tempfile::tempdir().expect("a folder");
    let began = Instant::now();
    let app = App::new(place.path(), "app", template);
    let mut dev = Dev::start(&app, place.path().join("data"));
    dev.until("hello, world\n");
    let first_s = began.elapsed().as_secs_f64();
    // The same app once more, for the build alone; what the first installed is taken over.
    let bare = place.path().join("bare");
    let copied = Command::new("cp").arg("-a").arg(&app.folder).arg(&bare).status();
    assert!(copied.expect("cp").success(), "copied");
    let source = bare.join(template.1);
    let bare = App { source, folder: bare, text: app.text.clone(), build: app.build.clone() };
    bare.build();
    let (mut builds, mut answers, mut over) = (Vec::new(), Vec::new(), Vec::new());
    for at in 0..saves {
        let word = format!("hello{at}");
        bare.save(&word);
        let build = bare.build().as_secs_f64() * 1e3;
        std::thread::sleep(REST);
        let began = Instant::now();
        app.save(&word);
        dev.until(&format!("{word}, world\n"));
        let answer = began.elapsed().as_secs_f64() * 1e3;
        builds.push(build);
        answers.push(answer);
        over.push(answer - build);
    }
    let least = over.iter().copied().fold(f64::INFINITY, f64::min);
    let most = over.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    println!(
        "{:<12}{first_s:>16.1}{:>12.0}{:>20.0}{:>14.0}   {least:.0} to {most:.0}",
        template.0,
        median(builds),
        median(answers),
        median(over)
    );
}

fn main() {
    // cargo adds `--bench`.
    let words: Vec<_> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let saves = words.iter().find_map(|word| word.parse().ok()).unwrap_or(SAVES).max(1);
    let is_meant = |name: &str| words.iter().any(|word| word == name);
    let none = !TEMPLATES.iter().any(|(name, _)| is_meant(name));
    println!("{saves} saves each; new to answer in seconds, the medians of the rest in milliseconds");
    println!("template    new to answer  build alone  saved to answer  over the build");
    for template in TEMPLATES.into_iter().filter(|(name, _)| is_meant(name) || (none && *name == "rust")) {
        measure(template, saves);
    }
}
