//! The developer's loop: `eyot dev` builds, publishes and swaps what is saved while clients ask; `eyot test` asks what the
//! app's own table says.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::harness::app::App;
use crate::harness::client::{Answer, Ask, PROTOCOLS, Protocol, ask};
use crate::harness::process::{PATIENCE, Process, free_port, until, until_within};
use crate::harness::tools;
use crate::harness::world::eyot;

/// A developer's machine: its data folder, with the local authority that `eyot dev` makes there.
struct Machine {
    data: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        Self { data: tempfile::tempdir().expect("a folder") }
    }

    fn eyot(&self, verb: &str, app: &Path) -> Command {
        let mut command = eyot();
        command.env("XDG_DATA_HOME", self.data.path()).arg(verb).arg("--json").arg("--app").arg(app);
        command
    }

    fn ca(&self) -> Vec<u8> {
        fs::read(self.data.path().join("eyot/dev-ca.pem")).expect("the local authority")
    }

    /// `eyot dev`, when it is ready.
    fn dev(&self, app: &Path) -> Dev {
        let mut dev = self.begun(app);
        // What the app is built of is built first, on a machine that does other things besides.
        dev.wait_within(Duration::from_secs(900), "ready", |_| true);
        dev.ca = self.ca();
        dev
    }

    /// `eyot dev`, which may never be ready.
    fn begun(&self, app: &Path) -> Dev {
        let port = free_port();
        // In the app's folder and without naming it, as people do.
        let mut dev = eyot();
        dev.env("XDG_DATA_HOME", self.data.path()).current_dir(app).args([
            "dev",
            "--json",
            "--port",
            &port.to_string(),
        ]);
        let process = Process::start("dev", &mut dev);
        Dev { process, port, ca: Vec::new() }
    }

    fn test(&self, app: &Path, more: &[&str]) -> (i32, Vec<Value>, String) {
        let Output { status, stdout, stderr } = self.eyot("test", app).args(more).output().expect("eyot test");
        let told =
            String::from_utf8_lossy(&stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        (status.code().unwrap_or(-1), told, String::from_utf8_lossy(&stderr).into_owned())
    }
}

/// An `eyot dev --json` that runs.
struct Dev {
    process: Process,
    port: u16,
    ca: Vec<u8>,
}

impl Dev {
    /// All events so far: each line is one.
    fn events(&self) -> Vec<Value> {
        let log = self.process.log();
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    /// Waits for an event of this kind.
    fn wait(&mut self, kind: &str, is_meant: impl Fn(&Value) -> bool) -> Value {
        self.wait_within(PATIENCE, kind, is_meant)
    }

    fn wait_within(&mut self, patience: Duration, kind: &str, is_meant: impl Fn(&Value) -> bool) -> Value {
        until_within(patience, &format!("the event {kind}"), || {
            assert!(!self.process.has_ended(), "it ended:\n{}", self.process.log());
            self.events().into_iter().find(|event| event["event"] == kind && is_meant(event))
        })
    }

    fn ask(&self, protocol: Protocol, host: &str, path: &str) -> Answer {
        let asked = ask(Ask::trusting(&self.ca, self.port, protocol, host, path));
        asked.unwrap_or_else(|error| panic!("{protocol:?} {host}{path}: {error}"))
    }

    fn wait_for(&self, body: &str) {
        until(&format!("the answer {body}"), || {
            (self.ask(Protocol::H2, "localhost", "/").text() == body).then_some(())
        });
    }
}

/// Tells threads to end when it is dropped.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A function in Rust that says a word, and panics on `/panic`. What it is built of is kept for the next run of `test`.
fn rust_app(test: &str, word: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let kept = tools::target().with_file_name("functions").join("dev").join(test);
    fs::create_dir_all(&kept).expect("a folder in target");
    std::os::unix::fs::symlink(kept, folder.path().join("target")).expect("a link");
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests");
    let write = |file: &str, text: String| {
        let file = folder.path().join(file);
        fs::create_dir_all(file.parent().expect("in the folder")).expect("a folder");
        fs::write(file, text).expect("written");
    };
    fs::copy(guests.join("Cargo.lock"), folder.path().join("Cargo.lock")).expect("the versions");
    let dependency = format!("[dependencies]\nguests = {{ path = \"{}\" }}\nwasip2 = \"1\"\n", guests.display());
    write("Cargo.toml", format!("[package]\nname = \"word\"\nversion = \"0.1.0\"\nedition = \"2024\"\n{dependency}"));
    write("src/main.rs", source(word));
    write(
        "eyot.toml",
        "app = \"word\"\nhosts = [\"word.test\"]\n[functions.word]\npath = \".\"\n\
         build = \"cargo build --release --offline --target wasm32-wasip2\"\n\
         wasm = \"target/wasm32-wasip2/release/word.wasm\"\nlimits = { cpu = \"40ms\" }\n\
         [[routes]]\nhost = \"word.test\"\npath = \"/*\"\nfunction = \"word\"\n"
            .to_owned(),
    );
    folder
}

fn source(word: &str) -> String {
    format!(
        "guests::guest!(|request, out| {{\n    println!(\"said {word}\");\n    \
         if guests::path(&request) == \"/panic\" {{ panic!(\"a reason\") }}\n    \
         guests::answer(out, 200, &[], b\"{word}\")\n}});\n"
    )
}

#[test]
fn what_is_saved_answers_soon_no_request_fails_meanwhile_and_what_does_not_build_leaves_the_last_one() {
    let machine = Machine::new();
    let app = rust_app("saved", "one");
    let main = app.path().join("src/main.rs");
    let mut dev = machine.dev(app.path());
    for host in ["localhost", "word.test"] {
        for protocol in PROTOCOLS {
            assert_eq!(dev.ask(protocol, host, "/").text(), "one", "{protocol:?} {host}");
        }
    }
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for protocol in PROTOCOLS {
            let (dev, stop, asked) = (&dev, &stop, &asked);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let answer = dev.ask(protocol, "localhost", "/");
                    assert!(answer.status == 200 && ["one", "two"].contains(&answer.text().as_str()), "{answer:?}");
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Also where this panics: who waits for threads that go on for ever waits as long.
        let _stop = Stop(&stop);
        fs::write(&main, source("two")).expect("saved");
        dev.wait_for("two");
    });
    println!("{} answers, none failed", asked.load(Ordering::Relaxed));

    fs::write(&main, "this is no Rust").expect("saved");
    let error = dev.wait("error", |event| event["what"] == "build");
    assert!(error["text"].as_str().expect("text").contains("error"), "{error}");
    assert_eq!(dev.ask(Protocol::H3, "localhost", "/").text(), "two");
    fs::write(&main, source("three")).expect("saved");
    dev.wait_for("three");

    let manifest = app.path().join("eyot.toml");
    let text = fs::read_to_string(&manifest).expect("eyot.toml");
    fs::write(&manifest, format!("colour = \"blue\"\n{text}")).expect("saved");
    let error = dev.wait("error", |event| event["what"] == "manifest");
    assert_eq!(error["problems"][0]["line"], 1, "{error}");
    assert_eq!(dev.ask(Protocol::H2, "localhost", "/").text(), "three");
    fs::write(
        &manifest,
        text.replace("[\"word.test\"]", "[\"word.test\", \"new.test\"]")
            .replace("[[routes]]", "[[routes]]\nhost = \"new.test\"\npath = \"/*\"\nfunction = \"word\"\n[[routes]]"),
    )
    .expect("saved");
    until("the new host", || {
        ask(Ask::trusting(&dev.ca, dev.port, Protocol::H2, "new.test", "/"))
            .ok()
            .filter(|answer| answer.text() == "three")
    });
}

#[test]
fn each_request_is_a_line_with_what_it_spent_and_a_fault_is_told_in_full_to_the_terminal_and_to_nobody_else() {
    let machine = Machine::new();
    let app = rust_app("lines", "one");
    let mut dev = machine.dev(app.path());
    let answer = dev.ask(Protocol::H2, "word.test", "/panic");
    assert_eq!((answer.status, answer.code().as_str()), (502, "function_trapped"));
    assert!(!answer.text().contains("unreachable") && !answer.text().contains("reason"), "{}", answer.text());
    let id = answer.header("x-request-id").expect("an id").to_owned();
    let request = dev.wait("request", |event| event["id"] == id);
    assert_eq!(
        (&request["status"], &request["path"], &request["target"]),
        (&502.into(), &"/panic".into(), &"function:word".into())
    );
    assert_eq!(request["cpu_us_max"], 40_000, "{request}");
    assert!(request["cpu_us"].as_u64() > Some(0) && request["memory_bytes"].as_u64() > Some(0), "{request}");
    let said = dev.wait("log", |event| event["id"] == id && event["stream"] == "stdout");
    assert_eq!((&said["text"], &said["function"]), (&"said one".into(), &"word".into()));
    dev.wait("log", |event| event["id"] == id && event["text"].as_str().is_some_and(|text| text.contains("a reason")));
    let fault = dev.wait("fault", |event| event["id"] == id);
    let cause = fault["cause"].as_str().expect("a cause");
    assert!(cause.contains("unreachable") && cause.contains("wasm backtrace") && cause.contains("word"), "{cause}");

    dev.process.signal("INT");
    assert_eq!(dev.process.wait(), 0, "{}", dev.process.log());
    let left: Vec<_> =
        fs::read_dir(app.path().join(".eyot/dev")).expect("kept").map(|it| it.expect("a file").path()).collect();
    assert!(!left.iter().any(|path| path.ends_with("keys") || path.ends_with("origin")), "{left:?}");
}

/// An app whose functions are guests of the tests, and its table.
fn tested(table: &str) -> (App, PathBuf) {
    let app = App::new("shop", &["shop.test"])
        .function("hello", "hello", "limits = { cpu = \"40ms\" }")
        .function("spin", "spin", "limits = { cpu = \"20ms\" }")
        .route("shop.test", "/*", "function = \"hello\"")
        .route("shop.test", "/spin", "function = \"spin\"")
        .written();
    let file = app.folder().join("tests.toml");
    fs::write(&file, table).expect("tests.toml");
    (app, file)
}

#[test]
fn the_tests_of_an_app_pass_or_fail_by_what_its_table_says() {
    let machine = Machine::new();
    let (app, _) = tested(
        r#"
        [[test]]
        name = "hello is said"
        request = { path = "/" }
        expect = { status = 200, headers = { content-type = "text/plain" }, body = "hello\n", cpu_max = "40ms" }
        [[test]]
        name = "hello is said by its host"
        request = { host = "shop.test", method = "POST", body = "x" }
        expect = { body_contains = "ell" }
        [[test]]
        name = "what spins is ended"
        request = { path = "/spin" }
        expect = { fault = "cpu_budget_exceeded" }
        [[test]]
        name = "this is wrong"
        request = { path = "/spin" }
        expect = { status = 200, body = "hello", cpu_max = "1ms" }
        "#,
    );
    let (code, told, _) = machine.test(app.folder(), &[]);
    let passed = |told: &[Value]| told.iter().filter_map(|test| test["passed"].as_bool()).collect::<Vec<_>>();
    assert_eq!((code, passed(&told)), (1, vec![true, true, true, false]), "{told:?}");
    let problems = told[3]["problems"].as_array().expect("a list");
    assert!(problems.len() == 3 && problems[0] == "status is 503, not 200", "{problems:?}");
    let done = told.last().expect("the end");
    assert_eq!((&done["event"], &done["passed"], &done["failed"]), (&"done".into(), &3.into(), &1.into()));
    let (code, told, _) = machine.test(app.folder(), &["--filter", "hello is said"]);
    assert_eq!((code, passed(&told)), (0, vec![true, true]), "{told:?}");
    let (code, _, complained) = machine.test(app.folder(), &["--filter", "no such test"]);
    assert!(code == 1 && complained.contains("no such test"), "{complained}");
}

#[test]
fn a_table_that_is_wrong_is_told_with_all_its_lines_and_nothing_is_asked() {
    let machine = Machine::new();
    let (app, file) =
        tested("[[test]]\nname = \"a\"\nrequest = { path = \"x\" }\nexpect = { status = 1, colour = 1 }\n");
    let (code, told, complained) = machine.test(app.folder(), &[]);
    let complained: Value = serde_json::from_str(&complained).unwrap_or_else(|error| panic!("{error}: {complained}"));
    let problems = complained["problems"].as_array().expect("a list");
    let lines: Vec<_> = problems.iter().map(|problem| problem["line"].as_u64().unwrap_or(0)).collect();
    assert_eq!((code, told.len(), lines), (64, 0, vec![3, 4, 4]), "{complained}");
    fs::remove_file(file).expect("removed");
    let (code, _, complained) = machine.test(app.folder(), &[]);
    assert!(code == 64 && complained.contains("tests.toml"), "{complained}");
}

/// Writes a file of secrets that only its owner may read.
fn keep_secret(file: &Path, value: &str) {
    let mut options = fs::OpenOptions::new();
    let opened = options.write(true).create(true).truncate(true).mode(0o600).open(file);
    opened.expect("a file").write_all(format!("KEY = \"{value}\"\n").as_bytes()).expect("written");
}

#[test]
fn a_function_has_the_secrets_of_this_machine_which_are_never_shown_and_one_that_is_missing_is_named() {
    const VALUES: [&str; 2] = ["5b1e-correct-horse-77f0", "90aa-battery-staple-12cd"];
    let machine = Machine::new();
    let app = App::new("shop", &["shop.test"])
        .function("pay", "secret", "secrets = [\"KEY\"]")
        .route("shop.test", "/*", "function = \"pay\"")
        .written();
    let mut dev = machine.begun(app.folder());
    let missing = dev.wait("error", |event| event["what"] == "publish");
    let text = missing["text"].as_str().expect("a text");
    assert!(text.contains("`KEY`") && text.contains(".eyot/secrets.toml") && text.contains("--secrets"), "{text}");

    let file = app.folder().join(".eyot/secrets.toml");
    keep_secret(&file, VALUES[0]);
    dev.wait("ready", |_| true);
    dev.ca = machine.ca();
    let ask = |dev: &Dev, path: &str| dev.ask(Protocol::H3, "shop.test", path).text();
    assert_eq!(ask(&dev, "/value"), VALUES[0]);
    ask(&dev, "/say");
    ask(&dev, &format!("/{}", VALUES[0]));
    dev.wait("log", |event| event["text"] == "the secret is ***, really");
    dev.wait("request", |event| event["path"] == "/***");
    keep_secret(&file, VALUES[1]);
    until("the new value", || (ask(&dev, "/value") == VALUES[1]).then_some(()));
    ask(&dev, "/say");
    dev.wait("request", |event| event["path"] == "/say" && event["release"] != 1);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("open to all");
    fs::write(&file, "KEY = \"x\"\n").expect("written");
    dev.wait("error", |event| event["text"].as_str().is_some_and(|text| text.contains("chmod 600")));
    assert!(!VALUES.iter().any(|value| dev.process.log().contains(value)), "{}", dev.process.log());
}

#[test]
fn the_tests_of_an_app_have_its_secrets_and_tell_them_to_nobody() {
    const VALUE: &str = "5b1e-correct-horse-77f0";
    let machine = Machine::new();
    let app = App::new("shop", &["shop.test"])
        .function("pay", "secret", "secrets = [\"KEY\"]")
        .route("shop.test", "/*", "function = \"pay\"")
        .written();
    fs::write(
        app.folder().join("tests.toml"),
        format!(
            "[[test]]\nname = \"it has it\"\nrequest = {{ path = \"/value\" }}\nexpect = {{ body = \"{VALUE}\" }}\n\
             [[test]]\nname = \"it has another\"\nrequest = {{ path = \"/value\" }}\nexpect = {{ body = \"x\" }}\n"
        ),
    )
    .expect("tests.toml");
    let (code, _, complained) = machine.test(app.folder(), &[]);
    assert!(code == 1 && complained.contains("`KEY`"), "{complained}");
    let file = machine.data.path().join("elsewhere.toml");
    keep_secret(&file, VALUE);
    let (code, told, complained) = machine.test(app.folder(), &["--secrets", file.to_str().expect("a path")]);
    let passed: Vec<_> = told.iter().filter_map(|test| test["passed"].as_bool()).collect();
    assert_eq!((code, passed), (1, vec![true, false]), "{told:?} {complained}");
    let shown = format!("{told:?}{complained}");
    assert!(shown.contains("***") && !shown.contains(VALUE), "{shown}");
}
