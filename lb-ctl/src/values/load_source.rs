//! A source of load: `mosquitto port=1883 username=lb password=file:/etc/lb/password`,
//! `prometheus port=9100 utilisation='1 - sum(rate(idle)) / sum(rate(all))'`.

use std::collections::HashMap;

use lb_proto::v1;

use super::{
    duration, tls,
    words::{Text, Words},
};

/// Quantities, each of which is a setting of the kinds that take values.
const QUANTITIES: [&str; 15] = [
    "utilisation",
    "memory",
    "file_descriptors",
    "network",
    "error_rate",
    "agent_weight",
    "connections",
    "connection_limit",
    "rate",
    "messages",
    "dropped",
    "latency",
    "drift",
    "memory_bytes",
    "run_queue",
];
/// Kinds that take values.
const WITH_VALUES: [&str; 3] = ["prometheus", "http-json", "mqtt-topic"];

const LIMIT: &str = "connection_limit";

/// Reads one. Whether the values are in range is the agent's answer.
///
/// # Errors
/// Says what is wrong, in words for the operator.
pub fn read(text: &str) -> Result<v1::LoadSource, String> {
    let mut words = Words::read(text, "a kind", "mosquitto interval=5s")?;
    let mut values = HashMap::new();
    if WITH_VALUES.contains(&words.kind.as_str()) {
        for quantity in QUANTITIES {
            values.extend(
                words
                    .text(quantity)
                    .map(|value| (quantity.to_owned(), value)),
            );
        }
    }
    // The source's own setting has this name, too; what is read is never a plain number.
    let limit = match values.get(LIMIT).map(|text| text.parse()) {
        Some(Ok(limit)) => {
            values.remove(LIMIT);
            Some(limit)
        }
        Some(Err(_)) => None,
        None => words.take(LIMIT)?,
    };
    let source = v1::LoadSource {
        kind: words.kind.clone(),
        name: words.text("name"),
        interval: words
            .with("interval", duration::read)?
            .map(duration::to_proto),
        timeout: words
            .with("timeout", duration::read)?
            .map(duration::to_proto),
        weight: words.take("weight")?,
        port: words.take("port")?,
        address: words.text("address"),
        tls: tls::read(&mut words, false)?,
        username: words.text("username"),
        password: words.text("password"),
        token: words.text("token"),
        connection_limit: limit,
        memory_limit: words.with("memory_limit", bytes)?,
        topic: words.text("topic"),
        path: words.text("path"),
        node: words.text("node"),
        send: words.text("send"),
        container: words.text("container"),
        socket: words.text("socket"),
        values,
    };
    words.end()?;
    Ok(source)
}

/// A number of bytes, with k, m, g or t for powers of 1024.
fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || "write bytes, or a number with k, m, g or t (powers of 1024)".to_owned();
    let (number, shift) = match text.char_indices().last() {
        Some((place, letter)) if letter.is_ascii_alphabetic() => {
            let shift = match letter.to_ascii_lowercase() {
                'k' => 10,
                'm' => 20,
                'g' => 30,
                't' => 40,
                _ => return Err(wrong()),
            };
            (&text[..place], shift)
        }
        _ => (text, 0),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(wrong)
}

/// Writes a source so that [`read`] gives it back.
#[must_use]
pub fn write(source: &v1::LoadSource) -> String {
    let mut text = Text::new(&source.kind);
    text.set("name", source.name.as_ref());
    text.set("port", source.port);
    text.set("address", source.address.as_ref());
    text.set("username", source.username.as_ref());
    text.set("password", source.password.as_ref());
    text.set("token", source.token.as_ref());
    text.set("topic", source.topic.as_ref());
    text.set("path", source.path.as_ref());
    text.set("node", source.node.as_ref());
    text.set("send", source.send.as_ref());
    text.set("container", source.container.as_ref());
    text.set("socket", source.socket.as_ref());
    for quantity in QUANTITIES {
        text.set(quantity, source.values.get(quantity));
    }
    text.set(LIMIT, source.connection_limit);
    text.set("memory_limit", source.memory_limit);
    if let Some(tls) = &source.tls {
        tls::write(tls, &mut text);
    }
    text.set("weight", source.weight);
    text.time("interval", source.interval);
    text.time("timeout", source.timeout);
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_reach_the_wire() {
        let source =
            read("mosquitto port=1884 username=lb password=env:P interval=10s ca=/ca.pem memory_limit=2g").unwrap();
        assert_eq!(source.kind, "mosquitto");
        assert_eq!(source.port, Some(1884));
        assert_eq!(source.memory_limit, Some(2 << 30));
        assert_eq!(source.interval.unwrap().seconds, 10);
        assert_eq!(source.tls.unwrap().ca.as_deref(), Some("/ca.pem"));
        let source = read(
            "prometheus port=9100 utilisation='1 - a{b=\"c\"}' connection_limit=limit memory=m",
        )
        .unwrap();
        assert_eq!(source.values["utilisation"], "1 - a{b=\"c\"}");
        assert_eq!(source.values["connection_limit"], "limit");
        assert_eq!(source.connection_limit, None);
        let source = read("prometheus port=1 connections=c connection_limit=1000").unwrap();
        assert_eq!(source.connection_limit, Some(1_000));
    }

    #[test]
    fn what_is_written_is_read() {
        for text in [
            "mosquitto",
            "mosquitto name=broker port=1884 address=10.0.0.9 username=lb password=file:/p tls=true ca=/c verify=false certificate=/x key=/y server_name=a weight=0.5 interval=2s timeout=500ms",
            "agent-check port=8080 send='a b'",
            "http-json port=80 path=/load token=env:T utilisation='/cpu * 0.01' connection_limit=7",
            "prometheus port=1 utilisation='a{b=\"it'\"'\"'s\"} / 2'",
            "mqtt-topic topic='hosts/{real}' utilisation=.",
            "emqx node=emqx@{address}",
            "docker container=web socket=/x memory_limit=1k",
        ] {
            let source = read(text).unwrap();
            assert_eq!(read(&write(&source)).unwrap(), source, "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("mosquitto prot=1", "has no setting `prot`"),
            ("mosquitto utilisation=x", "has no setting `utilisation`"),
            ("mosquitto port=x", "port=x"),
            ("mosquitto interval=5", "interval=5"),
            ("mosquitto memory_limit=5x", "write bytes"),
            ("mosquitto memory_limit=99999999999t", "write bytes"),
            ("mosquitto tls=false ca=/x", "settings of TLS"),
            ("", "nothing is said"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
