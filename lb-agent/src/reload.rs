//! Reads the configuration file again: at SIGHUP and when a caller of the API asks for it.

use std::{path::PathBuf, sync::Arc};

use lb_model::{
    intent::{Intent, Owner, Writer},
    settings::Settings as _,
};

use crate::{
    config::{AgentSettings, Config},
    control::{Followed, Handle, ReadError},
};

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
    control: Handle,
}

/// The file as it is now.
#[derive(Debug)]
pub struct Reread {
    /// Its VIPs.
    pub intent: Intent,
    /// Names of the agent's settings that have changed since the agent started, and count when it starts again.
    pub at_next_start: Vec<&'static str>,
}

impl Reloader {
    /// For the file at this path, whose settings of the agent were these at start.
    #[must_use]
    pub const fn new(path: Option<PathBuf>, at_start: AgentSettings, control: Handle) -> Self {
        Reloader {
            path,
            at_start,
            control,
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
        let (then, now) = (self.at_start.to_map(), config.agent.to_map());
        Ok(Reread {
            intent: config.intent,
            at_next_start: AgentSettings::fields()
                .into_iter()
                .map(|field| field.name)
                .filter(|name| then.get(*name) != now.get(*name))
                .collect(),
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
    ) -> Result<(Followed, Vec<&'static str>), ReloadError> {
        let read = self.read().await;
        if let Err(error @ ReloadError::File(_)) = &read {
            let error = format!("the configuration file is not followed: {error} ({cause})");
            self.control.report_file_error(error).await;
        }
        let Reread {
            intent,
            at_next_start,
        } = read?;
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
        if !at_next_start.is_empty() {
            tracing::warn!(
                "these settings of the file count when the agent starts again: {}",
                at_next_start.join(", ")
            );
        }
        Ok((followed, at_next_start))
    }
}
