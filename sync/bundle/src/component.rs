//! Looking at a WebAssembly component without running or compiling it: what it exports, what it imports, and whether a
//! node gives it that. Bounded by the bytes it is given; function bodies are left to the compiler's own validation.

mod drafts;

use wasmparser::component_types::ComponentEntityType;
use wasmparser::{
    ComponentExternalKind, ComponentTypeRef, Encoding, Parser, Payload, ValidPayload, Validator, WasmFeatures,
};

use crate::refusal::{Reason, Refusal};

/// A component larger than this is refused before it is looked at, in bytes.
pub const COMPONENT_BYTES_MAX: usize = 64 << 20;
/// The world of functions.
pub const WORLD: &str = "wasi:http/incoming-handler@0.2";
/// The world of functions that are tasks with streams; beta.
pub const WORLD_0_3: &str = "wasi:http/handler@0.3";
/// The handler of 0.3, before its version.
const HANDLER_0_3: &str = "wasi:http/handler@";
/// A component with more imports than this is refused.
const IMPORTS_MAX: usize = 1_000;
/// Names of imports longer than this are refused, in bytes.
const NAME_BYTES_MAX: usize = 512;

/// What a component says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentFacts {
    /// The world it exports: [`WORLD`] or [`WORLD_0_3`].
    pub world: String,
    /// The interfaces it imports, sorted, as it names them: `wasi:io/streams@0.2.6`.
    pub imports: Vec<String>,
}

/// Looks at the component `wasm`.
///
/// # Errors
/// `over_quota` over [`COMPONENT_BYTES_MAX`]; `parse` for what is no valid component; `incompatible` where it exports
/// no handler that this build runs; `import_forbidden` for an import that no node gives.
pub fn inspect(wasm: &[u8]) -> Result<ComponentFacts, Refusal> {
    if wasm.len() > COMPONENT_BYTES_MAX {
        let detail = format!("the component has {} bytes; at most {COMPONENT_BYTES_MAX} are taken", wasm.len());
        return Err(Refusal::new(Reason::OverQuota, detail));
    }
    let surface = surface(wasm)?;
    let world = world(&surface.exports)?;
    let mut imports = surface.imports;
    imports.sort();
    imports.dedup();
    for import in &imports {
        check_import_of(&world, import)?;
    }
    Ok(ComponentFacts { world, imports })
}

/// The world of the component `wasm`, whatever it imports.
///
/// # Errors
/// As [`inspect`], without `import_forbidden`.
pub fn world_of(wasm: &[u8]) -> Result<String, Refusal> {
    world(&surface(wasm)?.exports)
}

/// Whether a node gives a component of this world the interface `import`: those of 0.3 are for handlers of 0.3, which
/// may have both.
///
/// # Errors
/// As [`check_import`].
pub fn check_import_of(world: &str, import: &str) -> Result<(), Refusal> {
    let is_0_3 = import.split_once('@').is_some_and(|(_, version)| is_version(version, "0.3."));
    if world == WORLD && import.starts_with("wasi:") && is_0_3 {
        let detail =
            format!("imports `{import}`: a handler of WASI 0.2 has its imports from 0.2; export `{WORLD_0_3}`");
        return Err(Refusal::new(Reason::ImportForbidden, detail));
    }
    check_import(import)
}

/// Whether a node gives a component the interface `import`, such as `wasi:io/streams@0.2.6`.
///
/// # Errors
/// `import_forbidden`, naming the import and what to do instead.
pub fn check_import(import: &str) -> Result<(), Refusal> {
    if drafts::is_given(import) {
        return Ok(());
    }
    let refuse = |advice: &str| Err(Refusal::new(Reason::ImportForbidden, format!("imports `{import}`: {advice}")));
    if import.starts_with(HANDLER_0_3) {
        return refuse(
            "who comes next is not the function's to call; have it stand `before` a target, or fetch by `wasi:http/client`",
        );
    }
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    let (package, name) = interface.split_once('/').unwrap_or((interface, ""));
    let given = |table: &[(&str, &'static [&'static str])]| {
        table.iter().find(|(given, _)| *given == package).map(|(_, names)| *names)
    };
    let Some(names) = given(&GIVEN) else {
        let compose = "no node gives it; compose a component that exports it into this one (`wac plug`)";
        return refuse(drafts::advice(import).unwrap_or(compose));
    };
    let names = match given(&GIVEN_0_3) {
        Some(names) if is_version(version, "0.3.") => names,
        _ if is_version(version, "0.2.") => names,
        Some(_) => return refuse("nodes give this interface in versions 0.2 and 0.3, and no draft of them"),
        None => return refuse("nodes give this interface in version 0.2; build with a toolchain for WASI 0.2"),
    };
    if names.contains(&name) { Ok(()) } else { refuse("no node gives this interface of the package") }
}

/// What nodes give: package and interfaces. Filesystem and sockets are there because toolchains import them; they deny.
const GIVEN: [(&str, &[&str]); 7] = [
    (
        "wasi:cli",
        &[
            "environment",
            "exit",
            "stderr",
            "stdin",
            "stdout",
            "terminal-input",
            "terminal-output",
            "terminal-stderr",
            "terminal-stdin",
            "terminal-stdout",
        ],
    ),
    ("wasi:clocks", &["monotonic-clock", "wall-clock"]),
    ("wasi:filesystem", &["preopens", "types"]),
    ("wasi:http", &["outgoing-handler", "types"]),
    ("wasi:io", &["error", "poll", "streams"]),
    ("wasi:random", &["insecure", "insecure-seed", "random"]),
    (
        "wasi:sockets",
        &["instance-network", "ip-name-lookup", "network", "tcp", "tcp-create-socket", "udp", "udp-create-socket"],
    ),
];

/// What nodes give to handlers of WASI 0.3 beside it.
const GIVEN_0_3: [(&str, &[&str]); 6] = [
    (
        "wasi:cli",
        &[
            "environment",
            "exit",
            "stderr",
            "stdin",
            "stdout",
            "terminal-input",
            "terminal-output",
            "terminal-stderr",
            "terminal-stdin",
            "terminal-stdout",
            "types",
        ],
    ),
    ("wasi:clocks", &["monotonic-clock", "system-clock", "types"]),
    ("wasi:filesystem", &["preopens", "types"]),
    ("wasi:http", &["client", "types"]),
    ("wasi:random", &["insecure", "insecure-seed", "random"]),
    ("wasi:sockets", &["ip-name-lookup", "types"]),
];

/// Whether a version is `<line><patch>`, without a pre-release.
fn is_version(version: &str, line: &str) -> bool {
    let patch = version.strip_prefix(line).unwrap_or_default();
    (1..=4).contains(&patch.len()) && patch.bytes().all(|byte| byte.is_ascii_digit())
}

/// The handler among the exports, as a world. One that exports both is run as 0.2.
fn world(exports: &[String]) -> Result<String, Refusal> {
    let version = |name: &str| exports.iter().find_map(|export| export.strip_prefix(name)?.strip_prefix('@'));
    if version("wasi:http/incoming-handler").is_some_and(|version| is_version(version, "0.2.")) {
        return Ok(WORLD.to_owned());
    }
    if version("wasi:http/handler").is_some_and(|version| is_version(version, "0.3.")) {
        return Ok(WORLD_0_3.to_owned());
    }
    let detail = if let Some(version) = version("wasi:http/handler") {
        format!("exports `wasi:http/handler@{version}`; this build runs version 0.3, and no draft of it")
    } else if let Some(version) = version("wasi:http/incoming-handler") {
        format!("exports `wasi:http/incoming-handler@{version}`; this build runs version 0.2")
    } else {
        format!("exports no HTTP handler; export `{WORLD}`")
    };
    Err(Refusal::new(Reason::Incompatible, detail))
}

/// The outermost imports and exports that are instances, by name.
#[derive(Default)]
struct Surface {
    imports: Vec<String>,
    exports: Vec<String>,
}

fn surface(wasm: &[u8]) -> Result<Surface, Refusal> {
    let bad =
        |error: wasmparser::BinaryReaderError| Refusal::new(Reason::Parse, format!("no valid component: {error}"));
    let mut validator = Validator::new_with_features(features());
    let mut surface = Surface::default();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(bad)?;
        match validator.payload(&payload).map_err(bad)? {
            ValidPayload::Parser(_) => depth += 1,
            ValidPayload::End(_) => depth = depth.saturating_sub(1),
            ValidPayload::Ok | ValidPayload::Func(..) => {}
        }
        match payload {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                let detail = "a core module, not a component; build for `wasm32-wasip2`";
                return Err(Refusal::new(Reason::Parse, detail));
            }
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    let import = import.map_err(bad)?;
                    if !is_for_its_types(&validator, import.name.name) {
                        surface.import(import.name.name, import.ty)?;
                    }
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    let export = export.map_err(bad)?;
                    if export.kind == ComponentExternalKind::Instance {
                        surface.exports.push(export.name.name.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    Ok(surface)
}

impl Surface {
    fn import(&mut self, name: &str, kind: ComponentTypeRef) -> Result<(), Refusal> {
        if name.len() > NAME_BYTES_MAX || self.imports.len() >= IMPORTS_MAX {
            let detail = format!("more than {IMPORTS_MAX} imports, or a name over {NAME_BYTES_MAX} bytes");
            return Err(Refusal::new(Reason::OverQuota, detail));
        }
        if !matches!(kind, ComponentTypeRef::Instance(_)) {
            let detail = format!("imports `{name}`, which is no interface; no node gives it");
            return Err(Refusal::new(Reason::ImportForbidden, detail));
        }
        self.imports.push(name.to_owned());
        Ok(())
    }
}

/// Whether the import is that of a handler of 0.3, and nothing of it is called: toolchains name the interface that a
/// component exports among its imports, for the types in it.
fn is_for_its_types(validator: &Validator, name: &str) -> bool {
    let is_handler = name.strip_prefix(HANDLER_0_3).is_some_and(|version| is_version(version, "0.3."));
    let Some(types) = validator.types(0).filter(|_| is_handler) else { return false };
    let Some(ComponentEntityType::Instance(instance)) = types.component_item_for_import(name).map(|item| item.ty)
    else {
        return false;
    };
    types[instance].exports.values().all(|export| matches!(export.ty, ComponentEntityType::Type { .. }))
}

/// What this build's engine takes: no threads, no 64-bit memories, no collector, no exceptions.
fn features() -> WasmFeatures {
    WasmFeatures::WASM2
        | WasmFeatures::COMPONENT_MODEL
        | WasmFeatures::CM_ASYNC
        | WasmFeatures::TAIL_CALL
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::MULTI_MEMORY
        | WasmFeatures::RELAXED_SIMD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_give_wasi_0_2_and_0_3_and_some_drafts_and_nothing_else() {
        for good in [
            "wasi:io/streams@0.2.0",
            "wasi:keyvalue/atomics@0.2.0-draft2",
            "wasi:config/store@0.2.0-rc.1",
            "eyot:edge/client@0.1.0",
            "wasi:cli/stdout@0.2.6",
            "wasi:sockets/tcp@0.2.12",
            "wasi:http/types@0.2.3",
            "wasi:http/types@0.3.0",
            "wasi:http/client@0.3.2",
            "wasi:clocks/system-clock@0.3.0",
        ] {
            assert_eq!(check_import(good), Ok(()), "{good}");
        }
        for (bad, advice) in [
            ("wasi:http/types@0.3.0-rc-2026-03-15", "no draft"),
            ("wasi:http/outgoing-handler@0.3.0", "no node gives this interface"),
            ("wasi:http/client@0.2.0", "no node gives this interface"),
            ("wasi:http/types@0.4.0", "versions 0.2 and 0.3"),
            ("wasi:io/streams@0.3.0", "in version 0.2"),
            ("wasi:io/streams@0.2.0-rc-2023", "in version 0.2"),
            ("wasi:cli/stdout@0.2.0-rc-2023", "no draft"),
            ("wasi:io/streams", "in version 0.2"),
            ("wasi:clocks/timezone@0.2.0", "no node gives this interface"),
            ("wasi:http/handler@0.3.0", "stand `before` a target"),
            ("wasi:keyvalue/store@0.2.0-draft", "0.2.0-draft2"),
            ("fermyon:spin/key-value@2.0.0", "Spin"),
            ("acme:db/client@1.0.0", "compose"),
            ("env", "compose"),
        ] {
            let refusal = check_import(bad).unwrap_err();
            assert_eq!(refusal.reason, Reason::ImportForbidden, "{bad}");
            assert!(refusal.detail.contains(bad) && refusal.detail.contains(advice), "{}", refusal.detail);
        }
    }

    #[test]
    fn imports_of_0_3_are_for_handlers_of_0_3() {
        for (world, import, given) in [
            (WORLD, "wasi:cli/stdout@0.2.6", true),
            (WORLD, "wasi:cli/stdout@0.3.0", false),
            (WORLD_0_3, "wasi:cli/stdout@0.2.6", true),
            (WORLD_0_3, "wasi:cli/stdout@0.3.0", true),
            (WORLD_0_3, "acme:own/thing@0.3.0", false),
        ] {
            assert_eq!(check_import_of(world, import).is_ok(), given, "{world} {import}");
        }
    }

    #[test]
    fn a_handler_of_wasi_0_2_or_0_3_is_a_world_and_others_are_told_apart() {
        let named = |name: &str| world(&[name.to_owned()]);
        assert_eq!(named("wasi:http/incoming-handler@0.2.3"), Ok(WORLD.to_owned()));
        assert_eq!(named("wasi:http/handler@0.3.0"), Ok(WORLD_0_3.to_owned()));
        let both = ["wasi:http/handler@0.3.0".to_owned(), "wasi:http/incoming-handler@0.2.3".to_owned()];
        assert_eq!(world(&both), Ok(WORLD.to_owned()));
        for (export, detail) in [
            ("wasi:http/handler@0.3.0-rc-2026-03-15", "no draft"),
            ("wasi:http/incoming-handler@0.3.0", "runs version 0.2"),
            ("wasi:cli/run@0.2.0", "no HTTP handler"),
        ] {
            let refusal = named(export).unwrap_err();
            assert_eq!(refusal.reason, Reason::Incompatible);
            assert!(refusal.detail.contains(detail), "{}", refusal.detail);
        }
    }

    #[test]
    fn who_names_the_handler_of_0_3_for_its_types_imports_nothing_and_who_calls_it_is_refused() {
        let component = |inside: &str| {
            let text = format!(
                "(component
                    (import \"wasi:http/types@0.3.0\" (instance $types (export \"request\" (type (sub resource)))))
                    (alias export $types \"request\" (type $request))
                    (import \"wasi:http/handler@0.3.0\" (instance (alias outer 1 $request (type $r)) {inside}))
                    (instance $own)
                    (export \"wasi:http/handler@0.3.0\" (instance $own)))"
            );
            inspect(&wat::parse_str(text).expect("a component"))
        };
        let facts = component("(export \"request\" (type (eq $r)))").expect("taken");
        assert_eq!((facts.world.as_str(), facts.imports), (WORLD_0_3, vec!["wasi:http/types@0.3.0".to_owned()]));
        let refusal = component("(export \"handle\" (func))").unwrap_err();
        assert!(refusal.detail.contains("`wasi:http/handler@0.3.0`: who comes next"), "{}", refusal.detail);
    }

    #[test]
    fn what_is_no_component_is_refused_as_such() {
        let module = b"\0asm\x01\0\0\0";
        let component = b"\0asm\x0d\0\x01\0";
        for (bytes, reason, detail) in [
            (&b""[..], Reason::Parse, "no valid component"),
            (&b"#!/bin/sh"[..], Reason::Parse, "no valid component"),
            (&module[..], Reason::Parse, "core module"),
            (&component[..4], Reason::Parse, "no valid component"),
            (&component[..], Reason::Incompatible, "no HTTP handler"),
        ] {
            let refusal = inspect(bytes).unwrap_err();
            assert_eq!(refusal.reason, reason, "{}", refusal.detail);
            assert!(refusal.detail.contains(detail), "{}", refusal.detail);
        }
        let refusal = inspect(&vec![0; COMPONENT_BYTES_MAX + 1]).unwrap_err();
        assert_eq!(refusal.reason, Reason::OverQuota);
    }
}
