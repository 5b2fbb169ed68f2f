//! Watches over the database's file: somebody may remove or truncate it under the running agent.
//!
//! The database has in memory what it has read, so it would go on to acknowledge changes, and lose them with the process.
//! The owner looks before each change and once a second. What is lost it rewrites: it knows everything.

use std::sync::Arc;

use super::{event::What, owner::Owner};

impl Owner {
    /// Puts the database back if its file was removed or truncated. If something else is in its place, changes are refused
    /// until the agent starts again.
    pub(super) fn keep_database(&mut self) {
        let Err(error) = self.store.check() else {
            return;
        };
        let error = if error.is_loss() {
            match self.store.rewrite(&self.intent) {
                Ok(revision) => {
                    self.rewritten(revision.0);
                    let cause = format!("{error}: the agent has rewritten it, nothing is lost");
                    tracing::error!("{cause}");
                    self.send(None, cause.into(), What::Notice);
                    return;
                }
                Err(failed) => format!("{error}; rewriting it failed, too: {failed}"),
            }
        } else {
            error.to_string()
        };
        if self.store_error.as_ref() != Some(&error) {
            tracing::error!("{error}");
            self.send(None, error.as_str().into(), What::Notice);
            self.store_error = Some(error);
        }
    }

    /// All VIPs were written at this revision.
    fn rewritten(&mut self, revision: u64) {
        self.unsure.clear();
        self.store_error = None;
        let vips: Vec<_> = self.intent.vips().cloned().collect();
        for mut vip in vips {
            Arc::make_mut(&mut vip).revision = revision;
            if let Some(service) = self.services.get_mut(&vip.address) {
                service.vip = Arc::clone(&vip);
            }
            self.intent.replace(vip.address, Some(vip));
        }
    }
}
