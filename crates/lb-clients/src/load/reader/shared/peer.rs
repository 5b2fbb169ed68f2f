//! The peer's settings in the form that the clients of this crate take.

use lb_model::{load::LoadSource, peer::Tls, settings::FieldError};

use crate::peer::{fields, http::Authorization, tls};

/// Checks what depends on the TLS library.
///
/// # Errors
/// The setting inside `tls`, its value and what would be right.
pub(in super::super) fn validate_tls(settings: Option<&Tls>) -> Result<(), FieldError> {
    tls::validate(settings)
}

/// Returns the login of a source.
pub(in super::super) fn authorization(source: &LoadSource) -> Option<Authorization> {
    Authorization::new(
        source.username.clone(),
        source.password.clone(),
        source.token.clone(),
    )
}

/// Checks a path of a URI.
///
/// # Errors
/// `path`, its value and what would be right.
pub(in super::super) fn validate_path(path: &str) -> Result<(), FieldError> {
    fields::path(path.to_owned()).map(drop)
}

/// Checks a text that must not be empty and has no control characters.
///
/// # Errors
/// The setting, its value and what would be right.
pub(in super::super) fn validate_text(field: &str, text: &str) -> Result<(), FieldError> {
    fields::text(field, text.to_owned()).map(drop)
}
