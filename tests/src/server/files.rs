//! The large file: every byte is known from its place, so a download is compared without a second copy.

use std::{fs::File, io::Write as _, path::Path};

use anyhow::Context as _;

/// Length of the large file, in bytes.
pub const BIG_FILE: u64 = 100 * 1024 * 1024;

/// Length of one block of it, in bytes.
pub const BLOCK: u64 = 64 * 1024;

const _: () = assert!(BIG_FILE.is_multiple_of(BLOCK) && BLOCK.is_multiple_of(8));

/// One block of the large file: words of a splitmix64 sequence that begins at the block's number.
pub fn big_file_block(number: u64) -> Vec<u8> {
    let words = BLOCK / 8;
    (number * words..(number + 1) * words)
        .flat_map(|place| mix(place).to_le_bytes())
        .collect()
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

fn mix(place: u64) -> u64 {
    let mut word = place.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}
