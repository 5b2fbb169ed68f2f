//! All situations. Names say what differs from the plain pool: four equal servers, the operator's weights fit, one
//! request per flow, every signal.

use super::scenario::{
    Demand,
    Group::{self, Gain, Known, Variant},
    Probe, Scenario,
    Sensor::{self, Frozen, Inverted, Offset, Scaled, Silent, Stuck},
    What::{self, Absent, Dead, Errors, Leak, Slow, Starved},
    When::{self, Alternating, Always, During, From},
};

/// When most faults begin.
const THEN: When = From(0.0);
/// Answers errors at a tenth of the work.
const FAST_ERRORS: What = Errors {
    part: 1.0,
    work: 0.1,
};
/// Waits for its disk: half of its speed, and its processors idle.
const DISK: What = Starved {
    speed: 0.5,
    shown: 0.5,
};
/// A neighbour takes its processors.
const NEIGHBOUR: What = Starved {
    speed: 0.575,
    shown: 1.0,
};
/// Half of the pool is dead for a minute.
const MINUTE: When = During(60.0, 120.0);
/// Lives of connections, seconds.
const LONG: [f64; 3] = [60.0, 600.0, 3_600.0];

fn new(group: Group, name: &str, reals: usize, load: f64, life: f64) -> Scenario {
    let mut name = name.to_owned();
    if reals != 4 {
        name = format!("{name}, {reals} reals");
    }
    if life > 0.0 {
        name = format!("{name}, life {life}");
    }
    Scenario::new(&format!("{name}, load {load}"), group, reals, load, life)
}

fn known(name: &str, reals: usize, load: f64, life: f64) -> Scenario {
    new(Known, name, reals, load, life)
}

fn variant(name: &str, reals: usize, load: f64, life: f64) -> Scenario {
    new(Variant, name, reals, load, life)
}

fn gain(name: &str, reals: usize, load: f64, life: f64) -> Scenario {
    let longer = life * 3.0;
    new(Gain, name, reals, load, life).with(|it| {
        it.warm += longer;
        it.length = 600.0;
    })
}

/// The same situation with fewer signals.
fn with_fewer_signals(scenario: &Scenario) -> [Scenario; 4] {
    let fewer = |name: &str, change: fn(&mut Scenario)| {
        let mut other = scenario.clone();
        other.group = Variant;
        other.name = format!("{}, {name}", other.name);
        other.with(change)
    };
    [
        fewer("no round trip", |it| it.probe = Probe::None),
        fewer("static health check", |it| it.probe = Probe::Static),
        fewer("no signs", |it| it.signs = false),
        fewer("utilisation only", |it| {
            it.probe = Probe::None;
            it.signs = false;
        }),
    ]
}

/// The situations in which steering was seen to do harm.
fn seen() -> Vec<Scenario> {
    vec![
        known("fast errors", 4, 0.5, 0.0).fault(3, THEN, FAST_ERRORS),
        known("fast errors, rate reported", 4, 0.5, 0.0)
            .fault(3, THEN, FAST_ERRORS)
            .with(|it| it.reports_errors = true),
        known("disk wait", 4, 0.65, 0.0).fault(3, THEN, DISK),
        known("disk wait", 20, 0.65, 0.0).fault(3, THEN, DISK),
        known("noisy neighbour, 1 : 8", 4, 0.65, 0.0)
            .unequal(true)
            .fault(3, THEN, NEIGHBOUR),
        late(known("60 s late, unannounced", 20, 0.65, 600.0), 12),
        late(known("60 s late, unannounced, waves", 20, 0.65, 600.0), 12).with(|it| {
            it.demand = Demand::Sine {
                period: 600.0,
                amplitude: 0.3,
            };
        }),
        known("a sensor doubles", 4, 0.65, 0.0).fault(3, THEN, What::Sensor(Scaled(2.0))),
        known("a sensor doubles", 4, 0.8, 0.0).fault(3, THEN, What::Sensor(Scaled(2.0))),
        known("a sensor halves", 4, 0.65, 0.0).fault(3, THEN, What::Sensor(Scaled(0.5))),
        known("a sensor halves", 4, 0.8, 0.0).fault(3, THEN, What::Sensor(Scaled(0.5))),
        known("half die for 60 s", 4, 0.55, 0.0).faults(0..2, MINUTE, Dead),
        known("half die for 60 s", 4, 0.55, 60.0).faults(0..2, MINUTE, Dead),
        known("half die for 60 s", 4, 0.55, 600.0).faults(0..2, MINUTE, Dead),
        burst(known("burst of 5 ×", 4, 0.22, 0.0), 5.0, 60.0),
        burst(known("burst of 5 ×", 20, 0.22, 60.0), 5.0, 60.0),
    ]
}

fn late(scenario: Scenario, periods: usize) -> Scenario {
    scenario.with(|it| (it.late, it.reports_age) = (periods, false))
}

fn burst(scenario: Scenario, times: f64, length: f64) -> Scenario {
    scenario.with(|it| {
        it.demand = Demand::Burst {
            from: 60.0,
            to: 60.0 + length,
            times,
        };
    })
}

fn waves(scenario: Scenario, period: f64, amplitude: f64) -> Scenario {
    scenario.with(|it| it.demand = Demand::Sine { period, amplitude })
}

/// Nothing is wrong.
fn plain() -> Vec<Scenario> {
    let mut all = Vec::new();
    for load in [0.3, 0.65, 0.8] {
        all.push(variant("plain", 4, load, 0.0));
        all.push(variant("plain, 1 : 8", 4, load, 0.0).unequal(true));
    }
    all.extend([2, 20, 100].map(|reals| variant("plain", reals, 0.8, 0.0)));
    all.extend(LONG.map(|life| variant("plain", 4, 0.8, life)));
    all.push(variant("10 % noise", 4, 0.8, 0.0).with(|it| it.noise = 0.1));
    all.push(variant("10 % noise", 20, 0.8, 0.0).with(|it| it.noise = 0.1));
    all.push(variant("10 % noise", 4, 0.8, 600.0).with(|it| it.noise = 0.1));
    all.push(variant("20 % noise", 4, 0.8, 0.0).with(|it| it.noise = 0.2));
    all.push(variant("no readings", 4, 0.8, 0.0).faults(0..4, Always, What::Sensor(Silent)));
    all.push(variant("restart", 4, 0.8, 0.0).with(|it| it.restart = true));
    all.push(variant("restart", 4, 0.8, 600.0).with(|it| it.restart = true));
    all
}

/// A server that answers errors.
fn errors() -> Vec<Scenario> {
    let mut all = Vec::new();
    let fails = |reals, load, life| {
        variant("fast errors", reals, load, life).fault(reals - 1, THEN, FAST_ERRORS)
    };
    all.extend(with_fewer_signals(
        &variant("fast errors", 4, 0.5, 0.0).fault(3, THEN, FAST_ERRORS),
    ));
    all.extend([0.3, 0.65, 0.8].map(|load| fails(4, load, 0.0)));
    all.extend([2, 20, 100].map(|reals| fails(reals, 0.5, 0.0)));
    all.extend(LONG.map(|life| fails(4, 0.5, life)));
    all.push(fails(20, 0.65, 60.0));
    let with = |name: &str, when, what| variant(name, 4, 0.5, 0.0).fault(3, when, what);
    all.push(with("fast errors from the start", Always, FAST_ERRORS));
    all.push(with(
        "fast errors every other minute",
        Alternating(60.0),
        FAST_ERRORS,
    ));
    all.push(with(
        "fast errors for 30 s and back",
        Alternating(30.0),
        FAST_ERRORS,
    ));
    all.push(with(
        "fast errors for 5 min",
        During(60.0, 360.0),
        FAST_ERRORS,
    ));
    for (part, work) in [
        (0.5, 0.1),
        (0.2, 0.1),
        (0.5, 1.0),
        (1.0, 1.0),
        (1.0, 0.5),
        (1.0, 2.0),
        (0.1, 0.1),
    ] {
        let name = format!("{part} errors at {work} of the work");
        all.push(with(&name, THEN, Errors { part, work }));
    }
    all.push(
        with(
            "half fast errors, rate reported",
            THEN,
            Errors {
                part: 0.5,
                work: 0.1,
            },
        )
        .with(|it| it.reports_errors = true),
    );
    all.push(
        with(
            "fast errors from the start, rate reported",
            Always,
            FAST_ERRORS,
        )
        .with(|it| it.reports_errors = true),
    );
    all.push(fails(4, 0.5, 600.0).with(|it| {
        it.reports_errors = true;
        it.name.push_str(", rate reported");
    }));
    all.push(variant("two with fast errors", 4, 0.4, 0.0).faults(2..4, THEN, FAST_ERRORS));
    all.push(variant("three with fast errors", 4, 0.2, 0.0).faults(1..4, THEN, FAST_ERRORS));
    all.push(variant("five with fast errors", 20, 0.5, 0.0).faults(0..5, THEN, FAST_ERRORS));
    all.push(variant("all with fast errors", 4, 0.5, 0.0).faults(
        0..4,
        During(60.0, 180.0),
        FAST_ERRORS,
    ));
    for (name, server) in [("largest", 3), ("smallest", 0)] {
        let name = format!("1 : 8, the {name} with fast errors");
        all.push(
            variant(&name, 4, 0.5, 0.0)
                .unequal(true)
                .fault(server, THEN, FAST_ERRORS),
        );
        let name = format!("{name}, equal weights");
        all.push(
            variant(&name, 4, 0.3, 0.0)
                .unequal(false)
                .fault(server, THEN, FAST_ERRORS),
        );
    }
    all.push(fails(4, 0.65, 0.0).with(|it| {
        it.restart = true;
        it.name.push_str(", restart");
    }));
    all.push(late(
        with("fast errors, 2 periods late", THEN, FAST_ERRORS),
        2,
    ));
    all.push(waves(
        with("fast errors, waves", THEN, FAST_ERRORS),
        300.0,
        0.4,
    ));
    all
}

/// A server that lacks something that is not read.
fn starved() -> Vec<Scenario> {
    let mut all = Vec::new();
    let disk =
        |reals, load, life| variant("disk wait", reals, load, life).fault(reals - 1, THEN, DISK);
    all.extend(with_fewer_signals(
        &variant("disk wait", 4, 0.65, 0.0).fault(3, THEN, DISK),
    ));
    all.extend([0.3, 0.5, 0.8].map(|load| disk(4, load, 0.0)));
    all.extend([2, 100].map(|reals| disk(reals, 0.65, 0.0)));
    all.extend(LONG.map(|life| disk(4, 0.65, life)));
    all.push(disk(20, 0.8, 600.0));
    let with = |name: &str, load, when, speed, shown| {
        variant(name, 4, load, 0.0).fault(3, when, Starved { speed, shown })
    };
    all.push(with("disk wait, a fifth of the speed", 0.5, THEN, 0.2, 0.5));
    all.push(with(
        "disk wait, three quarters of the speed",
        0.65,
        THEN,
        0.75,
        0.5,
    ));
    all.push(with("disk wait, nearly idle", 0.65, THEN, 0.5, 0.1));
    all.push(with("disk wait from the start", 0.65, Always, 0.5, 0.5));
    all.push(with(
        "disk wait every other minute",
        0.65,
        Alternating(60.0),
        0.5,
        0.5,
    ));
    all.push(with(
        "disk wait for 5 min",
        0.65,
        During(60.0, 360.0),
        0.5,
        0.5,
    ));
    all.push(with("cheaper requests, as fast", 0.65, THEN, 1.0, 0.3));
    all.push(variant("two wait for disks", 4, 0.5, 0.0).faults(2..4, THEN, DISK));
    all.push(variant("five wait for disks", 20, 0.65, 0.0).faults(0..5, THEN, DISK));
    all.push(variant("all wait for disks", 4, 0.65, 0.0).faults(0..4, During(60.0, 180.0), DISK));
    let neighbour = |name: &str, reals, load, life| {
        variant(name, reals, load, life).fault(reals - 1, THEN, NEIGHBOUR)
    };
    all.push(neighbour("noisy neighbour", 4, 0.65, 0.0));
    all.push(neighbour("noisy neighbour", 4, 0.8, 0.0));
    all.push(neighbour("noisy neighbour", 20, 0.65, 0.0));
    all.extend(LONG.map(|life| neighbour("noisy neighbour", 4, 0.65, life)));
    all.push(neighbour("noisy neighbour, 1 : 8 with equal weights", 4, 0.5, 0.0).unequal(false));
    all.push(
        variant("noisy neighbour of the smallest, 1 : 8", 4, 0.65, 0.0)
            .unequal(true)
            .fault(0, THEN, NEIGHBOUR),
    );
    all.push(neighbour("noisy neighbour, 1 : 8", 20, 0.65, 0.0).unequal(true));
    all.extend(with_fewer_signals(
        &variant("noisy neighbour, 1 : 8", 4, 0.65, 0.0)
            .unequal(true)
            .fault(3, THEN, NEIGHBOUR),
    ));
    all.push(
        variant("noisy neighbour every other minute", 4, 0.65, 0.0).fault(
            3,
            Alternating(60.0),
            NEIGHBOUR,
        ),
    );
    for life in [0.0, 600.0] {
        let leak = Leak {
            to: 0.4,
            over: 900.0,
            shown: false,
        };
        all.push(variant("hidden leak of speed", 4, 0.65, life).fault(3, THEN, leak));
    }
    all
}

/// Sensors that are wrong.
fn sensors() -> Vec<Scenario> {
    let mut all = Vec::new();
    let kinds: [(&str, Sensor); 10] = [
        ("doubles", Scaled(2.0)),
        ("halves", Scaled(0.5)),
        ("shows a tenth", Scaled(0.1)),
        ("is 0.2 too high", Offset(0.2)),
        ("is 0.2 too low", Offset(-0.2)),
        ("freezes", Frozen),
        ("shows 0", Stuck(0.0)),
        ("shows 1", Stuck(1.0)),
        ("is inverted", Inverted),
        ("is silent", Silent),
    ];
    for (name, sensor) in kinds {
        let what = What::Sensor(sensor);
        let name = format!("a sensor {name}");
        if !matches!(sensor, Scaled(2.0 | 0.5)) {
            all.push(variant(&name, 4, 0.8, 0.0).fault(3, THEN, what));
        }
        all.push(variant(&name, 4, 0.5, 0.0).fault(3, THEN, what));
        all.push(variant(&name, 20, 0.8, 0.0).fault(3, THEN, what));
        all.push(variant(&name, 4, 0.8, 600.0).fault(3, THEN, what));
        let start = format!("{name} from the start");
        all.push(variant(&start, 4, 0.65, 0.0).fault(3, Always, what));
    }
    for (name, sensor) in [
        ("double", Scaled(2.0)),
        ("halve", Scaled(0.5)),
        ("freeze", Frozen),
        ("show 0", Stuck(0.0)),
        ("show 1", Stuck(1.0)),
        ("are inverted", Inverted),
        ("are silent", Silent),
    ] {
        let all_of = format!("all sensors {name}");
        all.push(variant(&all_of, 4, 0.8, 0.0).faults(0..4, THEN, What::Sensor(sensor)));
        let half = format!("half of the sensors {name}");
        all.push(variant(&half, 4, 0.65, 0.0).faults(0..2, THEN, What::Sensor(sensor)));
    }
    for (name, sensor) in [("halves", Scaled(0.5)), ("doubles", Scaled(2.0))] {
        let what = What::Sensor(sensor);
        let minute = format!("a sensor {name} every other minute");
        all.push(variant(&minute, 4, 0.8, 0.0).fault(3, Alternating(60.0), what));
        let unequal = format!("a sensor {name}, 1 : 8");
        all.push(
            variant(&unequal, 4, 0.65, 0.0)
                .unequal(true)
                .fault(3, THEN, what),
        );
        let smallest = format!("a sensor {name} on the smallest of 1 : 8");
        all.push(
            variant(&smallest, 4, 0.65, 0.0)
                .unequal(true)
                .fault(0, THEN, what),
        );
        let waves_too = format!("a sensor {name}, waves");
        all.push(waves(
            variant(&waves_too, 4, 0.65, 0.0).fault(3, THEN, what),
            300.0,
            0.3,
        ));
        for life in [60.0, 3_600.0] {
            let name = format!("a sensor {name}");
            all.push(variant(&name, 4, 0.8, life).fault(3, THEN, what));
        }
        let two = format!("a sensor {name}");
        all.push(variant(&two, 2, 0.65, 0.0).fault(1, THEN, what));
    }
    let halves = variant("a sensor halves", 4, 0.8, 0.0).fault(3, THEN, What::Sensor(Scaled(0.5)));
    all.extend(with_fewer_signals(&halves));
    all.push(
        variant("a sensor freezes, waves", 4, 0.65, 0.0)
            .fault(3, THEN, What::Sensor(Frozen))
            .with(|it| {
                it.demand = Demand::Sine {
                    period: 300.0,
                    amplitude: 0.4,
                }
            }),
    );
    all
}

/// Readings that are late, and demand that changes.
fn late_and_changing() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (reals, life) in [
        (4, 0.0),
        (20, 0.0),
        (4, 60.0),
        (20, 60.0),
        (4, 600.0),
        (20, 3_600.0),
    ] {
        all.push(late(
            variant("60 s late, unannounced", reals, 0.8, life),
            12,
        ));
    }
    for load in [0.65, 0.8] {
        let uncounted = variant(
            "60 s late, unannounced, connections not reported",
            20,
            load,
            600.0,
        );
        all.push(late(uncounted, 12).with(|it| it.reports_connections = false));
    }
    all.push(late(variant("60 s late, unannounced", 20, 0.8, 600.0), 12));
    for (periods, name) in [(2, "10 s late"), (6, "30 s late")] {
        let plain = format!("{name}, unannounced");
        all.push(late(variant(&plain, 4, 0.8, 0.0), periods));
        all.push(late(variant(&plain, 20, 0.8, 600.0), periods));
        let name = format!("{name}, unannounced, anti-phase waves");
        let period = periods as f64 * 10.0;
        all.push(waves(
            late(variant(&name, 4, 0.65, 0.0), periods),
            period,
            0.4,
        ));
        all.push(waves(
            late(variant(&name, 4, 0.65, 600.0), periods),
            period,
            0.4,
        ));
    }
    all.push(waves(
        late(variant("60 s late, unannounced, waves", 4, 0.65, 0.0), 12),
        600.0,
        0.3,
    ));
    all.push(waves(
        late(variant("60 s late, unannounced, waves", 4, 0.65, 60.0), 12),
        120.0,
        0.4,
    ));
    all.push(variant("60 s late, announced", 4, 0.8, 0.0).with(|it| it.late = 12));
    all.push(variant("10 s late, announced", 4, 0.8, 0.0).with(|it| it.late = 2));
    let unequal = late(
        variant("60 s late, unannounced, 1 : 8", 20, 0.65, 600.0).unequal(true),
        12,
    );
    all.push(unequal);
    for (reals, life) in [(4, 0.0), (20, 0.0), (4, 60.0), (4, 600.0)] {
        all.push(waves(
            variant("waves of 2 min", reals, 0.65, life),
            120.0,
            0.4,
        ));
        all.push(waves(
            variant("a day in 20 min", reals, 0.5, life),
            1_200.0,
            0.7,
        ));
    }
    all
}

/// Deaths, bursts, overload, and servers that join.
fn storms() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (reals, load, life) in [
        (2, 0.55, 0.0),
        (20, 0.55, 0.0),
        (20, 0.55, 600.0),
        (4, 0.3, 0.0),
        (4, 0.55, 3_600.0),
        (4, 0.45, 600.0),
        (4, 0.7, 0.0),
    ] {
        all.push(variant("half die for 60 s", reals, load, life).faults(
            0..reals / 2,
            MINUTE,
            Dead,
        ));
    }
    all.push(
        variant("half die for 60 s, 1 : 8", 4, 0.55, 0.0)
            .unequal(true)
            .faults(1..3, MINUTE, Dead),
    );
    for (reals, load, life) in [
        (4, 0.65, 0.0),
        (4, 0.7, 60.0),
        (4, 0.7, 600.0),
        (20, 0.8, 0.0),
    ] {
        all.push(variant("one dies for 60 s", reals, load, life).fault(0, MINUTE, Dead));
        all.push(variant("one dies for 5 min", reals, load, life).fault(
            0,
            During(60.0, 360.0),
            Dead,
        ));
    }
    all.push(
        variant("one is dead every other minute", 4, 0.65, 0.0).fault(0, Alternating(60.0), Dead),
    );
    all.push(
        variant("one is dead every other minute", 4, 0.65, 60.0).fault(0, Alternating(60.0), Dead),
    );
    all.push(variant("all die for 60 s", 4, 0.65, 0.0).faults(0..4, MINUTE, Dead));
    all.push(variant("all die for 60 s", 4, 0.65, 60.0).faults(0..4, MINUTE, Dead));
    for (reals, load, life, times, length) in [
        (4, 0.22, 60.0, 5.0, 60.0),
        (20, 0.22, 0.0, 5.0, 60.0),
        (4, 0.3, 0.0, 5.0, 60.0),
        (4, 0.3, 600.0, 5.0, 60.0),
        (4, 0.5, 0.0, 3.0, 60.0),
        (4, 0.5, 0.0, 5.0, 15.0),
        (4, 0.65, 0.0, 1.4, 120.0),
        (4, 0.65, 60.0, 1.4, 120.0),
        (20, 0.65, 600.0, 1.5, 300.0),
    ] {
        let name = format!("burst of {times} × for {length} s");
        all.push(burst(variant(&name, reals, load, life), times, length));
    }
    all.push(burst(
        variant("burst of 5 ×, 1 : 8", 4, 0.22, 0.0).unequal(true),
        5.0,
        60.0,
    ));
    for (reals, life) in [(4, 0.0), (20, 0.0), (4, 60.0), (4, 600.0)] {
        all.push(
            burst(
                variant("total load 1.2 for 10 min", reals, 0.6, life),
                2.0,
                600.0,
            )
            .with(|it| it.length = 1_200.0),
        );
    }
    all.push(burst(
        variant("total load 1.2 for 10 min, 1 : 8", 4, 0.6, 0.0).unequal(true),
        2.0,
        600.0,
    ));
    for life in [0.0, 60.0, 600.0] {
        all.push(variant("a fifth joins", 5, 0.6, life).fault(4, During(-1e9, 60.0), Absent));
        all.push(variant("two join two", 4, 0.4, life).faults(2..4, During(-1e9, 60.0), Absent));
    }
    all
}

/// Situations in which steering is to gain.
fn gains() -> Vec<Scenario> {
    let mut all = Vec::new();
    let unequal =
        |reals, load, life| gain("1 : 8 with equal weights", reals, load, life).unequal(false);
    for load in [0.5, 0.65, 0.8] {
        all.extend(
            [(4, 0.0), (20, 0.0), (4, 60.0), (4, 600.0)]
                .map(|(reals, life)| unequal(reals, load, life)),
        );
    }
    for scenario in with_fewer_signals(&unequal(4, 0.65, 0.0)) {
        all.push(scenario.with(|it| it.group = Gain));
    }
    all.push(unequal(4, 0.65, 0.0).with(|it| {
        it.noise = 0.1;
        it.name.push_str(", 10 % noise");
    }));
    all.push(unequal(4, 0.65, 0.0).with(|it| {
        it.restart = true;
        it.name.push_str(", restart");
    }));
    all.push(unequal(4, 0.65, 0.0).with(|it| {
        it.late = 2;
        it.name.push_str(", 10 s late");
    }));
    all.push(waves(unequal(4, 0.5, 0.0), 600.0, 0.3).with(|it| it.name.push_str(", waves")));
    for (reals, load, life) in [
        (4, 0.65, 0.0),
        (20, 0.65, 0.0),
        (4, 0.8, 0.0),
        (4, 0.65, 60.0),
        (4, 0.65, 600.0),
    ] {
        let slow = new(Gain, "half the speed, and it says so", reals, load, life);
        all.push(slow.fault(3, THEN, Slow(0.5)));
    }
    all.push(
        new(Gain, "half the speed every other 5 min", 4, 0.65, 0.0).fault(
            3,
            Alternating(300.0),
            Slow(0.5),
        ),
    );
    let leak = Leak {
        to: 0.4,
        over: 900.0,
        shown: true,
    };
    all.push(new(Gain, "leak of speed, and it says so", 4, 0.65, 0.0).fault(3, THEN, leak));
    all.push(
        new(Gain, "1 : 8, the largest at half the speed", 4, 0.65, 0.0)
            .unequal(true)
            .fault(3, THEN, Slow(0.5)),
    );
    all
}

/// Returns all situations.
pub fn all() -> Vec<Scenario> {
    [
        seen(),
        plain(),
        errors(),
        starved(),
        sensors(),
        late_and_changing(),
        storms(),
        gains(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
