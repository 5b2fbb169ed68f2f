//! Runners against listeners on the loopback. They wait for reports, never for a time.

use std::{io::ErrorKind, net::SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

use super::*;
use crate::health::probe::{http::Http, tcp::Tcp};
use lb_model::component::Component;

const NEVER: Duration = Duration::from_secs(60);
/// A time-out, and so an interval, that a busy machine does not exceed.
const PATIENT: Duration = Duration::from_secs(1);

fn vip() -> VipKey {
    "10.0.0.1:80/tcp".parse().unwrap()
}

fn tcp() -> Component {
    Component::new("tcp", &Tcp {})
}

fn http() -> Component {
    Component::new("http", &Http::default())
}

fn config(probe: Component, address: SocketAddr) -> ProbeConfig {
    let mut check = Check::new(probe);
    check.interval = Duration::from_millis(100);
    check.fast_interval = Some(Duration::from_millis(100));
    check.timeout = Some(Duration::from_millis(100));
    let target = Target {
        address,
        mark: None,
    };
    ProbeConfig { check, target }
}

fn start(config: ProbeConfig, slots: &Arc<Semaphore>) -> (Runner, mpsc::Receiver<Report>) {
    start_first(config, FirstProbe::Spread, slots)
}

fn start_first(
    config: ProbeConfig,
    first: FirstProbe,
    slots: &Arc<Semaphore>,
) -> (Runner, mpsc::Receiver<Report>) {
    let (sender, reports) = mpsc::channel(16);
    let real = config.target.address.ip().into();
    let health = Health::new(std::time::Instant::now());
    let runner = Runner::start(
        vip(),
        real,
        config,
        health,
        first,
        Arc::clone(slots),
        sender,
    );
    (runner, reports)
}

async fn next(reports: &mut mpsc::Receiver<Report>) -> Report {
    tokio::time::timeout(NEVER, reports.recv())
        .await
        .expect("a report comes")
        .expect("the runner runs")
}

async fn change(reports: &mut mpsc::Receiver<Report>) -> Change {
    loop {
        if let Some(change) = next(reports).await.change {
            return change;
        }
    }
}

fn slots_of(count: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(count))
}

async fn listen() -> (TcpListener, SocketAddr) {
    listen_at("127.0.0.1:0").await
}

async fn listen_at(address: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Probes of a real that answers, however busy this machine is.
fn patient(address: SocketAddr) -> ProbeConfig {
    let mut config = config(tcp(), address);
    config.check.interval = PATIENT;
    config.check.timeout = Some(PATIENT);
    config
}

/// The same port once more, though connections to it linger.
fn listen_again(address: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket.listen(16).unwrap()
}

#[tokio::test]
async fn a_real_dies_and_comes_back() {
    // No other test is given this port while nobody listens there.
    let (listener, address) = listen_at("127.0.0.2:0").await;
    let (_runner, mut reports) = start(patient(address), &slots_of(8));
    let up = change(&mut reports).await;
    assert_eq!((up.from, up.to), (State::Unknown, State::Up));
    drop(listener);
    let down = change(&mut reports).await;
    assert_eq!((down.from, down.to), (State::Up, State::Down));
    assert_eq!(down.reason, "connection refused");
    let _listener = listen_again(address);
    let back = change(&mut reports).await;
    assert_eq!((back.from, back.to), (State::Down, State::Up));
    let report = next(&mut reports).await;
    assert_eq!(report.state, State::Up);
    assert_eq!((report.vip, report.real), (vip(), address.ip().into()));
}

#[tokio::test]
async fn another_config_keeps_the_state_until_it_is_found_wrong() {
    let (_listener, address) = listen().await;
    // No test is given such a port.
    let dead = "127.0.0.1:1".parse().unwrap();
    let (runner, mut reports) = start(patient(address), &slots_of(8));
    assert_eq!(change(&mut reports).await.to, State::Up);
    runner.replace(patient(dead));
    let first_failure = loop {
        let report = next(&mut reports).await;
        if report.outcome.reason == "connection refused" {
            break report;
        }
    };
    assert_eq!(
        (first_failure.state, first_failure.change),
        (State::Up, None)
    );
    let down = change(&mut reports).await;
    assert_eq!((down.from, down.to), (State::Up, State::Down));
}

#[tokio::test]
async fn a_dropped_runner_hangs_up() {
    let (listener, address) = listen().await;
    let mut silent = config(http(), address);
    silent.check.interval = NEVER;
    silent.check.timeout = Some(NEVER);
    let (runner, mut reports) = start(silent, &slots_of(8));
    let (mut stream, _) = listener.accept().await.unwrap();
    drop(runner);
    let mut bytes = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut bytes);
    let ended = tokio::time::timeout(NEVER, read)
        .await
        .expect("the connection ends");
    let kind = ended.map_err(|error| error.kind());
    assert_eq!(kind, Err(ErrorKind::ConnectionReset));
    assert!(reports.recv().await.is_none());
}

/// All reals of a rack fall silent: the others are probed as before.
#[tokio::test]
async fn silent_reals_disturb_nobody() {
    let (_good, address) = listen().await;
    let (_silent, silent) = listen().await;
    let slots = slots_of(64);
    let silent: Vec<_> = (0..40)
        .map(|_| start(config(http(), silent), &slots))
        .collect();
    let (_runner, mut reports) = start(patient(address), &slots);
    for _ in 0..10 {
        assert_eq!(next(&mut reports).await.state, State::Up);
    }
    for (_runner, mut reports) in silent {
        let down = change(&mut reports).await;
        assert_eq!(down.to, State::Down);
        assert!(
            down.reason.contains("timed out after 100ms"),
            "{}",
            down.reason
        );
    }
}

#[tokio::test]
async fn without_a_slot_no_probe_runs() {
    let (_listener, address) = listen().await;
    let slots = slots_of(1);
    let slot = Arc::clone(&slots).acquire_owned().await.unwrap();
    let (_runner, mut reports) = start(patient(address), &slots);
    // Several intervals.
    let early = tokio::time::timeout(Duration::from_millis(500), reports.recv()).await;
    assert!(early.is_err(), "{early:?}");
    drop(slot);
    assert_eq!(next(&mut reports).await.state, State::Up);
}

/// This process is stopped for longer than an interval, and goes on: all probes are due.
#[tokio::test]
async fn probes_that_are_late_together_are_spread_again() {
    const REALS: usize = 40;
    let (sender, starts) = std::sync::mpsc::channel();
    // The peer is not stopped.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            drop(stream);
            if sender.send(std::time::Instant::now()).is_err() {
                return;
            }
        }
    });
    let slots = slots_of(REALS);
    let mut runners: Vec<_> = (0..REALS)
        .map(|_| start(patient(address), &slots))
        .collect();
    for (_, reports) in &mut runners {
        assert_eq!(next(reports).await.state, State::Up);
    }
    std::thread::sleep(PATIENT * 2);
    while starts.try_recv().is_ok() {}
    let awake = std::time::Instant::now();
    for (_, reports) in &mut runners {
        assert_eq!(next(reports).await.state, State::Up);
    }
    let mut quarters = [0; 4];
    let begun = starts
        .try_iter()
        .filter_map(|at| at.checked_duration_since(awake));
    for after in begun.take(REALS) {
        let quarter = after.as_millis() * 4 / PATIENT.as_millis();
        quarters[quarter.min(3) as usize] += 1;
    }
    assert!(quarters.iter().all(|count| *count > 0), "{quarters:?}");
    assert!(quarters[0] < REALS / 2, "{quarters:?}");
}

/// Without a route nothing is known of the real: neither its death nor its life.
#[tokio::test]
async fn the_trouble_of_this_host_changes_no_state() {
    let (listener, address) = listen_at("127.0.0.3:0").await;
    let (runner, mut reports) = start(patient(address), &slots_of(8));
    assert_eq!(change(&mut reports).await.to, State::Up);
    let mut unusable = patient(address);
    unusable.check.probe = Component::new(
        "https",
        &Http {
            tls: Some(crate::peer::Tls {
                ca: Some("/nowhere/ca.pem".into()),
                ..crate::peer::Tls::default()
            }),
            ..Http::default()
        },
    );
    runner.replace(unusable);
    let mut inconclusive = 0;
    while inconclusive < 5 {
        let report = next(&mut reports).await;
        if report.outcome.verdict == Verdict::Inconclusive {
            inconclusive += 1;
            assert!(report.outcome.reason.contains("/nowhere/ca.pem"));
        }
        assert_eq!((report.state, report.change), (State::Up, None));
    }
    // The death of a real is found as soon as there can be probes.
    drop(listener);
    runner.replace(patient(address));
    let down = change(&mut reports).await;
    assert_eq!((down.from, down.to), (State::Up, State::Down));
}

const HOUR: Duration = Duration::from_secs(3_600);

/// A check whose probes would not come within the time of a test, were the real not starting.
fn seldom(probe: Component, address: SocketAddr) -> ProbeConfig {
    let mut config = config(probe, address);
    config.check.interval = HOUR;
    config.check.fast_interval = Some(HOUR);
    config.check.timeout = Some(HOUR);
    config
}

#[tokio::test]
async fn a_real_that_starts_is_probed_at_once_and_again_until_it_answers() {
    let (listener, address) = listen_at("127.0.0.4:0").await;
    drop(listener);
    let (_runner, mut reports) =
        start_first(seldom(tcp(), address), FirstProbe::AtOnce, &slots_of(8));
    // More failures than the threshold, which do not count so soon.
    for _ in 0..5 {
        let report = next(&mut reports).await;
        assert_eq!(report.outcome.verdict, Verdict::Unhealthy);
        assert_eq!((report.state, report.change), (State::Unknown, None));
    }
    let _listener = listen_again(address);
    let up = change(&mut reports).await;
    assert_eq!((up.from, up.to), (State::Unknown, State::Up));
}

/// An answer that comes too late for the first probe, or never, does not hold up the next one.
#[tokio::test]
async fn a_probe_of_a_real_that_starts_ends_soon() {
    let (listener, address) = listen().await;
    let (_runner, mut reports) =
        start_first(seldom(http(), address), FirstProbe::AtOnce, &slots_of(8));
    let (_silent, _) = listener.accept().await.unwrap();
    let report = next(&mut reports).await;
    assert_eq!(report.outcome.reason, "no answer yet; it may still start");
    let (mut stream, _) = listener.accept().await.unwrap();
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, answer)
        .await
        .unwrap();
    assert_eq!(change(&mut reports).await.to, State::Up);
}

/// When each probe starts, and whether it counts, if every one fails at once.
fn starts(fast_interval: Duration, counts_from: Duration) -> Vec<(u128, bool)> {
    let begin = Instant::now();
    let mut state = Some((
        begin,
        Start {
            pause: FIRST_PAUSE,
            counts_from: begin + counts_from,
        },
    ));
    let mut starts = Vec::new();
    while let Some((at, start)) = state {
        starts.push(((at - begin).as_millis(), at >= start.counts_from));
        state = start.next(at, fast_interval);
    }
    starts
}

#[test]
fn pauses_grow_up_to_the_fast_interval_and_failures_count_as_rarely_as_ever() {
    let milliseconds = Duration::from_millis;
    let expected =
        [0, 20, 50, 95, 162, 200, 351, 579, 700].map(|at| (at, [200, 700].contains(&at)));
    assert_eq!(starts(milliseconds(500), milliseconds(200)), expected);
    // With the shortest interval there is room for a few.
    let shortest = [
        (0, true),
        (20, false),
        (50, false),
        (95, false),
        (100, true),
    ];
    assert_eq!(starts(milliseconds(100), Duration::ZERO), shortest);
    // Whatever the interval is, the probes that count are an interval apart, and none of the others is more than twice as late as a
    // real takes that starts.
    for (fast, first) in [(1_000, 999), (2_000, 0), (5_000, 1_234), (60_000, 59_000)] {
        let starts = starts(milliseconds(fast), milliseconds(first));
        let counted: Vec<u128> = starts
            .iter()
            .filter_map(|(at, counts)| counts.then_some(*at))
            .collect();
        assert!(
            counted
                .iter()
                .is_sorted_by(|a, b| *b - *a >= u128::from(fast))
        );
        assert!(
            starts
                .iter()
                .is_sorted_by(|(a, _), (b, _)| *b <= a * 2 + 20)
        );
    }
}

#[test]
fn a_probe_of_a_real_that_starts_may_take_longer_and_longer() {
    let now = Instant::now();
    let start = |pause, ahead| Start {
        pause: Duration::from_millis(pause),
        counts_from: now + Duration::from_secs(ahead),
    };
    assert_eq!(start(20, 1).patience(now), Some(LEAST_PATIENCE));
    assert_eq!(
        start(300, 1).patience(now),
        Some(Duration::from_millis(600))
    );
    // One that counts has all its time.
    assert_eq!(start(300, 0).patience(now), None);
}
