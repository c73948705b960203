//! Components that others wrote, as they are, from the folder `components` of `EYOT_SUITES`: wasmtime's own test programs and
//! the examples of `wstd`. What is not there is not run, and the test says so. `docs/conformance.md` says how they are built
//! and what ran.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::app::App;
use crate::harness::client::{Ask, Protocol, ask};
use crate::harness::upstream::Upstream;
use crate::harness::world::World;

/// What a component is asked, and what must come back.
struct Case {
    /// Its place in the folder, without `.wasm`.
    component: &'static str,
    /// Method and path.
    request: (&'static str, &'static str),
    /// A field, where `PORT` is the upstream's, and the body.
    with: (Option<(&'static str, &'static str)>, &'static str),
    /// The status, and what the body has in it: an answer, or the fault's code.
    expect: (u16, &'static str),
}

const fn case(component: &'static str, path: &'static str, status: u16, text: &'static str) -> Case {
    Case { component, request: ("GET", path), with: (None, ""), expect: (status, text) }
}

/// Each component that exports `wasi:http/incoming-handler@0.2` or `wasi:http/handler@0.3`.
const CASES: &[Case] = &[
    case("wasmtime/p2_cli_serve_hello_world", "/", 200, "Hello, WASI!"),
    case("wasmtime/p2_cli_serve_config", "/", 200, "world"),
    Case { with: (Some(("env", "MODE")), ""), ..case("wasmtime/p2_cli_serve_echo_env", "/", 200, "") },
    case("wasmtime/p2_cli_serve_with_print", "/", 200, ""),
    case("wasmtime/p2_cli_serve_return_before_set", "/", 502, "function_gave_no_response"),
    case("wasmtime/p2_cli_serve_trap_before_set", "/", 502, "function_trapped"),
    case("wasmtime/p2_cli_serve_sleep", "/", 504, "wall_time_exceeded"),
    // It wants plain HTTP to `localhost`, and is asked over TLS.
    case("wasmtime/p2_cli_serve_authority_and_scheme", "/", 502, "function_trapped"),
    case("wasmtime/p2_api_proxy", "/", 200, "hello, world!"),
    case("wasmtime/p2_api_proxy", "/early_drop", 200, "hello, world!"),
    case("wasmtime/p2_api_proxy", "/new_fields/1000", 200, "Ok"),
    case("wasmtime/p2_api_proxy", "/modify_fields/1000", 200, "Ok"),
    Case {
        request: ("POST", "/echo"),
        with: (Some(("content-type", "text/plain")), "there and back"),
        ..case("wasmtime/p2_api_proxy_streaming", "/echo", 200, "there and back")
    },
    case("wasmtime/p2_api_proxy_streaming", "/nothing", 405, ""),
    case("wasmtime/p3_cli_serve_hello_world", "/", 200, "Hello, WASI!"),
    case("wasmtime/p3_cli_serve_post_return", "/", 200, ""),
    case("wasmtime/p3_cli_serve_sleep", "/", 504, "wall_time_exceeded"),
    case("wasmtime/p3_api_proxy", "/", 200, "hello, world!"),
    Case {
        request: ("POST", "/echo"),
        with: (Some(("content-type", "text/plain")), "there and back"),
        ..case("wasmtime/p3_http_echo", "/echo", 200, "there and back")
    },
    // It fetches from `p3-test`, which its `egress` does not name, and gives that error for its answer.
    case("wasmtime/p3_http_forbidden_headers", "/", 502, "function_gave_no_response"),
    case("wasmtime/p3_http_proxy", "/", 400, ""),
    Case {
        with: (Some(("url", "http://localhost:PORT/from-p3")), ""),
        ..case("wasmtime/p3_http_proxy", "/", 200, "/from-p3")
    },
    case("wstd/http_server", "/", 200, "Hello, wasi:http/proxy world!"),
    case("wstd/http_server", "/wait-response", 200, "slept for"),
    case("wstd/http_server", "/wait-body", 200, "slept for"),
    case("wstd/http_server", "/stream-body", 200, "stream started"),
    Case {
        request: ("POST", "/echo"),
        with: (None, "there and back"),
        ..case("wstd/http_server", "/echo", 200, "there and back")
    },
    case("wstd/http_server", "/response-fail", 502, "function_gave_no_response"),
    case("wstd/http_server", "/response-body-fail", 502, "function_trapped"),
    case("wstd/http_server", "/nothing", 404, ""),
    // It copies the answer's `content-length`, and its library adds another one, which the interface refuses.
    case("wstd/http_server_proxy", "/proxy/from-wstd", 502, "function_trapped"),
    case("wstd/hello_world", "/", 200, "<h1>Hello, World!</h1>"),
    case("wstd/hello_world_nomacro", "/", 200, "<h1>Hello, World!</h1>"),
    Case {
        with: (Some(("url", "http://localhost:PORT/echo")), ""),
        ..case("spin/wasi_http_rust_0_2_0", "/", 200, "Hello, world!")
    },
    case("spin/wasi_config", "/", 200, ""),
    Case {
        request: ("POST", "/echo"),
        with: (Some(("content-type", "text/plain")), "there and back"),
        ..case("spin/integration_wasi_http_p3_streaming", "/echo", 200, "there and back")
    },
    Case {
        with: (Some(("url", "http://localhost:PORT/from-spin")), ""),
        ..case("spin/integration_wasi_http_p3_streaming", "/hash-all", 200, "/from-spin: ")
    },
    Case {
        request: ("POST", "/"),
        with: (None, "there"),
        ..case("spin/middleware_primary", "/", 200, "Request body:\n\nthere")
    },
    Case {
        request: ("POST", "/"),
        with: (None, "there"),
        ..case("spin/internal_http_p3_back_component", "/", 200, "Response body from back")
    },
];

/// Each component that is refused, and by which words.
const REFUSED: [(&str, &str); 11] = [
    ("spin/hello_world", "0.2.0-rc-2023-10-18"),
    ("spin/http_rust", "no draft of it"),
    ("spin/key_value", "fermyon:spin/key-value@2.0.0"),
    ("spin/unsupported_import", "spin:crimes/unsupported-in-spin"),
    ("spin/middleware_header_adder", "who comes next"),
    ("wstd/http_client", "exports no HTTP handler"),
    ("wstd/complex_http_client", "exports no HTTP handler"),
    ("wasmtime/p3_http_middleware", "who comes next"),
    ("wasmtime/p2_cli_serve_keyvalue", "wasi:keyvalue/store@0.2.0-draft"),
    ("wasmtime/p2_http_outbound_request_get", "exports no HTTP handler"),
    ("wasmtime/p3_http_middleware_with_chain", "local:local/chain-http"),
];

fn components() -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("EYOT_SUITES")?).join("components");
    folder.is_dir().then_some(folder)
}

/// The name of its function, and the first label of its host.
fn name(component: &str) -> String {
    component.replace(['/', '_'], "-").trim_start_matches("wasmtime-p2-").to_owned()
}

#[test]
fn components_of_others_answer_as_they_are() {
    let Some(folder) = components() else {
        println!("components of others: not run, they are not in the folder of EYOT_SUITES");
        return;
    };
    let there = |component: &&Case| folder.join(format!("{}.wasm", component.component)).is_file();
    let cases: Vec<_> = CASES.iter().filter(there).collect();
    for case in CASES.iter().filter(|case| !there(case)) {
        println!("{}: not run, it is not there", case.component);
    }
    let upstream = Upstream::start();
    let port = upstream.address.port();
    let app = App::new("shop", &[]);
    fs::write(app.folder().join("eyot.toml"), manifest(&folder, &cases, port)).expect("eyot.toml");
    let world = World::new();
    world.grant("shop", &["*.shop.test"], &["--private", &format!("127.0.0.1/32={port}")]);
    world.publish(&app);
    let node = world.node("a");
    for case in &cases {
        let host = format!("{}.shop.test", name(case.component));
        node.wait_for_release(&world, &host, "/", "shop/1");
        let (method, path) = case.request;
        let mut asked = Ask::get(&world, &node, Protocol::H3, &host, path).method(method);
        if let Some((field, value)) = case.with.0 {
            asked = asked.header(field, &value.replace("PORT", &port.to_string()));
        }
        if !case.with.1.is_empty() {
            asked = asked.body(case.with.1);
        }
        let answer = ask(asked).unwrap_or_else(|error| panic!("{} {path}: {error}", case.component));
        println!("{} {method} {path}: {} {:.60}", case.component, answer.status, answer.text().replace('\n', " "));
        let (status, text) = case.expect;
        assert_eq!(answer.status, status, "{} {path}: {}", case.component, answer.text());
        assert!(answer.text().contains(text), "{} {path}: {}", case.component, answer.text());
        if case.component.ends_with("echo_env") {
            assert_eq!(answer.header("env"), Some("live"));
        }
    }
}

fn manifest(folder: &Path, cases: &[&Case], port: u16) -> String {
    let mut text = "app = \"shop\"\nhosts = [\"*.shop.test\"]\n".to_owned();
    let mut seen = Vec::new();
    for component in cases.iter().map(|case| case.component) {
        if seen.contains(&component) {
            continue;
        }
        seen.push(component);
        let (name, folder) = (name(component), folder.display());
        // What it wants to find in the configuration, and there alone.
        let own = match component {
            "spin/wasi_config" => "config = { variable = \"value\" }",
            _ => "config = { hello = \"world\" }",
        };
        let _ = write!(
            text,
            "[functions.{name}]\npath = \"{folder}\"\nwasm = \"{component}.wasm\"\nlimits = {{ wall = \"3s\" }}\n\
             {own}\nenv = {{ MODE = \"live\", TARGET_URL = \"http://localhost:{port}/\" }}\n\
             egress = [\"http://localhost:{port}\"]\n\
             [[routes]]\nhost = \"{name}.shop.test\"\npath = \"/*\"\nfunction = \"{name}\"\n",
        );
    }
    text
}

#[test]
fn components_of_others_that_ask_for_what_no_node_gives_are_refused_by_name() {
    let Some(folder) = components() else { return };
    for (component, words) in REFUSED {
        let file = folder.join(format!("{component}.wasm"));
        if !file.is_file() {
            println!("{component}: not run, it is not there");
            continue;
        }
        let bytes = fs::read(&file).expect("a component");
        let refusal = eyot_bundle::component::inspect(&bytes).expect_err("refused").detail;
        println!("{component}: {refusal}");
        assert!(refusal.contains(words), "{component}: {refusal}");
    }
}
