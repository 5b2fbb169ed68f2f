//! Reads small text files of the kernel.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

/// Bytes that are read at most. The longest file is `/proc/net/dev` with thousands of interfaces.
const MAX_LENGTH: u64 = 1 << 20;

/// Reads a text file, at most [`MAX_LENGTH`] bytes of it.
///
/// # Errors
/// When the file cannot be read; the error names the file.
pub fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_LENGTH).read_to_string(&mut text))
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    Ok(text)
}
