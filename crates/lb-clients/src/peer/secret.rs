//! Passwords and tokens: the configuration says where they are, never what they are.

use std::{ffi::OsString, fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{Deadline, PeerError, file};

/// Where a secret is: `file:PATH` or `env:NAME`. It is read when it is used, so a new content counts at
/// once, and only its place is stored, listed or logged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Secret {
    /// A file; line ends behind the content do not belong to it.
    File(PathBuf),
    /// A variable of the agent's environment.
    Environment(String),
}

/// What a secret says. It has no text form.
pub struct Content(String);

impl Content {
    /// The text, to be put into a request and nowhere else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Content(hidden)")
    }
}

impl Secret {
    /// Reads it.
    ///
    /// # Errors
    /// Names the file or the variable, never the content.
    pub async fn read(&self, deadline: &Deadline) -> Result<Content, PeerError> {
        match self {
            Secret::File(path) => {
                let bytes = file::read(path, deadline).await?;
                let text = String::from_utf8(bytes).map_err(|_| PeerError::File {
                    path: path.clone(),
                    reason: "is no UTF-8 text; write the secret as text".to_owned(),
                })?;
                Ok(Content(text.trim_end_matches(['\r', '\n']).to_owned()))
            }
            Secret::Environment(name) => std::env::var_os(name)
                .map_or(Err("is not set"), |text| {
                    OsString::into_string(text).map_err(|_| "is no UTF-8 text")
                })
                .map(Content)
                .map_err(|reason| PeerError::Environment {
                    name: name.clone(),
                    reason,
                }),
        }
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Secret::File(path) => write!(formatter, "file:{}", path.display()),
            Secret::Environment(name) => write!(formatter, "env:{name}"),
        }
    }
}

impl FromStr for Secret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // What is wrong may be the secret itself, so the text is not repeated.
        let wrong = || {
            "not a place of a secret; write file:/ABSOLUTE/PATH or env:NAME, never the secret itself"
                .to_owned()
        };
        match text.split_once(':') {
            Some(("file", path)) if path.starts_with('/') => Ok(Secret::File(path.into())),
            Some(("env", name))
                if !name.is_empty() && !name.contains(['=', '\0']) && name.is_ascii() =>
            {
                Ok(Secret::Environment(name.to_owned()))
            }
            _ => Err(wrong()),
        }
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn deadline() -> Deadline {
        Deadline::after(Duration::from_secs(10))
    }

    #[test]
    fn places_are_read_and_written() {
        for text in ["file:/etc/lb/password", "env:BROKER_PASSWORD"] {
            let secret: Secret = text.parse().unwrap();
            assert_eq!(secret.to_string(), text);
            assert_eq!(
                serde_json::from_value::<Secret>(serde_json::to_value(&secret).unwrap()).unwrap(),
                secret
            );
        }
    }

    #[test]
    fn a_secret_in_place_of_its_place_is_not_repeated() {
        for text in [
            "hunter2",
            "file:hunter2",
            "env:hunter2=",
            "pass:hunter2",
            "",
        ] {
            let error = text.parse::<Secret>().unwrap_err();
            assert!(error.contains("file:/ABSOLUTE/PATH"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[tokio::test]
    async fn files_are_read_at_use_and_shown_by_name_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let secret = Secret::File(path.clone());
        let missing = secret.read(&deadline()).await.unwrap_err().to_string();
        assert!(missing.contains("password"), "{missing}");
        for (written, read) in [("one\n", "one"), ("two\r\n", "two"), (" a b ", " a b ")] {
            std::fs::write(&path, written).unwrap();
            let content = secret.read(&deadline()).await.unwrap();
            assert_eq!(content.expose(), read);
            assert!(!format!("{content:?}").contains(read));
        }
        std::fs::write(&path, [0xff]).unwrap();
        let error = secret.read(&deadline()).await.unwrap_err().to_string();
        assert!(error.contains("no UTF-8"), "{error}");
    }

    #[tokio::test]
    async fn variables_are_named_when_they_are_missing() {
        let secret = Secret::Environment("LB_TEST_NO_SUCH_SECRET".to_owned());
        let error = secret.read(&deadline()).await.unwrap_err().to_string();
        assert!(
            error.contains("LB_TEST_NO_SUCH_SECRET: is not set"),
            "{error}"
        );
        let path = Secret::Environment("PATH".to_owned());
        assert!(!path.read(&deadline()).await.unwrap().expose().is_empty());
    }
}
