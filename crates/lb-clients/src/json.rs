//! JSON as programs write it, which is not always JSON.
//!
//! One value that no grammar allows must not cost the others of a document. `NaN`, `Infinity` and `undefined`, numbers such
//! as `+1` and `.5`, a comma at the end of a list, control characters in a text, bytes that are no UTF-8, a byte order
//! mark and a NUL at the end are read. A bare word becomes a text, so that whoever looks for a number there says what
//! stands there instead.

use serde_json::Value;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Parses a document.
///
/// # Errors
/// The error of a strict parser, if the document cannot be repaired.
pub fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let end = bytes.iter().rposition(|byte| *byte != 0);
    let bytes = &bytes[..end.map_or(0, |end| end + 1)];
    serde_json::from_slice(bytes).or_else(|error| {
        let repaired = repair(&String::from_utf8_lossy(bytes));
        match serde_json::from_str(&repaired) {
            // One word, of a page of HTML for example, is no document unless it is a number.
            Ok(Value::String(word)) if word.parse::<f64>().is_err() => Err(error),
            Ok(value) => Ok(value),
            Err(_) => Err(error),
        }
    })
}

/// Writes a document with what can be repaired in it.
fn repair(text: &str) -> String {
    let mut repaired = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => text_token(rest, &mut repaired),
            '}' | ']' => {
                let end = repaired.trim_end().len();
                if repaired[..end].ends_with(',') {
                    repaired.truncate(end - 1);
                }
                repaired.push(first);
                1
            }
            '{' | '[' | ':' | ',' => {
                repaired.push(first);
                1
            }
            _ if first.is_whitespace() => {
                repaired.push(' ');
                first.len_utf8()
            }
            _ => word(rest, &mut repaired),
        };
        rest = &rest[length..];
    }
    repaired
}

/// Writes a text in quotation marks, and returns its length as it was written.
fn text_token(text: &str, repaired: &mut String) -> usize {
    repaired.push('"');
    let mut characters = text.char_indices().skip(1);
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => {
                repaired.push('"');
                return index + 1;
            }
            '\\' => {
                let rest = &text[index + 1..];
                let is_escape = rest.starts_with(['"', '\\', '/', 'b', 'f', 'n', 'r', 't'])
                    || rest.strip_prefix('u').is_some_and(|digits| {
                        digits.get(..4).is_some_and(|digits| {
                            digits.bytes().all(|byte| byte.is_ascii_hexdigit())
                        })
                    });
                repaired.push('\\');
                if is_escape {
                    repaired.extend(characters.next().map(|(_, escaped)| escaped));
                } else {
                    repaired.push('\\');
                }
            }
            _ if character.is_control() => repaired.push(' '),
            _ => repaired.push(character),
        }
    }
    text.len()
}

/// Writes a word that is not in quotation marks, and returns its length as it was written.
fn word(text: &str, repaired: &mut String) -> usize {
    let ends = |character: char| character.is_whitespace() || "{}[]:,\"".contains(character);
    let length = text.find(ends).unwrap_or(text.len());
    let word = &text[..length];
    if serde_json::from_str::<Value>(word).is_ok() {
        repaired.push_str(word);
    } else {
        let unquoted = word
            .strip_prefix('\'')
            .and_then(|word| word.strip_suffix('\''))
            .unwrap_or(word);
        repaired.push_str(&Value::from(unquoted).to_string());
    }
    length
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_programs_write_is_read() {
        for (text, value) in [
            (&b"{\"a\": 1}"[..], json!({"a": 1})),
            (b"\xef\xbb\xbf{\"a\": 1}\n\0\0", json!({"a": 1})),
            (
                b"{\"a\": NaN, \"b\": -Infinity, \"c\": undefined, \"d\": 1}",
                json!({"a": "NaN", "b": "-Infinity", "c": "undefined", "d": 1}),
            ),
            (b"[+1, .5, 01, 1e3, -2]", json!(["+1", ".5", "01", 1e3, -2])),
            (
                b"{\"a\": [1, 2, ], \"b\": true, }",
                json!({"a": [1, 2], "b": true}),
            ),
            (b"{'a': 'x'}", json!({"a": "x"})),
            (b"{a: 1}", json!({"a": 1})),
            (b"{\"a\": \"x\ty\", \"b\": 1}", json!({"a": "x y", "b": 1})),
            (
                b"{\"a\": \"C:\\dir \\u12\", \"b\": \"\\u00e9\\\"\"}",
                json!({"a": "C:\\dir \\u12", "b": "\u{e9}\""}),
            ),
            (
                b"{\"a\": \"caf\xe9\", \"b\": 2}",
                json!({"a": "caf\u{fffd}", "b": 2}),
            ),
            (b"nan", json!("nan")),
        ] {
            let shown = String::from_utf8_lossy(text);
            assert_eq!(parse(text).unwrap(), value, "{shown}");
        }
        for text in [
            &b""[..],
            b"\0",
            b"<html><body>",
            b"soon",
            b"\xff\xfe",
            b"{\"a\": 1",
            b"{\"a\" 1}",
            b"{\"a\": \"",
            b"1 2",
        ] {
            let shown = String::from_utf8_lossy(text);
            assert!(parse(text).is_err(), "{shown}");
        }
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[\\\\\"{}:,u0-9a\u{e9}\\[\\] ]{0,40}") {
            let _ = parse(&bytes);
            let _ = parse(text.as_bytes());
        }

        #[test]
        fn what_is_json_stays_as_it_is(text in "\\PC{0,20}", number in any::<i64>()) {
            let value = json!({"text": text, "number": number, "list": [null, true]});
            prop_assert_eq!(&parse(value.to_string().as_bytes()).unwrap(), &value);
            let repaired: Value = serde_json::from_str(&repair(&value.to_string())).unwrap();
            prop_assert_eq!(&repaired, &value);
        }
    }
}
