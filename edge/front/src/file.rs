//! Files that an operator names: read whole, and bounded.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::error::Error;

/// What a file of certificates or keys may measure, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads a file.
pub(crate) fn read(file: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read { file: file.to_owned(), source };
    let mut bytes = Vec::new();
    // Its length is not asked for: what is no regular file has none, and others grow.
    let mut within = File::open(file).map_err(failed)?.take(FILE_BYTES_MAX + 1);
    within.read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Error::Certificate { file: file.to_owned(), reason: "is too large".to_owned() });
    }
    Ok(bytes)
}
