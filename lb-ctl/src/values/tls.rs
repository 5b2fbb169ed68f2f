//! TLS to a peer: `tls=true`, or any of its settings.

use lb_proto::v1;

use super::words::Words;

/// Takes its settings out of the words; none: no TLS.
///
/// # Errors
/// When there are settings of TLS and none is wanted, or one cannot be read.
pub fn read(words: &mut Words) -> Result<Option<v1::Tls>, String> {
    let on: Option<bool> = words.take("tls")?;
    let tls = v1::Tls {
        ca: words.text("ca"),
        server_name: words.text("server_name"),
        verify: words.take("verify")?,
        certificate: words.text("certificate"),
        key: words.text("key"),
    };
    match on {
        Some(true) => Ok(Some(tls)),
        _ if tls == v1::Tls::default() => Ok(None),
        Some(false) => Err("tls=false: settings of TLS are given, too".to_owned()),
        None => Ok(Some(tls)),
    }
}

/// Adds its settings, as [`read`] takes them.
pub fn write(tls: &v1::Tls, add: &mut impl FnMut(&str, Option<String>)) {
    add("tls", Some("true".to_owned()));
    add("ca", tls.ca.clone());
    add("server_name", tls.server_name.clone());
    add("verify", tls.verify.map(|verify| verify.to_string()));
    add("certificate", tls.certificate.clone());
    add("key", tls.key.clone());
}
