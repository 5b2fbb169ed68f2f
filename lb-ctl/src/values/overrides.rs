//! What is different for one real of a VIP: `port=1884 via=direct` in its check, `broker port=1884` where a source of
//! load, here `broker`, is read.

use lb_proto::v1;

use super::words::Words;

/// Reads what is different in the check. Nothing said: nothing is.
///
/// # Errors
/// Says what is wrong, in words for the operator.
pub fn read_check(text: &str) -> Result<v1::CheckOverride, String> {
    let mut words = Words::read(&format!("check {text}"))?;
    let change = v1::CheckOverride {
        disabled: words.take("disabled")?,
        port: words.take("port")?,
        address: words.text("address"),
        via: words.with("via", super::check::via)?.map(Into::into),
    };
    words.end()?;
    Ok(change)
}

/// Reads what is different at a source of load; the source's name comes first.
///
/// # Errors
/// Says what is wrong, in words for the operator.
pub fn read_load(text: &str) -> Result<v1::LoadSourceOverride, String> {
    let mut words = Words::read(text)?;
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
    fn what_is_wrong_is_named() {
        let error = read_check("prot=1").unwrap_err();
        assert!(error.contains("no setting `prot`"), "{error}");
        let error = read_load("port=1").unwrap_err();
        assert!(error.contains("begin with a kind"), "{error}");
    }
}
