//! Between `ShedBy` and [`ShedBy`].

use lb_proto::v1;

use super::peer::{refusal, time_from_proto, tls_from_proto, tls_to_proto};
use crate::intent::Refusal;
use lb_clients::shedding::{ShedBy, Written};
use lb_model::duration;

/// With defaults filled in.
#[must_use]
pub fn to_proto(by: &ShedBy) -> v1::ShedBy {
    let written = Written::from(by.clone());
    let timeout = |text: String| {
        let time = duration::parse(&text).ok()?;
        prost_types::Duration::try_from(time).ok()
    };
    v1::ShedBy {
        by: written.by,
        port: written.port,
        address: written.address,
        tls: written.tls.as_ref().map(tls_to_proto),
        username: written.username,
        password: written.password,
        token: written.token,
        path: written.path,
        node: written.node,
        timeout: written.timeout.and_then(timeout),
    }
}

/// Of a request; `field` is its path in it.
///
/// # Errors
/// [`Refusal::Invalid`] for the setting that cannot be.
pub fn from_proto(by: v1::ShedBy, field: &str) -> Result<ShedBy, Refusal> {
    let written = Written {
        timeout: time_from_proto(by.timeout, &format!("{field}.timeout"))?,
        by: by.by,
        port: by.port,
        address: by.address,
        path: by.path,
        node: by.node,
        username: by.username,
        password: by.password,
        token: by.token,
        tls: by
            .tls
            .map(|tls| tls_from_proto(tls, &format!("{field}.tls")))
            .transpose()?,
    };
    ShedBy::try_from(written).map_err(|fault| refusal(fault, field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_over_the_wire_and_back() {
        for text in [
            "by = 'reset'",
            "by = 'webhook'\nport = 8080\npath = '/shed'\ntoken = 'env:T'\ntimeout = '5s'",
            "by = 'emqx'\nusername = 'key'\npassword = 'file:/k'\naddress = '10.0.0.9'\ntls = { ca = '/ca' }",
        ] {
            let by: ShedBy = toml::from_str(text).unwrap();
            assert_eq!(from_proto(to_proto(&by), "x"), Ok(by), "{text}");
        }
    }

    #[test]
    fn refusals_name_the_field() {
        let refused = |by| from_proto(by, "spec.shed").unwrap_err().to_string();
        let webhook = v1::ShedBy {
            by: "webhook".to_owned(),
            ..v1::ShedBy::default()
        };
        let error = refused(webhook.clone());
        assert!(error.starts_with("spec.shed.port"), "{error}");
        let error = refused(v1::ShedBy {
            timeout: Some(prost_types::Duration {
                seconds: -1,
                nanos: 0,
            }),
            ..webhook
        });
        assert!(error.starts_with("spec.shed.timeout"), "{error}");
    }
}
