//! What the verbs that serve have in common: reading a configuration so that whatever is wrong with it ends in the exit
//! code for bad ones.

use std::path::Path;

use eyot_bundle::text::{Problem, Problems};

/// The text of a configuration, and its name for problems.
pub(crate) fn configuration(file: &Path) -> Result<(String, String), Problems> {
    let name = file.display().to_string();
    match std::fs::read_to_string(file) {
        Ok(source) => Ok((name, source)),
        Err(error) => Err(Problems(vec![Problem { file: name, line: 1, text: format!("cannot be read: {error}") }])),
    }
}
