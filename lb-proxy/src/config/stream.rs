//! Where the stream of a pool is.

use std::{fmt, path::PathBuf, str::FromStr};

const ADVICE: &str = "give ws://HOST:PORT/PATH, or ws+unix:SOCKET:/PATH";

/// Where one connects to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamPlace {
    /// `HOST:PORT`.
    Tcp(String),
    /// A socket of this machine.
    Unix(PathBuf),
}

/// The WebSocket of a pool: `ws://HOST[:PORT]/PATH` or `ws+unix:SOCKET:/PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolStream {
    /// Where one connects to.
    pub place: StreamPlace,
    /// The URL that is asked for there.
    pub url: String,
    text: String,
}

impl FromStr for PoolStream {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let of = |place, url: String| PoolStream {
            place,
            url,
            text: text.to_owned(),
        };
        if let Some(rest) = text.strip_prefix("ws+unix:") {
            let (socket, path) = rest.rsplit_once(":/").ok_or(ADVICE)?;
            if !socket.starts_with('/') {
                return Err(ADVICE);
            }
            let place = StreamPlace::Unix(socket.into());
            return Ok(of(place, format!("ws://localhost/{path}")));
        }
        let uri: http::Uri = text.parse().map_err(|_| ADVICE)?;
        match (uri.scheme_str(), uri.host()) {
            (Some("ws"), Some(host)) => {
                let address = format!("{host}:{}", uri.port_u16().unwrap_or(80));
                Ok(of(StreamPlace::Tcp(address), text.to_owned()))
            }
            _ => Err(ADVICE),
        }
    }
}

impl fmt::Display for PoolStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

lb_model::text_setting!(PoolStream, "URL of a WebSocket");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_at_hosts_and_at_sockets() {
        let read = |text: &str| {
            let stream: PoolStream = text.parse().ok()?;
            assert_eq!(stream.to_string(), text);
            Some((stream.place, stream.url))
        };
        let tcp = |address: &str| StreamPlace::Tcp(address.to_owned());
        assert_eq!(
            read("ws://a:81/p?x=1"),
            Some((tcp("a:81"), "ws://a:81/p?x=1".to_owned()))
        );
        assert_eq!(read("ws://a/").map(|(place, _)| place), Some(tcp("a:80")));
        assert_eq!(
            read("ws+unix:/run/a:b/c.sock:/v1/pools/web/stream"),
            Some((
                StreamPlace::Unix("/run/a:b/c.sock".into()),
                "ws://localhost/v1/pools/web/stream".to_owned()
            ))
        );
        for wrong in [
            "",
            "a",
            "http://a/",
            "ws+unix:c.sock:/p",
            "ws+unix:/c.sock",
            "ws:///p",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
