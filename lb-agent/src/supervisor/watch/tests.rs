//! A VIP that is looked after, without anybody to ask.

use tokio::sync::mpsc;

use super::*;
use lb_model::intent::{RealSpec, VipSpec};
use lb_clients::health::spec::{Check, Probe, Via};

const TIME: Duration = Duration::from_secs(1_000);

fn real() -> IpAddr {
    [10, 1, 0, 2].into()
}

fn vip(change: impl FnOnce(&mut VipSpec)) -> Arc<Vip> {
    let address: VipKey = "10.0.0.1:80/tcp".parse().unwrap();
    let mut spec = VipSpec::default_for(address.protocol);
    spec.steering = Some(Steering::default());
    change(&mut spec);
    Arc::new(Vip {
        address,
        spec,
        reals: [(real(), RealSpec::default())].into(),
    })
}

fn tasks() -> Tasks {
    Tasks::new(mpsc::channel(1).0, mpsc::channel(1).0)
}

fn begin(vip: &Arc<Vip>, tasks: &Tasks) -> Watch {
    Watch::new(Arc::clone(vip), None, TIME, &Marks::new(), tasks)
}

#[tokio::test]
async fn what_was_given_is_given_again_once_the_vip_changed() {
    let (vip, tasks) = (vip(|_| {}), tasks());
    let mut watch = begin(&vip, &tasks);
    let step = |watch: &mut Watch| watch.step(Instant::now(), TIME, &Carried::new()).0;
    assert!(step(&mut watch).is_some());
    assert!(step(&mut watch).is_none(), "nothing changed");
    // It may have been deleted and added: its owner has forgotten what it was given.
    watch.update(vip, &Marks::new(), &tasks);
    assert!(step(&mut watch).is_some());
}

#[tokio::test]
async fn a_period_is_no_shorter_than_the_fastest_source_and_counts_at_once() {
    let source = |text: &str| toml::from_str::<lb_model::load::LoadSource>(text).unwrap();
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
    let mut watch = begin(&period(3_600), &tasks);
    let now = Instant::now();
    watch.step(now, TIME, &Carried::new());
    assert!(watch.due() > now + Duration::from_secs(3_000));
    watch.update(period(5), &Marks::new(), &tasks);
    assert!(watch.due() < Instant::now() + Duration::from_secs(8));
}

#[tokio::test]
async fn who_cannot_be_probed_any_more_is_not_dead_for_ever() {
    let tunnelled = vip(|vip| {
        let mut check = Check::new(Probe::Tcp {});
        check.via = Via::Tunnel;
        vip.check = Some(check);
    });
    let tasks = tasks();
    let mut watch = begin(&tunnelled, &tasks);
    watch.reals.get_mut(&real()).unwrap().state = State::Down;
    // There is no mark: nothing of this host reaches it through the tunnel.
    watch.update(tunnelled, &Marks::new(), &tasks);
    let order = watch.step(Instant::now(), TIME, &Carried::new()).0.unwrap();
    let steered = order.steered.unwrap();
    assert!(steered.reals[&real()].up);
}

#[tokio::test]
async fn the_first_weight_is_told_and_one_that_goes_on_is_not() {
    let (vip, tasks) = (vip(|_| {}), tasks());
    let resumed = |weight| {
        let real = SteeredReal { weight, up: true };
        Some(Steered {
            reals: [(self::real(), real)].into(),
        })
    };
    let causes = |resumed: Option<Steered>| {
        let mut watch = Watch::new(Arc::clone(&vip), resumed, TIME, &Marks::new(), &tasks);
        let order = watch.step(Instant::now(), TIME, &Carried::new()).0;
        order.map(|order| order.causes.len())
    };
    // It has had the operator's weight, and is eased in.
    assert_eq!(causes(None), Some(1));
    assert_eq!(causes(resumed(100)), None, "nothing changed");
    assert_eq!(
        causes(Some(Steered::default())),
        Some(1),
        "it waited for this"
    );
}
