//! Checks: `http path=/healthz interval=2s`, `mqtt version=5.0 tls=true`, `exec command="/opt/check -v"`.

mod octets;
mod probe;

use lb_proto::v1;

use super::{
    duration,
    words::{Text, Words},
};

/// Reads a check. Ranges are the agent's to judge.
///
/// # Errors
/// Says what is wrong, in words for the operator.
pub fn read(text: &str) -> Result<v1::Check, String> {
    let mut words = Words::read(text, "a kind", "tcp interval=2s")?;
    let time = |words: &mut Words, key: &str| {
        words
            .with(key, duration::read)
            .map(|time| time.map(duration::to_proto))
    };
    let check = v1::Check {
        probe: Some(probe::read(&mut words)?),
        interval: time(&mut words, "interval")?,
        fast_interval: time(&mut words, "fast_interval")?,
        timeout: time(&mut words, "timeout")?,
        healthy_threshold: words.take("healthy_threshold")?,
        unhealthy_threshold: words.take("unhealthy_threshold")?,
        port: words.take("port")?,
        via: words.with("via", via)?.map(Into::into),
        jitter: words.take("jitter")?,
    };
    words.end()?;
    Ok(check)
}

/// Writes a check as [`read`] reads it.
#[must_use]
pub fn write(check: &v1::Check) -> String {
    let mut text = match &check.probe {
        Some(probe) => probe::write(probe),
        None => Text::new("-"),
    };
    text.time("interval", check.interval);
    text.time("fast_interval", check.fast_interval);
    text.time("timeout", check.timeout);
    text.set("healthy_threshold", check.healthy_threshold);
    text.set("unhealthy_threshold", check.unhealthy_threshold);
    text.set("port", check.port);
    if check.via.is_some() {
        text.set("via", via_name(check.via()));
    }
    text.set("jitter", check.jitter);
    text.into()
}

pub(super) fn via(text: &str) -> Result<v1::ProbeVia, String> {
    match text {
        "direct" => Ok(v1::ProbeVia::Direct),
        "tunnel" => Ok(v1::ProbeVia::Tunnel),
        _ => Err("write direct or tunnel".to_owned()),
    }
}

pub(super) const fn via_name(via: v1::ProbeVia) -> Option<&'static str> {
    match via {
        v1::ProbeVia::Unspecified => None,
        v1::ProbeVia::Direct => Some("direct"),
        v1::ProbeVia::Tunnel => Some("tunnel"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written() {
        for text in [
            "tcp",
            "tcp interval=2s fast_interval=500ms timeout=1s healthy_threshold=1 unhealthy_threshold=4 \
             port=80 via=tunnel jitter=0",
            "http",
            "http method=HEAD path=/healthz?a=b host=www.example statuses=200-299,401 body='all is well' \
             json=/status equals=UP",
            "http json=/n equals=3",
            r#"http json=/n equals='"3"'"#,
            "https",
            "https path=/ ca=/etc/ca.pem server_name=www.example verify=false certificate=/c.pem key=/k.pem",
            "mqtt",
            "mqtt version=5.0 tls=true username=prober password=env:PASSWORD expect=accepted",
            "mqtt version=3.1.1 expect=any",
            "grpc service=shop.Cart tls=true server_name=cart.example",
            "udp payload=ping expect=pong",
            "udp payload=hex:00ff silence=alive",
            "udp payload=text:hex:00",
            "exec command='/opt/check -v'",
            r#"exec command="/opt/check 'a b'" port=1"#,
        ] {
            let check = read(text).expect(text);
            let written = write(&check);
            assert_eq!(written, text);
            assert_eq!(read(&written), Ok(check));
        }
    }

    #[test]
    fn forms_that_mean_the_same() {
        for (text, same) in [
            ("http tls=true", "https"),
            ("https server_name=a", "http server_name=a"),
            ("mqtt ca=/ca.pem", "mqtt tls=true ca=/ca.pem"),
            ("mqtt version=5", "mqtt version=5.0"),
            ("tcp unhealthy-threshold=2", "tcp unhealthy_threshold=2"),
        ] {
            assert_eq!(read(text), read(same), "{text}");
        }
    }

    #[test]
    fn words_become_fields() {
        let check = read("http path=/healthz port=8080 interval=2s via=tunnel").unwrap();
        assert_eq!(check.port, Some(8080));
        assert_eq!(check.via(), v1::ProbeVia::Tunnel);
        assert_eq!(check.interval.map(|time| time.seconds), Some(2));
        assert_eq!(check.timeout, None);
        let Some(v1::check::Probe::Http(http)) = check.probe else {
            panic!("{check:?}");
        };
        assert_eq!(http.path.as_deref(), Some("/healthz"));
        assert_eq!((http.tls, http.method), (None, None));
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, part) in [
            ("", "nothing is said"),
            ("icmp", "`icmp` is no kind of probe"),
            ("tcp path=/", "no setting `path`"),
            ("tcp via=air", "write direct or tunnel"),
            ("tcp interval=5", "interval=5"),
            ("http verify=perhaps", "verify=perhaps"),
            ("http tls=false ca=/ca.pem", "tls=false"),
            ("http equals=1", "json"),
            ("http json=/a", "equals"),
            ("mqtt version=4", "3.1.1"),
            ("mqtt expect=all", "any or accepted"),
            ("udp", "payload"),
            ("udp payload=hex:0", "hexadecimal"),
            ("udp payload=a silence=golden", "alive"),
            ("exec", "command"),
            ("exec command=\"/a 'b\"", "not closed"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
