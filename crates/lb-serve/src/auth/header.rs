//! The `Authorization` field of a request (RFC 9110, section 11.6.2).

use super::{Token, digest};

/// Parameters of a field at most.
const MAX_PARAMETERS: usize = 32;
/// The most bytes of a field.
const MAX_FIELD: usize = 8 << 10;

/// What a caller shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// A token (RFC 6750).
    Bearer(Token),
    /// A user's answer to a challenge (RFC 7616).
    Digest(Box<digest::Answer>),
}

/// Why a field cannot be read. The text never has what the field holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Authorization: {0}")]
pub struct HeaderError(pub(super) String);

impl HeaderError {
    pub(super) fn new(text: impl Into<String>) -> Self {
        HeaderError(text.into())
    }
}

/// Reads the field.
///
/// # Errors
/// It has another scheme, or is not of the scheme's form.
pub fn credentials(field: &[u8]) -> Result<Credentials, HeaderError> {
    if field.len() > MAX_FIELD {
        let text = format!("it is longer than {MAX_FIELD} bytes");
        return Err(HeaderError(text));
    }
    let text = std::str::from_utf8(field).map_err(|_| HeaderError::new("it is not UTF-8"))?;
    let text = text.trim_matches([' ', '\t']);
    let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
    let rest = rest.trim_start_matches(' ');
    if scheme.eq_ignore_ascii_case("bearer") {
        let token = rest.parse();
        return token
            .map(Credentials::Bearer)
            .map_err(|error: super::TokenError| HeaderError(error.to_string()));
    }
    if scheme.eq_ignore_ascii_case("digest") {
        let answer = digest::Answer::of(&parameters(rest)?)?;
        return Ok(Credentials::Digest(Box::new(answer)));
    }
    Err(HeaderError::new(
        "this scheme is not supported; use Digest or Bearer",
    ))
}

/// Reads `NAME=VALUE, …`, where a value is a token or a quoted string. Names are in lower case.
fn parameters(text: &str) -> Result<Vec<(String, String)>, HeaderError> {
    let wrong = |what: &str| HeaderError::new(format!("{what}; write NAME=\"VALUE\", …"));
    let mut found: Vec<(String, String)> = Vec::new();
    let mut rest = text;
    loop {
        // Empty elements of a list are allowed (RFC 9110, section 5.6.1).
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return Ok(found);
        }
        let (name, after) = rest
            .split_once('=')
            .ok_or_else(|| wrong("a parameter has no value"))?;
        let name = name.trim_end_matches([' ', '\t']).to_ascii_lowercase();
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(wrong("the name of a parameter is none"));
        }
        if found.len() == MAX_PARAMETERS || found.iter().any(|(other, _)| *other == name) {
            return Err(wrong("a parameter stands twice, or there are too many"));
        }
        let after = after.trim_start_matches([' ', '\t']);
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => {
                quoted_string(quoted).ok_or_else(|| wrong("a quotation mark is missing"))?
            }
            None => {
                let end = after.bytes().position(|byte| !is_token(byte));
                let (value, after) = after.split_at(end.unwrap_or(after.len()));
                (value.to_owned(), after)
            }
        };
        found.push((name, value));
        rest = after.trim_start_matches([' ', '\t']);
        if !rest.is_empty() && !rest.starts_with(',') {
            return Err(wrong("there is no comma between two parameters"));
        }
    }
}

/// A character of a token (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The content of a quoted string, after its first mark, and what follows the last.
fn quoted_string(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", uri=\"/dir/index.html\", \
                        algorithm=SHA-256, nonce=\"7ypf\", nc=00000001, cnonce=\"f2\", qop=auth, \
                        response=\"753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1\"";

    #[test]
    fn a_field_is_read_in_any_layout() {
        let read = credentials(GOOD.as_bytes()).unwrap();
        let dense = GOOD.replace(", ", ",").replace("Digest ", "dIGEST   ");
        assert_eq!(credentials(dense.as_bytes()).unwrap(), read);
        let wide = GOOD.replace('=', " = ").replace(", ", " ,, ");
        assert_eq!(credentials(wide.as_bytes()).unwrap(), read);
        let escaped = GOOD.replace("Mufasa", "Mu\\fa\\sa");
        assert_eq!(credentials(escaped.as_bytes()).unwrap(), read);
    }

    #[test]
    fn what_is_no_field_is_refused() {
        for text in [
            "",
            "Basic YTpi",
            "Digest",
            "Digest username",
            "Digest username=\"a",
            "Digest username=\"a\\",
            "Bearer",
            "Bearer secret",
            "Bearer a b",
        ] {
            credentials(text.as_bytes()).unwrap_err();
        }
        for (from, to) in [
            ("nc=00000001", "nc=1"),
            ("nc=00000001", "nc=+0000001"),
            ("nc=00000001", "nc=00000000"),
            ("qop=auth", "qop=auth-int"),
            ("qop=auth, ", ""),
            ("algorithm=SHA-256", "algorithm=SHA-1"),
            ("algorithm=SHA-256", "algorithm=SHA-256, algorithm=MD5"),
            ("response=\"75", "response=\"zz"),
            ("response=\"75", "response=\""),
            ("nonce=\"7ypf\", ", ""),
            ("username=\"Mufasa\" ", "username=\"Mufasa\" x "),
            ("realm", "re alm"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            if text != GOOD {
                credentials(text.as_bytes()).unwrap_err();
            }
        }
        let long = format!("Bearer {}", "a".repeat(MAX_FIELD));
        credentials(long.as_bytes()).unwrap_err();
    }

    proptest! {
        #[test]
        fn no_field_makes_the_reader_panic(field: Vec<u8>) {
            let _ = credentials(&field);
        }

        #[test]
        fn no_digest_makes_the_reader_panic(
            field in r#"(Digest|Bearer) *([a-z]{0,8} *=? *("(\\.|[^"\\])*"?|[A-Za-z0-9/+=-]*)[ ,]*){0,12}"#
        ) {
            let _ = credentials(field.as_bytes());
        }

        #[test]
        fn what_is_quoted_is_read_again(user in r#"[^\x00-\x1f]{1,20}"#) {
            let quoted = user.replace('\\', "\\\\").replace('"', "\\\"");
            let text = GOOD.replace("Mufasa", &quoted);
            match credentials(text.as_bytes()) {
                Ok(Credentials::Digest(answer)) => prop_assert_eq!(answer.username, user),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
