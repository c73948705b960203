//! Interfaces that are no stable version of WASI: the drafts that nodes give, each by its exact name, and what to do about
//! those that they do not give.

/// What nodes give. All names of `wasi:config` are one interface, and so are both of `wasi:logging`.
const GIVEN: [&str; 16] = [
    "eyot:edge/budget@0.1.0",
    "eyot:edge/cache@0.1.0",
    "eyot:edge/client@0.1.0",
    "eyot:edge/here@0.1.0",
    "eyot:edge/objects@0.1.0",
    "eyot:edge/rate-limit@0.1.0",
    "eyot:edge/secrets@0.1.0",
    "wasi:config/runtime@0.2.0-draft",
    "wasi:config/store@0.2.0-draft",
    "wasi:config/store@0.2.0-draft-2024-09-27",
    "wasi:config/store@0.2.0-rc.1",
    "wasi:keyvalue/atomics@0.2.0-draft2",
    "wasi:keyvalue/batch@0.2.0-draft2",
    "wasi:keyvalue/store@0.2.0-draft2",
    "wasi:logging/logging",
    "wasi:logging/logging@0.1.0-draft",
];

/// What to do about an interface that is not given: by the whole name without its version, then by what stands before the
/// `/` or `:`.
const ADVICE: [(&str, &str); 25] = [
    ("eyot:edge", "nodes give `eyot:edge` in version 0.1.0; build with the WIT of this version (`functions/wit`)"),
    ("fermyon:spin/config", "an interface of Spin alone; read `wasi:config/store@0.2.0-rc.1`"),
    ("fermyon:spin/http", "an interface of Spin alone; send with `wasi:http/outgoing-handler@0.2`"),
    ("fermyon:spin/inbound-http", "an interface of Spin alone; export `wasi:http/incoming-handler@0.2`"),
    ("fermyon:spin/key-value", "an interface of Spin alone; open a store with `wasi:keyvalue/store@0.2.0-draft2`"),
    ("fermyon:spin/llm", "an interface of Spin alone; fetch a service for it with `wasi:http/outgoing-handler@0.2`"),
    ("fermyon:spin/variables", "an interface of Spin alone; read `wasi:config/store@0.2.0-rc.1`"),
    ("fermyon:spin", "an interface of Spin alone; a node reaches databases and brokers only by HTTP"),
    ("spin:key-value", "an interface of Spin alone; open a store with `wasi:keyvalue/store@0.2.0-draft2`"),
    ("spin:variables", "an interface of Spin alone; read `wasi:config/store@0.2.0-rc.1`"),
    ("spin", "an interface of Spin alone; a node reaches databases and brokers only by HTTP"),
    ("fastly", "an interface of Fastly alone; build for `wasi:http/incoming-handler@0.2`"),
    (
        "wasi:blobstore",
        "no node keeps blobs; keep values in `wasi:keyvalue`, or fetch an object store over `wasi:http`",
    ),
    ("wasi:config", "nodes give `wasi:config/store@0.2.0-rc.1`, and the drafts before it; build with one of them"),
    ("wasi:keyvalue/watcher", "no node tells of changes in a store; a queue of the app can"),
    (
        "wasi:keyvalue",
        "nodes give `wasi:keyvalue` in version 0.2.0-draft2, which other drafts do not fit; build with it",
    ),
    ("wasi:logging", "nodes give `wasi:logging/logging@0.1.0-draft`; build with it"),
    ("wasi:messaging", "messages come as events to the HTTP handler: name a queue in `eyot.toml`"),
    ("wasi:nn", "no node runs models; fetch a service for it over `wasi:http`"),
    ("wasi:otel", "nodes make the traces themselves; log with `wasi:logging/logging@0.1.0-draft`"),
    ("wasi:sql", "no node speaks SQL; fetch a database over `wasi:http`"),
    ("wasi:tls", "no node gives sockets; `wasi:http` speaks TLS by itself"),
    ("wasi_snapshot_preview1", "made for WASI preview 1; make a component of it (`wasm-tools component new --adapt`)"),
    ("wasmcloud", "an interface of wasmCloud alone; build with those of WASI"),
    ("wasmtime", "an interface of wasmtime alone; build with those of WASI"),
];

/// Whether nodes give `import` by this very name.
pub(super) fn is_given(import: &str) -> bool {
    GIVEN.contains(&import)
}

/// What to do about `import`, which nodes do not give, if there is something to say.
pub(super) fn advice(import: &str) -> Option<&'static str> {
    let interface = import.split('@').next().unwrap_or(import);
    let package = interface.split('/').next().unwrap_or(interface);
    let namespace = package.split(':').next().unwrap_or(package);
    let known = |name: &str| ADVICE.iter().find(|(known, _)| *known == name).map(|(_, advice)| *advice);
    known(interface).or_else(|| known(package)).or_else(|| known(namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_toolchains_import_is_answered_with_what_to_do() {
        for (import, expect) in [
            ("fermyon:spin/key-value@2.0.0", Some("wasi:keyvalue/store@0.2.0-draft2")),
            ("fermyon:spin/sqlite@2.0.0", Some("only by HTTP")),
            ("spin:variables/variables@3.0.0", Some("wasi:config")),
            ("spin:postgres/postgres@4.2.0", Some("only by HTTP")),
            ("wasi:keyvalue/store@0.2.0-draft", Some("0.2.0-draft2")),
            ("wasi:keyvalue/watcher@0.2.0-draft2", Some("queue")),
            ("wasi:messaging/consumer@0.2.0-draft", Some("queue")),
            ("wasi:config/store@0.3.0", Some("0.2.0-rc.1")),
            ("eyot:edge/client@0.2.0", Some("0.1.0")),
            ("wasmcloud:bus/lattice@1.0.0", Some("wasmCloud")),
            ("fastly:api/http-req", Some("Fastly")),
            ("acme:db/client@1.0.0", None),
        ] {
            assert!(!is_given(import), "{import}");
            let found = advice(import);
            assert_eq!(found.is_some(), expect.is_some(), "{import}");
            assert!(found.unwrap_or_default().contains(expect.unwrap_or_default()), "{import}: {found:?}");
        }
        assert!(is_given("wasi:keyvalue/store@0.2.0-draft2") && is_given("wasi:logging/logging"));
    }
}
