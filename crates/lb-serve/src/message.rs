//! What a program says when it fails.

use std::{error::Error, iter::successors};

/// The error with its causes, each once: some errors tell their cause themselves.
#[must_use]
pub fn message(error: &(dyn Error + 'static)) -> String {
    let mut message = String::new();
    for cause in successors(Some(error), |&error| error.source()) {
        let cause = cause.to_string();
        let cause = cause.trim_end();
        if message.is_empty() {
            message.push_str(cause);
        } else if !message.contains(cause) {
            message.push_str(": ");
            message.push_str(cause);
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("reading x: {source}")]
    struct TellsItsCause {
        source: std::io::Error,
    }

    #[test]
    fn each_cause_is_told_once() {
        let source = std::io::Error::other("disk on fire\n");
        let error = anyhow::Error::new(TellsItsCause { source }).context("starting");
        assert_eq!(message(error.as_ref()), "starting: reading x: disk on fire");

        let error = Err::<(), _>(std::io::Error::other("gone"))
            .context("opening y")
            .unwrap_err();
        assert_eq!(message(error.as_ref()), "opening y: gone");
    }
}
