//! A VIP that is supervised, without peers.

use tokio::sync::mpsc;

use super::*;
use crate::control::FlowCounts;
use lb_model::intent::{Owner, RealSpec, VipSpec};
use lb_model::options::Forward;
use lb_model::vip::RealId;
use lb_model::{check::Check, load::LoadSource, settings::SettingType as _};
use lb_steering::{Load, Sample};

const TIME: Duration = Duration::from_secs(1_000);

fn real() -> RealId {
    "10.1.0.2".parse().unwrap()
}

fn vip(change: impl FnOnce(&mut VipSpec)) -> Arc<Vip> {
    let address: VipKey = "10.0.0.1:80/tcp".parse().unwrap();
    let mut spec = VipSpec {
        steering: Some(Steering::default()),
        ..VipSpec::default()
    };
    change(&mut spec);
    Arc::new(Vip {
        reals: [(real(), RealSpec::default().into())].into(),
        ..Vip::new(address, Owner::Api, spec)
    })
}

fn tasks() -> Tasks {
    Tasks::new(mpsc::channel(1).0, mpsc::channel(1).0)
}

fn begin(vip: &Arc<Vip>, tasks: &Tasks) -> VipSupervisor {
    VipSupervisor::new(Arc::clone(vip), None, TIME, &Marks::new(), tasks)
}

#[tokio::test]
async fn what_was_given_is_given_again_once_the_vip_changed() {
    let (vip, tasks) = (vip(|_| {}), tasks());
    let mut supervisor = begin(&vip, &tasks);
    let step = |supervisor: &mut VipSupervisor| {
        supervisor
            .step(Instant::now(), TIME, &AllFlowCounts::new())
            .0
    };
    assert!(step(&mut supervisor).is_some());
    assert!(step(&mut supervisor).is_none(), "nothing changed");
    // It may have been deleted and added: its owner has forgotten what it was given.
    supervisor.update(vip, &Marks::new(), &tasks);
    assert!(step(&mut supervisor).is_some());
}

#[tokio::test]
async fn a_period_is_no_shorter_than_the_fastest_source_and_counts_at_once() {
    let source = |text: &str| toml::from_str::<LoadSource>(text).unwrap();
    let period = |seconds| {
        let spec = Steering {
            period: Duration::from_secs(seconds),
            ..Steering::default()
        };
        vip(|vip| {
            vip.load = vec![
                source("kind = 'mosquitto'\ninterval = '30s'"),
                source("kind = 'grpc'\nport = 7946\ninterval = '7s'"),
            ];
            vip.steering = Some(spec);
        })
    };
    assert_eq!(steering(&period(5)).period, Duration::from_secs(7));
    assert_eq!(steering(&period(60)).period, Duration::from_secs(60));

    let tasks = tasks();
    let mut supervisor = begin(&period(3_600), &tasks);
    let now = Instant::now();
    supervisor.step(now, TIME, &AllFlowCounts::new());
    assert!(supervisor.due() > now + Duration::from_secs(3_000));
    supervisor.update(period(5), &Marks::new(), &tasks);
    assert!(supervisor.due() < Instant::now() + Duration::from_secs(8));
}

#[tokio::test]
async fn a_vip_at_rest_is_stepped_seldom_until_something_happens() {
    let (vip, tasks) = (vip(|_| {}), tasks());
    let period = Steering::default().period;
    assert!(period < REST / 2);
    let mut supervisor = begin(&vip, &tasks);
    let mut time = TIME;
    let mut step = |supervisor: &mut VipSupervisor, opened: u64| {
        time += period;
        let now = supervisor.step_due();
        let counts = FlowCounts {
            vip: vip.address,
            real: real(),
            opened,
            closed: 0,
            flows: None,
            signs: None,
            share: 1.0,
        };
        let counts = [((vip.address, real()), counts)].into();
        supervisor.step(now, time, &counts);
        supervisor.step_due() - now
    };
    let mut pauses: Vec<_> = (0..20).map(|_| step(&mut supervisor, 7)).collect();
    assert!(pauses[0] < REST / 2, "nothing is known yet: {pauses:?}");
    assert!(pauses.pop().unwrap() > REST / 2, "{pauses:?}");
    // Flows come.
    assert!(step(&mut supervisor, 8) < REST / 2);
    let pauses: Vec<_> = (0..20).map(|_| step(&mut supervisor, 8)).collect();
    assert!(pauses.last().unwrap() > &(REST / 2), "{pauses:?}");
    // The health changes long before the next step is due.
    supervisor.reals.get_mut(&real()).unwrap().state = State::Down;
    let now = supervisor.step_due() - REST / 2;
    supervisor.step(now, time, &AllFlowCounts::new());
    assert!(supervisor.step_due() - now < REST / 2);
}

#[tokio::test]
async fn who_cannot_be_probed_any_more_is_not_dead_for_ever() {
    let tunnelled = vip(|vip| {
        let check = serde_json::json!({ "kind": "tcp", "via": "tunnel" });
        vip.check = Some(Check::from_json(&check).unwrap());
    });
    let tasks = tasks();
    let mut supervisor = begin(&tunnelled, &tasks);
    supervisor.reals.get_mut(&real()).unwrap().state = State::Down;
    // There is no mark: nothing of this host reaches it through the tunnel.
    supervisor.update(tunnelled, &Marks::new(), &tasks);
    let update = supervisor
        .step(Instant::now(), TIME, &AllFlowCounts::new())
        .0
        .unwrap();
    let steered = update.steered.unwrap();
    assert!(steered.reals[&real()].up);
}

#[test]
fn probes_go_in_the_mode_of_the_real() {
    let in_modes = |of_vip: Forward, of_real: Option<Forward>| {
        let vip = vip(|vip| {
            let check = serde_json::json!({ "kind": "tcp", "via": "tunnel" });
            vip.check = Some(Check::from_json(&check).unwrap());
            vip.forward = of_vip;
        });
        let mut vip = Vip::clone(&vip);
        vip.reals.get_mut(&real()).unwrap().spec.mode = of_real;
        VipSupervisor::tunnelled(&vip)
    };
    for mode in [Forward::L2, Forward::Ipip, Forward::Gue] {
        assert_eq!(in_modes(mode, None), [real()]);
        assert_eq!(in_modes(Forward::Nat, Some(mode)), [real()]);
        // In mode nat they go where clients' packets go: to the real's own address.
        assert!(in_modes(mode, Some(Forward::Nat)).is_empty());
    }
    assert!(in_modes(Forward::Nat, None).is_empty());
}

/// The check is so slow that no other probe comes while the test runs.
#[tokio::test]
async fn a_real_that_waits_for_its_first_probe_is_probed_at_once() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let added = listener.local_addr().unwrap();
    let before = vip(|vip| {
        let check = serde_json::json!({
            "kind": "tcp", "interval": "1h", "fast_interval": "1h", "port": added.port(),
        });
        vip.check = Some(Check::from_json(&check).unwrap());
    });
    let (sender, mut reports) = mpsc::channel(1);
    let tasks = Tasks::new(sender, mpsc::channel(1).0);
    let mut supervisor = begin(&before, &tasks);
    supervisor.reals.get_mut(&real()).unwrap().state = State::Up;
    let mut after = (*before).clone();
    after
        .reals
        .insert(added.ip().into(), RealSpec::default().into());
    supervisor.update(Arc::new(after), &Marks::new(), &tasks);
    assert_eq!(
        supervisor
            .observed(Instant::now(), &AllFlowCounts::new())
            .len(),
        1
    );
    let patience = Duration::from_secs(60);
    let report = tokio::time::timeout(patience, reports.recv()).await;
    let report = report.unwrap().unwrap();
    assert_eq!((report.real, report.state), (added.ip().into(), State::Up));
    assert!(supervisor.probed(report), "it gets flows now");
    assert_eq!(
        supervisor
            .observed(Instant::now(), &AllFlowCounts::new())
            .len(),
        2
    );
}

#[tokio::test]
async fn the_first_weight_is_told_if_it_is_another_than_before() {
    let (vip, tasks) = (vip(|_| {}), tasks());
    let resumed = |weight| {
        let real = SteeredReal { weight, up: true };
        Some(Steered {
            reals: [(self::real(), real)].into(),
        })
    };
    let causes = |resumed: Option<Steered>| {
        let mut supervisor =
            VipSupervisor::new(Arc::clone(&vip), resumed, TIME, &Marks::new(), &tasks);
        let update = supervisor
            .step(Instant::now(), TIME, &AllFlowCounts::new())
            .0;
        update.map(|update| update.causes.len())
    };
    assert_eq!(causes(None), Some(0), "it has had the operator's weight");
    assert_eq!(causes(resumed(100)), None, "nothing changed");
    assert_eq!(
        causes(Some(Steered::default())),
        Some(1),
        "it waited for this"
    );
}

#[tokio::test]
async fn a_probe_that_could_not_be_made_is_counted_and_said_and_changes_nothing() {
    let probed = vip(|vip| {
        let check = serde_json::json!({ "kind": "tcp" });
        vip.check = Some(Check::from_json(&check).unwrap());
    });
    let tasks = tasks();
    let mut supervisor = begin(&probed, &tasks);
    let report = |verdict, state, reason: &str| health::runner::Report {
        vip: probed.address,
        real: real(),
        outcome: Outcome::new(verdict, reason, Duration::ZERO),
        change: None,
        state,
        since: Instant::now(),
    };
    supervisor.probed(report(Verdict::Healthy, State::Up, "connected"));
    assert_eq!(supervisor.undecided(), 0);
    let lacking = report(Verdict::Inconclusive, State::Up, "too many open files");
    assert!(!supervisor.probed(lacking), "there is nothing to decide");
    assert_eq!(supervisor.undecided(), 1);
    let figures = supervisor.figures().probes.unwrap();
    assert_eq!(
        (figures.healthy, figures.inconclusive, figures.undecided),
        (1, 1, 1)
    );
    let (_, snapshot) = supervisor.snapshots().next().unwrap();
    let probe = snapshot.probe.unwrap();
    assert_eq!(
        (probe.verdict, probe.reason.as_str()),
        ("inconclusive", "too many open files")
    );
    // Watchers hear of it with the weights as they are.
    assert!(supervisor.tell(real(), "cause".to_owned()).is_none());
    supervisor.step(Instant::now(), TIME, &AllFlowCounts::new());
    let update = supervisor.tell(real(), "cause".to_owned()).unwrap();
    assert!(update.steered.unwrap().reals[&real()].up);
}

#[test]
fn steps_of_many_vips_meet_at_common_moments() {
    let ms = Duration::from_millis;
    for (time, period, expected) in [
        (ms(10_000), ms(1_000), ms(1_000)),
        // A step that came late does not delay the next one.
        (ms(10_004), ms(1_000), ms(996)),
        (ms(10_124), ms(1_000), ms(876)),
        (ms(10_130), ms(1_000), ms(1_120)),
        (ms(10_010), ms(200), ms(190)),
    ] {
        assert_eq!(next_step(time, period), expected, "{time:?} {period:?}");
    }
}

/// An observation whose utilisation stays the same, whatever it carries.
fn frozen(address: RealId, opened: u64) -> Observation {
    Observation {
        address,
        weight: 100,
        drained: false,
        evacuated: false,
        up: true,
        wants_drain: false,
        since_up: Duration::from_secs(3_600),
        load: Load {
            utilisation: Some(Sample {
                value: 0.5,
                age: Duration::ZERO,
            }),
            ..Load::default()
        },
        opened,
        closed: opened,
        flows: None,
        signs: None,
        share: None,
    }
}

#[tokio::test]
async fn a_vip_that_falls_back_says_so_once_and_when_it_is_steered_again() {
    let (vip, tasks) = (vip(|_| {}), tasks());
    let mut supervisor = begin(&vip, &tasks);
    let step = |supervisor: &mut VipSupervisor, time| {
        let (update, _) = supervisor.step(Instant::now(), time, &AllFlowCounts::new());
        update.and_then(|update| update.notice)
    };
    assert_eq!(step(&mut supervisor, TIME), None);
    assert_eq!(supervisor.fallback_warning(TIME), None);
    // The demand changes by half with each period, and no reading follows.
    let (mut time, mut opened) = (TIME, 0);
    for period in 0..100_u64 {
        time += Duration::from_secs(5);
        opened += if period.is_multiple_of(2) {
            8_000
        } else {
            16_000
        };
        let reals = [real(), "10.1.0.3".parse().unwrap()].map(|address| frozen(address, opened));
        supervisor.steering.step(time, &reals);
        if matches!(supervisor.steering.safety(), Safety::OperatorWeights { .. }) {
            break;
        }
    }
    let notice = step(&mut supervisor, time).expect("it has fallen back");
    let begins = "VIP 10.0.0.1:80/tcp is not steered, the operator's weights apply: ";
    assert!(notice.starts_with(begins), "{notice}");
    assert_eq!(step(&mut supervisor, time), None, "it was said");
    let warning = supervisor.fallback_warning(time).expect("it still is");
    assert!(warning.contains("is not steered"), "{warning}");
    assert!(warning.contains("lbctl why"), "{warning}");
    assert!(supervisor.figures().falls_back);

    let later = time + Duration::from_secs(3_600);
    let notice = step(&mut supervisor, later).expect("it is steered again");
    assert_eq!(&*notice, "VIP 10.0.0.1:80/tcp is steered again");
    assert_eq!(supervisor.fallback_warning(later), None);
    assert!(!supervisor.figures().falls_back);
}
