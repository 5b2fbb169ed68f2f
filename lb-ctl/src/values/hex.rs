//! Packets in hexadecimal, as tcpdump, Wireshark and `lbctl` itself print them.

/// Reads bytes: digits, with or without blanks or colons between them and `0x` before them.
///
/// # Errors
/// Returns what is wrong, in words for the operator.
pub fn read(text: &str) -> Result<Vec<u8>, String> {
    let text = text.trim();
    let text = text.strip_prefix("0x").unwrap_or(text);
    let digits: String = text
        .chars()
        .filter(|c| !c.is_ascii_whitespace() && *c != ':')
        .collect();
    if digits.is_empty() {
        return Err("there is no packet: write an Ethernet frame in hexadecimal digits".to_owned());
    }
    ::hex::decode(&digits).map_err(|error| format!("not a packet in hexadecimal digits: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_common_forms() {
        for text in [
            "00ffa1",
            "00FFA1",
            "00 ff a1",
            "00:ff:a1",
            "0x00ffa1",
            " 00ff a1\n",
        ] {
            assert_eq!(read(text), Ok(vec![0, 0xff, 0xa1]), "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, error) in [
            (
                "",
                "there is no packet: write an Ethernet frame in hexadecimal digits",
            ),
            (
                "0x",
                "there is no packet: write an Ethernet frame in hexadecimal digits",
            ),
            (
                "abc",
                "not a packet in hexadecimal digits: Odd number of digits",
            ),
            (
                "0g",
                "not a packet in hexadecimal digits: Invalid character 'g' at position 1",
            ),
        ] {
            assert_eq!(read(text), Err(error.to_owned()));
        }
    }
}
