//! Between `LoadSource` and [`Source`].

use lb_proto::v1;

use super::peer::{refusal, time_from_proto, tls_from_proto, tls_to_proto};
use crate::intent::Refusal;
use lb_clients::load::config::{Source, SourceOverride, Written};

/// A source with its defaults filled in.
#[must_use]
pub fn to_proto(source: &Source) -> v1::LoadSource {
    let written = Written::from(source.clone());
    v1::LoadSource {
        kind: written.kind,
        name: written.name,
        interval: prost_types::Duration::try_from(source.interval).ok(),
        timeout: prost_types::Duration::try_from(source.timeout).ok(),
        weight: written.weight,
        port: written.port,
        address: written.address,
        tls: written.tls.as_ref().map(tls_to_proto),
        username: written.username,
        password: written.password,
        token: written.token,
        connection_limit: written.connection_limit,
        memory_limit: written.memory_limit,
        topic: written.topic,
        path: written.path,
        node: written.node,
        send: written.send,
        container: written.container,
        socket: written.socket,
        values: written.values.into_iter().collect(),
    }
}

/// A source of a request; `field` is its path in it.
///
/// # Errors
/// [`Refusal::Invalid`] for the setting that cannot be.
pub fn from_proto(source: v1::LoadSource, field: &str) -> Result<Source, Refusal> {
    Source::try_from(Written {
        interval: time_from_proto(source.interval, &format!("{field}.interval"))?,
        timeout: time_from_proto(source.timeout, &format!("{field}.timeout"))?,
        kind: source.kind,
        name: source.name,
        weight: source.weight,
        port: source.port,
        address: source.address,
        username: source.username,
        password: source.password,
        token: source.token,
        connection_limit: source.connection_limit,
        memory_limit: source.memory_limit,
        topic: source.topic,
        path: source.path,
        node: source.node,
        send: source.send,
        container: source.container,
        socket: source.socket,
        values: source.values.into_iter().collect(),
        tls: source
            .tls
            .map(|tls| tls_from_proto(tls, &format!("{field}.tls")))
            .transpose()?,
    })
    .map_err(|fault| refusal(fault, field))
}

/// What is another at one real.
#[must_use]
pub fn override_to_proto(change: &SourceOverride) -> v1::LoadSourceOverride {
    let change = change.clone();
    v1::LoadSourceOverride {
        name: change.name,
        off: change.off,
        address: change.address.map(|address| address.to_string()),
        port: change.port.map(u32::from),
        weight: change.weight,
        connection_limit: change.connection_limit,
        memory_limit: change.memory_limit,
        topic: change.topic,
        path: change.path,
        node: change.node,
        container: change.container,
    }
}

/// What is another at one real; whether it fits the VIP's source is not asked here.
///
/// # Errors
/// [`Refusal::Invalid`] for an address or port that is none.
pub fn override_from_proto(
    change: v1::LoadSourceOverride,
    field: &str,
) -> Result<SourceOverride, Refusal> {
    Ok(SourceOverride {
        address: change
            .address
            .map(|text| super::convert::address(&text, format!("{field}.address")))
            .transpose()?,
        port: change
            .port
            .map(|port| {
                u16::try_from(port).map_err(|_| {
                    Refusal::invalid(
                        format!("{field}.port"),
                        port,
                        "out of range, give 1 to 65535",
                    )
                })
            })
            .transpose()?,
        name: change.name,
        off: change.off,
        weight: change.weight,
        connection_limit: change.connection_limit,
        memory_limit: change.memory_limit,
        topic: change.topic,
        path: change.path,
        node: change.node,
        container: change.container,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_go_over_the_wire_and_back() {
        for text in [
            "kind = 'mosquitto'\nusername = 'lb'\npassword = 'env:PASSWORD'\nport = 1884",
            "kind = 'prometheus'\nport = 9100\nvalues = { utilisation = 'a / b' }\ninterval = '2s'",
            "kind = 'docker'\ncontainer = 'web'\nmemory_limit = 7\nconnection_limit = 8\nweight = 0.5",
            "kind = 'grpc'\nport = 1\naddress = '10.0.0.9'\ntls = { ca = '/ca', verify = false, certificate = '/c', key = '/k', server_name = 'a.example' }",
        ] {
            let source: Source = toml::from_str(text).unwrap();
            assert_eq!(from_proto(to_proto(&source), "x"), Ok(source), "{text}");
        }
    }

    #[test]
    fn refusals_name_the_field() {
        let refused =
            |source: v1::LoadSource| from_proto(source, "spec.load[1]").unwrap_err().to_string();
        let docker = v1::LoadSource {
            kind: "docker".to_owned(),
            container: Some("web".to_owned()),
            ..v1::LoadSource::default()
        };
        let error = refused(v1::LoadSource {
            path: Some("/x".to_owned()),
            ..docker.clone()
        });
        assert!(error.starts_with("spec.load[1].path: /x"), "{error}");
        let error = refused(v1::LoadSource {
            interval: Some(prost_types::Duration {
                seconds: -1,
                nanos: 0,
            }),
            ..docker
        });
        assert!(error.starts_with("spec.load[1].interval"), "{error}");
    }

    #[test]
    fn overrides_go_over_the_wire_and_back() {
        let change: SourceOverride =
            toml::from_str("name = 'x'\naddress = '10.0.0.9'\nport = 7\nweight = 2.0\ntopic = 't'")
                .unwrap();
        assert_eq!(
            override_from_proto(override_to_proto(&change), "x"),
            Ok(change)
        );
        let error = override_from_proto(
            v1::LoadSourceOverride {
                port: Some(70_000),
                ..v1::LoadSourceOverride::default()
            },
            "spec.load[0]",
        )
        .unwrap_err()
        .to_string();
        assert!(error.starts_with("spec.load[0].port: 70000"), "{error}");
    }
}
