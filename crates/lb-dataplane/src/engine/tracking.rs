//! Which flows of a service get an entry in the flow table.

use lb_common::tables::service::{Service, TRACK_ALL};
use lb_model::vip::Protocol;

use super::clock::reached;

/// How a service tracks flows: exceptions only, or every flow.
///
/// A new UDP service tracks every flow for its first window whatever is configured: its reals are added one
/// by one, and no datagram says whether it begins a flow. A service that is built before it carries packets needs that
/// no longer.
///
/// Invariant: `complete_from` is set only while every flow gets an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tracking {
    protocol: Protocol,
    /// Whether the operator wants every flow tracked.
    all: bool,
    /// When the first window of a new UDP service ends.
    first_window_end: Option<u32>,
    /// Since when, or from when on, the flow table holds every live flow.
    complete_from: Option<u32>,
}

impl Tracking {
    /// Tracking of a service that is made now.
    #[must_use]
    pub fn new(protocol: Protocol, all: bool, window: u32, now: u32) -> Tracking {
        let first_window_end = protocol.has_udp().then(|| now.wrapping_add(window));
        Tracking {
            protocol,
            all,
            first_window_end,
            complete_from: (all || first_window_end.is_some()).then_some(now),
        }
    }

    /// Tracking of an adopted service.
    #[must_use]
    pub fn adopted(protocol: Protocol, record: &Service, now: u32) -> Tracking {
        let all = record.flags & TRACK_ALL != 0;
        // The program tracks every flow of such a service without an agent as well.
        let first_window_end = (all && record.track_until != 0)
            .then_some(record.track_until)
            .filter(|&end| !reached(now, end));
        // After the first window the record does not say since when every flow is tracked.
        let complete_from = match first_window_end {
            Some(_) => record.made,
            None => now.wrapping_add(record.window),
        };
        Tracking {
            protocol,
            all,
            first_window_end,
            complete_from: all.then_some(complete_from),
        }
    }

    /// `Service::track_until` of a new service's record.
    #[must_use]
    pub fn record_track_until(&self) -> u32 {
        // 0 says that there is no such time.
        self.first_window_end.map_or(0, |end| end.max(1))
    }

    /// Whether every flow is given an entry now.
    #[must_use]
    pub fn is_total(&self) -> bool {
        self.all || self.first_window_end.is_some()
    }

    /// Whether the operator wants every flow tracked, so that live flows can be counted.
    #[must_use]
    pub fn counts_flows(&self) -> bool {
        self.all
    }

    /// Whether a packet that the flow table does not know begins a flow.
    #[must_use]
    pub fn knows_every_flow(&self, now: u32) -> bool {
        self.protocol.has_udp()
            && self.is_total()
            && self.complete_from.is_some_and(|from| reached(now, from))
    }

    /// Changes what the operator wants.
    pub fn set_all(&mut self, all: bool, window: u32, now: u32) {
        self.all = all;
        self.complete_from = match self.complete_from {
            Some(from) if self.is_total() => Some(from),
            _ => all.then(|| now.wrapping_add(window)),
        };
    }

    /// Whether this is the first window of a new UDP service, and only therefore every flow is tracked.
    #[must_use]
    pub fn is_in_first_window(&self) -> bool {
        self.first_window_end.is_some() && !self.all
    }

    /// Ends the first window if it is over, or if the service is built and idle: it has carried no packet. Returns true
    /// if the service stops tracking every flow.
    pub fn end_first_window(&mut self, is_idle: bool, now: u32) -> bool {
        let ends = |end| is_idle || reached(now, end);
        if !self.first_window_end.is_some_and(ends) {
            return false;
        }
        self.first_window_end = None;
        if !self.all {
            self.complete_from = None;
        }
        !self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_udp_service_tracks_every_flow_for_a_window() {
        let mut tracking = Tracking::new(Protocol::Udp, false, 60, 100);
        assert!(tracking.is_total() && tracking.knows_every_flow(100));
        assert!(!tracking.counts_flows());
        assert_eq!(tracking.record_track_until(), 160);
        assert!(!tracking.end_first_window(false, 159) && tracking.is_total());
        assert!(tracking.end_first_window(false, 160));
        assert!(!tracking.is_total() && !tracking.knows_every_flow(1_000));
    }

    #[test]
    fn the_first_window_of_an_idle_service_ends_early() {
        let mut tracking = Tracking::new(Protocol::Udp, false, 60, 100);
        assert!(tracking.is_in_first_window() && tracking.end_first_window(true, 110));
        assert!(!tracking.is_total() && !tracking.end_first_window(true, 111));
        let wanted = Tracking::new(Protocol::Udp, true, 60, 100);
        assert!(!wanted.is_in_first_window() && wanted.is_total());
    }

    #[test]
    fn a_service_that_begins_to_track_knows_every_flow_a_window_later() {
        let mut tracking = Tracking::new(Protocol::Udp, false, 60, 100);
        tracking.end_first_window(false, 160);
        tracking.set_all(true, 60, 200);
        assert!(tracking.is_total() && tracking.counts_flows());
        assert!(!tracking.knows_every_flow(259) && tracking.knows_every_flow(260));
        tracking.set_all(true, 90, 300);
        assert!(
            tracking.knows_every_flow(300),
            "another window changes nothing"
        );
        tracking.set_all(false, 90, 300);
        assert!(!tracking.is_total() && !tracking.knows_every_flow(400));
    }

    #[test]
    fn an_unknown_packet_of_tcp_may_be_of_a_running_flow() {
        let tracking = Tracking::new(Protocol::Tcp, true, 60, 100);
        assert!(tracking.is_total() && !tracking.knows_every_flow(1_000));
        assert!(!Tracking::new(Protocol::Tcp, false, 60, 100).is_total());
    }

    #[test]
    fn an_adopted_service_goes_on_with_its_first_window() {
        let record = Service {
            flags: TRACK_ALL,
            window: 60,
            made: 100,
            track_until: 160,
            ..Service::default()
        };
        let early = Tracking::adopted(Protocol::Udp, &record, 150);
        assert!(early.knows_every_flow(150));
        let late = Tracking::adopted(Protocol::Udp, &record, 170);
        assert!(late.is_total() && !late.knows_every_flow(170) && late.knows_every_flow(230));
        let exceptions = Service { flags: 0, ..record };
        assert!(!Tracking::adopted(Protocol::Udp, &exceptions, 150).is_total());
    }
}
