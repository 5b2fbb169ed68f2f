//! The large file of a web server. Every block follows from its number, so a download can be compared without a second
//! copy of the file.

use std::{fs::File, io::Write as _, path::Path};

use anyhow::Context as _;

/// Length of the large file, in bytes.
pub const BIG_FILE: u64 = 100 * 1024 * 1024;

/// Length of one block of it, in bytes.
pub const BLOCK: u64 = 64 * 1024;

const _: () = assert!(BIG_FILE.is_multiple_of(BLOCK));

/// Returns one block of the large file: pseudo-random bytes whose seed is the block's number.
pub fn big_file_block(number: u64) -> Vec<u8> {
    let mut block = vec![0; BLOCK as usize];
    fastrand::Rng::with_seed(number).fill(&mut block);
    block
}

pub(super) fn write_big_file(path: &Path) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = File::create(path)?;
        for number in 0..BIG_FILE / BLOCK {
            file.write_all(&big_file_block(number))?;
        }
        Ok(())
    };
    write().with_context(|| format!("writing {}", path.display()))
}
