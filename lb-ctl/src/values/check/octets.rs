//! Bytes, as text or as `hex:` and digits; a text that begins with `hex:` has `text:` before it.

const HEX: &str = "hex:";
const TEXT: &str = "text:";

pub fn read(text: &str) -> Result<Vec<u8>, String> {
    match text.strip_prefix(HEX) {
        Some(digits) => ::hex::decode(digits).map_err(|error| {
            format!("no bytes in hexadecimal ({error}); write pairs of digits, as in hex:0d0a")
        }),
        None => Ok(text.strip_prefix(TEXT).unwrap_or(text).as_bytes().to_vec()),
    }
}

pub fn write(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().any(char::is_control) => format!("{HEX}{}", ::hex::encode(bytes)),
        Ok(text) if text.starts_with(HEX) || text.starts_with(TEXT) => format!("{TEXT}{text}"),
        Ok(text) => text.to_owned(),
        Err(_) => format!("{HEX}{}", ::hex::encode(bytes)),
    }
}
