//! TLS to a peer: `tls=true`, or any of its settings.

use lb_proto::v1;

use super::words::Words;

/// Takes its settings out of the words; none: no TLS. `secure`: TLS is wanted whether it is said or not.
///
/// # Errors
/// When TLS is refused and yet wanted, or a setting cannot be read.
pub fn read(words: &mut Words, secure: bool) -> Result<Option<v1::Tls>, String> {
    let said: Option<bool> = words.take("tls")?;
    let tls = v1::Tls {
        ca: words.text("ca"),
        server_name: words.text("server_name"),
        verify: words.take("verify")?,
        certificate: words.text("certificate"),
        key: words.text("key"),
    };
    let wanted = secure || tls != v1::Tls::default();
    match said {
        Some(false) if wanted => Err(format!(
            "tls=false does not go with the settings of TLS of this `{}`",
            words.kind
        )),
        Some(said) => Ok((said || wanted).then_some(tls)),
        None => Ok(wanted.then_some(tls)),
    }
}

/// Adds `tls=true` and its settings, as [`read`] takes them.
pub fn write(tls: &v1::Tls, add: &mut impl FnMut(&str, Option<String>)) {
    add("tls", Some("true".to_owned()));
    write_settings(tls, add);
}

/// Adds its settings alone, where TLS is wanted anyway.
pub fn write_settings(tls: &v1::Tls, add: &mut impl FnMut(&str, Option<String>)) {
    add("ca", tls.ca.clone());
    add("server_name", tls.server_name.clone());
    add("verify", tls.verify.map(|verify| verify.to_string()));
    add("certificate", tls.certificate.clone());
    add("key", tls.key.clone());
}
