//! The peer's settings in the form that the clients of this crate take.

use lb_model::{
    load::LoadSource,
    peer::{Secret, Tls},
    settings::FieldError,
};

use crate::peer::{self, fields, http::Authorization};

/// Converts TLS settings.
pub(in super::super) fn tls(tls: Tls) -> peer::Tls {
    peer::Tls {
        ca: tls.ca,
        server_name: tls.server_name,
        verify: tls.verify,
        certificate: tls.certificate,
        key: tls.key,
    }
}

fn secret(secret: &Secret) -> peer::Secret {
    match secret {
        Secret::File(path) => peer::Secret::File(path.clone()),
        Secret::Environment(name) => peer::Secret::Environment(name.clone()),
    }
}

/// Checks what depends on the TLS library.
///
/// # Errors
/// The setting inside `tls`, its value and what would be right.
pub(in super::super) fn validate_tls(settings: Option<&Tls>) -> Result<(), FieldError> {
    let Some(settings) = settings else {
        return Ok(());
    };
    tls(settings.clone())
        .validate()
        .map_err(|(field, value, advice)| FieldError::new(format!("tls.{field}"), value, advice))
}

/// Returns the login of a source.
pub(in super::super) fn authorization(source: &LoadSource) -> Option<Authorization> {
    match (&source.username, &source.password, &source.token) {
        (Some(username), Some(password), _) => Some(Authorization::Basic {
            username: username.clone(),
            password: secret(password),
        }),
        (_, _, Some(token)) => Some(Authorization::Bearer {
            token: secret(token),
        }),
        _ => None,
    }
}

/// Checks a path of a URI.
///
/// # Errors
/// `path`, its value and what would be right.
pub(in super::super) fn validate_path(path: &str) -> Result<(), FieldError> {
    fields::path(path.to_owned())
        .map(drop)
        .map_err(|error| FieldError::new(error.field, error.value, error.advice))
}

/// Checks a text that must not be empty and has no control characters.
///
/// # Errors
/// The setting, its value and what would be right.
pub(in super::super) fn validate_text(field: &str, text: &str) -> Result<(), FieldError> {
    fields::text(field, text.to_owned())
        .map(drop)
        .map_err(|error| FieldError::new(error.field, error.value, error.advice))
}
