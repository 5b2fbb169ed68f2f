//! Small files of the kernel.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

/// No file that is read here is longer; `/proc/net/dev` of thousands of interfaces is the longest.
const MAX_LENGTH: u64 = 1 << 20;

/// Reads a text file of bounded length.
///
/// # Errors
/// When it cannot be read; says which.
pub fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_LENGTH).read_to_string(&mut text))
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    Ok(text)
}
