//! Who sheds connections: `reset`, `webhook port=8080 path=/shed`, `emqx username=key password=file:/etc/lb/key`.

use lb_proto::v1;

use super::{
    duration, tls,
    words::{Text, Words},
};

/// Reads it. Whether the values are in range is the agent's answer.
///
/// # Errors
/// Says what is wrong, in words for the operator.
pub fn read(text: &str) -> Result<v1::ShedBy, String> {
    let mut words = Words::read(text, "who sheds", "webhook port=8080")?;
    let by = v1::ShedBy {
        by: words.kind.clone(),
        port: words.take("port")?,
        address: words.text("address"),
        tls: tls::read(&mut words, false)?,
        username: words.text("username"),
        password: words.text("password"),
        token: words.text("token"),
        path: words.text("path"),
        node: words.text("node"),
        timeout: words
            .with("timeout", duration::read)?
            .map(duration::to_proto),
    };
    words.end()?;
    Ok(by)
}

/// Writes it so that [`read`] gives it back.
#[must_use]
pub fn write(by: &v1::ShedBy) -> String {
    let mut text = Text::new(&by.by);
    text.set("port", by.port);
    text.set("address", by.address.as_ref());
    text.set("username", by.username.as_ref());
    text.set("password", by.password.as_ref());
    text.set("token", by.token.as_ref());
    text.set("path", by.path.as_ref());
    text.set("node", by.node.as_ref());
    if let Some(tls) = &by.tls {
        tls::write(tls, &mut text);
    }
    text.time("timeout", by.timeout);
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for text in [
            "reset",
            "webhook port=8080 address=10.0.0.9 token=env:T path=/shed timeout=500ms",
            "emqx username=key password=file:/k node=emqx@{real} tls=true ca=/ca server_name=a",
        ] {
            let by = read(text).unwrap();
            assert_eq!(read(&write(&by)).unwrap(), by, "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("", "nothing is said"),
            ("webhook prot=1", "has no setting `prot`"),
            ("webhook port=x", "port=x"),
            ("emqx timeout=5", "timeout=5"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
