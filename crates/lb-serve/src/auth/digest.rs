//! HTTP Digest (RFC 7616): a user proves that it knows its password without sending it.
//!
//! Only `qop=auth` is taken: without it a request has no count, and could be replayed. What is stored of a password, its
//! [`secret`], is not the password, but is as good as that for Digest with this realm.

use std::{fmt, str::FromStr};

use md5::{Digest as _, Md5};
use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq as _;

use super::HeaderError;

/// The hash function. Variants with `-sess` are not taken: they would have to be remembered by session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// Broken for other purposes, and what old clients know.
    Md5,
    /// What clients know since RFC 7616.
    Sha256,
}

impl Algorithm {
    /// The name in header fields.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA-256",
        }
    }

    fn hash(self, text: &str) -> String {
        match self {
            Algorithm::Md5 => hex::encode(Md5::digest(text.as_bytes())),
            Algorithm::Sha256 => hex::encode(digest(&SHA256, text.as_bytes())),
        }
    }

    const fn hex_digits(self) -> usize {
        match self {
            Algorithm::Md5 => 32,
            Algorithm::Sha256 => 64,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let all = [Algorithm::Md5, Algorithm::Sha256];
        let found = all
            .into_iter()
            .find(|one| one.name().eq_ignore_ascii_case(text));
        found.ok_or(())
    }
}

/// What is stored of a password: the hash of user, realm and password, in hexadecimal digits (`A1` of RFC 7616, section
/// 3.4.2).
#[must_use]
pub fn secret(algorithm: Algorithm, user: &str, realm: &str, password: &str) -> String {
    algorithm.hash(&format!("{user}:{realm}:{password}"))
}

/// The content of a `WWW-Authenticate` field. The realm and the nonce have no quotation marks.
#[must_use]
pub fn challenge(algorithm: Algorithm, realm: &str, nonce: &str, is_stale: bool) -> String {
    let stale = if is_stale { ", stale=true" } else { "" };
    format!(
        "Digest realm=\"{realm}\", qop=\"auth\", algorithm={algorithm}, nonce=\"{nonce}\", charset=UTF-8{stale}"
    )
}

/// A user's answer to a challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The user.
    pub username: String,
    /// The realm of the challenge.
    pub realm: String,
    /// The nonce of the challenge.
    pub nonce: String,
    /// What is requested.
    pub uri: String,
    /// The hash function.
    pub algorithm: Algorithm,
    /// How many requests this is with the nonce, from 1.
    pub count: u32,
    /// The client's nonce.
    pub cnonce: String,
    /// The proof, in hexadecimal digits.
    response: String,
}

impl Answer {
    /// Takes it out of the parameters of a field.
    pub(super) fn of(parameters: &[(String, String)]) -> Result<Self, HeaderError> {
        let find = |name: &str| {
            let found = parameters.iter().find(|(other, _)| other == name);
            found.map(|(_, value)| value.as_str())
        };
        let get = |name: &str| {
            let missing = || HeaderError::new(format!("{name} is missing"));
            find(name).map(str::to_owned).ok_or_else(missing)
        };
        // Without the parameter it is MD5 (RFC 7616, section 3.4).
        let algorithm = find("algorithm").unwrap_or("MD5");
        let algorithm = algorithm
            .parse()
            .map_err(|()| HeaderError::new("this algorithm is not supported; use SHA-256"))?;
        if find("qop") != Some("auth") {
            return Err(HeaderError::new("use qop=auth"));
        }
        if find("userhash").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Err(HeaderError::new("userhash is not supported"));
        }
        let count = get("nc")?;
        let is_count = count.len() == 8 && count.bytes().all(|byte| byte.is_ascii_hexdigit());
        let count = u32::from_str_radix(&count, 16).ok().filter(|_| is_count);
        let answer = Answer {
            username: get("username")?,
            realm: get("realm")?,
            nonce: get("nonce")?,
            uri: get("uri")?,
            algorithm,
            count: count
                .filter(|count| *count > 0)
                .ok_or_else(|| HeaderError::new("nc is no count: give 8 hexadecimal digits"))?,
            cnonce: get("cnonce")?,
            response: get("response")?.to_ascii_lowercase(),
        };
        let is_proof = answer.response.len() == algorithm.hex_digits()
            && answer.response.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_proof {
            Ok(answer)
        } else {
            Err(HeaderError::new("response is no hash of this algorithm"))
        }
    }

    /// Whether it proves that the user knows the password of which this is the [`secret`], for a request by this method.
    #[must_use]
    pub fn proves(&self, secret: &str, method: &str) -> bool {
        let expected = self.proof(secret, method);
        expected.as_bytes().ct_eq(self.response.as_bytes()).into()
    }

    /// The same answer as a client makes it that knows the password.
    #[must_use]
    pub fn proved(mut self, secret: &str, method: &str) -> Self {
        self.response = self.proof(secret, method);
        self
    }

    fn proof(&self, secret: &str, method: &str) -> String {
        let request = self.algorithm.hash(&format!("{method}:{}", self.uri));
        let Answer {
            nonce,
            count,
            cnonce,
            ..
        } = self;
        self.algorithm.hash(&format!(
            "{secret}:{nonce}:{count:08x}:{cnonce}:auth:{request}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Credentials, credentials};

    /// The example of RFC 7616, section 3.9.1.
    fn example(algorithm: &str, response: &str) -> Answer {
        let field = format!(
            "Digest username=\"Mufasa\",
       realm=\"http-auth@example.org\",
       uri=\"/dir/index.html\",
       algorithm={algorithm},
       nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\",
       nc=00000001,
       cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\",
       qop=auth,
       response=\"{response}\",
       opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
        );
        // A field on the wire has one line.
        let field = field.replace('\n', "");
        match credentials(field.as_bytes()) {
            Ok(Credentials::Digest(answer)) => *answer,
            other => panic!("{other:?}"),
        }
    }

    const CASES: [(Algorithm, &str); 2] = [
        (Algorithm::Md5, "8ca523f5e9506fed4657c9700eebdbec"),
        (
            Algorithm::Sha256,
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
        ),
    ];

    #[test]
    fn the_examples_of_the_rfc_are_proved() {
        for (algorithm, response) in CASES {
            let answer = example(algorithm.name(), response);
            assert_eq!((answer.algorithm, answer.count), (algorithm, 1));
            let secret = secret(
                algorithm,
                "Mufasa",
                "http-auth@example.org",
                "Circle of Life",
            );
            assert!(answer.proves(&secret, "GET"), "{algorithm}");
        }
    }

    #[test]
    fn anything_else_is_no_proof() {
        for (algorithm, response) in CASES {
            let answer = example(algorithm.name(), response);
            let of = |user, realm, password| secret(algorithm, user, realm, password);
            let right = of("Mufasa", "http-auth@example.org", "Circle of Life");
            for wrong in [
                of("Mufasa", "http-auth@example.org", "circle of life"),
                of("Mufasa", "example.org", "Circle of Life"),
                of("Scar", "http-auth@example.org", "Circle of Life"),
                String::new(),
            ] {
                assert!(!answer.proves(&wrong, "GET"));
            }
            assert!(!answer.proves(&right, "POST"));
            let changed: [fn(&mut Answer); 4] = [
                |answer| answer.count = 2,
                |answer| answer.uri.push('x'),
                |answer| answer.nonce.push('x'),
                |answer| answer.cnonce.push('x'),
            ];
            for change in changed {
                let mut other = answer.clone();
                change(&mut other);
                assert!(!other.proves(&right, "GET"), "{other:?}");
            }
        }
    }

    #[test]
    fn a_challenge_has_what_clients_need() {
        let text = challenge(Algorithm::Sha256, "r", "n", true);
        for part in [
            "Digest realm=\"r\"",
            "qop=\"auth\"",
            "algorithm=SHA-256",
            "nonce=\"n\"",
            "stale=true",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!challenge(Algorithm::Md5, "r", "n", false).contains("stale"));
    }
}
