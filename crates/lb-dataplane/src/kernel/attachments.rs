//! The attached programs and the simulating one, all on the same tables.

use std::path::Path;

use aya::Ebpf;
use lb_common::tables::meta::Meta;

use super::{
    attach::{self, Attachment},
    layout::Layout,
    loader::{self, Terms},
    pins::Pins,
    probes::Probes,
    station,
};
use crate::{
    error::{DataplaneError, system},
    options::Options,
    table_sizes::TableSizes,
};

/// Attached and simulating programs. All use the same tables.
pub(crate) struct Attachments {
    pub pins: Pins,
    pub generation: u32,
    pub log_level: u8,
    pub interfaces: Vec<Attachment>,
    pub simulator: Ebpf,
    pub probes: Probes,
}

impl Attachments {
    /// Attaches to every interface of the options, or replaces the program of an earlier agent there.
    pub fn make(
        pins: Pins,
        generation: u32,
        options: &Options,
        sizes: &TableSizes,
        meta: &Meta,
        mut simulator: Ebpf,
    ) -> Result<Attachments, DataplaneError> {
        let log_level = options.kernel_log.map_or(0, |level| level as u8);
        let maps = pins.maps(generation);
        // All are loaded before the first is attached, so that a failure concerns no packet.
        let mut programs = Vec::new();
        for (slot, name) in options.interfaces.iter().enumerate() {
            let index = attach::interface_index(name)?;
            programs.push((
                name,
                index,
                slot as u32,
                load(&maps, sizes, meta, (slot as u32, index), log_level)?,
            ));
        }
        let mut interfaces = Vec::new();
        for (name, index, slot, mut program) in programs {
            let attached =
                attach::attach(&mut program, &pins, name, index, slot, options.xdp_mode)?;
            if slot == 0 {
                attach::pin_program(&mut program, &pins)?;
            }
            interfaces.push(attached);
        }
        let probes = Probes::attach(&mut simulator, &interfaces);
        Ok(Attachments {
            pins,
            generation,
            log_level,
            interfaces,
            simulator,
            probes,
        })
    }

    /// Loads programs for every interface on other tables.
    pub fn reload(
        &self,
        maps: &Path,
        sizes: &TableSizes,
        meta: &Meta,
    ) -> Result<Vec<Ebpf>, DataplaneError> {
        self.interfaces
            .iter()
            .map(|at| load(maps, sizes, meta, (at.slot, at.index), self.log_level))
            .collect()
    }

    /// Replaces the programs by others, in the interfaces' order. An interface that is gone meanwhile gets a
    /// warning.
    pub fn switch(
        &mut self,
        programs: Vec<Ebpf>,
        mut simulator: Ebpf,
    ) -> Result<(), DataplaneError> {
        for (at, mut program) in self.interfaces.iter_mut().zip(programs) {
            let pin = self.pins.link(&at.name);
            if let Err(error) = attach::replace(loader::program(&mut program)?, &pin, &at.name) {
                at.warning = format!("{} is no longer served: {error}", at.name);
                tracing::error!("{}", at.warning);
            }
            if at.slot == 0 {
                attach::pin_program(&mut program, &self.pins)?;
            }
        }
        self.probes.replace(&mut simulator);
        self.simulator = simulator;
        Ok(())
    }

    /// The interface with this name, or the first one.
    pub fn interface(&self, name: Option<&str>) -> Result<&Attachment, DataplaneError> {
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

    /// The ring buffer of the programs' log.
    pub fn log_map(&self) -> Result<aya::maps::MapData, DataplaneError> {
        let path = self.pins.maps(self.generation).join(loader::LOG);
        aya::maps::MapData::from_pin(&path).map_err(system(format!(
            "opening the programs' log {}",
            path.display()
        )))
    }
}

fn load(
    maps: &Path,
    sizes: &TableSizes,
    meta: &Meta,
    interface: (u32, u32),
    log_level: u8,
) -> Result<Ebpf, DataplaneError> {
    let mut ebpf = loader::load(&Terms {
        maps,
        layout: Layout::Current,
        sizes,
        meta,
        interface: Some(interface),
        log_level,
    })?;
    let (_, index) = interface;
    station::initialize(&mut ebpf, index);
    Ok(ebpf)
}
