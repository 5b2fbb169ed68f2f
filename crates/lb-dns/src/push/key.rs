//! The key that signs updates (TSIG, RFC 8945).

use std::{fmt, io, io::Read as _, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hickory_proto::rr::{Name, TSigner, rdata::tsig::TsigAlgorithm};

/// The longest key file that is read.
const MAX_FILE: u64 = 65_536;
/// How far the clocks of both sides may differ, in seconds (RFC 8945 section 10 recommends 300).
pub(super) const FUDGE: u16 = 300;
/// The algorithms that can be used, strong ones only.
const ALGORITHMS: [(&str, TsigAlgorithm); 3] = [
    ("hmac-sha256", TsigAlgorithm::HmacSha256),
    ("hmac-sha384", TsigAlgorithm::HmacSha384),
    ("hmac-sha512", TsigAlgorithm::HmacSha512),
];

/// A key. Its secret is in no text that it is shown as.
#[derive(Clone)]
pub struct Key {
    name: Name,
    signer: TSigner,
}

/// Why a file has no key. The secret is in none of these.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// It is no key.
    #[error(
        "it has neither a key statement as tsig-keygen prints it (key \"NAME\" {{ algorithm hmac-sha256; secret \"...\"; }};) \
         nor a line ALGORITHM:NAME:SECRET"
    )]
    Form,
    /// The algorithm is unknown or weak.
    #[error("the algorithm {0} is not supported; give hmac-sha256, hmac-sha384 or hmac-sha512")]
    Algorithm(String),
    /// The name is none.
    #[error("{0:?} is no name of a key")]
    Name(String),
    /// The secret is not in base64.
    #[error("the secret is not in base64")]
    Secret,
    /// The secret is too short.
    #[error("the secret has {0} bytes; it needs 16 at least, and 32 are usual")]
    Short(usize),
}

impl Key {
    /// Reads a key from a file.
    ///
    /// # Errors
    /// Returns why there is no key in it.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let mut text = String::new();
        std::fs::File::open(path)?
            .take(MAX_FILE)
            .read_to_string(&mut text)?;
        Self::parse(&text)
    }

    /// Reads a key from a text: BIND's `key` statement, or `ALGORITHM:NAME:SECRET` on a line of its own, which may be a
    /// comment as in the output of `keymgr -t`.
    ///
    /// # Errors
    /// Returns why there is no key in it.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        for line in text.lines() {
            let line = line.trim_start_matches('#').trim();
            if let Some((algorithm, rest)) = line.split_once(':')
                && algorithm.starts_with("hmac-")
                && let Some((name, secret)) = rest.split_once(':')
            {
                return Self::new(algorithm, name, secret);
            }
        }
        let words = words(text);
        let mut words = words.iter().map(String::as_str);
        if !words.any(|word| word == "key") {
            return Err(KeyError::Form);
        }
        let name = words.next().ok_or(KeyError::Form)?;
        let (mut algorithm, mut secret) = (None, None);
        while let Some(word) = words.next() {
            match word {
                "algorithm" => algorithm = words.next(),
                "secret" => secret = words.next(),
                "}" => break,
                _ => {}
            }
        }
        let (Some(algorithm), Some(secret)) = (algorithm, secret) else {
            return Err(KeyError::Form);
        };
        Self::new(algorithm, name, secret)
    }

    /// Makes a key from its parts; the secret is in base64.
    ///
    /// # Errors
    /// Returns which part is wrong.
    pub fn new(algorithm: &str, name: &str, secret: &str) -> Result<Self, KeyError> {
        let algorithm = algorithm.to_ascii_lowercase();
        let algorithm = algorithm.strip_suffix('.').unwrap_or(&algorithm);
        let known = ALGORITHMS.iter().find(|(known, _)| *known == algorithm);
        let Some((_, algorithm)) = known else {
            return Err(KeyError::Algorithm(algorithm.to_owned()));
        };
        // The digest is over the name in lower case (RFC 8945 section 4.3.3).
        let lower = name.to_ascii_lowercase();
        let mut parsed = Name::from_ascii(&lower).map_err(|_| KeyError::Name(name.to_owned()))?;
        parsed.set_fqdn(true);
        if parsed.is_root() {
            return Err(KeyError::Name(name.to_owned()));
        }
        let secret = BASE64_STANDARD
            .decode(secret.trim())
            .map_err(|_| KeyError::Secret)?;
        if secret.len() < 16 {
            return Err(KeyError::Short(secret.len()));
        }
        let signer = TSigner::new(secret, algorithm.clone(), parsed.clone(), FUDGE)
            .map_err(|_| KeyError::Algorithm(algorithm.to_string()))?;
        Ok(Key {
            name: parsed,
            signer,
        })
    }

    /// Returns what signs messages.
    pub(crate) fn signer(&self) -> &TSigner {
        &self.signer
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name.to_ascii().trim_end_matches('.'))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// Splits a statement of BIND's configuration into words, without quotation marks, semicolons and comments. A brace is a
/// word. Comments begin between words only: a secret may contain `//`.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, after) = match first {
            '"' => rest[1..].split_once('"').unwrap_or((&rest[1..], "")),
            '{' | '}' => rest.split_at(1),
            ';' => ("", &rest[1..]),
            '#' => ("", after(rest, "\n")),
            '/' if rest.starts_with("//") => ("", after(rest, "\n")),
            '/' if rest.starts_with("/*") => ("", after(rest, "*/")),
            _ => {
                let end = |c: char| c.is_whitespace() || matches!(c, '"' | '{' | '}' | ';');
                rest.split_at(rest.find(end).unwrap_or(rest.len()))
            }
        };
        if !word.is_empty() {
            words.push(word.to_owned());
        }
        rest = after.trim_start();
    }
    words
}

/// Returns what follows the first `end`.
fn after<'a>(text: &'a str, end: &str) -> &'a str {
    text.split_once(end).map_or("", |(_, after)| after)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "5oGb//ggE0p+NFE4+TDgTbqyBcvZTXrcVq0ESAcZpFo=";

    #[test]
    fn keys_are_read_as_tools_print_them() {
        let texts = [
            format!("key \"LBkey\" {{\n\talgorithm hmac-sha256;\n\tsecret \"{SECRET}\";\n}};\n"),
            format!(
                "// made by hand\n/* for\nthe balancer */ key lbkey. {{ secret {SECRET}; algorithm HMAC-SHA256; }};"
            ),
            format!(
                "# hmac-sha256:lbkey:{SECRET}\nkey:\n- id: lbkey\n  algorithm: hmac-sha256\n  secret: {SECRET}\n"
            ),
            format!("hmac-sha256:lbkey:{SECRET}\n"),
        ];
        for text in texts {
            let key = Key::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            assert_eq!(key.to_string(), "lbkey", "{text}");
            assert_eq!(key.signer().key().len(), 32);
            assert_eq!(key.signer().algorithm(), &TsigAlgorithm::HmacSha256);
        }
    }

    #[test]
    fn what_is_no_key_is_refused_without_its_secret() {
        let cases = [
            ("", "it has neither a key statement"),
            (
                "key lbkey { algorithm hmac-sha256; };",
                "it has neither a key statement",
            ),
            (
                "hmac-md5:lbkey:5oGbggE0p+NFE4+TDgTbqw==",
                "hmac-md5 is not supported",
            ),
            (
                "hmac-sha256:lb..key:5oGbggE0p+NFE4+TDgTbqw==",
                "is no name of a key",
            ),
            (
                "hmac-sha256:.:5oGbggE0p+NFE4+TDgTbqw==",
                "is no name of a key",
            ),
            ("hmac-sha256:lbkey:hunter22!", "the secret is not in base64"),
            ("hmac-sha256:lbkey:aHVudGVyMjI=", "the secret has 8 bytes"),
        ];
        for (text, words) in cases {
            let error = Key::parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
            assert!(!error.contains("unter"), "{error}");
        }
        let key = Key::new("hmac-sha512", "k", SECRET).unwrap();
        assert_eq!(format!("{key:?}"), "Key(k)");
        let missing = Key::read(Path::new("/there/is/none")).unwrap_err();
        assert!(missing.to_string().contains("No such file"), "{missing}");
    }
}
