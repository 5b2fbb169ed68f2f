//! Changes, for `watch`.

use lb_proto::v1::{self, watch_event};
use serde::Serialize;

use super::{
    Human,
    status::Interface,
    vip::{Real, Vip},
};
use crate::names;

/// What `watch` prints for each event.
#[derive(Debug, PartialEq, Serialize)]
pub struct Event {
    /// The time, RFC 3339.
    pub time: Option<String>,
    /// snapshot, snapshot_end, vip_added, vip_changed, vip_deleted, real_added, real_changed,
    /// real_deleted, interface_changed, notice, or unknown for an event that only a newer agent knows.
    pub event: &'static str,
    /// What caused it.
    pub cause: String,
    /// Revision of the intent after it, for `--since`.
    #[serde(rename = "intent_revision")]
    pub revision: u64,
    /// The object that changed.
    #[serde(flatten)]
    pub subject: Subject,
}

/// The object of an event. In each variant, `vip` is the name of a VIP.
#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Subject {
    /// No object.
    Nothing {},
    /// A VIP in its new state.
    Vip(Vip),
    /// A VIP that was deleted.
    Name {
        /// Its name.
        vip: String,
    },
    /// A real in its new state, or in its last one if it was deleted.
    Real {
        /// Its VIP's name.
        vip: String,
        /// The real.
        real: Option<Real>,
    },
    /// An interface as it is now.
    Interface {
        /// The interface.
        interface: Interface,
    },
}

impl From<&v1::WatchEvent> for Event {
    fn from(event: &v1::WatchEvent) -> Self {
        let of_real = |event: &v1::RealEvent| Subject::Real {
            vip: names::vip(event.vip.as_ref()),
            real: event.real.as_ref().map(Real::from),
        };
        let (name, subject) = match &event.event {
            None => ("unknown", Subject::Nothing {}),
            Some(watch_event::Event::Snapshot(vip)) => ("snapshot", Subject::Vip(vip.into())),
            Some(watch_event::Event::SnapshotEnd(_)) => ("snapshot_end", Subject::Nothing {}),
            Some(watch_event::Event::VipAdded(vip)) => ("vip_added", Subject::Vip(vip.into())),
            Some(watch_event::Event::VipChanged(vip)) => ("vip_changed", Subject::Vip(vip.into())),
            Some(watch_event::Event::VipDeleted(id)) => (
                "vip_deleted",
                Subject::Name {
                    vip: names::vip(Some(id)),
                },
            ),
            Some(watch_event::Event::RealAdded(real)) => ("real_added", of_real(real)),
            Some(watch_event::Event::RealChanged(real)) => ("real_changed", of_real(real)),
            Some(watch_event::Event::RealDeleted(real)) => ("real_deleted", of_real(real)),
            Some(watch_event::Event::InterfaceChanged(interface)) => (
                "interface_changed",
                Subject::Interface {
                    interface: interface.into(),
                },
            ),
            Some(watch_event::Event::Notice(_)) => ("notice", Subject::Nothing {}),
        };
        Event {
            time: event.time.map(|time| time.to_string()),
            event: name,
            cause: event.cause.clone(),
            revision: event.revision,
            subject,
        }
    }
}

impl Human for Event {
    fn human(&self) -> String {
        let mut text = format!("{} {}", self.time.as_deref().unwrap_or("-"), self.event);
        match &self.subject {
            Subject::Nothing {} => {}
            Subject::Vip(vip) => text += &format!(" {}", vip.human().trim_end()),
            Subject::Name { vip } => text += &format!(" VIP {vip}"),
            Subject::Real { vip, real } => {
                text += &format!(" VIP {vip}");
                if let Some(real) = real {
                    text += &format!(" {}", real.human().trim_end());
                }
            }
            Subject::Interface { interface } => {
                text += &format!(" interface {} {}", interface.name, interface.xdp_mode);
            }
        }
        if !self.cause.is_empty() {
            text += &format!(" ({})", self.cause);
        }
        text + "\n"
    }
}
