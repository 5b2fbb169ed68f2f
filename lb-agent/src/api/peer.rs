//! How peers are spoken with, as messages.

use std::path::PathBuf;

use lb_proto::v1;

use crate::intent::Refusal;
use lb_clients::peer::{Secret, Tls, fields::Fault};
use lb_model::duration;

/// TLS to a peer, as a message.
#[must_use]
pub fn tls_to_proto(tls: &Tls) -> v1::Tls {
    let text = |path: &Option<PathBuf>| {
        path.as_ref()
            .map(|path| path.to_string_lossy().into_owned())
    };
    v1::Tls {
        ca: text(&tls.ca),
        server_name: tls.server_name.clone(),
        verify: Some(tls.verify),
        certificate: text(&tls.certificate),
        key: text(&tls.key),
    }
}

/// TLS to a peer, of the message in `field`.
///
/// # Errors
/// Names the field that has a value it cannot have.
pub fn tls_from_proto(message: v1::Tls, field: &str) -> Result<Tls, Refusal> {
    let tls = Tls {
        ca: message.ca.map(PathBuf::from),
        server_name: message.server_name,
        verify: message.verify.unwrap_or(true),
        certificate: message.certificate.map(PathBuf::from),
        key: message.key.map(PathBuf::from),
    };
    tls.validate()
        .map_err(|(inner, value, advice)| invalid(field, &inner, &value, &advice))?;
    Ok(tls)
}

/// A duration in text form, of the message in `field`; whether it is in its range is not asked here.
///
/// # Errors
/// Names the field.
pub fn time_from_proto(
    time: Option<prost_types::Duration>,
    field: &str,
) -> Result<Option<String>, Refusal> {
    time.map(|time| {
        std::time::Duration::try_from(time)
            .map(duration::format)
            .map_err(|_| {
                Refusal::invalid(
                    field.to_owned(),
                    format!("{}.{:09} s", time.seconds, time.nanos),
                    "not a duration of 0 s or more",
                )
            })
    })
    .transpose()
}

/// Where a secret is, of the text in `field`. What is no such place may be the secret itself, so it is not
/// repeated.
///
/// # Errors
/// Names the field.
pub fn secret_from_proto(text: &str, field: &str) -> Result<Secret, Refusal> {
    text.parse()
        .map_err(|advice: String| Refusal::invalid(field.to_owned(), "(hidden)", advice))
}

/// A setting that cannot be, in the message at this path.
#[must_use]
pub fn refusal(fault: Fault, field: &str) -> Refusal {
    Refusal::invalid(
        format!("{field}.{}", fault.field),
        fault.value,
        fault.advice,
    )
}

/// A refusal of a field inside the message in `field`.
pub fn invalid(field: &str, inner: &str, value: &str, advice: &str) -> Refusal {
    Refusal::invalid(format!("{field}.{inner}"), value, advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_goes_over_the_wire_and_back() {
        for tls in [
            Tls::default(),
            Tls {
                ca: Some("/etc/ca.pem".into()),
                server_name: Some("broker.example".to_owned()),
                verify: false,
                certificate: Some("/etc/cert.pem".into()),
                key: Some("/etc/key.pem".into()),
            },
        ] {
            assert_eq!(tls_from_proto(tls_to_proto(&tls), "tls"), Ok(tls));
        }
        assert_eq!(
            tls_from_proto(v1::Tls::default(), "tls"),
            Ok(Tls::default())
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |message| {
            tls_from_proto(message, "check.tls")
                .unwrap_err()
                .to_string()
        };
        let relative = wrong(v1::Tls {
            ca: Some("ca.pem".to_owned()),
            ..v1::Tls::default()
        });
        assert!(relative.starts_with("check.tls.ca: ca.pem"), "{relative}");
        let alone = wrong(v1::Tls {
            key: Some("/key.pem".to_owned()),
            ..v1::Tls::default()
        });
        assert!(alone.starts_with("check.tls.certificate"), "{alone}");
        let name = wrong(v1::Tls {
            server_name: Some("no name".to_owned()),
            ..v1::Tls::default()
        });
        assert!(name.starts_with("check.tls.server_name: no name"), "{name}");
        let secret = secret_from_proto("hunter2", "password").unwrap_err();
        assert!(!secret.to_string().contains("hunter2"), "{secret}");
    }
}
