//! A simulated packet with what the decision about it read.

use std::time::{Duration, SystemTime};

use lb_dataplane::{EntryRead, SlotRead, SlotState};
use lb_model::vip::RealId;
use lb_proto::v1;
use tonic::Status;

use super::{Api, convert, explain::explanation, simulate, stats};

impl Api {
    pub(super) async fn trace_packet(
        &self,
        request: v1::SimulateRequest,
    ) -> Result<v1::PacketTrace, Status> {
        let simulation = self.simulated(request).await?;
        let now = SystemTime::now();
        let mut trace = v1::PacketTrace {
            simulation: Some(simulate::message(&simulation)),
            slot: simulation.slot.as_ref().map(|slot| slot_trace(slot, now)),
            entry: simulation
                .entry
                .as_ref()
                .map(|entry| entry_trace(entry, now)),
            ..v1::PacketTrace::default()
        };
        let Some(key) = simulation.vip else {
            return Ok(trace);
        };
        // Between both questions the VIP may have been deleted: what is left of the answer is true.
        let Ok(view) = self.control.stats(Some(key)).await else {
            return Ok(trace);
        };
        let mut counted = stats::stats(&view).vips.pop();
        if let (Some(vip), Some(counted)) = (view.vips.first(), &mut counted) {
            let mut message = convert::vip(vip);
            message.reals.clear();
            trace.vip = Some(message);
            let reals = std::mem::take(&mut counted.reals);
            // It may be one of the VIP that stands in.
            if let Some(address) = simulation.real
                && let Some(real) = vip.real(address)
            {
                let snapshot = self.supervisor.snapshots().await.remove(&(key, address));
                trace.real = Some(explanation(
                    convert::vip_id(&key),
                    real,
                    snapshot.unwrap_or_default(),
                ));
                let text = address.to_string();
                trace.real_stats = reals.into_iter().find(|real| real.address == text);
            }
        }
        trace.vip_stats = counted;
        Ok(trace)
    }
}

fn text(real: Option<RealId>) -> String {
    real.map(|real| real.to_string()).unwrap_or_default()
}

fn slot_trace(slot: &SlotRead, now: SystemTime) -> v1::SlotTrace {
    let before = |age: Duration| now.checked_sub(age).map(convert::timestamp);
    let mut message = v1::SlotTrace {
        number: slot.number,
        slots: slot.slots,
        real: text(slot.real),
        since: slot.changed.and_then(before),
        ring_changed: before(slot.ring_changed),
        ..v1::SlotTrace::default()
    };
    message.state = match &slot.state {
        SlotState::Settled => "settled",
        SlotState::InWindow { previous, ends_in } => {
            message.previous = text(*previous);
            message.window_ends = Some(convert::timestamp(now + *ends_in));
            "in_window"
        }
        SlotState::Exceptions { share } => {
            message.exceptions_share = *share;
            "exceptions"
        }
    }
    .to_owned();
    message
}

fn entry_trace(entry: &EntryRead, now: SystemTime) -> v1::EntryTrace {
    v1::EntryTrace {
        real: text(entry.real),
        last_packet: now.checked_sub(entry.last_packet).map(convert::timestamp),
        confirmed: entry.confirmed,
        closing: entry.closing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_says_what_its_state_means() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let slot = |state| {
            let read = SlotRead {
                number: 3,
                slots: 256,
                real: "10.0.0.2".parse().ok(),
                changed: Some(Duration::from_secs(10)),
                ring_changed: Duration::from_secs(20),
                state,
            };
            slot_trace(&read, now)
        };
        let window = slot(SlotState::InWindow {
            previous: "10.0.0.1".parse().ok(),
            ends_in: Duration::from_secs(50),
        });
        assert_eq!(
            (&*window.state, &*window.previous),
            ("in_window", "10.0.0.1")
        );
        assert_eq!(window.window_ends.map(|time| time.seconds), Some(1_050));
        assert_eq!(window.since.map(|time| time.seconds), Some(990));
        assert_eq!(window.ring_changed.map(|time| time.seconds), Some(980));
        let deleted = slot(SlotState::InWindow {
            previous: None,
            ends_in: Duration::ZERO,
        });
        assert_eq!(deleted.previous, "");
        let exceptions = slot(SlotState::Exceptions { share: 0.25 });
        assert_eq!(
            (&*exceptions.state, exceptions.exceptions_share),
            ("exceptions", 0.25)
        );
        assert_eq!(slot(SlotState::Settled).state, "settled");
    }
}
