//! The command: what was typed becomes a call into the crates that do the work, and their answer becomes text or JSON
//! and an exit code. It decides nothing about releases or requests; one file holds one verb.

mod admin;
mod app;
mod build;
mod cache;
mod compile;
mod demo;
mod dev;
mod files;
mod fleet;
mod get;
mod keyfile;
mod keyring;
mod keys;
mod lines;
mod local;
mod logs;
mod new;
mod node;
mod operator;
mod origin;
mod out;
mod project;
mod publish;
mod purge;
mod reach;
mod releases;
mod rollback;
mod secret;
mod serve;
mod test;
mod trusted;
mod upgrade;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use out::Out;

/// An edge runtime for bare hosts: HTTP/3, WebAssembly functions under a true CPU budget, signed releases.
#[derive(Debug, Parser)]
#[command(name = "eyot", version, arg_required_else_help = true, propagate_version = true)]
#[command(after_help = "Begin with `eyot demo`: an origin and three nodes on this machine, with an example app.\n\
    Exit codes: 0 done, 1 failed, 2 wrong usage, 64 bad configuration or manifest.")]
struct Cli {
    /// Print one JSON document instead of text; errors as JSON on standard error.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    App(app::Args),
    Build(build::Args),
    Cache(cache::Args),
    Compile(compile::Args),
    Demo(demo::Args),
    Dev(dev::Args),
    Fleet(fleet::Args),
    Get(get::Args),
    Keys(keys::Args),
    Logs(logs::Args),
    New(new::Args),
    Node(node::Args),
    Origin(origin::Args),
    Publish(publish::Args),
    Purge(purge::Args),
    Releases(releases::Args),
    Rollback(rollback::Args),
    Secret(secret::Args),
    Test(test::Args),
    Upgrade(upgrade::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let out = Out::new(cli.json);
    match run(cli.verb, &out) {
        Ok(code) => code,
        Err(error) => out.failure(&error),
    }
}

fn run(verb: Verb, out: &Out) -> anyhow::Result<ExitCode> {
    let done = |()| ExitCode::SUCCESS;
    // The compiler's process holds its limits from its first step on: it has no runtime and no other threads.
    if let Verb::Compile(args) = verb {
        return compile::run(&args).map(done);
    }
    // A node sets up its own threads.
    if let Verb::Node(args) = verb {
        return node::run(&args, *out).map(done);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match verb {
            Verb::App(args) => app::run(args, out).await.map(done),
            Verb::Build(args) => build::run(&args, out).await.map(done),
            Verb::Cache(args) => cache::run(&args, *out).map(done),
            Verb::Compile(_) | Verb::Node(_) => Ok(ExitCode::SUCCESS),
            Verb::Demo(args) => demo::run(args, out).await,
            Verb::Dev(args) => dev::run(args, out).await,
            Verb::Fleet(args) => fleet::run(args, out).await.map(done),
            Verb::Get(args) => get::run(args, out).await,
            Verb::Keys(args) => keys::run(args, out).await.map(done),
            Verb::Logs(args) => logs::run(args, out).await,
            Verb::New(args) => new::run(&args, *out).map(done),
            Verb::Origin(args) => origin::run(args, out).await.map(done),
            Verb::Publish(args) => publish::run(args, out).await.map(done),
            Verb::Purge(args) => purge::run(args, out).await.map(done),
            Verb::Releases(args) => releases::run(args, out).await.map(done),
            Verb::Rollback(args) => rollback::run(args, out).await.map(done),
            Verb::Secret(args) => secret::run(&args, out).await.map(done),
            Verb::Test(args) => test::run(args, out).await,
            Verb::Upgrade(args) => upgrade::run(args, out).await.map(done),
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_verb_that_people_use_has_help_with_an_example() {
        let mut cli = Cli::command();
        cli.build();
        for verb in cli.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
            let help = verb.clone().render_long_help().to_string();
            assert!(help.contains(&format!("eyot {}", verb.get_name())) && help.contains("Example"), "{help}");
        }
    }
}
