//! The data plane in the kernel and the one in memory, each with the VIPs of a table.

use std::{
    collections::HashMap,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use aya::{
    TestRun as _, TestRunOptions,
    maps::{Array, Map, MapData, MapInfo},
    programs::{ProgramInfo, SocketFilter},
};
use lb_common::{
    reason::{Reason, Verdict},
    state::{MAP, State},
    station::Station,
};
use lb_dataplane::{
    Dataplane, KernelDataplane, MemoryDataplane,
    options::{Options, XdpMode},
    resolver::{ResolvedHop, Resolver},
};
use lb_tests::Namespace;

use crate::{
    notation::{Mac, STATIONS},
    table::{Table, Way},
};

/// Index of the second interface. No frame leaves by it in a test run.
const SECOND: u32 = 1_000;
/// Index of the only interface of the data plane in memory.
const MEMORY: u32 = 1;
/// Name of the interface in the kernel.
const INTERFACE: &str = "lbconf0";
/// Room for the largest frame that a test run takes, and an outer header.
const ROOM: usize = 4_096;

/// What became of a frame.
pub struct Outcome {
    pub verdict: Verdict,
    pub reason: Reason,
    pub frame: Vec<u8>,
}

/// A data plane that takes frames.
pub trait Plane {
    fn dataplane(&mut self) -> &mut dyn Dataplane;
    fn forward(&mut self, frame: &[u8]) -> Outcome;
}

fn station(name: &str) -> Mac {
    let found = STATIONS.iter().find(|(known, _)| *known == name);
    found.expect("the station is in the list").1
}

/// The ways to the reals of a table.
struct Ways {
    ways: HashMap<IpAddr, Way>,
    interface: u32,
}

impl Resolver for Ways {
    fn resolve(&self, address: IpAddr) -> Option<ResolvedHop> {
        let way = self.ways.get(&address)?;
        let (interface, source, destination) = match way.is_redirected {
            true => (SECOND, "lb1", "real1"),
            false => (self.interface, "lb", "real"),
        };
        Some(ResolvedHop {
            interface,
            source_mac: station(source),
            dest_mac: station(if way.is_direct { destination } else { "router" }),
            direct: way.is_direct,
            mtu: way.mtu,
        })
    }

    fn add(&self, _address: IpAddr) {}

    fn remove(&self, _address: IpAddr) {}

    fn unresolved_reason(&self, _address: IpAddr) -> Option<String> {
        None
    }
}

fn ways(table: &Table, interface: u32) -> Box<Ways> {
    Box::new(Ways {
        ways: table.ways.clone(),
        interface,
    })
}

/// Tables in memory.
pub struct Memory(MemoryDataplane);

impl Memory {
    pub fn new(table: &Table) -> Memory {
        let mut plane = MemoryDataplane::new(&table.options, ways(table, MEMORY)).unwrap();
        plane.set_station(station("lb"));
        Memory(plane)
    }
}

impl Plane for Memory {
    fn dataplane(&mut self) -> &mut dyn Dataplane {
        &mut self.0
    }

    fn forward(&mut self, frame: &[u8]) -> Outcome {
        // One ICMP error is sent in a tick.
        self.0.pass_time(1);
        let (processed, frame) = self.0.forward(frame);
        let interface = match processed.verdict {
            Verdict::Redirect => SECOND,
            _ => 0,
        };
        assert_eq!(processed.interface, interface, "the interface");
        Outcome {
            verdict: processed.verdict,
            reason: processed.reason,
            frame,
        }
    }
}

/// A folder of pins. Dropping the value removes it, and with it the program.
struct Pins(PathBuf);

impl Pins {
    fn new() -> Pins {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("/sys/fs/bpf/lb-conformance-{}-{number}", std::process::id());
        let pins = Pins(name.into());
        // A killed run may have used this number.
        pins.remove();
        pins
    }

    fn remove(&self) {
        // What is left has a name that shows where it comes from.
        let _ = lb_dataplane::detach(&self.0, true);
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The tables and the attached program of the kernel, in a network namespace of their own. Frames get to the program by
/// test runs (BPF_PROG_TEST_RUN), never by the interface.
pub struct Kernel {
    plane: KernelDataplane,
    reasons: Vec<u64>,
    // Dropped after the data plane, which has them open.
    pins: Pins,
}

impl Kernel {
    /// Runs `work` with the data plane of a table, in its namespace.
    pub fn with(table: &Table, work: impl FnOnce(&mut Kernel) + Send) {
        let namespace = Namespace::new("conformance").unwrap();
        let mac = station("lb").map(|byte| format!("{byte:02x}")).join(":");
        let add = format!("ip link add {INTERFACE} address {mac} type veth peer name lbconf1");
        namespace.sh(&add).unwrap();
        let options = table.options.clone();
        let start = || {
            let index = nix::net::if_::if_nametoindex(INTERFACE).unwrap();
            let pins = Pins::new();
            let options = Options {
                interfaces: vec![INTERFACE.to_owned()],
                pins: pins.0.clone(),
                xdp_mode: XdpMode::Native,
                strict_interfaces: true,
                ..options
            };
            let plane = KernelDataplane::start(&options, ways(table, index)).unwrap();
            let mut kernel = Kernel {
                plane,
                reasons: Vec::new(),
                pins,
            };
            kernel.reasons = kernel.counters();
            work(&mut kernel);
        };
        namespace.enter(start).unwrap();
    }

    /// Frames by reason.
    fn counters(&self) -> Vec<u64> {
        let stats = self.plane.stats().unwrap();
        let reasons = stats.interfaces[0].reasons.iter();
        reasons.map(|(_, frames)| *frames).collect()
    }

    /// Lets the program forget when it sent its last ICMP errors: it sends one in a tick to a source.
    fn forget_errors(program: &Path) {
        const STATION: usize = size_of::<Station>() / 8;
        let program = ProgramInfo::from_pin(program).unwrap();
        let ids = program.map_ids().unwrap().unwrap();
        let own = |id: &u32| MapInfo::from_id(*id).unwrap().name_as_str() == Some(MAP);
        let id = ids.into_iter().find(own).unwrap();
        let map = Map::from_map_data(MapData::from_id(id).unwrap()).unwrap();
        let mut state: Array<_, [u64; size_of::<State>() / 8]> = Array::try_from(map).unwrap();
        let mut words = state.get(&0, 0).unwrap();
        words[STATION..].fill(0);
        state.set(0, words, 0).unwrap();
    }
}

impl Plane for Kernel {
    fn dataplane(&mut self) -> &mut dyn Dataplane {
        &mut self.plane
    }

    fn forward(&mut self, frame: &[u8]) -> Outcome {
        // Tables that grew have another program.
        let pin = self.pins.0.join("balancer");
        Kernel::forget_errors(&pin);
        // A handle of another kind of program, since aya has none of a pinned one of XDP: the kernel knows what it is.
        let program = SocketFilter::from_pin(&pin).unwrap();
        let mut out = vec![0; ROOM];
        let result = program
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut out),
                ..TestRunOptions::new()
            })
            .unwrap();
        out.truncate(result.data_size_out as usize);
        let counters = self.counters();
        let counted = counters.iter().zip(&self.reasons).enumerate();
        let counted: Vec<_> = counted.filter(|(_, (now, before))| now != before).collect();
        let &[(reason, (now, before))] = &counted[..] else {
            panic!("a frame has one reason, not {}", counted.len());
        };
        assert_eq!(*now, before + 1, "a frame is counted once");
        let verdicts = [Verdict::Drop, Verdict::Pass, Verdict::Tx, Verdict::Redirect];
        let verdict = verdicts
            .into_iter()
            .find(|verdict| *verdict as u32 == result.return_value);
        self.reasons = counters;
        Outcome {
            verdict: verdict.unwrap_or_else(|| panic!("unknown verdict {}", result.return_value)),
            reason: Reason::ALL[reason],
            frame: out,
        }
    }
}
