//! Weights, as typed.

/// Reads a weight. Whether it is small enough, the agent says: it knows its limits.
pub fn read(text: &str) -> Result<u32, String> {
    text.parse()
        .map_err(|_| "a weight is a whole number from 0 to 65535".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_whole_numbers() {
        for (text, weight) in [("0", 0), ("65535", 65_535), ("65536", 65_536)] {
            assert_eq!(read(text), Ok(weight));
        }
        for text in ["-1", "1.5", "", "many", "4294967296"] {
            assert!(read(text).unwrap_err().contains("0 to 65535"), "{text}");
        }
    }
}
