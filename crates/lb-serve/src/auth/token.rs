//! Bearer tokens: made here, shown once, and stored as a hash.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq as _;

use super::random;

/// How a token begins, so that programs that look for secrets in repositories find it.
const PREFIX: &str = "lbt_";
/// Hexadecimal digits of an id.
const ID: usize = 12;
/// Random bytes of a secret. With so many no slow hash is needed: they cannot be guessed.
const SECRET: usize = 32;

/// A token: `lbt_ID_SECRET`. Its debugging output has no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: String,
    secret: String,
}

/// A text is no token. It is not repeated: it may be one with a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no token; one begins with lbt_ and was printed by `lbctl token add`")]
pub struct TokenError;

impl Token {
    /// A new one.
    #[must_use]
    pub fn new() -> Self {
        Token {
            id: hex::encode(random::<{ ID / 2 }>()),
            secret: URL_SAFE_NO_PAD.encode(random::<SECRET>()),
        }
    }

    /// What it is called in lists and logs: not secret.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The text that its owner is shown once.
    #[must_use]
    pub fn expose(&self) -> String {
        format!("{PREFIX}{}_{}", self.id, self.secret)
    }

    /// What is stored of it, in hexadecimal digits.
    #[must_use]
    pub fn hash(&self) -> String {
        hex::encode(digest(&SHA256, self.expose().as_bytes()))
    }

    /// Whether this is the hash of it.
    #[must_use]
    pub fn has(&self, hash: &str) -> bool {
        self.hash().as_bytes().ct_eq(hash.as_bytes()).into()
    }
}

impl Default for Token {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}_…", self.id)
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let rest = text.strip_prefix(PREFIX).ok_or(TokenError)?;
        let (id, secret) = rest.split_once('_').ok_or(TokenError)?;
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let is_id = id.len() == ID && id.bytes().all(is_hex);
        let is_secret = URL_SAFE_NO_PAD
            .decode(secret)
            .is_ok_and(|bytes| bytes.len() == SECRET);
        if is_id && is_secret {
            Ok(Token {
                id: id.to_owned(),
                secret: secret.to_owned(),
            })
        } else {
            Err(TokenError)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_again_and_has_only_its_own_hash() {
        let token = Token::new();
        let text = token.expose();
        assert_eq!(text.parse(), Ok(token.clone()));
        assert!(token.has(&token.hash()));
        assert!(!token.has(&Token::new().hash()));
        assert!(!token.hash().contains(&token.secret));
        assert!(!format!("{token:?}").contains(&token.secret));
        // Of two tokens with one id only one has the hash.
        let mut other = Token::new();
        other.id.clone_from(&token.id);
        assert!(!other.has(&token.hash()));
        for wrong in [
            "",
            "lbt_",
            "lbt_x_y",
            &text[1..],
            &text[..text.len() - 1],
            &text.replace("lbt_", "lbx_"),
        ] {
            assert_eq!(wrong.parse::<Token>(), Err(TokenError), "{wrong}");
        }
    }
}
