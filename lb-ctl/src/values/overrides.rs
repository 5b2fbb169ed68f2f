//! What is different for one real of a VIP: `port=1884 via=direct` in its check, `broker port=1884` where a source of
//! load, here `broker`, is read.

use lb_proto::v1;

use super::{
    check::via_name,
    words::{Text, Words},
};

/// Reads what is different in the check. Nothing said: nothing is.
///
/// # Errors
/// Says what is wrong, in words for the operator.
pub fn read_check(text: &str) -> Result<v1::CheckOverride, String> {
    let mut words = Words::read(&format!("check {text}"), "a setting", "port=1884")?;
    let change = v1::CheckOverride {
        disabled: words.take("disabled")?,
        port: words.take("port")?,
        address: words.text("address"),
        via: words.with("via", super::check::via)?.map(Into::into),
    };
    words.end()?;
    Ok(change)
}

/// Writes it so that [`read_check`] gives it back: empty if nothing is different.
#[must_use]
pub fn write_check(change: &v1::CheckOverride) -> String {
    let mut text = Text::new("");
    text.set("disabled", change.disabled.filter(|disabled| *disabled));
    text.set("port", change.port);
    text.set("address", change.address.as_ref());
    if change.via.is_some() {
        text.set("via", via_name(change.via()));
    }
    String::from(text).trim_start().to_owned()
}

/// Writes it so that [`read_load`] gives it back.
#[must_use]
pub fn write_load(change: &v1::LoadSourceOverride) -> String {
    let mut text = Text::new(&change.name);
    text.set("off", change.off.then_some(true));
    text.set("address", change.address.as_ref());
    text.set("port", change.port);
    text.set("weight", change.weight);
    text.set("connection_limit", change.connection_limit);
    text.set("memory_limit", change.memory_limit);
    text.set("topic", change.topic.as_ref());
    text.set("path", change.path.as_ref());
    text.set("node", change.node.as_ref());
    text.set("container", change.container.as_ref());
    text.into()
}

/// Reads what is different at a source of load; the source's name comes first.
///
/// # Errors
/// Says what is wrong, in words for the operator.
pub fn read_load(text: &str) -> Result<v1::LoadSourceOverride, String> {
    let mut words = Words::read(text, "the source's name", "mosquitto port=1884")?;
    let change = v1::LoadSourceOverride {
        name: words.kind.clone(),
        off: words.take("off")?.unwrap_or_default(),
        address: words.text("address"),
        port: words.take("port")?,
        weight: words.take("weight")?,
        connection_limit: words.take("connection_limit")?,
        memory_limit: words.take("memory_limit")?,
        topic: words.text("topic"),
        path: words.text("path"),
        node: words.text("node"),
        container: words.text("container"),
    };
    words.end()?;
    Ok(change)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read() {
        let check = read_check("port=1884 via=direct").unwrap();
        assert_eq!(
            (check.port, check.via(), check.disabled),
            (Some(1884), v1::ProbeVia::Direct, None)
        );
        assert_eq!(read_check(""), Ok(v1::CheckOverride::default()));
        let load = read_load("broker port=1884 off=true").unwrap();
        assert_eq!(
            (load.name.as_str(), load.port, load.off),
            ("broker", Some(1884), true)
        );
    }

    #[test]
    fn what_is_written_is_read() {
        for text in ["", "disabled=true", "port=1884 address=10.9.0.2 via=direct"] {
            assert_eq!(write_check(&read_check(text).unwrap()), text);
        }
        for text in [
            "broker off=true",
            "broker address=10.9.0.2 port=1884 weight=0.5 connection_limit=1000 memory_limit=4096",
            "host topic='a b' path=/x node=emqx@a container=web",
        ] {
            assert_eq!(write_load(&read_load(text).unwrap()), text);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = read_check("prot=1").unwrap_err();
        assert!(error.contains("no setting `prot`"), "{error}");
        let error = read_load("port=1").unwrap_err();
        assert!(
            error.contains("begin with the source's name, as in `mosquitto port=1884`"),
            "{error}"
        );
    }
}
