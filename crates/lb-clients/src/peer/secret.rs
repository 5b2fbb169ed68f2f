//! Reading passwords and tokens. The configuration holds their place, never their content.

use std::{ffi::OsString, fmt};

use lb_model::peer::Secret;

use super::{Deadline, PeerError, file};

/// The content of a secret. It has no text form, so that it cannot be logged.
pub struct Content(String);

impl Content {
    /// The text, for a request and nothing else.
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

/// Reads a secret. It is read each time it is used, so that new content counts at once.
///
/// # Errors
/// Names the file or the variable, never the content.
pub async fn read(secret: &Secret, deadline: &Deadline) -> Result<Content, PeerError> {
    match secret {
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
        let missing = read(&secret, &deadline()).await.unwrap_err().to_string();
        assert!(missing.contains("password"), "{missing}");
        for (written, expected) in [("one\n", "one"), ("two\r\n", "two"), (" a b ", " a b ")] {
            std::fs::write(&path, written).unwrap();
            let content = read(&secret, &deadline()).await.unwrap();
            assert_eq!(content.expose(), expected);
            assert!(!format!("{content:?}").contains(expected));
        }
        std::fs::write(&path, [0xff]).unwrap();
        let error = read(&secret, &deadline()).await.unwrap_err().to_string();
        assert!(error.contains("no UTF-8"), "{error}");
    }

    #[tokio::test]
    async fn variables_are_named_when_they_are_missing() {
        let secret = Secret::Environment("LB_TEST_NO_SUCH_SECRET".to_owned());
        let error = read(&secret, &deadline()).await.unwrap_err().to_string();
        assert!(
            error.contains("LB_TEST_NO_SUCH_SECRET: is not set"),
            "{error}"
        );
        let path = Secret::Environment("PATH".to_owned());
        assert!(!read(&path, &deadline()).await.unwrap().expose().is_empty());
    }
}
