//! The data plane in the kernel.

use std::{net::IpAddr, path::Path};

use aya_log::EbpfLogger;
use lb_common::limits::MAX_INTERFACES;
use lb_common::tables::meta::{LAYOUT_VERSION, MAGIC, Meta};
use lb_model::vip::VipAddress;

use super::{
    Dataplane, DataplaneError, RealFlows, Simulation, Stats, Status, WantedService, adopt,
    attachments::Attachments,
    engine::Engine,
    error::system,
    home::Home as _,
    hops::Resolver,
    kernel_home::KernelHome,
    layout::{Layout, flow_buckets},
    loader::{self, Terms},
    options::Options,
    pins::Pins,
    simulate,
    tables::{KernelTables, adopted_meta},
};

/// The kernel's tables and programs, and the rules that fill them.
pub struct KernelDataplane {
    engine: Engine<KernelHome>,
    adopted: bool,
    log: Option<EbpfLogger<&'static dyn log::Log>>,
}

impl KernelDataplane {
    /// Adopts what an earlier agent left in the folder of pins, or begins with empty tables, and attaches
    /// to the interfaces. Packets of an adopted data plane flow on meanwhile.
    ///
    /// # Errors
    /// [`DataplaneError::System`], in words for an operator.
    pub fn start(
        options: &Options,
        resolver: Box<dyn Resolver>,
    ) -> Result<KernelDataplane, DataplaneError> {
        check(options)?;
        let pins = Pins::new(&options.pins);
        pins.create()?;
        let mut warnings = Vec::new();
        let found = adopt::find(&pins)?;
        let adopted = found.is_some();
        let (generation, layout, meta) = match &found {
            Some(found) => {
                let meta = adopted_meta(&found.folder)?;
                let tables = KernelTables::open(&found.folder)?;
                check_terms(options, &found.folder, &meta, &tables.layout, &mut warnings)?;
                (found.generation, tables.layout, meta)
            }
            None => {
                // Links there are none, so folders are remains of a start that did not come far.
                pins.remove_maps_but(None)?;
                let folder = pins.maps(1);
                std::fs::create_dir(&folder)
                    .map_err(system(format!("making the folder {}", folder.display())))?;
                (1, Layout::initial(options.flow_entries), new_meta(options)?)
            }
        };
        let folder = pins.maps(generation);
        let result = Self::launch(
            options, &pins, generation, &layout, &meta, adopted, &folder, resolver,
        );
        let mut plane = match result {
            Ok(plane) => plane,
            Err(error) => {
                if !adopted {
                    // Nothing was forwarded yet: leave the machine as it was.
                    let _ = pins.remove();
                }
                return Err(error);
            }
        };
        plane.engine.warnings.append(&mut warnings);
        pins.remove_maps_but(Some(generation))?;
        plane.leave_others(options, &pins)?;
        Ok(plane)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the steps of `start`, which alone calls it"
    )]
    fn launch(
        options: &Options,
        pins: &Pins,
        generation: u32,
        layout: &Layout,
        meta: &Meta,
        adopted: bool,
        folder: &Path,
        resolver: Box<dyn Resolver>,
    ) -> Result<KernelDataplane, DataplaneError> {
        let simulator = loader::load(&Terms {
            maps: folder,
            layout,
            meta,
            interface: None,
            log_level: 0,
        })?;
        let mut tables = KernelTables::open(folder)?;
        tables.meta.write(
            0,
            Meta {
                generation,
                ..*meta
            },
        );
        let attachments =
            Attachments::make(pins.clone(), generation, options, layout, meta, simulator)?;
        let log = match options.kernel_log {
            Some(_) => Some(reader(&attachments)?),
            None => None,
        };
        let home = KernelHome {
            tables,
            attachments,
            carried: std::collections::HashMap::new(),
            carried_services: std::collections::HashMap::new(),
        };
        let engine = Engine::new(home, resolver, options.source_v4, options.source_v6)?;
        Ok(KernelDataplane {
            engine,
            adopted,
            log,
        })
    }

    /// Detaches from interfaces of an earlier agent that are not wanted any more: nobody would keep the
    /// tables of their programs true.
    fn leave_others(&mut self, options: &Options, pins: &Pins) -> Result<(), DataplaneError> {
        for name in pins.linked()? {
            if !options.interfaces.contains(&name) {
                pins.remove_link(&name)?;
                let warning = format!(
                    "{name} was served by an earlier agent and is not asked for: it was detached"
                );
                tracing::warn!("{warning}");
                self.engine.warnings.push(warning);
            }
        }
        Ok(())
    }
}

/// Ends forwarding: removes every link, program and table pinned in the folder. Returns the interfaces
/// that were attached; none if nothing was pinned.
///
/// # Errors
/// [`DataplaneError::System`] if a pin cannot be removed.
pub fn detach(pins: &Path) -> Result<Vec<String>, DataplaneError> {
    let pins = Pins::new(pins);
    let interfaces = pins.linked()?;
    pins.remove()?;
    Ok(interfaces)
}

fn reader(attachments: &Attachments) -> Result<EbpfLogger<&'static dyn log::Log>, DataplaneError> {
    // aya-log finds the ring buffer by a program that uses it.
    let pin = attachments.pins.program();
    let info = aya::programs::ProgramInfo::from_pin(&pin)
        .map_err(system(format!("opening {}", pin.display())))?;
    EbpfLogger::init_from_id(info.id()).map_err(system("opening the programs' log"))
}

fn check(options: &Options) -> Result<(), DataplaneError> {
    let fault = |what: String| Err(system("starting the data plane")(what));
    if options.interfaces.is_empty() {
        return fault("no interface was given; name one with --iface".to_owned());
    }
    if options.interfaces.len() > MAX_INTERFACES as usize {
        return fault(format!(
            "{} interfaces; {MAX_INTERFACES} is the limit",
            options.interfaces.len()
        ));
    }
    let mut seen = std::collections::HashSet::new();
    if let Some(twice) = options.interfaces.iter().find(|name| !seen.insert(*name)) {
        return fault(format!("the interface {twice} was given twice"));
    }
    if !options.source_v4.address().is_ipv4() || options.source_v6.address().is_ipv4() {
        return fault(
            "the prefixes of outer source addresses are of the wrong families".to_owned(),
        );
    }
    Ok(())
}

fn new_meta(options: &Options) -> Result<Meta, DataplaneError> {
    let mut secret = [0_u8; 16];
    getrandom::fill(&mut secret).map_err(system("asking the kernel for random bytes"))?;
    let number = u128::from_ne_bytes(secret);
    Ok(Meta {
        magic: MAGIC,
        layout: LAYOUT_VERSION,
        generation: 1,
        ring_seed: options.ring_seed,
        flow_secret: [number as u64, (number >> 64) as u64],
        pad: [0; 2],
    })
}

fn check_terms(
    options: &Options,
    folder: &Path,
    meta: &Meta,
    layout: &Layout,
    warnings: &mut Vec<String>,
) -> Result<(), DataplaneError> {
    if meta.ring_seed != options.ring_seed {
        return Err(DataplaneError::System {
            operation: format!("adopting the tables in {}", folder.display()),
            source: format!(
                "they are for the ring seed {}, the configuration says {}: another seed sends every running flow to \
                 another slot. Keep the old seed, or end forwarding with `lb-agent detach` and start again",
                meta.ring_seed, options.ring_seed
            )
            .into(),
        });
    }
    let wanted = flow_buckets(options.flow_entries);
    if wanted != layout.flow_buckets {
        let warning = format!(
            "the flow table keeps its {} buckets; the {wanted} that are configured take effect after `lb-agent detach`",
            layout.flow_buckets
        );
        tracing::warn!("{warning}");
        warnings.push(warning);
    }
    Ok(())
}

impl Dataplane for KernelDataplane {
    fn set_service(&mut self, wanted: &WantedService) -> Result<(), DataplaneError> {
        self.engine.set_service(wanted)
    }

    fn shed(&mut self, vip: &VipAddress, real: IpAddr, flows: u32) -> Result<u32, DataplaneError> {
        self.engine.shed(vip, real, flows)
    }

    fn probe_mark(&self, vip: &VipAddress, real: IpAddr) -> Option<u32> {
        let works = self.engine.home.attachments.probes.warning.is_empty();
        works.then(|| self.engine.probe_mark(vip, real)).flatten()
    }

    fn probe_trouble(&mut self, vip: &VipAddress) -> Option<String> {
        let attachments = &self.engine.home.attachments;
        if !attachments.probes.warning.is_empty() {
            return Some(attachments.probes.warning.clone());
        }
        let interfaces: Vec<u32> = attachments.interfaces.iter().map(|at| at.index).collect();
        self.engine.probe_trouble(vip, &interfaces)
    }

    fn remove_service(&mut self, vip: &VipAddress) -> Result<(), DataplaneError> {
        self.engine.remove_service(vip)
    }

    fn services(&self) -> Vec<VipAddress> {
        self.engine.services.keys().copied().collect()
    }

    fn tick(&mut self) -> Result<(), DataplaneError> {
        if let Some(log) = &mut self.log {
            log.flush();
        }
        self.engine.tick()
    }

    fn stats(&self) -> Result<Stats, DataplaneError> {
        let interfaces: Vec<_> = self
            .engine
            .home
            .attachments
            .interfaces
            .iter()
            .map(|at| (at.slot, at.name.clone()))
            .collect();
        self.engine.stats(&interfaces)
    }

    fn flows(&self) -> Result<Vec<RealFlows>, DataplaneError> {
        self.engine.flows()
    }

    fn simulate(
        &mut self,
        interface: Option<&str>,
        frame: &[u8],
    ) -> Result<Simulation, DataplaneError> {
        let index = self.engine.home.attachments.interface(interface)?.index;
        let run = simulate::run(&mut self.engine.home, index, frame)?;
        let (vip, real) = self.engine.names(run.service, run.real);
        Ok(Simulation {
            verdict: run.verdict,
            reason: run.reason,
            vip,
            real,
            chosen_by: run.chosen_by,
            packet: run.packet,
        })
    }

    fn status(&self) -> Status {
        let mut status = self.engine.status();
        let attachments = &self.engine.home.attachments;
        let interfaces = &attachments.interfaces;
        status.interfaces = interfaces
            .iter()
            .map(|at| at.status(&attachments.pins))
            .collect();
        let warnings = interfaces
            .iter()
            .map(|at| at.warning.clone())
            .chain([self.engine.home.attachments.probes.warning.clone()])
            .filter(|warning| !warning.is_empty());
        status.warnings.extend(warnings);
        status.generation = self.engine.home.meta().generation;
        status.adopted = self.adopted;
        status
    }

    fn refresh_next_hops(&mut self) -> Result<bool, DataplaneError> {
        self.engine.refresh_next_hops()
    }
}
