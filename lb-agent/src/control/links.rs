//! The interfaces and the tables: whether packets still meet the program and what this agent has put there.

use lb_dataplane::InterfaceStatus;

use super::{event::What, owner::Owner};

impl Owner {
    /// Has the data plane look after its interfaces, and tells what changed.
    pub(super) fn check_links(&mut self) {
        for interface in self.dataplane.check_links() {
            let InterfaceStatus {
                name,
                attached,
                warning,
                ..
            } = &interface;
            let cause = if *attached {
                format!("the program is attached to {name}")
            } else {
                format!("packets of {name} are not forwarded: {warning}")
            };
            if *attached {
                tracing::info!("{cause}");
            } else {
                tracing::error!("{cause}");
            }
            self.tell(cause, What::InterfaceChanged(interface));
        }
    }

    /// Tells that somebody else has changed the tables, or that this is over.
    pub(super) fn check_foreign_changes(&mut self) {
        let now = self.dataplane.foreign_changes();
        if now == self.foreign_changes {
            return;
        }
        let cause = now
            .clone()
            .unwrap_or_else(|| "the tables have again what this agent has put there".to_owned());
        if now.is_some() {
            tracing::error!("{cause}");
        } else {
            tracing::info!("{cause}");
        }
        self.foreign_changes = now;
        self.tell(cause, What::Notice);
    }

    /// Sends an event that concerns all VIPs.
    fn tell(&self, cause: String, what: What) {
        self.send(None, cause.into(), what);
    }
}
