//! Probes through the data plane: a tc program on each interface sends a packet with a real's mark to that real.
//!
//! Its links are not pinned: only a running agent sends probes, and a link that ends with the process leaves nothing
//! behind however the process ends. Before Linux 6.6 there are no such links and a filter would stay behind, so
//! these probes are not available there.

use aya::{
    Ebpf,
    programs::{ProgramError, SchedClassifier, TcAttachType, tc::SchedClassifierLink},
    util::KernelVersion,
};

use super::loader;
use crate::error::{DataplaneError, system};

/// Name of the program in the object.
const PROGRAM: &str = "probes";
/// The attached tc program.
pub(crate) struct Probes {
    /// By interface.
    links: Vec<(String, SchedClassifierLink)>,
    /// Why there are no probes, and what to do; empty if there are.
    pub warning: String,
}

impl Probes {
    /// Loads the program of an object and attaches it to the interfaces. A failure is a warning only: clients'
    /// packets do not need the program.
    pub fn attach<'a>(ebpf: &mut Ebpf, interfaces: impl Iterator<Item = &'a str>) -> Probes {
        let mut probes = Probes {
            links: Vec::new(),
            warning: String::new(),
        };
        if is_too_old() {
            probes.warning = "reals cannot be probed through the tunnel: this needs Linux 6.6 or newer; probe them \
                              directly"
                .to_owned();
            return probes;
        }
        for name in interfaces {
            if let Err(error) = probes.attach_one(ebpf, name) {
                probes.warn(&error);
            }
        }
        probes
    }

    /// Attaches the program to an interface that was recreated.
    pub fn attach_again(&mut self, ebpf: &mut Ebpf, interface: &str) {
        if is_too_old() {
            return;
        }
        self.links.retain(|(name, _)| name != interface);
        match self.attach_one(ebpf, interface) {
            Ok(()) => self.warning.clear(),
            Err(error) => self.warn(&error),
        }
    }

    fn attach_one(&mut self, ebpf: &mut Ebpf, interface: &str) -> Result<(), DataplaneError> {
        let operation = || format!("attaching the program {PROGRAM} to {interface}");
        let program = loaded(ebpf)?;
        let id = program
            .attach(interface, TcAttachType::Egress)
            .map_err(system(operation()))?;
        let link = program.take_link(id).map_err(system(operation()))?;
        self.links.push((interface.to_owned(), link));
        Ok(())
    }

    /// Replaces the attached program by that of another object, on other tables.
    pub fn replace(&mut self, ebpf: &mut Ebpf) {
        for (name, link) in std::mem::take(&mut self.links) {
            match replaced(ebpf, link) {
                Ok(link) => self.links.push((name, link)),
                Err(error) => self.warn(&error),
            }
        }
    }

    fn warn(&mut self, error: &DataplaneError) {
        self.warning = format!("reals cannot be probed through the tunnel: {error}");
        tracing::warn!("{}", self.warning);
    }
}

/// Whether the kernel has no links for tc programs.
fn is_too_old() -> bool {
    KernelVersion::current().is_ok_and(|version| version < KernelVersion::new(6, 6, 0))
}

fn replaced(
    ebpf: &mut Ebpf,
    link: SchedClassifierLink,
) -> Result<SchedClassifierLink, DataplaneError> {
    let operation = || format!("replacing the program {PROGRAM} on an interface");
    let program = loaded(ebpf)?;
    let id = program.attach_to_link(link).map_err(system(operation()))?;
    program.take_link(id).map_err(system(operation()))
}

fn loaded(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier, DataplaneError> {
    let program: &mut SchedClassifier = ebpf
        .program_mut(PROGRAM)
        .ok_or_else(|| {
            system(format!(
                "finding the program {PROGRAM} in the agent's binary"
            ))("this build of lb-agent is broken; install another one")
        })?
        .try_into()
        .map_err(system(format!(
            "using the program {PROGRAM} as a tc program"
        )))?;
    match loader::load_with_retries(|| program.load()) {
        Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(program),
        Err(error) => Err(system(format!("loading the program {PROGRAM}"))(error)),
    }
}
