//! `eyot new`: the folder of an app with one function, written from a template that is built in.

mod templates;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use eyot_bundle::name::Name;
use serde_json::json;

use crate::out::Out;
use templates::Template;

/// Write a small app with one function, ready to be built.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  eyot new shop --template rust
  eyot new shop --template python --path ~/apps/shop")]
pub(crate) struct Args {
    /// The app's name, and that of its function: a lower-case letter, then lower-case letters, digits or `-`.
    name: Name,
    /// The language.
    #[arg(short, long, value_enum)]
    template: Template,
    /// Where to write it: a folder that is empty or does not exist. Default: a folder of the app's name.
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, out: Out) -> anyhow::Result<()> {
    let folder = args.path.clone().unwrap_or_else(|| PathBuf::from(args.name.as_str()));
    refuse_what_is_there(&folder)?;
    let written = args.template.write(&args.name, &folder)?;
    out.say(format!("wrote {}: {}", folder.display(), written.join(" ")));
    out.say(format!("\nnext, with {} at hand:\n  cd {}\n  eyot dev", args.template.needs(), folder.display()));
    out.say("README.md says what each file is for.");
    out.result(&json!({"app": args.name, "template": args.template.label(), "folder": folder, "files": written}));
    Ok(())
}

/// Nothing of anybody's is written over.
fn refuse_what_is_there(folder: &Path) -> anyhow::Result<()> {
    match fs::read_dir(folder).map(|mut entries| entries.next().is_some()) {
        Ok(true) => bail!("{} is there and not empty; say `--path DIR` for another place", folder.display()),
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context(folder.display().to_string()),
        Ok(false) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(template: Template, folder: &Path) -> Args {
        Args { name: "shop".parse().unwrap(), template, path: Some(folder.to_owned()) }
    }

    #[test]
    fn what_is_there_already_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mine");
        fs::write(&file, "mine").unwrap();
        let error = run(&args(Template::Rust, folder.path()), Out::new(true)).unwrap_err().to_string();
        assert!(error.contains("not empty") && error.contains("--path"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        run(&args(Template::Rust, &file), Out::new(true)).expect_err("a file is no folder");
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    }

    #[test]
    fn an_empty_folder_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        for place in [folder.path().join("deep/below"), folder.path().join("deep/empty")] {
            if place.ends_with("empty") {
                fs::create_dir(&place).unwrap();
            }
            run(&args(Template::Python, &place), Out::new(true)).unwrap();
            let manifest = fs::read_to_string(place.join("eyot.toml")).unwrap();
            assert!(manifest.contains("[functions.shop]"), "{manifest}");
        }
    }
}
