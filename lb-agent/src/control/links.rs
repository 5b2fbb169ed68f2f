//! The interfaces: whether packets still meet the program there.

use std::time::SystemTime;

use lb_dataplane::InterfaceStatus;

use super::{
    event::{Event, What},
    owner::Owner,
};

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
            // No receiver is no error.
            let _ = self.events.send(Event {
                time: SystemTime::now(),
                cause: cause.into(),
                vip: None,
                what: What::InterfaceChanged(interface),
            });
        }
    }
}
