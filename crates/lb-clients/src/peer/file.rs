//! Files that the configuration names: secrets and certificates.

use std::path::Path;

use tokio::io::AsyncReadExt as _;

use super::{Deadline, PeerError, descriptors};

/// The longest file that is read, in bytes: a bundle of all certificate authorities is about 250 KiB.
const MAX_FILE: u64 = 1 << 20;

/// Reads a regular file.
///
/// # Errors
/// Names the file and the reason.
pub async fn read(path: &Path, deadline: &Deadline) -> Result<Vec<u8>, PeerError> {
    let wrong = |reason: String| PeerError::File {
        path: path.to_owned(),
        reason,
    };
    deadline
        .bound("reading a file", async {
            // Opening a pipe waits for a writer, in a thread that cannot be stopped.
            let kind = tokio::fs::metadata(path)
                .await
                .map_err(|error| wrong(error.to_string()))?;
            if !kind.is_file() {
                return Err(wrong("is no file".to_owned()));
            }
            let mut bytes = Vec::new();
            let owned = path.to_owned();
            let opened = tokio::task::spawn_blocking(move || {
                descriptors::open(|| std::fs::File::open(&owned))
            });
            let file = opened
                .await
                .map_err(|error| wrong(error.to_string()))?
                .map_err(|error| wrong(error.to_string()))?;
            tokio::fs::File::from_std(file)
                .take(MAX_FILE + 1)
                .read_to_end(&mut bytes)
                .await
                .map_err(|error| wrong(error.to_string()))?;
            if bytes.len() as u64 > MAX_FILE {
                return Err(wrong(format!("is longer than {MAX_FILE} bytes")));
            }
            Ok(bytes)
        })
        .await
}
