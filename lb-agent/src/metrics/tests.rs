//! The agent's metrics against the rules, and as a client sees them; the data plane is a recorder.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use lb_clients::load::exposition::{self, Series};
use lb_dataplane::{RealStats, ServiceStats, Stats, TableUse};
use lb_model::{
    intent::{Change, Patch},
    settings::Value,
    vip::{RealId, VipKey},
};
use lb_serve::metrics::{
    Kind,
    rules::{self, MAX_SERIES_PER_REAL, MAX_SERIES_PER_VIP},
};

use super::{definitions::GROUPS, *};
use crate::control::{ChangeRequest, Figures, recorder::Recorder};
use crate::store::State;
use crate::supervisor::{AllFigures, ProbeCounts, ReaderFigures, RealFigures, VipFigures};

const VIP: &str = "10.0.0.1:80/tcp";
const OTHER_VIP: &str = "[2001:db8::1]:443/udp";

fn vip() -> VipKey {
    VIP.parse().unwrap()
}

fn real(number: u32) -> RealId {
    IpAddr::V4(Ipv4Addr::from_bits(0x0a01_0000 + number)).into()
}

/// An agent without an API, with a recorder as data plane.
struct Agent {
    plane: Recorder,
    control: control::Handle,
    exporter: Exporter,
    supervisor: tokio::task::JoinHandle<()>,
    thread: JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl Agent {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let plane = Recorder::default();
        let options = control::Options::default();
        let changed = Arc::clone(&options.changed);
        let state = State::open(directory.path()).unwrap();
        let (control, thread) = control::start(state, Box::new(plane.clone()), options).unwrap();
        let (observe, supervisor) = supervisor::start(control.clone(), changed);
        Agent {
            plane,
            exporter: Exporter::new(control.clone(), observe),
            control,
            supervisor,
            thread,
            _directory: directory,
        }
    }

    async fn change(&self, change: Change) -> Result<(), lb_model::intent::Refusal> {
        let request = ChangeRequest::new(change, Arc::from("test"));
        let changed = self.control.change(request).await;
        changed.map(|_| ())
    }

    /// Adds a VIP that is steered, and reals.
    async fn serve(&self, vip: VipKey, reals: impl Iterator<Item = RealId>) {
        let patch = Patch::from_iter([("steering".to_owned(), Value::Object(Patch::new()))]);
        let add_real = |real: RealId| Change::AddReal {
            vip,
            real,
            patch: Patch::new(),
        };
        let changes = std::iter::once(Change::AddVip { vip, patch }).chain(reals.map(add_real));
        let mut answers = Vec::new();
        for change in changes {
            let request = ChangeRequest::new(change, Arc::from("test"));
            let answer = self.control.submit(request, false);
            answers.push(answer.await.unwrap());
        }
        for answer in answers {
            answer.await.unwrap().unwrap();
        }
    }

    async fn page(&self) -> String {
        match self.exporter.page("/metrics", &HeaderMap::new()).await {
            Page::Found { media_type, body } => {
                assert_eq!(media_type, Format::Prometheus.media_type());
                String::from_utf8(body.into()).unwrap()
            }
            Page::Unavailable(why) | Page::Refused(why) => panic!("{why}"),
        }
    }

    async fn end(self) {
        self.supervisor.abort();
        self.control.stop().await;
        self.thread.join().unwrap();
    }
}

/// A scrape of one VIP in which everything is known that can be known, so that no series is missing.
async fn full(reals: u32) -> Scrape {
    full_of(reals, false).await
}

/// The same of a VIP that may have fallen back to the operator's weights.
async fn full_of(reals: u32, falls_back: bool) -> Scrape {
    let agent = Agent::start();
    agent.serve(vip(), (1..=reals).map(real)).await;
    let Figures { mut status, .. } = agent.control.figures().await.unwrap();
    let figures = agent.control.figures().await.unwrap();
    agent.end().await;
    let known = RealFigures {
        utilisation: Some(0.5),
        capacity: Some(100.0),
        target_share: Some(0.25),
        trust: Some(0.5),
        limited_by: Some("slow_start"),
        readers: Some(ReaderFigures {
            unreadable: 2,
            failures: 3,
            failing: 1,
            age: Some(Duration::from_secs(7)),
        }),
    };
    let observed = VipFigures {
        falls_back,
        probes: Some(ProbeCounts::default()),
        reals: (1..=reals)
            .map(|number| (real(number), known.clone()))
            .collect(),
    };
    status.dataplane.tables = vec![TableUse {
        name: "REALS",
        used: 5,
        capacity: 10,
        bytes: 640,
    }];
    let figures = Figures { status, ..figures };
    Scrape::new(
        SystemTime::UNIX_EPOCH,
        0,
        figures,
        AllFigures::from([(vip(), observed)]),
    )
}

fn read(text: &str) -> Vec<Series<'_>> {
    exposition::read(text, |_| true).unwrap().series
}

fn label<'a>(series: &'a Series<'_>, name: &str) -> Option<&'a str> {
    let label = series.labels.iter().find(|(label, _)| *label == name)?;
    Some(&label.1)
}

#[test]
fn names_units_labels_and_help_texts_follow_the_rules() {
    let mut names = BTreeSet::new();
    for (_, metrics) in GROUPS {
        for metric in *metrics {
            assert_eq!(rules::check(&metric.family), Ok(()));
            assert!(names.insert(metric.family.name), "{}", metric.family.name);
        }
    }
}

#[tokio::test]
async fn every_metric_has_samples_with_the_labels_of_its_definition() {
    let text = render(full(2).await, Format::Prometheus).unwrap();
    let mut labels: BTreeMap<&str, BTreeSet<Vec<&str>>> = BTreeMap::new();
    let series = read(&text);
    for series in &series {
        let names = series.labels.iter().map(|(name, _)| *name).collect();
        labels.entry(series.name).or_default().insert(names);
    }
    for (_, metrics) in GROUPS {
        for metric in *metrics {
            let family = &metric.family;
            let (suffixes, first): (&[&str], &[&str]) = match family.kind {
                Kind::Histogram => (&["_sum", "_count", "_bucket"], &["le"]),
                _ => (&[""], &[]),
            };
            for suffix in suffixes {
                let name = format!("{}{suffix}", family.name);
                let first = if *suffix == "_bucket" { first } else { &[] };
                let expected: Vec<&str> = [first, family.labels].concat();
                let found = labels.remove(name.as_str()).unwrap_or_default();
                assert_eq!(found, BTreeSet::from([expected]), "{name}");
            }
        }
    }
    assert!(labels.is_empty(), "not defined: {labels:?}");
}

#[tokio::test]
async fn a_vip_that_falls_back_to_the_operators_weights_has_a_metric() {
    for (falls_back, expected) in [(false, 0.0), (true, 1.0)] {
        let text = render(full_of(2, falls_back).await, Format::Prometheus).unwrap();
        let values: Vec<f64> = read(&text)
            .iter()
            .filter(|series| series.name == "lb_vip_steering_fallback")
            .map(|series| series.value)
            .collect();
        assert_eq!(values, [expected]);
    }
}

#[tokio::test]
async fn a_thousand_reals_have_a_bounded_number_of_series() {
    const REALS: usize = 1_000;
    let text = render(full(REALS as u32).await, Format::Prometheus).unwrap();
    let (mut reals, mut vips) = (HashMap::<&str, usize>::new(), HashMap::<&str, usize>::new());
    let mut others = 0;
    let series = read(&text);
    for series in &series {
        match (label(series, "real"), label(series, "vip")) {
            (Some(real), Some(_)) => *reals.entry(real).or_default() += 1,
            (None, Some(vip)) => *vips.entry(vip).or_default() += 1,
            (real, None) => {
                assert_eq!(real, None, "{}: a real without its VIP", series.name);
                others += 1;
            }
        }
    }
    assert_eq!((reals.len(), vips.len()), (REALS, 1));
    let most = reals.values().max().unwrap();
    assert!(*most <= MAX_SERIES_PER_REAL, "{most} series of one real");
    assert!(vips[VIP] <= MAX_SERIES_PER_VIP, "{} series", vips[VIP]);
    assert!(others < 150, "{others} series of the agent itself");
    println!(
        "{} series of a real, {} of a VIP, {others} others, {} bytes",
        most,
        vips[VIP],
        text.len()
    );
}

#[tokio::test]
async fn the_series_of_a_deleted_real_end_at_once() {
    let agent = Agent::start();
    agent.serve(vip(), [real(1), real(2)].into_iter()).await;
    agent
        .serve(OTHER_VIP.parse().unwrap(), std::iter::once(real(2)))
        .await;
    let of = |text: &str, vip: &str, real: RealId| {
        let real = real.to_string();
        let is = |series: &&Series<'_>| {
            label(series, "vip") == Some(vip) && label(series, "real") == Some(&real)
        };
        read(text).iter().filter(is).count()
    };
    let text = agent.page().await;
    for (vip, real) in [(VIP, real(1)), (VIP, real(2)), (OTHER_VIP, real(2))] {
        assert!(of(&text, vip, real) > 10, "{text}");
    }
    let delete = Change::DeleteReal {
        vip: vip(),
        real: real(2),
    };
    agent.change(delete).await.unwrap();
    let text = agent.page().await;
    assert_eq!(of(&text, VIP, real(2)), 0, "{text}");
    assert!(of(&text, VIP, real(1)) > 10 && of(&text, OTHER_VIP, real(2)) > 10);

    agent
        .change(Change::DeleteVip { vip: vip() })
        .await
        .unwrap();
    let text = agent.page().await;
    assert!(!text.contains(VIP), "{text}");
    agent.end().await;
}

#[tokio::test]
async fn samples_have_the_values_of_their_moment() {
    let agent = Agent::start();
    agent.serve(vip(), [real(1), real(2)].into_iter()).await;
    agent.plane.tables().unreachable.push(real(2));
    let drained = Change::UpdateReal {
        vip: vip(),
        real: real(1),
        patch: Patch::from_iter([("drained".to_owned(), Value::Bool(true))]),
    };
    agent.change(drained).await.unwrap();
    let unknown = Change::DeleteReal {
        vip: vip(),
        real: real(9),
    };
    assert!(agent.change(unknown.clone()).await.is_err());
    // The supervisor steers when it has heard of the VIP.
    let mut text = agent.page().await;
    for _ in 0..500 {
        if text.contains("reason=\"drained\"") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        text = agent.page().await;
    }
    agent.end().await;
    for line in [
        "lb_vip_packets_total{vip=\"10.0.0.1:80/tcp\"} 2",
        "lb_vip_bytes_total{vip=\"10.0.0.1:80/tcp\"} 120",
        "lb_vip_dropped_bytes_total{vip=\"10.0.0.1:80/tcp\"} 60",
        "lb_vip_reals{vip=\"10.0.0.1:80/tcp\"} 2",
        "lb_vip_active_reals{vip=\"10.0.0.1:80/tcp\"} 0",
        "lb_vip_unsettled_slots{vip=\"10.0.0.1:80/tcp\"} 4",
        "lb_vip_window_slots{vip=\"10.0.0.1:80/tcp\"} 3",
        "lb_vip_exception_slots{vip=\"10.0.0.1:80/tcp\"} 1",
        "lb_vip_flow_table_packets_total{vip=\"10.0.0.1:80/tcp\",result=\"hit\"} 1",
        "lb_vip_flow_table_packets_total{vip=\"10.0.0.1:80/tcp\",result=\"miss\"} 0",
        "lb_real_weight{vip=\"10.0.0.1:80/tcp\",real=\"10.1.0.1\"} 100",
        "lb_real_effective_weight{vip=\"10.0.0.1:80/tcp\",real=\"10.1.0.1\"} 0",
        "lb_real_state{vip=\"10.0.0.1:80/tcp\",real=\"10.1.0.1\"} 2",
        "lb_real_state{vip=\"10.0.0.1:80/tcp\",real=\"10.1.0.2\"} 3",
        "lb_real_up{vip=\"10.0.0.1:80/tcp\",real=\"10.1.0.2\"} 1",
        "lb_real_share_ratio{vip=\"10.0.0.1:80/tcp\",real=\"10.1.0.1\"} 0",
        "lb_real_limited_by{vip=\"10.0.0.1:80/tcp\",real=\"10.1.0.1\",reason=\"drained\"} 1",
        "lb_real_sampled_flows_total{vip=\"10.0.0.1:80/tcp\",real=\"10.1.0.1\"} 9",
        "lb_real_sampled_flows_ended_total{vip=\"10.0.0.1:80/tcp\",real=\"10.1.0.1\"} 5",
        "lb_real_repeated_syns_total{vip=\"10.0.0.1:80/tcp\",real=\"10.1.0.1\"} 2",
        "lb_real_client_resets_total{vip=\"10.0.0.1:80/tcp\",real=\"10.1.0.1\"} 1",
        "lb_interface_frames_total{interface=\"eth7\",reason=\"no_real\"} 3",
        "lb_interface_attached{interface=\"eth7\"} 1",
        "lb_vips{family=\"ipv4\"} 1",
        "lb_vips{family=\"ipv6\"} 0",
        "lb_changes_total{result=\"accepted\"} 4",
        "lb_changes_total{result=\"refused\"} 1",
        "lb_change_duration_seconds_count 5",
        "# TYPE lb_change_duration_seconds histogram",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    }
    // No check, so no probes.
    assert!(!text.contains("lb_vip_probes_total{"), "{text}");
}

#[tokio::test]
async fn openmetrics_is_served_to_clients_that_ask_for_it() {
    let agent = Agent::start();
    let mut headers = HeaderMap::new();
    let accept = "application/openmetrics-text;version=1.0.0"
        .parse()
        .unwrap();
    headers.insert(http::header::ACCEPT, accept);
    match agent.exporter.page("/metrics", &headers).await {
        Page::Found { media_type, body } => {
            assert!(media_type.starts_with("application/openmetrics-text"));
            assert!(body.ends_with(b"# EOF\n"));
        }
        Page::Unavailable(why) | Page::Refused(why) => panic!("{why}"),
    }
    agent.end().await;
}

#[tokio::test]
async fn an_agent_that_stops_has_no_metrics() {
    let agent = Agent::start();
    agent.control.stop().await;
    let page = agent.exporter.page("/metrics", &HeaderMap::new()).await;
    assert!(matches!(page, Page::Unavailable(why) if why.contains("stopping")));
    agent.end().await;
}

#[test]
fn counters_of_a_service_that_is_gone_make_no_series() {
    let figures = Figures {
        vips: Vec::new(),
        stats: Stats {
            services: vec![ServiceStats {
                vip: vip(),
                total: Default::default(),
                dropped: (1, 1),
                slots: Default::default(),
                table_hits: 0,
                table_misses: 0,
                named: 0,
                named_unknown: 0,
                reals: vec![RealStats {
                    real: real(1),
                    counters: Default::default(),
                    signs: None,
                }],
            }],
            ..Stats::default()
        },
        status: control::StatusView {
            revision: 0,
            vips: 0,
            reals: 0,
            dataplane: Default::default(),
            warnings: Vec::new(),
        },
        unplaced: 0,
        work: Default::default(),
        took: Duration::ZERO,
    };
    let scrape = Scrape::new(SystemTime::UNIX_EPOCH, 0, figures, AllFigures::new());
    let text = render(scrape, Format::Prometheus).unwrap();
    assert!(!text.contains("vip="), "{text}");
}

/// `UPDATE_REFERENCE=1 cargo test -p lb-agent reference` rewrites the reference.
#[test]
fn the_documentation_has_the_reference() {
    const BEGIN: &str = "<!-- The reference is generated: UPDATE_REFERENCE=1 cargo test -p lb-agent reference -->\n";
    const END: &str = "<!-- End of the reference. -->";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/monitoring.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (written, after) = rest.split_once(END).unwrap();
    for reason in lb_common::reason::Reason::ALL {
        assert!(
            before.contains(&format!("`{}`", reason.name())),
            "{reason:?}"
        );
    }
    let reference = format!("\n{}", reference());
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{reference}{END}{after}")).unwrap();
    } else {
        assert!(
            written == reference,
            "docs/monitoring.md differs from the definitions; run UPDATE_REFERENCE=1 cargo test -p lb-agent reference"
        );
    }
}
