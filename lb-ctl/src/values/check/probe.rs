//! What is asked, with its settings.

use lb_proto::v1::{self, check::Probe};

use super::{
    super::{
        tls,
        words::{Text, Words, quote, split},
    },
    octets,
};

pub fn read(words: &mut Words) -> Result<Probe, String> {
    Ok(match words.kind.as_str() {
        "tcp" => Probe::Tcp(v1::TcpProbe {}),
        "http" => Probe::Http(http(words, false)?),
        "https" => Probe::Http(http(words, true)?),
        "mqtt" => Probe::Mqtt(v1::MqttProbe {
            version: words.with("version", version)?.map(Into::into),
            tls: tls::read(words, false)?,
            username: words.text("username"),
            password: words.text("password"),
            expect: words.with("expect", expect)?.map(Into::into),
        }),
        "grpc" => Probe::Grpc(v1::GrpcProbe {
            service: words.text("service"),
            tls: tls::read(words, false)?,
        }),
        "udp" => Probe::Udp(v1::UdpProbe {
            payload: words
                .with("payload", octets::read)?
                .ok_or("udp needs what is sent: payload=TEXT or payload=hex:DIGITS")?,
            expect: words.with("expect", octets::read)?.unwrap_or_default(),
            silence_is_alive: words.with("silence", silence)?.is_some(),
        }),
        "exec" => Probe::Exec(v1::ExecProbe {
            command: words
                .with("command", split)?
                .ok_or("exec needs a program: command='/PATH ARGUMENT…'")?,
        }),
        other => {
            return Err(format!(
                "`{other}` is no kind of probe; write tcp, http, https, mqtt, grpc, udp or exec"
            ));
        }
    })
}

pub fn write(probe: &Probe) -> Text {
    match probe {
        Probe::Tcp(v1::TcpProbe {}) => Text::new("tcp"),
        Probe::Http(http) => {
            let mut text = Text::new(if http.tls.is_some() { "https" } else { "http" });
            text.set("method", http.method.as_ref());
            text.set("path", http.path.as_ref());
            text.set("host", http.host.as_ref());
            text.set("statuses", http.statuses.as_ref());
            text.set("body", http.body.as_ref());
            if let Some(json) = &http.json {
                text.set("json", Some(&json.pointer));
                text.set("equals", Some(json_plain(&json.equals)));
            }
            if let Some(tls) = &http.tls {
                tls::write_settings(tls, &mut text);
            }
            text
        }
        Probe::Mqtt(mqtt) => {
            let mut text = Text::new("mqtt");
            let version = match mqtt.version() {
                v1::MqttVersion::Unspecified => None,
                v1::MqttVersion::MqttVersion311 => Some("3.1.1"),
                v1::MqttVersion::MqttVersion50 => Some("5.0"),
            };
            text.set("version", version);
            if let Some(tls) = &mqtt.tls {
                tls::write(tls, &mut text);
            }
            text.set("username", mqtt.username.as_ref());
            text.set("password", mqtt.password.as_ref());
            let expect = match mqtt.expect() {
                v1::MqttExpect::Unspecified => None,
                v1::MqttExpect::Any => Some("any"),
                v1::MqttExpect::Accepted => Some("accepted"),
            };
            text.set("expect", expect);
            text
        }
        Probe::Grpc(grpc) => {
            let mut text = Text::new("grpc");
            text.set(
                "service",
                grpc.service.as_ref().filter(|name| !name.is_empty()),
            );
            if let Some(tls) = &grpc.tls {
                tls::write(tls, &mut text);
            }
            text
        }
        Probe::Udp(udp) => {
            let mut text = Text::new("udp");
            text.set("payload", Some(octets::write(&udp.payload)));
            let expect = (!udp.expect.is_empty()).then(|| octets::write(&udp.expect));
            text.set("expect", expect);
            text.set("silence", udp.silence_is_alive.then_some("alive"));
            text
        }
        Probe::Exec(exec) => {
            let mut text = Text::new("exec");
            let words: Vec<_> = exec.command.iter().map(|word| quote(word)).collect();
            text.set("command", Some(words.join(" ")));
            text
        }
    }
}

fn http(words: &mut Words, secure: bool) -> Result<v1::HttpProbe, String> {
    Ok(v1::HttpProbe {
        method: words.text("method"),
        path: words.text("path"),
        host: words.text("host"),
        statuses: words.text("statuses"),
        body: words.text("body"),
        json: json(words)?,
        tls: tls::read(words, secure)?,
    })
}

fn json(words: &mut Words) -> Result<Option<v1::JsonMatch>, String> {
    match (words.text("json"), words.text("equals")) {
        (None, None) => Ok(None),
        (Some(pointer), Some(value)) => Ok(Some(v1::JsonMatch {
            pointer,
            equals: json_value(value),
        })),
        (Some(pointer), None) => Err(format!(
            "json={pointer} needs what must stand there: equals=VALUE"
        )),
        (None, Some(value)) => Err(format!(
            "equals={value} needs a place in the document: json=/POINTER"
        )),
    }
}

/// What is no JSON is a text.
fn json_value(text: String) -> String {
    match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(_) => text,
        Err(_) => serde_json::Value::String(text).to_string(),
    }
}

/// As short as it can be read back.
fn json_plain(json: &str) -> String {
    match serde_json::from_str(json) {
        Ok(serde_json::Value::String(text)) if json_value(text.clone()) == json => text,
        _ => json.to_owned(),
    }
}

fn version(text: &str) -> Result<v1::MqttVersion, String> {
    match text {
        "3.1.1" => Ok(v1::MqttVersion::MqttVersion311),
        "5.0" | "5" => Ok(v1::MqttVersion::MqttVersion50),
        _ => Err("write 3.1.1 or 5.0".to_owned()),
    }
}

fn expect(text: &str) -> Result<v1::MqttExpect, String> {
    match text {
        "any" => Ok(v1::MqttExpect::Any),
        "accepted" => Ok(v1::MqttExpect::Accepted),
        _ => Err("write any or accepted".to_owned()),
    }
}

fn silence(text: &str) -> Result<(), String> {
    match text {
        "alive" => Ok(()),
        _ => Err("write silence=alive, or leave it out".to_owned()),
    }
}
