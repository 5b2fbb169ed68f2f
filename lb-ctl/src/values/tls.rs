//! TLS to a peer: `tls=true`, or any of its settings.

use lb_proto::v1;

use super::words::{Text, Words};

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
pub fn write(tls: &v1::Tls, text: &mut Text) {
    text.set("tls", Some(true));
    write_settings(tls, text);
}

/// Adds its settings alone, where TLS is wanted anyway.
pub fn write_settings(tls: &v1::Tls, text: &mut Text) {
    text.set("ca", tls.ca.as_ref());
    text.set("server_name", tls.server_name.as_ref());
    text.set("verify", tls.verify);
    text.set("certificate", tls.certificate.as_ref());
    text.set("key", tls.key.as_ref());
}
