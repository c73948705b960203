//! What people and programs see: text, or one JSON document; and the exit code of a failure. The only file that prints.

use std::io::{self, Write};
use std::process::ExitCode;

use eyot_bundle::text::Problems;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

/// A config or a manifest was bad.
const BAD_CONFIG: u8 = 64;

/// Where a verb says what it did. A closed pipe is no failure: whoever closed it has read enough.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Out {
    json: bool,
    is_silent: bool,
}

impl Out {
    /// Text, or JSON.
    pub(crate) fn new(json: bool) -> Self {
        Self { json, is_silent: false }
    }

    /// The same, for a part of what is done: it says nothing but warnings.
    pub(crate) fn silent(self) -> Self {
        Self { is_silent: true, ..self }
    }

    /// Whether JSON was asked for.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// A line for people on standard output.
    pub(crate) fn say(self, text: impl AsRef<str>) {
        if !self.json && !self.is_silent {
            let _ = writeln!(io::stdout().lock(), "{}", text.as_ref());
        }
    }

    /// A line for people on standard error: what to know beside the result.
    pub(crate) fn note(self, text: impl AsRef<str>) {
        if !self.json && !self.is_silent {
            let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
        }
    }

    /// A line that must be seen, whatever was asked for.
    pub(crate) fn warn(self, text: impl AsRef<str>) {
        let _ = writeln!(io::stderr().lock(), "warning: {}", text.as_ref());
    }

    /// The result for programs, one line on standard output.
    pub(crate) fn result(self, value: &Value) {
        if self.json && !self.is_silent {
            let mut stdout = io::stdout().lock();
            let _ = writeln!(stdout, "{value}").and_then(|()| stdout.flush());
        }
    }

    /// Bytes on standard output, as they are.
    pub(crate) fn bytes(self, bytes: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()
    }

    /// Something long that is under way. Nothing is drawn where nobody looks.
    pub(crate) fn progress(self, text: impl Into<String>) -> Progress {
        let target =
            if self.json || self.is_silent { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(None, target).with_message(text.into());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed:>}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(std::time::Duration::from_millis(120));
        Progress(bar)
    }

    /// Says why it failed, and gives the exit code.
    pub(crate) fn failure(self, error: &anyhow::Error) -> ExitCode {
        let problems = error.chain().find_map(|cause| cause.downcast_ref::<Problems>());
        let code = if problems.is_some() { BAD_CONFIG } else { 1 };
        let mut stderr = io::stderr().lock();
        let _ = match (self.json, problems) {
            (true, Some(problems)) => {
                let row = |problem: &eyot_bundle::text::Problem| json!({"file": problem.file, "line": problem.line, "text": problem.text});
                let rows: Vec<_> = problems.0.iter().map(row).collect();
                writeln!(stderr, "{}", json!({"error": "bad configuration", "code": code, "problems": rows}))
            }
            (true, None) => writeln!(stderr, "{}", json!({"error": format!("{error:#}"), "code": code})),
            (false, Some(problems)) => writeln!(stderr, "{problems}"),
            (false, None) => writeln!(stderr, "error: {error:#}"),
        };
        ExitCode::from(code)
    }
}

/// A spinner that is gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Says what is done now.
    pub(crate) fn now(&self, text: impl Into<String>) {
        self.0.set_message(text.into());
    }
}

impl Progress {
    /// Says something in between, without the spinner in its way.
    pub(crate) fn aside<T>(&self, say: impl FnOnce() -> T) -> T {
        self.0.suspend(say)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
