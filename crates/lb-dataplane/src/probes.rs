//! The way out for probes: a program of tc on each interface, which sends a packet with a real's mark to that
//! real.
//!
//! Its links are not pinned: only a running agent has probes, and what ends with the process leaves nothing behind
//! however it ends. Without links (before Linux 6.6) a filter would stay behind, so there are no such probes there.

use std::net::IpAddr;

use aya::{
    Ebpf,
    programs::{ProgramError, SchedClassifier, TcAttachType, tc::SchedClassifierLink},
    util::KernelVersion,
};
use lb_common::tables::PROBE_MARK;
use lb_model::vip::VipAddress;

use super::{
    DataplaneError, attach::Attachment, engine::Engine, error::system, home::Home, loader,
};

/// Name of the program in the object.
const PROGRAM: &str = "probes";
/// What a probe needs of its host.
const NEEDED: &str = "a probe leaves as a packet to the VIP and is sent to its real where lb-agent is attached: give \
                      this host a route to the VIP by way of any neighbour there (`ip route add VIP via NEIGHBOUR dev \
                      INTERFACE`), and not the VIP's address";

/// The attached program.
pub(crate) struct Probes {
    links: Vec<SchedClassifierLink>,
    /// Why there are no probes; empty if there are.
    pub warning: String,
}

impl Probes {
    /// Loads the program of an object and attaches it to the interfaces. What fails is warned of: clients'
    /// packets do not need it.
    pub fn attach(ebpf: &mut Ebpf, interfaces: &[Attachment]) -> Probes {
        let mut probes = Probes {
            links: Vec::new(),
            warning: String::new(),
        };
        if KernelVersion::current().is_ok_and(|version| version < KernelVersion::new(6, 6, 0)) {
            probes.warning = "reals cannot be probed through the tunnel: Linux 6.6 is needed for it; probe them \
                              directly"
                .to_owned();
            return probes;
        }
        for at in interfaces {
            if let Err(error) = probes.attach_one(ebpf, &at.name) {
                probes.warn(&error);
            }
        }
        probes
    }

    fn attach_one(&mut self, ebpf: &mut Ebpf, interface: &str) -> Result<(), DataplaneError> {
        let operation = || format!("attaching the program {PROGRAM} to {interface}");
        let program = loaded(ebpf)?;
        let id = program
            .attach(interface, TcAttachType::Egress)
            .map_err(system(operation()))?;
        self.links
            .push(program.take_link(id).map_err(system(operation()))?);
        Ok(())
    }

    /// Puts the program of another object, on other tables, in the place of the one that is attached.
    pub fn replace(&mut self, ebpf: &mut Ebpf) {
        for link in std::mem::take(&mut self.links) {
            match replaced(ebpf, link) {
                Ok(link) => self.links.push(link),
                Err(error) => self.warn(&error),
            }
        }
    }

    fn warn(&mut self, error: &DataplaneError) {
        self.warning = format!("reals cannot be probed through the tunnel: {error}");
        tracing::warn!("{}", self.warning);
    }
}

fn replaced(
    ebpf: &mut Ebpf,
    link: SchedClassifierLink,
) -> Result<SchedClassifierLink, DataplaneError> {
    let operation = || format!("replacing the program {PROGRAM} of an interface");
    let program = loaded(ebpf)?;
    let id = program.attach_to_link(link).map_err(system(operation()))?;
    program.take_link(id).map_err(system(operation()))
}

fn loaded(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier, DataplaneError> {
    let program: &mut SchedClassifier = ebpf
        .program_mut(PROGRAM)
        .ok_or_else(|| {
            system(format!("finding the program {PROGRAM} in the object"))(
                "this build of the agent is broken",
            )
        })?
        .try_into()
        .map_err(system(format!(
            "taking the program {PROGRAM} for one of tc"
        )))?;
    match loader::load_patiently(|| program.load()) {
        Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(program),
        Err(error) => Err(system(format!("loading the program {PROGRAM}"))(error)),
    }
}

impl<H: Home> Engine<H> {
    /// See [`super::Dataplane::probe_mark`].
    pub fn probe_mark(&self, vip: &VipAddress, real: IpAddr) -> Option<u32> {
        let reals = &self.services.get(vip)?.reals;
        let real = reals.iter().find(|of| of.address == real)?;
        Some(PROBE_MARK | u32::from(real.index))
    }

    /// See [`super::Dataplane::probe_trouble`]; `interfaces` are those that probes can leave by.
    pub fn probe_trouble(&mut self, vip: &VipAddress, interfaces: &[u32]) -> Option<String> {
        let address = vip.address;
        if !self.services.contains_key(vip) {
            return Some(format!("there is no VIP {vip}"));
        }
        if self.probed.insert(address) {
            self.want(address);
        }
        let why = match self.resolver.resolve_soon(address) {
            Some(hop) if interfaces.contains(&hop.interface) => return None,
            Some(_) => "it leads out of an interface that lb-agent is not attached to".to_owned(),
            None => self
                .resolver
                .trouble(address)
                .unwrap_or_else(|| "it is not known".to_owned()),
        };
        Some(format!("the way to {address}: {why}; {NEEDED}"))
    }

    /// The last VIP with this address is gone.
    pub(super) fn forget_probed(&mut self, address: IpAddr) {
        if self.probed.remove(&address) {
            self.forget(address);
        }
    }
}
