//! Reads the configuration file again: at SIGHUP and when a caller of the API asks for it.

use std::{path::PathBuf, sync::Arc};

use lb_model::{
    intent::{Intent, Owner, Writer},
    settings::Settings as _,
};

use crate::{
    config::{AgentSettings, Config},
    control::{FileTopic, Followed, Handle, ReadError},
};

/// Settings of which more is to be said.
const RING_SEED: &str = "ring_seed";
const FLOW_ENTRIES: &str = "flow_entries";

/// Why the file cannot be followed. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// There is none.
    #[error(
        "the agent was started without a configuration file, so there is nothing to reload; start it with --config FILE"
    )]
    NoFile,
    /// It is wrong.
    #[error("{0}; nothing was changed")]
    File(#[from] lb_model::document::FileError),
    /// The agent ends.
    #[error(transparent)]
    Stopping(#[from] ReadError),
}

/// Reads the agent's configuration file again.
#[derive(Debug)]
pub struct Reloader {
    path: Option<PathBuf>,
    /// The agent's settings in the file when the agent started.
    at_start: AgentSettings,
    /// Names of the settings that the command line gives.
    overridden: Vec<&'static str>,
    control: Handle,
}

/// The file as it is now.
#[derive(Debug)]
pub struct Reread {
    /// Its VIPs.
    pub intent: Intent,
    /// Its other settings.
    pub settings: SettingsChange,
}

/// Settings of the agent that are not in the file as they were when the agent started. None of them is followed by a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingsChange {
    /// Those that count when the agent starts again.
    pub at_next_start: Vec<&'static str>,
    /// Those that never count, since the command line does.
    pub overridden: Vec<&'static str>,
}

impl SettingsChange {
    /// A sentence about those that count when the agent starts again; `None` if there are none.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let names = &self.at_next_start;
        if names.is_empty() {
            return None;
        }
        let mut text = format!(
            "settings of the configuration file have changed that count when the agent starts again: {} (packets flow on \
             meanwhile)",
            names.join(", ")
        );
        if names.contains(&RING_SEED) {
            text += "; with another ring_seed it does not start before `lb-agent detach`";
        }
        if names.contains(&FLOW_ENTRIES) {
            text += "; another flow_entries counts after `lb-agent detach`";
        }
        Some(text)
    }
}

impl Reloader {
    /// For the file at this path, whose settings of the agent were these at start.
    #[must_use]
    pub const fn new(path: Option<PathBuf>, at_start: AgentSettings, control: Handle) -> Self {
        Reloader {
            path,
            at_start,
            overridden: Vec::new(),
            control,
        }
    }

    /// The command line gives the settings of these names.
    #[must_use]
    pub fn with_overridden(self, overridden: Vec<&'static str>) -> Self {
        Reloader { overridden, ..self }
    }

    /// Compares the settings of the agent in its file, or in one that could take its place, with those that it started with.
    #[must_use]
    pub fn compare(&self, now: &AgentSettings) -> SettingsChange {
        if self.path.is_none() {
            return SettingsChange::default();
        }
        let (then, now) = (self.at_start.to_map(), now.to_map());
        let names = AgentSettings::fields().into_iter().map(|field| field.name);
        let (overridden, at_next_start) = names
            .filter(|name| then.get(*name) != now.get(*name))
            .partition(|name| self.overridden.contains(name));
        SettingsChange {
            at_next_start,
            overridden,
        }
    }

    /// The writer of the file's objects.
    #[must_use]
    pub const fn writer(force: bool) -> Writer {
        Writer {
            owner: Owner::File,
            force,
            expected_revision: 0,
        }
    }

    /// Reads and checks the file.
    ///
    /// # Errors
    /// [`ReloadError::NoFile`] or [`ReloadError::File`].
    pub async fn read(&self) -> Result<Reread, ReloadError> {
        let path = self.path.clone().ok_or(ReloadError::NoFile)?;
        // A file may be on a slow disk, and checking thousands of VIPs takes a while.
        let config = tokio::task::spawn_blocking(move || Config::read(&path))
            .await
            .map_err(|_| ReadError::Stopping)??;
        Ok(Reread {
            settings: self.compare(&config.agent),
            intent: config.intent,
        })
    }

    /// Makes the file's objects what the file says. With `force` it takes over those that it names but that belong to
    /// somebody else.
    ///
    /// # Errors
    /// A [`ReloadError`]; nothing has changed then.
    pub async fn reload(
        &self,
        force: bool,
        cause: Arc<str>,
    ) -> Result<(Followed, SettingsChange), ReloadError> {
        let read = self.read().await;
        if let Err(error @ ReloadError::File(_)) = &read {
            let error = format!("the configuration file is not followed: {error} ({cause})");
            tracing::error!("{error}");
            self.control
                .note_file(FileTopic::Refused, Some(error))
                .await;
        }
        let Reread { intent, settings } = read?;
        let warning = settings.warning();
        if let Some(text) = &warning {
            tracing::warn!("{text}");
        }
        if !settings.overridden.is_empty() {
            tracing::warn!(
                "settings of the configuration file have changed without effect, since the command line gives them: {}",
                settings.overridden.join(", ")
            );
        }
        self.control
            .note_file(FileTopic::AtNextStart, warning)
            .await;
        let followed = self
            .control
            .follow(intent, Self::writer(force), cause)
            .await?;
        let refused = followed.changes.iter().filter(|(_, made)| made.is_err());
        tracing::info!(
            "configuration file reloaded: {} changes, {} refused, {} objects left to their owners",
            followed.changes.len(),
            refused.count(),
            followed.left.len()
        );
        Ok((followed, settings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_need_more_than_a_start_are_explained() {
        let warning = |names: &[&'static str]| {
            let change = SettingsChange {
                at_next_start: names.to_vec(),
                overridden: vec!["listen"],
            };
            change.warning()
        };
        assert_eq!(warning(&[]), None);
        let text = warning(&["listen", "watchdog"]).unwrap();
        assert!(text.contains("starts again: listen, watchdog (") && !text.contains("detach"));
        let text = warning(&["ring_seed", "flow_entries"]).unwrap();
        assert_eq!(text.matches("`lb-agent detach`").count(), 2, "{text}");
        for name in [RING_SEED, FLOW_ENTRIES] {
            let fields = AgentSettings::fields();
            assert!(fields.iter().any(|field| field.name == name), "{name}");
        }
    }
}
