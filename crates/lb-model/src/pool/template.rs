//! What an instance of a pool is made from.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::{Size, Vm};
use crate::settings::FieldError;

/// Prefix of labels that drivers and the controller set.
pub const OWN_LABELS: &str = "lb.";
/// The parts of a text that are replaced for each instance.
pub const PLACEHOLDERS: [&str; 5] = ["name", "pool", "number", "address", "port"];

crate::settings! {
    /// A folder that an instance has for its data.
    #[derive(Eq)]
    pub struct Volume {
        /// Folder on the host; it is made if it does not exist, and is never removed. May contain `{number}`, so that an
        /// instance finds the data of the one it replaces.
        source: PathBuf;
        /// Where the instance sees it. A process sees `source` itself, and its path in `LB_VOLUME`; a virtual machine gets
        /// copies of the files when it starts, 1 MiB at most.
        target: PathBuf = "/data".into();
    }
}

crate::settings! {
    /// What an instance is made from. Arguments, environment and volume may contain `{name}`, `{pool}`, `{number}`,
    /// `{address}` and `{port}`; `{{` stands for a brace.
    #[derive(Default)]
    pub struct Template {
        /// Image of a container.
        image: Option<String> = None;
        /// The virtual machine, for the driver `qemu`. Program, arguments and environment are then what the guest of
        /// `cargo xtask image` runs.
        vm: Option<Vm> = None;
        /// Program of a process, with an absolute path; of a container, without it the image's.
        program: Option<PathBuf> = None;
        /// Arguments.
        arguments: Vec<String> = Vec::new();
        /// Environment variables.
        environment: BTreeMap<String, String> = BTreeMap::new();
        /// User that a process or container runs as, by number or by NUMBER:NUMBER with the group. Without it root, or the
        /// image's.
        user: Option<String> = None;
        /// CPU limit in cores.
        cpu: Option<f64> = None, 0.01..=1_024.0;
        /// Memory limit. An instance that needs more is killed.
        memory: Option<Size> = None, Size(4 << 20)..=Size(1 << 46);
        /// Processes and threads at most.
        processes: Option<u64> = None, 1..=4_194_304;
        /// Further labels; those that begin with `lb.` are the controller's.
        labels: BTreeMap<String, String> = BTreeMap::new();
        /// A folder for data.
        volume: Option<Volume> = None;
        /// How long an instance may take from its start until its health check passes.
        start_deadline: Duration = Duration::from_secs(60), Duration::from_millis(100)..=Duration::from_secs(3_600);
        /// How long an instance may take to end after SIGTERM, before it is killed.
        stop_grace: Duration = Duration::from_secs(10), Duration::ZERO..=Duration::from_secs(3_600);
    }
    validate(template) {
        let template: &Template = template;
        for (position, text) in template.arguments.iter().enumerate() {
            check_text(text).map_err(|error| error.within(format!("arguments[{position}]")))?;
        }
        for (name, value) in &template.environment {
            let plain = !name.is_empty() && !name.contains(['=', '\0']);
            if !plain {
                let advice = "give a name without = and control characters";
                return Err(FieldError::new("environment", format!("{name:?}"), advice));
            }
            check_text(value).map_err(|error| error.within(format!("environment.{name}")))?;
        }
        if let Some(volume) = &template.volume {
            volume.validate()?;
            check_text(&volume.source.to_string_lossy()).map_err(|error| error.within("volume.source"))?;
        }
        if let Some(vm) = &template.vm {
            vm.validate().map_err(|error| error.within("vm"))?;
        }
        if let Some(name) = template.labels.keys().find(|name| name.starts_with(OWN_LABELS) || name.is_empty()) {
            let advice = format!("labels that begin with {OWN_LABELS} are the controller's; give another name");
            return Err(FieldError::new("labels", name, advice));
        }
        if let Some(user) = &template.user {
            user_ids(user).map_err(|error| error.within("user"))?;
        }
        match &template.image {
            Some(image) if image.is_empty() || image.contains(char::is_whitespace) => {
                Err(FieldError::new("image", format!("{image:?}"), "give the name of an image, such as web:1"))
            }
            _ => Ok(()),
        }
    }
}

/// Reads `USER` or `USER:GROUP`.
///
/// # Errors
/// It is neither; the field has no name.
pub fn user_ids(text: &str) -> Result<(u32, Option<u32>), FieldError> {
    let advice = "give the number of a user, or NUMBER:NUMBER with that of a group";
    let wrong = || FieldError::new("", text, advice);
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    Ok((
        user.parse().map_err(|_| wrong())?,
        group.map(str::parse).transpose().map_err(|_| wrong())?,
    ))
}

fn check_text(text: &str) -> Result<(), FieldError> {
    if text.contains('\0') {
        return Err(FieldError::new(
            "",
            format!("{text:?}"),
            "leave out the NUL",
        ));
    }
    let value = |name: &str| PLACEHOLDERS.contains(&name).then(String::new);
    fill(text, value).map(drop)
}

/// Replaces `{name}` in a text by what `value` returns for `name`, and `{{` and `}}` by a brace.
///
/// # Errors
/// A placeholder that `value` does not know, or a brace without its partner. The field has no name.
pub fn fill(text: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, FieldError> {
    let names = || PLACEHOLDERS.map(|name| format!("{{{name}}}")).join(", ");
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        filled.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            filled.push_str(brace);
            rest = after;
            continue;
        }
        let placeholder = (brace == "{").then(|| rest.split_once('}')).flatten();
        let Some((name, after)) = placeholder else {
            let advice = format!("a brace stands alone; write {brace}{brace} for one");
            return Err(FieldError::new("", text, advice));
        };
        let value = value(name).ok_or_else(|| {
            let advice = format!("there is no {{{name}}}; there are {}", names());
            FieldError::new("", text, advice)
        })?;
        filled.push_str(&value);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::settings::SettingType as _;

    #[test]
    fn texts_are_filled() {
        let value = |name: &str| (name == "port").then(|| "80".to_owned());
        let filled = |text| fill(text, value).map_err(|error| error.advice);
        assert_eq!(filled("a{port}b{port}").as_deref(), Ok("a80b80"));
        assert_eq!(filled("{{port}} }}{{").as_deref(), Ok("{port} }{"));
        for bad in ["{", "}", "{port", "{}", "{host}", "{ port }"] {
            assert!(filled(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (value, field) in [
            (json!({ "arguments": ["{host}"] }), "arguments[0]"),
            (json!({ "environment": { "A": "}" } }), "environment.A"),
            (json!({ "environment": { "A=B": "" } }), "environment"),
            (json!({ "labels": { "lb.pool": "x" } }), "labels"),
            (
                json!({ "volume": { "source": "/data/{x}" } }),
                "volume.source",
            ),
            (json!({ "volume": { "source": "data" } }), "volume.source"),
            (json!({ "user": "root" }), "user"),
            (json!({ "image": "a b" }), "image"),
            (json!({ "memory": "1KiB" }), "memory"),
            (json!({ "cpu": 0 }), "cpu"),
        ] {
            let error = Template::from_json(&value).expect_err(field);
            assert_eq!(error.field, field, "{error}");
        }
        let user = |text| user_ids(text).ok();
        assert_eq!(user("1000"), Some((1000, None)));
        assert_eq!(user("1000:50"), Some((1000, Some(50))));
        assert_eq!(user("1000:"), None);
    }
}
