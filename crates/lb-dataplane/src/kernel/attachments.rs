//! The attached programs and the simulating one, all on the same tables.

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use aya::Ebpf;
use lb_common::tables::meta::Meta;

use super::{
    attach::{self, Attached},
    interfaces::{Interface, Presence},
    layout::Layout,
    loader::{self, Switches, Terms},
    pins::Pins,
    probes::Probes,
    station,
};
use crate::{
    error::{DataplaneError, system},
    netlink::socket::Requests,
    options::{Options, XdpMode},
    status::InterfaceStatus,
    table_sizes::TableSizes,
};

/// Attached and simulating programs. All use the same tables.
pub(crate) struct Attachments {
    pub pins: Pins,
    pub generation: u32,
    pub switches: Switches,
    pub mode: XdpMode,
    pub interfaces: Vec<Interface>,
    pub simulator: Ebpf,
    pub probes: Probes,
    /// Set while programs capture. It becomes true when others have taken their places.
    pub capture: Option<Arc<AtomicBool>>,
    /// Asks about interfaces, in the network namespace in which the data plane was started.
    requests: RefCell<Requests>,
}

impl Attachments {
    /// Attaches to every interface of the options, or replaces the program of an earlier agent there. An interface that is
    /// missing is waited for, unless the options are strict.
    pub fn make(
        pins: Pins,
        generation: u32,
        options: &Options,
        sizes: &TableSizes,
        meta: &Meta,
        mut simulator: Ebpf,
    ) -> Result<Attachments, DataplaneError> {
        let switches = Switches::of(options);
        let maps = pins.maps(generation);
        let mut requests = Requests::new().map_err(system("opening a netlink socket"))?;
        // All are loaded before the first is attached, so that a failure concerns no packet.
        let mut programs = Vec::new();
        for (slot, name) in (0..).zip(&options.interfaces) {
            let interface = Interface::new(name.clone(), slot);
            let program = match interface.presence(&mut requests)? {
                Presence::Gone if options.strict_interfaces => {
                    return Err(system(format!(
                        "looking for the interface {name} (`ip link` lists the interfaces)"
                    ))(
                        "there is none of this name; without --strict-interfaces the agent waits for it",
                    ));
                }
                Presence::Gone => None,
                Presence::At(link) => {
                    let program = load(
                        &maps,
                        sizes,
                        meta,
                        (slot, link.index),
                        switches,
                        &mut requests,
                    )?;
                    Some((program, link.index))
                }
            };
            programs.push((interface, program));
        }
        let mut interfaces = Vec::new();
        for (mut interface, program) in programs {
            match program {
                Some((mut program, index)) => {
                    let name = &interface.name;
                    let attached =
                        attach::attach(&mut program, &pins, name, index, options.xdp_mode)?;
                    if interface.slot == 0 {
                        attach::pin_program(&mut program, &pins)?;
                    }
                    interface.attached(attached);
                }
                None => tracing::warn!("interface {} is missing: it is waited for", interface.name),
            }
            interfaces.push(interface);
        }
        let names = interfaces.iter().filter(|at| at.is_attached());
        let probes = Probes::attach(&mut simulator, names.map(|interface| &*interface.name));
        Ok(Attachments {
            pins,
            generation,
            switches,
            mode: options.xdp_mode,
            interfaces,
            simulator,
            probes,
            capture: None,
            requests: RefCell::new(requests),
        })
    }

    /// Loads programs for every interface that one is attached to, on these tables; `captures` says whether they copy
    /// packets to the agent.
    pub fn reload(
        &self,
        maps: &Path,
        sizes: &TableSizes,
        meta: &Meta,
        captures: bool,
    ) -> Result<Vec<Option<Ebpf>>, DataplaneError> {
        self.interfaces
            .iter()
            .map(|interface| {
                let place = (interface.slot, interface.index());
                interface
                    .is_attached()
                    .then(|| {
                        let requests = &mut self.requests.borrow_mut();
                        load(
                            maps,
                            sizes,
                            meta,
                            place,
                            self.switches.capturing(captures),
                            requests,
                        )
                    })
                    .transpose()
            })
            .collect()
    }

    /// Replaces all programs by others, those of the interfaces in their order. A capture ends.
    pub fn switch(
        &mut self,
        programs: Vec<Option<Ebpf>>,
        mut simulator: Ebpf,
    ) -> Result<(), DataplaneError> {
        self.replace(programs)?;
        if let Some(ended) = &self.capture {
            ended.store(true, Ordering::Relaxed);
        }
        self.probes.replace(&mut simulator);
        self.simulator = simulator;
        Ok(())
    }

    /// Replaces the programs of the interfaces by others, in their order. An interface that is gone meanwhile is attached
    /// again when it is back.
    pub fn replace(&mut self, programs: Vec<Option<Ebpf>>) -> Result<(), DataplaneError> {
        for (interface, program) in self.interfaces.iter_mut().zip(programs) {
            let Some(mut program) = program else {
                continue;
            };
            let pin = self.pins.link(&interface.name);
            let loaded = loader::program(&mut program)?;
            let id = attach::program_id(loaded)?;
            match attach::replace(loaded, &pin, &interface.name) {
                Ok(()) => interface.replaced(id),
                Err(error) => interface.detached(error.to_string()),
            }
            if interface.slot == 0 {
                attach::pin_program(&mut program, &self.pins)?;
            }
        }
        Ok(())
    }

    /// The interface with this name, or the first one.
    pub fn interface(&self, name: Option<&str>) -> Result<&Interface, DataplaneError> {
        let interface = match name {
            Some(name) => self.interfaces.iter().find(|at| at.name == name),
            None => self.interfaces.first(),
        };
        interface.ok_or_else(|| DataplaneError::NoInterface {
            name: name.unwrap_or("(the first)").to_owned(),
            attached: self
                .interfaces
                .iter()
                .map(|at| at.name.as_str())
                .collect::<Vec<_>>()
                .join(", "),
        })
    }

    /// The folder of the tables.
    pub fn maps(&self) -> PathBuf {
        self.pins.maps(self.generation)
    }

    /// The ring buffer of the programs' log.
    pub fn log_map(&self) -> Result<aya::maps::MapData, DataplaneError> {
        let path = self.pins.maps(self.generation).join(loader::LOG);
        aya::maps::MapData::from_pin(&path).map_err(system(format!(
            "opening the programs' log {}",
            path.display()
        )))
    }

    /// The state of each interface, as the kernel has it now.
    pub fn status(&self) -> Vec<InterfaceStatus> {
        let mut requests = self.requests.borrow_mut();
        self.interfaces
            .iter()
            .map(|interface| interface.status(&mut requests))
            .collect()
    }

    /// Index of an interface whose packets meet the program now.
    pub fn serving(&self, name: Option<&str>) -> Result<u32, DataplaneError> {
        let status = self
            .interface(name)?
            .status(&mut self.requests.borrow_mut());
        if status.attached {
            Ok(status.index)
        } else {
            Err(DataplaneError::NotAttached {
                name: status.name,
                reason: status.warning,
            })
        }
    }

    /// Looks after every interface: notes where the program is not attached any more, and attaches it where there is none,
    /// unless there is a problem with the pins. Returns each state that has changed, in this order: one that is attached
    /// again is in the list twice.
    pub fn check(
        &mut self,
        sizes: &TableSizes,
        meta: &Meta,
        pins_problem: Option<&str>,
    ) -> Vec<InterfaceStatus> {
        let Attachments {
            pins,
            generation,
            switches,
            mode,
            interfaces,
            simulator,
            probes,
            requests,
            capture: _,
        } = self;
        let requests = requests.get_mut();
        let maps = pins.maps(*generation);
        let mut changed = Vec::new();
        for interface in interfaces {
            let before = interface.state();
            let due = interface.examine(requests);
            // Packets were not forwarded even if the program is attached again at once, and that must not stay unsaid.
            let seen = interface.state();
            if seen != before {
                changed.push(interface.status(requests));
            }
            if let Some(index) = due {
                let mut attach = || -> Result<Attached, DataplaneError> {
                    if let Some(problem) = pins_problem {
                        return Err(system("attaching again")(problem.to_owned()));
                    }
                    interface.is_in_sight(index)?;
                    let slot = interface.slot;
                    let mut program = load(&maps, sizes, meta, (slot, index), *switches, requests)?;
                    let attached =
                        attach::attach(&mut program, pins, &interface.name, index, *mode)?;
                    if slot == 0 {
                        attach::pin_program(&mut program, pins)?;
                    }
                    probes.attach_again(simulator, &interface.name);
                    Ok(attached)
                };
                match attach() {
                    Ok(attached) => interface.attached(attached),
                    Err(error) => interface.failed(index, error),
                }
            }
            if interface.state() != seen {
                changed.push(interface.status(requests));
            }
        }
        changed
    }
}

fn load(
    maps: &Path,
    sizes: &TableSizes,
    meta: &Meta,
    interface: (u32, u32),
    switches: Switches,
    requests: &mut Requests,
) -> Result<Ebpf, DataplaneError> {
    let mut ebpf = loader::load(&Terms {
        maps,
        layout: Layout::Current,
        sizes,
        meta,
        interface: Some(interface),
        switches,
    })?;
    let (_, index) = interface;
    station::initialize(&mut ebpf, index, requests);
    Ok(ebpf)
}
