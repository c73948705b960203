//! Components written for one bound each: what they may have, what their start may cost, what their end may say.

use eyot_bundle::digest::Digest;
use eyot_guest::artefacts::Artefacts;
use eyot_guest::{Error, compile};
use eyot_plan::fault::Code;

use crate::harness::{Ask, runtime, settings};

/// A component that handles requests, of these core definitions; `$core` is the instance with `handle`.
fn component(definitions: &str) -> Digest {
    let text = format!(
        r#"(component
          (import "wasi:http/types@0.2.0" (instance $types
            (export "incoming-request" (type (sub resource)))
            (export "response-outparam" (type (sub resource)))))
          (alias export $types "incoming-request" (type $request))
          (alias export $types "response-outparam" (type $out))
          {definitions}
          (func $handle (param "request" (own $request)) (param "response-out" (own $out))
            (canon lift (core func $core "handle")))
          (instance $handler (export "handle" (func $handle)))
          (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#
    );
    let wasm = wat::parse_str(text).expect("a component");
    let digest = Digest::of(&wasm);
    let artefacts = Artefacts::new(settings().artefacts, &settings().key).expect("artefacts");
    artefacts.store(digest, &compile::compile(&wasm).expect("compiled")).expect("stored");
    digest
}

/// A component with so many core instances, each with `each` inside.
fn instances(count: usize, each: &str) -> Digest {
    let more: String = (1..count).map(|_| "(core instance (instantiate $module))").collect();
    component(&format!(
        r#"(core module $module {each} (func (export "handle") (param i32 i32)))
           (core instance $core (instantiate $module)) {more}"#
    ))
}

#[tokio::test]
async fn a_component_with_more_memories_tables_or_instances_than_allowed_is_refused_before_it_runs() {
    for (what, each, most) in
        [("memories", "(memory 1)", 2), ("tables", "(table 1 funcref)", 8), ("core instances", "", 64)]
    {
        let most_of_it = runtime().warm(instances(most, each)).await;
        assert!(most_of_it.is_ok(), "{most} {what}: {most_of_it:?}");
        let refused = runtime().warm(instances(most + 1, each)).await;
        assert!(refused.is_err(), "{} {what}", most + 1);
    }
}

#[tokio::test]
async fn a_component_that_spins_when_it_is_started_is_refused_when_its_probe_has_spent_a_second() {
    let spins = component(
        r#"(core module $module
             (func $spin (loop $again (br $again)))
             (start $spin)
             (func (export "handle") (param i32 i32)))
           (core instance $core (instantiate $module))"#,
    );
    let Err(Error::Probe(fault)) = runtime().warm(spins).await else { panic!("it does not end by itself") };
    assert_eq!(fault.code, Code::CpuBudgetExceeded);
    assert_eq!(fault.limit.map(|limit| (limit.name, limit.allowed)), Some(("cpu_us", 1_000_000)));
}

#[tokio::test]
async fn the_cause_of_a_trap_is_cut_whatever_names_a_component_gives_its_functions() {
    // Two bytes a letter, so that a cut may fall within one.
    for letters in [10, 1000, 1001] {
        let name = "\u{e9}".repeat(letters);
        let traps = component(&format!(
            r#"(core module $module
                 (func $"{name}" (export "handle") (param i32 i32) unreachable))
               (core instance $core (instantiate $module))"#
        ));
        let fault = Ask::of(traps).send().await.expect_err("a trap");
        let cause = fault.cause.expect("a cause");
        assert!(cause.contains('\u{e9}'), "{cause}");
        assert!(cause.len() <= 4096, "{} bytes", cause.len());
        assert_eq!(cause.len() > 1000, letters >= 1000, "{} bytes", cause.len());
    }
}
