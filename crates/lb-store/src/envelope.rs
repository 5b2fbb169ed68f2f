//! The bytes of a record: revision (8 bytes), CRC-32 (4 bytes), value. Numbers are little-endian.
//!
//! The checksum covers table, key, revision and value. A database page that is damaged, or a record that stands under
//! another key, is found when it is read, not when it has consequences.

use crate::Revision;

/// Bytes before the value.
const HEADER: usize = 12;

/// Seals a value.
pub(crate) fn seal(table: &str, key: &str, revision: Revision, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + value.len());
    bytes.extend(revision.0.to_le_bytes());
    bytes.extend(checksum(table, key, revision, value).to_le_bytes());
    bytes.extend(value);
    bytes
}

/// Opens a sealed value.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn open<'a>(
    table: &str,
    key: &str,
    bytes: &'a [u8],
) -> Result<(Revision, &'a [u8]), String> {
    let Some((header, value)) = bytes.split_at_checked(HEADER) else {
        return Err(format!(
            "it has {} bytes, at least {HEADER} are needed",
            bytes.len()
        ));
    };
    let (revision, stored) = header.split_at(8);
    let revision = Revision(u64::from_le_bytes(revision.try_into().unwrap_or_default()));
    let stored = u32::from_le_bytes(stored.try_into().unwrap_or_default());
    let computed = checksum(table, key, revision, value);
    if stored != computed {
        return Err(format!(
            "its checksum is {computed:08x}, {stored:08x} was written"
        ));
    }
    Ok((revision, value))
}

fn checksum(table: &str, key: &str, revision: Revision, value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    // The lengths keep table and key apart.
    for text in [table, key] {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.update(&revision.0.to_le_bytes());
    hasher.update(value);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_value_opens_under_its_own_key_only() {
        let sealed = seal("vips", "a", Revision(7), b"value");
        assert_eq!(
            open("vips", "a", &sealed),
            Ok((Revision(7), b"value".as_slice()))
        );
        assert!(open("vips", "b", &sealed).is_err());
        assert!(open("vip", "sa", &sealed).is_err());
        assert!(open("vips", "a", &sealed[..HEADER - 1]).is_err());
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(open("vips", "a", &damaged).is_err(), "byte {at}");
        }
    }
}
