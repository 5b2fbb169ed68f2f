//! Stories with what must be told of them.

use super::*;

fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn up(time: f64, since: f64, share: f64) -> Seen {
    Seen {
        at: at(time),
        out: None,
        up: Some(at(since)),
        share,
        reason: "accepted".to_owned(),
    }
}

fn down(time: f64, since: f64) -> Seen {
    Seen {
        at: at(time),
        out: Some(at(since)),
        up: None,
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

/// A broker that is frozen at 10 s, found at 12.4 s, goes on at 20 s and is in again at 21 s.
fn frozen(outages: [Vec<Outage>; 3]) -> Story {
    let mut story = Story::new(2);
    let [first, second, third] = outages;
    story.see(1, &up(9.9, 0.0, 0.25));
    story.done(Deed::Freeze, 1, at(10.0));
    story.hear(first);
    story.see(1, &up(10.5, 0.0, 0.25));
    story.hear(second);
    story.see(1, &down(12.5, 12.4));
    assert_eq!(story.trouble(1), Some(Trouble::Frozen));
    assert_eq!(story.trouble(0), None);
    story.hear(third);
    story.see(1, &down(15.5, 12.4));
    story.done(Deed::Thaw, 1, at(20.0));
    assert_eq!(story.trouble(1), None);
    story.see(1, &down(20.4, 12.4));
    story.see(1, &up(21.5, 21.0, 0.03));
    story.see(1, &up(28.0, 21.0, 0.21));
    story
}

#[test]
fn what_follows_from_a_freeze_is_no_fault() {
    let story = frozen([
        vec![outage(None, 10.3, None)],
        vec![outage(None, 10.3, None), outage(Some(1), 12.45, None)],
        vec![
            outage(None, 10.3, Some(13.3)),
            outage(Some(1), 12.45, Some(12.8)),
            outage(Some(1), 12.6, Some(13.1)),
        ],
    ]);
    let lines: Vec<&str> = story.lines().collect();
    assert_eq!(
        lines,
        [
            " 10.0 s  broker 2: frozen (SIGSTOP)",
            " 12.5 s  broker 2: out after 2.4 s: no answer",
            " 15.5 s  broker 2: its 2 clients back after 3.1 s, 1 that came waited 3.0 s at most",
            " 20.0 s  broker 2: goes on (SIGCONT)",
            " 21.5 s  broker 2: in again after 1.0 s, eased in",
            " 28.0 s  broker 2: has 21 % of new connections again after 8.0 s",
        ]
    );
    let (episodes, faults) = story.finish(at(30.0));
    assert_eq!(faults.count, 0, "{faults:?}");
    assert_eq!(
        episodes[0].summary(),
        "broker 2 frozen at 10.0 s for 10.0 s: out after 2.4 s, its 2 clients back after 3.1 s, \
         1 that came waited 3.0 s at most; then in again after 1.0 s, most of its share after 8.0 s"
    );
}

#[test]
fn a_client_of_another_broker_that_is_cut_off_is_a_fault() {
    let other = || outage(Some(0), 11.0, None);
    let story = frozen([vec![other()], vec![other()], vec![other()]]);
    let (_, faults) = story.finish(at(30.0));
    // Once for the cut, once for not being back.
    assert_eq!((faults.count, faults.requests), (2, 2), "{faults:?}");
    assert!(faults.words[0].contains("broker 1 lost a client at 11.0 s"));
    assert!(faults.words[1].contains("not connected for 19.0 s"));
}

#[test]
fn a_client_that_is_not_back_is_a_fault() {
    let late = outage(Some(1), 12.4, Some(21.0));
    let story = frozen([vec![], vec![], vec![late]]);
    let (_, faults) = story.finish(at(30.0));
    assert_eq!(faults.count, 1, "{faults:?}");
    assert!(faults.words[0].contains("8.6 s"), "{faults:?}");

    let never = outage(Some(1), 12.45, None);
    let story = frozen([vec![], vec![never.clone()], vec![never]]);
    let (_, faults) = story.finish(at(30.0));
    assert_eq!(faults.count, 1, "{faults:?}");
}

#[test]
fn who_is_cut_off_before_or_long_after_is_not_explained() {
    for (broker, began) in [(Some(1), 9.0), (None, 9.0), (Some(1), 26.0), (None, 26.0)] {
        let mut story = frozen([vec![], vec![], vec![]]);
        story.hear(vec![outage(broker, began, Some(began + 0.1))]);
        let (_, faults) = story.finish(at(30.0));
        assert_eq!(faults.requests, 1, "{broker:?} {began}");
    }
}

#[test]
fn a_broker_that_is_not_found_or_does_not_come_back_is_a_fault() {
    let mut story = Story::new(1);
    story.see(0, &up(9.0, 0.0, 1.0));
    story.done(Deed::Kill, 0, at(10.0));
    story.see(0, &up(14.0, 0.0, 1.0));
    assert_eq!(
        story.finish(at(14.5)).1.count,
        0,
        "there was no time for it"
    );

    let mut story = Story::new(1);
    story.done(Deed::Kill, 0, at(10.0));
    story.see(0, &down(15.5, 15.4));
    story.done(Deed::Revive, 0, at(16.0));
    story.see(0, &down(26.0, 15.4));
    let (_, faults) = story.finish(at(26.5));
    assert_eq!(faults.count, 2, "{faults:?}");
}

#[test]
fn a_broker_to_which_nothing_was_done_must_not_be_out() {
    let mut story = Story::new(2);
    story.done(Deed::Load, 0, at(5.0));
    story.see(0, &down(6.0, 5.9));
    story.see(0, &down(6.5, 5.9));
    story.see(0, &up(8.0, 7.0, 0.5));
    story.see(1, &down(9.0, 8.9));
    let (_, faults) = story.finish(at(10.0));
    assert_eq!(faults.count, 2, "{faults:?}");
    assert_eq!(faults.requests, 0);
}

#[test]
fn a_loaded_brokers_share_must_follow() {
    let mut story = Story::new(1);
    story.see(0, &up(9.0, 0.0, 0.4));
    story.done(Deed::Load, 0, at(10.0));
    story.see(0, &up(12.0, 0.0, 0.36));
    story.see(0, &up(13.0, 0.0, 0.3));
    story.see(0, &up(15.0, 0.0, 0.2));
    story.done(Deed::Relieve, 0, at(20.0));
    story.see(0, &up(22.0, 0.0, 0.25));
    story.see(0, &up(24.0, 0.0, 0.33));
    let (episodes, faults) = story.finish(at(30.0));
    assert_eq!(faults.count, 0, "{faults:?}");
    assert_eq!(
        episodes[0].summary(),
        "broker 1 loaded at 10.0 s for 10.0 s: its share of new connections went from 40 % to 20 %; \
         then most of its share after 4.0 s"
    );

    let mut story = Story::new(1);
    story.see(0, &up(9.0, 0.0, 0.4));
    story.done(Deed::Load, 0, at(10.0));
    story.see(0, &up(15.0, 0.0, 0.38));
    story.done(Deed::Relieve, 0, at(20.0));
    assert_eq!(story.finish(at(30.0)).1.count, 1);
}

#[test]
fn what_is_kept_is_bounded() {
    let mut story = Story::new(1);
    for number in 0..1_000_u32 {
        let time = f64::from(number);
        story.done(Deed::Load, 0, at(time));
        story.done(Deed::Relieve, 0, at(time + 0.5));
        story.hear(vec![outage(Some(0), time + 0.1, Some(time + 0.2))]);
    }
    assert_eq!(story.lines().count(), LINES);
    let (episodes, faults) = story.finish(at(2_000.0));
    assert_eq!(episodes.len(), KEPT_EPISODES);
    assert_eq!(faults.words.len(), KEPT_FAULTS);
    assert_eq!(faults.requests, 1_000);
}
