//! What comes out of a build becomes what is published: a core module with its world inside becomes a component, and what
//! only debuggers read is taken out.

use anyhow::{Context as _, bail};
use wasm_encoder::{ComponentSectionId, RawSection, Section as _};
use wasmparser::{Encoding, Parser, Payload};

/// The custom section that says which world a core module is written for: C, TinyGo and others leave it there.
const WORLD_SECTION: &str = "component-type";

/// The component in `bytes`: as it is, or made of a core module.
pub(super) fn component(bytes: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    if !is_core_module(&bytes) || !has_world(&bytes) {
        return Ok(bytes);
    }
    let encoder = wit_component::ComponentEncoder::default();
    let encoder = encoder.module(&bytes)?.adapter(
        wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
        wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
    )?;
    encoder.validate(true).encode().context("the core module makes no component of the world it names")
}

fn is_core_module(bytes: &[u8]) -> bool {
    Parser::is_core_wasm(bytes)
}

fn has_world(module: &[u8]) -> bool {
    let named =
        |payload| matches!(payload, Ok(Payload::CustomSection(section)) if section.name().starts_with(WORLD_SECTION));
    Parser::new(0).parse_all(module).any(named)
}

/// A component without its custom sections: names, producers, debugging. What it does is the same. What is no WebAssembly
/// stays as it is, and is refused by who reads it next.
pub(super) fn stripped(wasm: Vec<u8>) -> Vec<u8> {
    without_custom_sections(&wasm).unwrap_or(wasm)
}

fn without_custom_sections(wasm: &[u8]) -> anyhow::Result<Vec<u8>> {
    // A level for each component or module that is open, from the outermost in; each holds what was written of it.
    let mut levels: Vec<Vec<u8>> = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload?;
        match &payload {
            Payload::Version { encoding, .. } => levels.push(match encoding {
                Encoding::Module => wasm_encoder::Module::HEADER.to_vec(),
                Encoding::Component => wasm_encoder::Component::HEADER.to_vec(),
            }),
            Payload::End(_) => {
                let Some(done) = levels.pop() else { bail!("it ends twice") };
                let Some(outer) = levels.last_mut() else { return Ok(done) };
                let is_module = Parser::is_core_wasm(&done);
                let id = if is_module { ComponentSectionId::CoreModule } else { ComponentSectionId::Component };
                RawSection { id: id.into(), data: &done }.append_to(outer);
            }
            Payload::CustomSection(_) => {}
            _ => {
                if let (Some((id, range)), Some(level)) = (payload.as_section(), levels.last_mut())
                    && !is_nested(&payload)
                {
                    let data = wasm.get(range).context("a section beyond the end")?;
                    RawSection { id, data }.append_to(level);
                }
            }
        }
    }
    bail!("it does not end")
}

/// Modules and components in a component are written when they have ended.
fn is_nested(payload: &Payload<'_>) -> bool {
    matches!(payload, Payload::ModuleSection { .. } | Payload::ComponentSection { .. })
}
