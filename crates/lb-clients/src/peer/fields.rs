//! Settings of a peer as operators write them, read from text.

use std::{net::IpAddr, time::Duration};

use super::{Secret, http::Authorization};
use lb_model::duration;

pub use lb_model::settings::{FieldError as Fault, MAX_TEXT, NOT_SET};

/// A text that is not empty, of [`MAX_TEXT`] bytes at most, without control characters.
///
/// # Errors
/// Names the setting.
pub fn text(field: &str, text: String) -> Result<String, Fault> {
    if text.is_empty() || text.len() > MAX_TEXT || text.contains(char::is_control) {
        return Err(Fault::new(
            field,
            format!("{text:?}"),
            format!("give 1 to {MAX_TEXT} bytes without control characters"),
        ));
    }
    Ok(text)
}

/// Fills in a text for one real: `{address}` is the address that is asked, or the real's if there is none, and `{real}`
/// the real's own.
#[must_use]
pub fn fill(text: &str, address: Option<IpAddr>, real: IpAddr) -> String {
    text.replace("{address}", &address.unwrap_or(real).to_string())
        .replace("{real}", &real.to_string())
}

/// A duration in these bounds, or the default.
///
/// # Errors
/// Names the setting.
pub fn time(
    field: &str,
    text: Option<String>,
    default: Duration,
    least: Duration,
    most: Duration,
) -> Result<Duration, Fault> {
    let Some(text) = text else {
        return Ok(default);
    };
    let time = duration::parse(&text).map_err(|advice| Fault::new(field, &text, advice))?;
    if time < least || time > most {
        let advice = format!(
            "out of range, give {} to {}",
            duration::format(least),
            duration::format(most)
        );
        return Err(Fault::new(field, text, advice));
    }
    Ok(time)
}

/// A port, 1 to 65535.
///
/// # Errors
/// Names the setting.
pub fn port(port: u32) -> Result<u16, Fault> {
    match u16::try_from(port) {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(Fault::new("port", port, "out of range, give 1 to 65535")),
    }
}

/// An address.
///
/// # Errors
/// Names the setting.
pub fn address(text: &str) -> Result<IpAddr, Fault> {
    text.parse().map_err(|_| {
        Fault::new(
            "address",
            text,
            "not an IPv4 or IPv6 address, write 10.0.0.1 or 2001:db8::1",
        )
    })
}

/// A path of a URI.
///
/// # Errors
/// Names the setting.
pub fn path(path: String) -> Result<String, Fault> {
    // Braces of placeholders are not allowed in a URI; they are gone when the request is sent.
    if !path.starts_with('/') || path.contains([' ', '#']) || !path.is_ascii() {
        return Err(Fault::new(
            "path",
            path,
            "give a path that begins with /, of ASCII without spaces and #",
        ));
    }
    text("path", path)
}

/// A login as [`login`] reads it: user name, place of the password, place of the token.
#[must_use]
pub fn written_login(
    login: Option<Authorization>,
) -> (Option<String>, Option<String>, Option<String>) {
    match login {
        Some(Authorization::Basic { username, password }) => {
            (Some(username), Some(password.to_string()), None)
        }
        Some(Authorization::Bearer { token }) => (None, None, Some(token.to_string())),
        None => (None, None, None),
    }
}

/// A login from its settings.
///
/// # Errors
/// Names the setting; never repeats a secret.
pub fn login(
    username: Option<String>,
    password: Option<String>,
    token: Option<String>,
) -> Result<Option<Authorization>, Fault> {
    // The wrong text may be the secret itself.
    let secret = |field: &str, text: String| -> Result<Secret, Fault> {
        text.parse()
            .map_err(|advice: String| Fault::new(field, "hidden", advice))
    };
    match (username, password, token) {
        (None, None, None) => Ok(None),
        (Some(username), Some(password), None) => Ok(Some(Authorization::Basic {
            username: text("username", username)?,
            password: secret("password", password)?,
        })),
        (None, None, Some(token)) => Ok(Some(Authorization::Bearer {
            token: secret("token", token)?,
        })),
        (Some(_), None, _) => Err(Fault::new("password", NOT_SET, "a username goes with it")),
        (None, Some(_), _) => Err(Fault::new("username", NOT_SET, "a password goes with it")),
        (Some(_), Some(_), Some(_)) => Err(Fault::new(
            "token",
            "set",
            "give a token or a username with its password, not both",
        )),
    }
}
