//! Reading a table: a balancer with its VIPs, and cases of what becomes of packets. `README.md` describes the form.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::Duration,
};

use lb_common::reason::{Reason, Verdict};
use lb_dataplane::{
    ServerIds, ServiceSpec, Terms, WhenEmpty,
    options::{NatOptions, Options},
};
use lb_model::{
    flow_limits::{FlowLimits, OverLimit},
    options::{Forward, OnDown, Track},
    vip::{RealId, VipKey},
};

use crate::notation::Packet;

/// Slots of a ring. All of them lead to one real, so their number does not matter.
const SLOTS: usize = 16;
/// How long a flow keeps its real: longer than a table runs.
const WINDOW: Duration = Duration::from_secs(60);

/// A table.
pub struct Table {
    pub file: String,
    /// Options of the balancer; the interface and the pins are the caller's.
    pub options: Options,
    pub vips: Vec<Vip>,
    /// How reals are reached. Those that are not listed cannot be.
    pub ways: HashMap<IpAddr, Way>,
    pub cases: Vec<Case>,
}

/// A VIP, whose spec lacks the ring.
pub struct Vip {
    pub spec: ServiceSpec,
    /// Reals that get no new flows.
    pub spare: Vec<RealId>,
}

/// How a real is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// By the second interface.
    pub is_redirected: bool,
    /// Without a router.
    pub is_direct: bool,
    pub mtu: u32,
}

pub struct Case {
    pub name: String,
    pub line: usize,
    pub steps: Vec<Step>,
}

pub enum Step {
    /// A frame comes in.
    Frame {
        line: usize,
        frame: Packet,
        expected: Expected,
    },
    /// A real goes down, in every VIP that has it.
    Down {
        line: usize,
        real: RealId,
        policy: OnDown,
    },
}

/// What becomes of a frame.
pub struct Expected {
    pub verdict: Verdict,
    pub reason: Reason,
    /// The frame that leaves, or that the host gets; `None`: it is as it came.
    pub out: Option<Packet>,
}

impl Vip {
    /// The spec with a ring that leads to the first real that takes flows.
    pub fn spec(&self) -> ServiceSpec {
        let takes =
            |real: &RealId| !self.spec.down.contains_key(real) && !self.spare.contains(real);
        let first = self.spec.reals.iter().position(takes);
        ServiceSpec {
            ring: first
                .map_or(Vec::new(), |first| vec![first as u16; SLOTS])
                .into(),
            ..self.spec.clone()
        }
    }
}

/// Words of a line.
struct Words<'a>(std::str::SplitWhitespace<'a>);

impl<'a> Words<'a> {
    fn next(&mut self, what: &str) -> Result<&'a str, String> {
        self.0.next().ok_or_else(|| format!("{what} is missing"))
    }

    fn parsed<T: std::str::FromStr>(&mut self, what: &str) -> Result<T, String> {
        let word = self.next(what)?;
        word.parse().map_err(|_| format!("`{word}` is not {what}"))
    }

    fn choice<T: Copy + ToString>(&mut self, all: &[T]) -> Result<T, String> {
        let names: Vec<_> = all.iter().map(ToString::to_string).collect();
        let word = self.next(&names.join(" or "))?;
        let found = all.iter().find(|choice| choice.to_string() == word);
        found
            .copied()
            .ok_or_else(|| format!("`{word}` is none of {}", names.join(", ")))
    }
}

/// A list of one value, or of more with commas between.
fn list<T: std::str::FromStr>(words: &mut Words<'_>, what: &str) -> Result<Vec<T>, String> {
    let text = words.next(what)?;
    let values = text
        .split(',')
        .map(|one| one.parse().map_err(|_| format!("`{one}` is not {what}")));
    values.collect()
}

fn balancer(words: &mut Words<'_>, options: &mut Options) -> Result<(), String> {
    while let Some(setting) = words.0.next() {
        match setting {
            "outer4" => options.source_v4 = words.parsed("a prefix")?,
            "outer6" => options.source_v6 = words.parsed("a prefix")?,
            "gue-port" => options.gue_port = words.parsed("a port")?,
            "nat4" => options.nat.source4 = list(words, "an IPv4 address")?,
            "nat6" => options.nat.source6 = list(words, "an IPv6 address")?,
            "nat-ports" => options.nat.ports = words.parsed("a range of ports")?,
            "tunnel-ends" => options.tunnel_ends = list(words, "an address")?.into_iter().collect(),
            other => return Err(format!("a balancer has no setting `{other}`")),
        }
    }
    Ok(())
}

/// The limits of a VIP, for a setting of them.
fn limits(terms: &mut Terms) -> &mut FlowLimits {
    terms.flow_limits.get_or_insert(FlowLimits {
        rate: None,
        real_rate: None,
        source_rate: None,
        source_prefix_v4: 24,
        source_prefix_v6: 56,
        burst: Duration::from_secs(1),
        over: OverLimit::Drop,
    })
}

fn vip(words: &mut Words<'_>) -> Result<Vip, String> {
    let mut spec = ServiceSpec {
        vip: words.parsed::<VipKey>("a VIP")?,
        forward: words.choice(Forward::ALL)?,
        terms: Terms::default(),
        track: Track::Exceptions,
        window: WINDOW,
        reals: Vec::new(),
        down: BTreeMap::new(),
        ring: Vec::new().into(),
    };
    while let Some(setting) = words.0.next() {
        let terms = &mut spec.terms;
        match setting {
            "rate" => limits(terms).rate = Some(words.parsed("a rate")?),
            "source-rate" => limits(terms).source_rate = Some(words.parsed("a rate")?),
            "real-rate" => limits(terms).real_rate = Some(words.parsed("a rate")?),
            "burst" => {
                limits(terms).burst = Duration::from_secs(words.parsed("a number of seconds")?);
            }
            "over" => limits(terms).over = words.choice(OverLimit::ALL)?,
            "source" => terms.source = words.choice(lb_model::options::NatSource::ALL)?,
            "hash" => terms.hash = words.choice(lb_model::options::Hash::ALL)?,
            "empty" => {
                terms.when_empty = match words.next("drop or reset")? {
                    "drop" => WhenEmpty::Drop,
                    "reset" => WhenEmpty::Reset,
                    other => return Err(format!("`{other}` is neither drop nor reset")),
                };
            }
            "rule" => {
                let mut rules = terms.source_rules.to_vec();
                rules.push(words.parsed("a rule")?);
                terms.source_rules = rules.into();
            }
            "ids" => terms.server_ids.methods = list(words, "a method")?,
            "quic-lb" => terms
                .server_ids
                .quic_lb
                .push(words.parsed("a configuration")?),
            "track" => spec.track = words.choice(Track::ALL)?,
            other => return Err(format!("a VIP has no setting `{other}`")),
        }
    }
    Ok(Vip {
        spec,
        spare: Vec::new(),
    })
}

fn real(
    words: &mut Words<'_>,
    vip: &mut Vip,
    ways: &mut HashMap<IpAddr, Way>,
) -> Result<(), String> {
    let real: RealId = words.parsed("a real")?;
    let mut way = Some(Way {
        is_redirected: false,
        is_direct: true,
        mtu: 1_500,
    });
    vip.spec.reals.push(real);
    while let Some(setting) = words.0.next() {
        match (setting, &mut way) {
            ("id", _) => {
                let ServerIds { reals, .. } = &mut vip.spec.terms.server_ids;
                reals.insert(real, words.parsed("a server id")?);
            }
            ("down", _) => {
                let policy = words.choice(OnDown::ALL)?;
                vip.spec.down.insert(real, policy);
            }
            ("spare", _) => vip.spare.push(real),
            ("unreachable", way) => *way = None,
            ("redirected", Some(way)) => way.is_redirected = true,
            ("routed", Some(way)) => way.is_direct = false,
            ("mtu", Some(way)) => way.mtu = words.parsed("an MTU")?,
            (other, _) => return Err(format!("a real has no setting `{other}`")),
        }
    }
    let Some(way) = way else {
        return Ok(());
    };
    match ways.insert(real.address, way) {
        Some(other) if other != way => Err(format!("{} is reached in two ways", real.address)),
        _ => Ok(()),
    }
}

fn verdict(word: &str) -> Option<Verdict> {
    Some(match word {
        "tx" => Verdict::Tx,
        "redirect" => Verdict::Redirect,
        "pass" => Verdict::Pass,
        "drop" => Verdict::Drop,
        _ => return None,
    })
}

/// A step whose lines are not read to the end.
struct Open {
    line: usize,
    frame: Packet,
    expected: Option<(Verdict, Reason)>,
}

impl Open {
    fn close(self, out: Option<Packet>) -> Result<Step, String> {
        let Some((verdict, reason)) = self.expected else {
            return Err("what becomes of the frame of the last `in`? Write tx, redirect, pass or drop and the reason".to_owned());
        };
        match (verdict, &out) {
            (Verdict::Tx | Verdict::Redirect, None) => {
                return Err("a frame that is sent has an `out`".to_owned());
            }
            (Verdict::Drop, Some(_)) => {
                return Err("a frame that is dropped has no `out`".to_owned());
            }
            _ => {}
        }
        Ok(Step::Frame {
            line: self.line,
            frame: self.frame,
            expected: Expected {
                verdict,
                reason,
                out,
            },
        })
    }
}

/// What is read of a table.
struct Reader {
    table: Table,
    open: Option<Open>,
}

impl Reader {
    fn case(&mut self) -> Result<&mut Case, String> {
        let cases = &mut self.table.cases;
        cases
            .last_mut()
            .ok_or_else(|| "this belongs to a `case`".to_owned())
    }

    fn close(&mut self, out: Option<Packet>) -> Result<(), String> {
        if let Some(open) = self.open.take() {
            let step = open.close(out)?;
            self.case()?.steps.push(step);
        } else if out.is_some() {
            return Err("`out` belongs to an `in`".to_owned());
        }
        Ok(())
    }

    fn line(&mut self, line: usize, text: &str) -> Result<(), String> {
        let (first, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let mut words = Words(rest.split_whitespace());
        match first {
            "balancer" => balancer(&mut words, &mut self.table.options)?,
            "vip" => self.table.vips.push(vip(&mut words)?),
            "real" => {
                let vip = self
                    .table
                    .vips
                    .last_mut()
                    .ok_or("a real belongs to a `vip`")?;
                real(&mut words, vip, &mut self.table.ways)?;
            }
            "case" => {
                self.close(None)?;
                let name = rest.trim().to_owned();
                if self.table.cases.iter().any(|case| case.name == name) {
                    return Err(format!("there is a case `{name}` already"));
                }
                self.table.cases.push(Case {
                    name,
                    line,
                    steps: Vec::new(),
                });
            }
            "in" => {
                self.close(None)?;
                self.case()?;
                self.open = Some(Open {
                    line,
                    frame: rest.parse()?,
                    expected: None,
                });
            }
            "out" => {
                let out = rest.parse()?;
                self.close(Some(out))?;
            }
            "down" => {
                self.close(None)?;
                let real = words.parsed("a real")?;
                let policy = words.choice(OnDown::ALL)?;
                self.case()?.steps.push(Step::Down { line, real, policy });
            }
            other => {
                let verdict = verdict(other).ok_or_else(|| format!("`{other}` begins no line"))?;
                let name = words.next("a reason")?;
                let reason = Reason::ALL.iter().find(|reason| reason.name() == name);
                let reason = *reason.ok_or_else(|| format!("`{name}` is no reason"))?;
                if reason.verdict() != verdict {
                    return Err(format!(
                        "a frame with the reason {name} has another fate than {other}"
                    ));
                }
                let open = self
                    .open
                    .as_mut()
                    .ok_or_else(|| format!("`{other}` belongs to an `in`"))?;
                open.expected = Some((verdict, reason));
            }
        }
        match words.0.next() {
            Some(word) if !["case", "in", "out"].contains(&first) => {
                Err(format!("`{word}` is too much in this line"))
            }
            _ => Ok(()),
        }
    }
}

/// Reads a table.
///
/// # Errors
/// What is wrong, with file and line.
pub fn read(file: &str, text: &str) -> Result<Table, String> {
    let mut options = Options::new(Vec::new());
    options.flow_entries = 1_024;
    options.nat = NatOptions {
        connections: 1_024,
        ..NatOptions::default()
    };
    let mut reader = Reader {
        table: Table {
            file: file.to_owned(),
            options,
            vips: Vec::new(),
            ways: HashMap::new(),
            cases: Vec::new(),
        },
        open: None,
    };
    let mut lines: Vec<(usize, String)> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        match lines.last_mut() {
            _ if line.is_empty() || line.starts_with('#') => {}
            // The packet goes on.
            Some((_, last)) if line.starts_with("/ ") => {
                last.push(' ');
                last.push_str(line);
            }
            _ => lines.push((at + 1, line.to_owned())),
        }
    }
    for (at, line) in &lines {
        let read = reader.line(*at, line);
        read.map_err(|error| format!("{file}:{at}: {error}"))?;
    }
    let end = lines.last().map_or(0, |(at, _)| *at);
    let closed = reader.close(None);
    closed.map_err(|error| format!("{file}:{end}: {error}"))?;
    if let Some(case) = reader.table.cases.iter().find(|case| case.steps.is_empty()) {
        return Err(format!("{file}:{}: the case has no `in`", case.line));
    }
    Ok(reader.table)
}
