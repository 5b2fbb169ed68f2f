//! Courses of events, with what must be reported of them.

use super::*;
use crate::{log::LINES, violations::KEPT};

fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn up(time: f64, since: f64, share: f64) -> BrokerSnapshot {
    BrokerSnapshot {
        at: at(time),
        down_since: None,
        active_since: Some(at(since)),
        share,
        reason: "accepted".to_owned(),
    }
}

fn down(time: f64, since: f64) -> BrokerSnapshot {
    BrokerSnapshot {
        at: at(time),
        down_since: Some(at(since)),
        active_since: None,
        share: 0.0,
        reason: "no answer".to_owned(),
    }
}

fn outage(broker: Option<usize>, began: f64, ended: Option<f64>) -> Outage {
    Outage {
        broker,
        began: at(began),
        ended: ended.map(at),
        why: "reset".to_owned(),
    }
}

/// A broker that is frozen at 10 s, out of rotation at 12.4 s, resumed at 20 s and back in rotation at 21 s.
fn frozen(outages: [Vec<Outage>; 3]) -> Timeline {
    let mut timeline = Timeline::new(2);
    let [first, second, third] = outages;
    timeline.observe(1, &up(9.9, 0.0, 0.25));
    timeline.record(Fault::Freeze, Edge::Begin, 1, at(10.0));
    timeline.add_outages(first);
    timeline.observe(1, &up(10.5, 0.0, 0.25));
    timeline.add_outages(second);
    timeline.observe(1, &down(12.5, 12.4));
    assert_eq!(timeline.current_fault(1), Some(Fault::Freeze));
    assert_eq!(timeline.current_fault(0), None);
    timeline.add_outages(third);
    timeline.observe(1, &down(15.5, 12.4));
    timeline.record(Fault::Freeze, Edge::End, 1, at(20.0));
    assert_eq!(timeline.current_fault(1), None);
    timeline.observe(1, &down(20.4, 12.4));
    timeline.observe(1, &up(21.5, 21.0, 0.03));
    timeline.observe(1, &up(28.0, 21.0, 0.21));
    timeline
}

#[test]
fn consequences_of_a_freeze_are_no_violations() {
    let timeline = frozen([
        vec![outage(None, 10.3, None)],
        vec![outage(None, 10.3, None), outage(Some(1), 12.45, None)],
        vec![
            outage(None, 10.3, Some(13.3)),
            outage(Some(1), 12.45, Some(12.8)),
            outage(Some(1), 12.6, Some(13.1)),
        ],
    ]);
    let lines: Vec<&str> = timeline.lines().collect();
    assert_eq!(
        lines,
        [
            " 10.0 s  broker 2: frozen (SIGSTOP)",
            " 12.5 s  broker 2: out of rotation after 2.4 s: no answer",
            " 15.5 s  broker 2: 2 clients reconnected within 3.1 s, 1 new client waited up to 3.0 s",
            " 20.0 s  broker 2: resumed (SIGCONT)",
            " 21.5 s  broker 2: back in rotation after 1.0 s, in slow start",
            " 28.0 s  broker 2: gets 21 % of new connections again after 8.0 s",
        ]
    );
    let (windows, violations) = timeline.finish(at(30.0));
    assert_eq!(violations.count, 0, "{violations:?}");
    assert_eq!(
        windows[0].summary(),
        "broker 2 frozen at 10.0 s for 10.0 s: out of rotation after 2.4 s, 2 clients reconnected within 3.1 s, \
         1 new client waited up to 3.0 s; then back in rotation after 1.0 s, most of its share back after 8.0 s"
    );
}

#[test]
fn a_disconnected_client_of_another_broker_is_a_violation() {
    let other = || outage(Some(0), 11.0, None);
    let timeline = frozen([vec![other()], vec![other()], vec![other()]]);
    let (_, violations) = timeline.finish(at(30.0));
    // One for the broken connection, one for not reconnecting in time.
    assert_eq!(
        (violations.count, violations.requests),
        (2, 2),
        "{violations:?}"
    );
    assert!(violations.descriptions[0].contains("broker 1 lost a client at 11.0 s"));
    assert!(violations.descriptions[1].contains("disconnected for 19.0 s"));
}

#[test]
fn a_client_that_does_not_reconnect_is_a_violation() {
    let late = outage(Some(1), 12.4, Some(21.0));
    let timeline = frozen([vec![], vec![], vec![late]]);
    let (_, violations) = timeline.finish(at(30.0));
    assert_eq!(violations.count, 1, "{violations:?}");
    assert!(
        violations.descriptions[0].contains("8.6 s"),
        "{violations:?}"
    );

    let never = outage(Some(1), 12.45, None);
    let timeline = frozen([vec![], vec![never.clone()], vec![never]]);
    let (_, violations) = timeline.finish(at(30.0));
    assert_eq!(violations.count, 1, "{violations:?}");
}

#[test]
fn an_outage_before_or_long_after_a_fault_is_not_explained() {
    for (broker, began) in [(Some(1), 9.0), (None, 9.0), (Some(1), 26.0), (None, 26.0)] {
        let mut timeline = frozen([vec![], vec![], vec![]]);
        timeline.add_outages(vec![outage(broker, began, Some(began + 0.1))]);
        let (_, violations) = timeline.finish(at(30.0));
        assert_eq!(violations.requests, 1, "{broker:?} {began}");
    }
}

#[test]
fn a_broker_that_is_not_taken_out_or_does_not_return_is_a_violation() {
    let mut timeline = Timeline::new(1);
    timeline.observe(0, &up(9.0, 0.0, 1.0));
    timeline.record(Fault::Kill, Edge::Begin, 0, at(10.0));
    timeline.observe(0, &up(14.0, 0.0, 1.0));
    assert_eq!(
        timeline.finish(at(14.5)).1.count,
        0,
        "there was too little time for it"
    );

    let mut timeline = Timeline::new(1);
    timeline.record(Fault::Kill, Edge::Begin, 0, at(10.0));
    timeline.observe(0, &down(15.5, 15.4));
    timeline.record(Fault::Kill, Edge::End, 0, at(16.0));
    timeline.observe(0, &down(26.0, 15.4));
    let (_, violations) = timeline.finish(at(26.5));
    assert_eq!(violations.count, 2, "{violations:?}");
}

#[test]
fn a_broker_without_a_fault_must_not_be_out() {
    let mut timeline = Timeline::new(2);
    timeline.record(Fault::CpuLoad, Edge::Begin, 0, at(5.0));
    timeline.observe(0, &down(6.0, 5.9));
    timeline.observe(0, &down(6.5, 5.9));
    timeline.observe(0, &up(8.0, 7.0, 0.5));
    timeline.observe(1, &down(9.0, 8.9));
    let (_, violations) = timeline.finish(at(10.0));
    assert_eq!(violations.count, 2, "{violations:?}");
    assert_eq!(violations.requests, 0);
}

#[test]
fn a_loaded_brokers_share_must_follow() {
    let mut timeline = Timeline::new(1);
    timeline.observe(0, &up(9.0, 0.0, 0.4));
    timeline.record(Fault::CpuLoad, Edge::Begin, 0, at(10.0));
    timeline.observe(0, &up(12.0, 0.0, 0.36));
    timeline.observe(0, &up(13.0, 0.0, 0.3));
    timeline.observe(0, &up(15.0, 0.0, 0.2));
    timeline.record(Fault::CpuLoad, Edge::End, 0, at(20.0));
    timeline.observe(0, &up(22.0, 0.0, 0.25));
    timeline.observe(0, &up(24.0, 0.0, 0.33));
    let (windows, violations) = timeline.finish(at(30.0));
    assert_eq!(violations.count, 0, "{violations:?}");
    assert_eq!(
        windows[0].summary(),
        "broker 1 loaded at 10.0 s for 10.0 s: its share of new connections fell from 40 % to 20 %; \
         then most of its share back after 4.0 s"
    );

    let mut timeline = Timeline::new(1);
    timeline.observe(0, &up(9.0, 0.0, 0.4));
    timeline.record(Fault::CpuLoad, Edge::Begin, 0, at(10.0));
    timeline.observe(0, &up(15.0, 0.0, 0.38));
    timeline.record(Fault::CpuLoad, Edge::End, 0, at(20.0));
    assert_eq!(timeline.finish(at(30.0)).1.count, 1);
}

#[test]
fn what_is_kept_is_bounded() {
    let mut timeline = Timeline::new(1);
    for number in 0..1_000_u32 {
        let time = f64::from(number);
        timeline.record(Fault::CpuLoad, Edge::Begin, 0, at(time));
        timeline.record(Fault::CpuLoad, Edge::End, 0, at(time + 0.5));
        timeline.add_outages(vec![outage(Some(0), time + 0.1, Some(time + 0.2))]);
    }
    assert_eq!(timeline.lines().count(), LINES);
    let (windows, violations) = timeline.finish(at(2_000.0));
    assert_eq!(windows.len(), KEPT_WINDOWS);
    assert_eq!(violations.descriptions.len(), KEPT);
    assert_eq!(violations.requests, 1_000);
}
