//! The balancer that is measured: the agent's own data plane, attached to a veth pair of the benchmark.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use aya::programs::{ProgramFd, ProgramInfo};
use ipnet::IpNet;
use lb_common::limits::{KATRAN_RING_SLOTS, MAX_RING_SLOTS};
use lb_dataplane::{
    Dataplane as _, KernelDataplane, ServiceSpec, Stats, Status, Terms, detach,
    options::{Options, XdpMode},
    resolver::{ResolvedHop, Resolver},
};
use lb_model::{
    flow_limits::{FlowLimits, OverLimit},
    options::{Forward, Hash, Track},
    ring::{Algorithm, default_slots},
    server_id::ServerIdMethod,
    source_rule::{SourceAction, SourceRule},
    vip::{Protocol, RealId, VipKey},
};
use lb_steering::ring::build_shared;
use lb_tests::{Namespace, cable_without_xdp, wait_for};

use crate::packets::template::{VIP4, VIP6};

/// State of the VIPs' tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every slot settled.
    Settled,
    /// Every slot has just changed, so running flows are entered in the flow table.
    Exceptions,
    /// Slots settled, every flow tracked.
    Tracked,
    /// The reals were added one by one, and no packet came meanwhile.
    OneByOne,
    /// Weights have moved for two windows, while each flow sent packets.
    Steered,
    /// Every slot settled, and one setting is another one.
    With(Setting),
}

/// What the balancer has besides; the packets that are measured are forwarded as without it, or in another mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// The forwarding mode `gue`.
    Gue,
    /// The forwarding mode `l2`.
    L2,
    /// The ring and the hash of Katran.
    Katran,
    /// One real for a client, whatever its ports are.
    SourceHash,
    /// Limits of the connections that begin.
    FlowLimits,
    /// Packets may name their real, and do not.
    ServerIds,
    /// A million rules about other clients.
    SourceRules,
    /// Four thousand other VIPs of three reals.
    ManyVips,
}

/// Rules of [`Setting::SourceRules`].
const RULES: u32 = 1_000_000;
/// VIPs of [`Setting::ManyVips`].
const VIPS: u16 = 4_000;

/// Reals of each VIP.
pub const REALS: u16 = 64;
/// How long something may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// A window longer than any measurement.
const WINDOW: Duration = Duration::from_secs(3_600);
/// The window while weights move: as many steps of the weights are in it as in the window that is the default of TCP.
pub const STEERED_WINDOW: Duration = Duration::from_secs(30);
/// The MAC address of the balancer's end of the veth pair, to which the templates' packets are sent.
const MAC: &str = "02:00:00:00:00:01";
/// The balancer's end of the veth pair.
const INTERFACE: &str = "lb0";
/// The other end.
pub const FAR_END: &str = "far0";

/// The data plane. Dropping it detaches it and removes its pins.
pub struct Balancer {
    plane: KernelDataplane,
    near: Namespace,
    far: Namespace,
    pins: PathBuf,
}

impl Balancer {
    /// Starts a balancer without VIPs whose flow table has room for this many flows.
    pub fn start(flow_entries: u32) -> anyhow::Result<Balancer> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let pins = PathBuf::from(format!(
            "/sys/fs/bpf/lb-bench-{}-{number}",
            std::process::id()
        ));
        let near = Namespace::new("bench-balancer")?;
        let far = Namespace::new("bench-far-end")?;
        // The far end has no XDP program, so that a benchmark can attach a sink there.
        cable_without_xdp((&far, FAR_END, &[]), (&near, INTERFACE, &[]))?;
        // The packets' destination: frames for another station are not balanced.
        near.sh(&format!("ip link set {INTERFACE} address {MAC}"))?;
        let options = Options {
            pins: pins.clone(),
            xdp_mode: XdpMode::Native,
            flow_entries,
            ..Options::new(vec![INTERFACE.to_owned()])
        };
        let plane = near.enter(|| {
            let interface = nix::net::if_::if_nametoindex(INTERFACE)?;
            let plane = KernelDataplane::start(&options, Box::new(OneHop { interface }))?;
            anyhow::Ok(plane)
        })?;
        let plane = plane.context("starting a balancer to measure (root is needed)")?;
        Ok(Balancer {
            plane,
            near,
            far,
            pins,
        })
    }

    /// Returns the program that is attached.
    pub fn program(&self) -> anyhow::Result<ProgramFd> {
        let pin = self.pins.join("balancer");
        let info = ProgramInfo::from_pin(&pin)
            .with_context(|| format!("opening the balancer pinned at {}", pin.display()))?;
        Ok(info.fd()?)
    }

    /// Returns the namespace at the other end of the veth pair.
    pub fn far(&self) -> &Namespace {
        &self.far
    }

    /// Brings the VIPs of both families into this state.
    pub fn set_mode(&mut self, mode: Mode) -> anyhow::Result<()> {
        for v6 in [false, true] {
            let mut service = measured(v6, &[100; REALS as usize]);
            if mode == Mode::Tracked {
                service.track = Track::All;
            }
            if mode == Mode::Steered {
                service.window = STEERED_WINDOW;
            }
            if let Mode::With(setting) = mode {
                set(&mut service, setting, v6);
            }
            // Removed first, so that nothing of an earlier state is left.
            self.remove(&service.vip)?;
            if mode == Mode::OneByOne {
                self.add_one_by_one(&service)?;
            }
            self.set(&service)?;
            if mode == Mode::Exceptions {
                service.ring = service.ring.iter().map(|real| (real + 1) % REALS).collect();
                self.set(&service)?;
            }
        }
        if mode == Mode::With(Setting::ManyVips) {
            self.add_others()?;
        }
        Ok(())
    }

    /// Adds four thousand VIPs, and prints how long that took.
    fn add_others(&mut self) -> anyhow::Result<()> {
        let mut other = service(1, 3, 100);
        let begin = Instant::now();
        for number in 1..=VIPS {
            other.vip = vip(number);
            self.set(&other)?;
        }
        eprintln!(
            "    {VIPS} VIPs of 3 reals were set in {:.2} s, rings not counted",
            begin.elapsed().as_secs_f64()
        );
        Ok(())
    }

    /// Adds a service real by real, and waits until its slots are settled.
    fn add_one_by_one(&mut self, service: &ServiceSpec) -> anyhow::Result<()> {
        for count in 1..=service.reals.len() {
            let reals = service.reals[..count].to_vec();
            let some = ServiceSpec {
                ring: ring(&reals, &vec![100; count]),
                reals,
                ..service.clone()
            };
            self.set(&some)?;
        }
        wait_for("the slots of a new VIP to settle", PATIENCE, || {
            self.enter(KernelDataplane::tick)??;
            Ok((self.status().slots.unsettled() == 0).then_some(()))
        })
    }

    /// Gives the reals of the IPv4 VIP these weights, within the window of [`Mode::Steered`].
    pub fn set_weights(&mut self, weights: &[u32]) -> anyhow::Result<()> {
        let mut service = measured(false, weights);
        service.window = STEERED_WINDOW;
        self.set(&service)
    }

    /// Adds or changes a service.
    pub fn set(&mut self, service: &ServiceSpec) -> anyhow::Result<()> {
        let plane = &mut self.plane;
        self.near
            .enter(|| plane.set_service(service))?
            .with_context(|| format!("setting {}", service.vip))
    }

    fn remove(&mut self, vip: &VipKey) -> anyhow::Result<()> {
        let plane = &mut self.plane;
        self.near
            .enter(|| plane.remove_service(vip))?
            .with_context(|| format!("removing {vip}"))?;
        // Frees the indices of the service for others.
        let plane = &mut self.plane;
        self.near.enter(|| plane.tick())??;
        Ok(())
    }

    /// Runs `work` on a thread inside the balancer's namespace, as the agent does.
    pub fn enter<T: Send>(
        &mut self,
        work: impl FnOnce(&mut KernelDataplane) -> T + Send,
    ) -> anyhow::Result<T> {
        let plane = &mut self.plane;
        self.near.enter(|| work(plane))
    }

    /// Returns the state of the data plane.
    pub fn status(&self) -> Status {
        self.plane.status()
    }

    /// Returns the counters of the data plane.
    pub fn stats(&self) -> anyhow::Result<Stats> {
        Ok(self.plane.stats()?)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // By force: this benchmark's own data plane still holds the lock.
        if let Err(error) = detach(&self.pins, true) {
            eprintln!("removing {}: {error}", self.pins.display());
        }
        // `detach` has removed it unless something is wrong.
        let _ = fs::remove_dir(&self.pins);
    }
}

/// Returns the service whose packets are measured.
fn measured(v6: bool, weights: &[u32]) -> ServiceSpec {
    let reals = reals(v6, REALS);
    ServiceSpec {
        vip: VipKey::new(
            if v6 { VIP6.into() } else { VIP4.into() },
            80,
            Protocol::Tcp,
        ),
        forward: Forward::Ipip,
        terms: Terms::default(),
        track: Track::Exceptions,
        window: WINDOW,
        down: BTreeMap::new(),
        ring: ring(&reals, weights),
        reals,
    }
}

/// Gives a service that is measured one setting.
fn set(service: &mut ServiceSpec, setting: Setting, v6: bool) {
    let terms = &mut service.terms;
    match setting {
        Setting::Gue => service.forward = Forward::Gue,
        Setting::L2 => service.forward = Forward::L2,
        Setting::Katran => {
            let weights: Vec<(RealId, u32)> =
                service.reals.iter().map(|real| (*real, 100)).collect();
            terms.ring = Algorithm::MaglevKatran;
            service.ring = build_shared(terms.ring, 0, KATRAN_RING_SLOTS, &weights);
        }
        Setting::SourceHash => terms.hash = Hash::Source,
        Setting::FlowLimits => {
            terms.flow_limits = Some(FlowLimits {
                rate: Some(10_000_000),
                real_rate: None,
                source_rate: Some(10_000_000),
                source_prefix_v4: 24,
                source_prefix_v6: 56,
                burst: Duration::from_secs(1),
                over: OverLimit::Drop,
            });
        }
        Setting::ServerIds => terms.server_ids.methods = vec![ServerIdMethod::TcpOption],
        // One table holds those of all services, and there is room for two million.
        Setting::SourceRules if v6 => {}
        Setting::SourceRules => {
            let rules = (0..RULES).map(|number| {
                // Networks from 1.0.0.0 on; they allow, so that no packet is lost to them.
                let address = Ipv4Addr::from(0x0100_0000 + number * 256);
                SourceRule {
                    prefix: IpNet::new(address.into(), 24).expect("24 bits are a prefix of IPv4"),
                    action: SourceAction::Allow,
                }
            });
            terms.source_rules = rules.collect();
        }
        Setting::ManyVips => {}
    }
}

fn ring(reals: &[RealId], weights: &[u32]) -> Arc<[u16]> {
    let weights: Vec<(RealId, u32)> = reals.iter().copied().zip(weights.iter().copied()).collect();
    build_shared(Algorithm::Rendezvous, 0, MAX_RING_SLOTS, &weights)
}

/// Returns a service of `count` reals with weight 100, but for the first one.
pub fn service(number: u16, count: u16, first_weight: u32) -> ServiceSpec {
    let reals = reals(false, count);
    let weights: Vec<(RealId, u32)> = reals
        .iter()
        .enumerate()
        .map(|(position, real)| (*real, if position == 0 { first_weight } else { 100 }))
        .collect();
    ServiceSpec {
        vip: vip(number),
        forward: Forward::Ipip,
        terms: Terms::default(),
        track: Track::Exceptions,
        window: WINDOW,
        ring: build_shared(
            Algorithm::Rendezvous,
            0,
            default_slots(reals.len()),
            &weights,
        ),
        reals,
        down: BTreeMap::new(),
    }
}

fn vip(number: u16) -> VipKey {
    let [high, low] = number.to_be_bytes();
    VipKey::new(Ipv4Addr::new(10, 202, high, low).into(), 80, Protocol::Tcp)
}

fn reals(v6: bool, count: u16) -> Vec<RealId> {
    (1..=count)
        .map(|number| {
            let address = if v6 {
                Ipv6Addr::new(0xfd00, 0x1e, 0, 0, 0, 0, 0, number).into()
            } else {
                let [high, low] = number.to_be_bytes();
                IpAddr::V4(Ipv4Addr::new(10, 30, high, low))
            };
            address.into()
        })
        .collect()
}

/// Resolves every real to the far end of the veth pair, as if each was there.
struct OneHop {
    interface: u32,
}

impl Resolver for OneHop {
    fn resolve(&self, _address: IpAddr) -> Option<ResolvedHop> {
        Some(ResolvedHop {
            interface: self.interface,
            source_mac: [2, 0, 0, 0, 0, 1],
            dest_mac: [2, 0, 0, 0, 0, 0xFE],
            direct: true,
            mtu: 1_500,
        })
    }

    fn add(&self, _address: IpAddr) {}

    fn remove(&self, _address: IpAddr) {}

    fn unresolved_reason(&self, _address: IpAddr) -> Option<String> {
        None
    }
}
