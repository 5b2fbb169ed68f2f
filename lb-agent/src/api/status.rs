//! The agent's state.

use lb_proto::v1;
use tonic::Status;

use super::{Api, convert, error::unread, stats::slot_states};
use lb_dataplane::InterfaceStatus;
use lb_serve::calls::LimitUse;

impl Api {
    pub(super) async fn status(&self) -> Result<v1::Status, Status> {
        let view = self.control.status().await.map_err(unread)?;
        let plane = view.dataplane;
        let mut warnings = plane.warnings;
        warnings.extend(view.warnings);
        warnings.extend(self.supervisor.warnings().await);
        // Both are bounded by the limits of the tables.
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Ok(v1::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: Some(convert::timestamp(self.started)),
            interfaces: plane.interfaces.into_iter().map(interface).collect(),
            vips: count(view.vips),
            reals: count(view.reals),
            unsettled_slots: plane.slots.unsettled(),
            slots: plane.slots.total(),
            slot_states: Some(slot_states(plane.slots)),
            kernel_memory: plane.tables.iter().map(|table| table.bytes).sum(),
            tables: plane
                .tables
                .into_iter()
                .map(|table| v1::TableUse {
                    name: table.name.to_owned(),
                    used: table.used,
                    capacity: table.capacity,
                    bytes: table.bytes,
                })
                .collect(),
            layout: plane.layout,
            generation: plane.generation,
            adopted: plane.adopted,
            warnings,
            revision: view.revision,
            limits: self.limits.current_use().map(limit).to_vec(),
        })
    }
}

fn limit(limit: LimitUse) -> v1::LimitUse {
    v1::LimitUse {
        name: limit.name.to_owned(),
        used: limit.used as u64,
        limit: limit.limit as u64,
        refused: limit.refused,
    }
}

/// An interface, as messages have it.
pub(super) fn interface(interface: InterfaceStatus) -> v1::InterfaceStatus {
    let xdp_mode = match (interface.attached, interface.native) {
        (false, _) => "detached",
        (true, true) => "native",
        (true, false) => "generic",
    };
    v1::InterfaceStatus {
        name: interface.name,
        index: interface.index,
        xdp_mode: xdp_mode.to_owned(),
        warning: interface.warning,
        attached: interface.attached,
    }
}
