//! Checks as messages.

use lb_proto::v1::{self, check::Probe as Message};

use super::{
    convert::{address, duration},
    peer::{invalid, secret_from_proto, tls_from_proto, tls_to_proto},
};
use crate::intent::Refusal;
use lb_clients::health::spec::{
    Check, CheckOverride, Exec, Expect, Grpc, Http, Json, Mqtt, Octets, Probe, Udp, Version, Via,
};

/// A check as a message, every default said.
#[must_use]
pub fn to_proto(check: &Check) -> v1::Check {
    let time = |time| prost_types::Duration::try_from(time).ok();
    v1::Check {
        probe: Some(probe_to_proto(&check.probe)),
        // An hour at most, so they fit.
        interval: time(check.interval),
        fast_interval: time(check.fast_interval),
        timeout: time(check.timeout),
        healthy_threshold: Some(check.healthy_threshold),
        unhealthy_threshold: Some(check.unhealthy_threshold),
        port: check.port.map(u32::from),
        via: Some(via_to_proto(check.via).into()),
        jitter: Some(check.jitter),
    }
}

/// The check of the message in `field`.
///
/// # Errors
/// Names the field that has a value it cannot have.
pub fn from_proto(message: v1::Check, field: &str) -> Result<Check, Refusal> {
    let probe = message.probe.ok_or_else(|| {
        invalid(
            field,
            "probe",
            "not set",
            "give one of tcp, http, mqtt, grpc, udp, exec",
        )
    })?;
    let time = |time: Option<prost_types::Duration>, name: &str| {
        time.map(|time| duration(time, format!("{field}.{name}")))
            .transpose()
    };
    let mut check = Check::new(probe_from_proto(probe, field)?);
    check.interval = time(message.interval, "interval")?.unwrap_or(check.interval);
    check.fit_defaults();
    check.fast_interval =
        time(message.fast_interval, "fast_interval")?.unwrap_or(check.fast_interval);
    check.timeout = time(message.timeout, "timeout")?.unwrap_or(check.timeout);
    check.healthy_threshold = message.healthy_threshold.unwrap_or(check.healthy_threshold);
    check.unhealthy_threshold = message
        .unhealthy_threshold
        .unwrap_or(check.unhealthy_threshold);
    check.port = port(message.port, field)?;
    check.via = via(message.via, field)?.unwrap_or(check.via);
    check.jitter = message.jitter.unwrap_or(check.jitter);
    check
        .validate()
        .map_err(|(inner, value, advice)| invalid(field, &inner, &value, &advice))?;
    Ok(check)
}

/// An override as a message; what is not said is not set.
#[must_use]
pub fn override_to_proto(other: &CheckOverride) -> v1::CheckOverride {
    v1::CheckOverride {
        disabled: other.disabled.then_some(true),
        port: other.port.map(u32::from),
        address: other.address.map(|address| address.to_string()),
        via: other.via.map(|via| via_to_proto(via).into()),
    }
}

/// The override of the message in `field`.
///
/// # Errors
/// Names the field that has a value it cannot have.
pub fn override_from_proto(
    message: v1::CheckOverride,
    field: &str,
) -> Result<CheckOverride, Refusal> {
    let other = CheckOverride {
        disabled: message.disabled.unwrap_or(false),
        port: port(message.port, field)?,
        address: message
            .address
            .map(|text| address(&text, format!("{field}.address")))
            .transpose()?,
        via: via(message.via, field)?,
    };
    other
        .validate()
        .map_err(|(inner, value, advice)| invalid(field, &inner, &value, &advice))?;
    Ok(other)
}

fn port(port: Option<u32>, field: &str) -> Result<Option<u16>, Refusal> {
    port.map(|port| {
        u16::try_from(port).map_err(|_| {
            invalid(
                field,
                "port",
                &port.to_string(),
                "out of range, give 1 to 65535",
            )
        })
    })
    .transpose()
}

const fn via_to_proto(via: Via) -> v1::ProbeVia {
    match via {
        Via::Direct => v1::ProbeVia::Direct,
        Via::Tunnel => v1::ProbeVia::Tunnel,
    }
}

fn via(number: Option<i32>, field: &str) -> Result<Option<Via>, Refusal> {
    match number.map(v1::ProbeVia::try_from) {
        None | Some(Ok(v1::ProbeVia::Unspecified)) => Ok(None),
        Some(Ok(v1::ProbeVia::Direct)) => Ok(Some(Via::Direct)),
        Some(Ok(v1::ProbeVia::Tunnel)) => Ok(Some(Via::Tunnel)),
        Some(Err(error)) => Err(invalid(
            field,
            "via",
            &error.0.to_string(),
            "unknown, give PROBE_VIA_DIRECT or PROBE_VIA_TUNNEL",
        )),
    }
}

fn probe_to_proto(probe: &Probe) -> Message {
    match probe {
        Probe::Tcp {} => Message::Tcp(v1::TcpProbe {}),
        Probe::Http(http) => Message::Http(v1::HttpProbe {
            method: Some(http.method.clone()),
            path: Some(http.path.clone()),
            host: http.host.clone(),
            statuses: Some(http.statuses.to_string()),
            body: http.body.clone(),
            json: http.json.as_ref().map(|json| v1::JsonMatch {
                pointer: json.pointer.clone(),
                equals: json.equals.to_string(),
            }),
            tls: http.tls.as_ref().map(tls_to_proto),
        }),
        Probe::Mqtt(mqtt) => Message::Mqtt(mqtt_to_proto(mqtt)),
        Probe::Grpc(grpc) => Message::Grpc(v1::GrpcProbe {
            service: Some(grpc.service.clone()),
            tls: grpc.tls.as_ref().map(tls_to_proto),
        }),
        Probe::Udp(udp) => Message::Udp(v1::UdpProbe {
            payload: udp.payload.0.clone(),
            expect: udp.expect.0.clone(),
            silence_is_alive: udp.silence_is_alive,
        }),
        Probe::Exec(exec) => Message::Exec(v1::ExecProbe {
            command: exec.command.clone(),
        }),
    }
}

fn mqtt_to_proto(mqtt: &Mqtt) -> v1::MqttProbe {
    let version = match mqtt.version {
        Version::V311 => v1::MqttVersion::MqttVersion311,
        Version::V5 => v1::MqttVersion::MqttVersion50,
    };
    let expect = match mqtt.expect {
        Expect::Any => v1::MqttExpect::Any,
        Expect::Accepted => v1::MqttExpect::Accepted,
    };
    v1::MqttProbe {
        version: Some(version.into()),
        tls: mqtt.tls.as_ref().map(tls_to_proto),
        username: mqtt.username.clone(),
        password: mqtt.password.as_ref().map(ToString::to_string),
        expect: Some(expect.into()),
    }
}

fn probe_from_proto(message: Message, field: &str) -> Result<Probe, Refusal> {
    let tls = |tls: Option<v1::Tls>, name: &str| {
        tls.map(|tls| tls_from_proto(tls, &format!("{field}.{name}.tls")))
            .transpose()
    };
    Ok(match message {
        Message::Tcp(v1::TcpProbe {}) => Probe::Tcp {},
        Message::Http(http) => {
            let default = Http::default();
            let statuses = http
                .statuses
                .map(|text| {
                    text.parse()
                        .map_err(|error: String| invalid(field, "http.statuses", &text, &error))
                })
                .transpose()?;
            Probe::Http(Http {
                method: http.method.unwrap_or(default.method),
                path: http.path.unwrap_or(default.path),
                host: http.host,
                statuses: statuses.unwrap_or(default.statuses),
                body: http.body,
                json: http.json.map(|json| json_match(json, field)).transpose()?,
                tls: tls(http.tls, "http")?,
            })
        }
        Message::Mqtt(mut mqtt) => Probe::Mqtt(Mqtt {
            tls: tls(mqtt.tls.take(), "mqtt")?,
            ..mqtt_from_proto(mqtt, field)?
        }),
        Message::Grpc(grpc) => Probe::Grpc(Grpc {
            service: grpc.service.unwrap_or_default(),
            tls: tls(grpc.tls, "grpc")?,
        }),
        Message::Udp(udp) => Probe::Udp(Udp {
            payload: Octets(udp.payload),
            expect: Octets(udp.expect),
            silence_is_alive: udp.silence_is_alive,
        }),
        Message::Exec(exec) => Probe::Exec(Exec {
            command: exec.command,
        }),
    })
}

fn json_match(json: v1::JsonMatch, field: &str) -> Result<Json, Refusal> {
    let equals = serde_json::from_str(&json.equals).map_err(|_| {
        invalid(
            field,
            "http.json.equals",
            &json.equals,
            "no JSON value; write texts in quotes, as in \"UP\"",
        )
    })?;
    Ok(Json {
        pointer: json.pointer,
        equals,
    })
}

fn mqtt_from_proto(mqtt: v1::MqttProbe, field: &str) -> Result<Mqtt, Refusal> {
    let version = match mqtt.version.map(v1::MqttVersion::try_from) {
        None | Some(Ok(v1::MqttVersion::Unspecified)) => Version::default(),
        Some(Ok(v1::MqttVersion::MqttVersion311)) => Version::V311,
        Some(Ok(v1::MqttVersion::MqttVersion50)) => Version::V5,
        Some(Err(error)) => {
            return Err(invalid(
                field,
                "mqtt.version",
                &error.0.to_string(),
                "unknown, give MQTT_VERSION_3_1_1 or MQTT_VERSION_5_0",
            ));
        }
    };
    let expect = match mqtt.expect.map(v1::MqttExpect::try_from) {
        None | Some(Ok(v1::MqttExpect::Unspecified)) => Expect::default(),
        Some(Ok(v1::MqttExpect::Any)) => Expect::Any,
        Some(Ok(v1::MqttExpect::Accepted)) => Expect::Accepted,
        Some(Err(error)) => {
            return Err(invalid(
                field,
                "mqtt.expect",
                &error.0.to_string(),
                "unknown, give MQTT_EXPECT_ANY or MQTT_EXPECT_ACCEPTED",
            ));
        }
    };
    let password = mqtt
        .password
        .map(|text| secret_from_proto(&text, &format!("{field}.mqtt.password")))
        .transpose()?;
    Ok(Mqtt {
        version,
        tls: None,
        username: mqtt.username,
        password,
        expect,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_goes_over_the_wire_and_back() {
        for check in lb_clients::health::spec::examples::every_kind() {
            assert_eq!(from_proto(to_proto(&check), "check"), Ok(check));
        }
    }

    #[test]
    fn what_is_not_set_is_the_default() {
        for (message, probe) in [
            (Message::Tcp(v1::TcpProbe::default()), Probe::Tcp {}),
            (
                Message::Http(v1::HttpProbe::default()),
                Probe::Http(Http::default()),
            ),
            (
                Message::Mqtt(v1::MqttProbe::default()),
                Probe::Mqtt(Mqtt::default()),
            ),
            (
                Message::Grpc(v1::GrpcProbe::default()),
                Probe::Grpc(Grpc::default()),
            ),
            (
                Message::Udp(v1::UdpProbe::default()),
                Probe::Udp(Udp::default()),
            ),
        ] {
            let message = v1::Check {
                probe: Some(message),
                ..v1::Check::default()
            };
            assert_eq!(from_proto(message, "check"), Ok(Check::new(probe)));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |probe: Option<Message>, change: fn(&mut v1::Check)| {
            let mut message = v1::Check {
                probe,
                ..v1::Check::default()
            };
            change(&mut message);
            from_proto(message, "spec.check").unwrap_err().to_string()
        };
        let tcp = Some(Message::Tcp(v1::TcpProbe {}));
        for (error, names) in [
            (wrong(None, |_| {}), "spec.check.probe: not set"),
            (
                wrong(tcp.clone(), |check| check.port = Some(65_536)),
                "spec.check.port: 65536",
            ),
            (
                wrong(tcp.clone(), |check| check.via = Some(9)),
                "spec.check.via: 9",
            ),
            (
                wrong(tcp.clone(), |check| {
                    check.interval = Some(prost_types::Duration {
                        seconds: -1,
                        nanos: 0,
                    });
                }),
                "spec.check.interval: -1 s",
            ),
            (
                wrong(tcp, |check| check.jitter = Some(99)),
                "spec.check.jitter: 99",
            ),
            (
                wrong(
                    Some(Message::Http(v1::HttpProbe {
                        json: Some(v1::JsonMatch {
                            pointer: "/status".to_owned(),
                            equals: "UP".to_owned(),
                        }),
                        ..v1::HttpProbe::default()
                    })),
                    |_| {},
                ),
                "spec.check.http.json.equals: UP",
            ),
            (
                wrong(
                    Some(Message::Mqtt(v1::MqttProbe {
                        password: Some("hunter2".to_owned()),
                        ..v1::MqttProbe::default()
                    })),
                    |_| {},
                ),
                "spec.check.mqtt.password: (hidden)",
            ),
        ] {
            assert!(error.starts_with(names), "{error}");
        }
    }

    #[test]
    fn overrides_go_over_the_wire_and_back() {
        for other in [
            CheckOverride::default(),
            CheckOverride {
                disabled: true,
                ..CheckOverride::default()
            },
            CheckOverride {
                port: Some(8080),
                address: Some("192.0.2.1".parse().unwrap()),
                via: Some(Via::Direct),
                disabled: false,
            },
        ] {
            assert_eq!(
                override_from_proto(override_to_proto(&other), "check"),
                Ok(other)
            );
        }
        let wrong = v1::CheckOverride {
            address: Some("nowhere".to_owned()),
            ..v1::CheckOverride::default()
        };
        let error = override_from_proto(wrong, "check").unwrap_err().to_string();
        assert!(error.starts_with("check.address: nowhere"), "{error}");
    }
}
