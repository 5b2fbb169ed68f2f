//! The agent and its tables, for `status`.

use lb_proto::v1;
use serde::Serialize;

use super::{Human, stats::SlotStates, table};

/// An interface that the program is attached to.
#[derive(Debug, PartialEq, Serialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its number in the kernel.
    pub index: u32,
    /// native or generic, or detached if the program is not attached.
    pub xdp_mode: String,
    /// What is wrong with it, with advice; empty if nothing is.
    pub warning: String,
    /// Whether packets that come in by it meet the program.
    pub attached: bool,
}

impl From<&v1::InterfaceStatus> for Interface {
    fn from(interface: &v1::InterfaceStatus) -> Self {
        Interface {
            name: interface.name.clone(),
            index: interface.index,
            xdp_mode: interface.xdp_mode.clone(),
            warning: interface.warning.clone(),
            attached: interface.attached,
        }
    }
}

/// How full a table is.
#[derive(Debug, PartialEq, Serialize)]
pub struct TableUse {
    /// Its name.
    pub name: String,
    /// Entries in use.
    pub used: u64,
    /// Entries that there is room for.
    pub capacity: u64,
    /// Memory, bytes.
    pub bytes: u64,
}

/// How much of one of the API's limits is used.
#[derive(Debug, PartialEq, Serialize)]
pub struct LimitUse {
    /// What is limited.
    pub name: String,
    /// In use now.
    pub used: u64,
    /// The limit.
    pub limit: u64,
    /// Refused since the agent started.
    pub refused: u64,
}

/// What `status` prints.
#[derive(Debug, PartialEq, Serialize)]
pub struct Status {
    /// The agent's version.
    pub version: String,
    /// When it started, RFC 3339.
    pub started: Option<String>,
    /// The interfaces that the program is attached to.
    pub interfaces: Vec<Interface>,
    /// The number of VIPs.
    pub vips: u32,
    /// The number of reals.
    pub reals: u32,
    /// Slots of all rings.
    pub slots: u64,
    /// Slots whose packets consult the flow table.
    pub unsettled_slots: u64,
    /// The slots by state.
    pub slot_states: SlotStates,
    /// The kernel's tables.
    pub tables: Vec<TableUse>,
    /// Memory of all tables, bytes.
    pub kernel_memory: u64,
    /// Layout of the pinned tables.
    pub layout: u32,
    /// How often the pinned tables have been replaced, for example by larger ones.
    pub generation: u32,
    /// Whether tables of an earlier agent were adopted at start.
    pub adopted: bool,
    /// Limits of the API.
    pub limits: Vec<LimitUse>,
    /// Warnings for the operator.
    pub warnings: Vec<String>,
}

impl From<&v1::Status> for Status {
    fn from(status: &v1::Status) -> Self {
        let table = |table: &v1::TableUse| TableUse {
            name: table.name.clone(),
            used: table.used,
            capacity: table.capacity,
            bytes: table.bytes,
        };
        let limit = |limit: &v1::LimitUse| LimitUse {
            name: limit.name.clone(),
            used: limit.used,
            limit: limit.limit,
            refused: limit.refused,
        };
        Status {
            version: status.version.clone(),
            started: status.started.map(|time| time.to_string()),
            interfaces: status.interfaces.iter().map(Interface::from).collect(),
            vips: status.vips,
            reals: status.reals,
            slots: status.slots,
            unsettled_slots: status.unsettled_slots,
            slot_states: status.slot_states.into(),
            tables: status.tables.iter().map(table).collect(),
            kernel_memory: status.kernel_memory,
            layout: status.layout,
            generation: status.generation,
            adopted: status.adopted,
            limits: status.limits.iter().map(limit).collect(),
            warnings: status.warnings.clone(),
        }
    }
}

impl Human for Status {
    fn human(&self) -> String {
        let mut text = String::new();
        for warning in &self.warnings {
            text += &format!("WARNING: {warning}\n");
        }
        for interface in self
            .interfaces
            .iter()
            .filter(|interface| !interface.warning.is_empty())
        {
            text += &format!("WARNING: {}: {}\n", interface.name, interface.warning);
        }
        let adopted = if self.adopted {
            "adopted from an earlier agent"
        } else {
            "recreated"
        };
        text += &format!(
            "lb-agent {}, started {}\n{} VIPs, {} reals; {} slots, {} of them unsettled ({} in \
             their window, {} with exceptions)\n\
             tables of layout {}, generation {}, {adopted}; {} of kernel memory\n\n",
            self.version,
            self.started.as_deref().unwrap_or("at an unknown time"),
            self.vips,
            self.reals,
            self.slots,
            self.unsettled_slots,
            self.slot_states.in_window,
            self.slot_states.exceptions,
            self.layout,
            self.generation,
            table::bytes(self.kernel_memory)
        );
        text += &table::layout(
            &[("INTERFACE", false), ("INDEX", true), ("XDP", false)],
            self.interfaces.iter().map(|interface| {
                vec![
                    interface.name.clone(),
                    interface.index.to_string(),
                    interface.xdp_mode.clone(),
                ]
            }),
        );
        text += "\n";
        text += &table::layout(
            &[
                ("TABLE", false),
                ("USED", true),
                ("CAPACITY", true),
                ("MEMORY", true),
            ],
            self.tables.iter().map(|table| {
                vec![
                    table.name.clone(),
                    table.used.to_string(),
                    table.capacity.to_string(),
                    table::bytes(table.bytes),
                ]
            }),
        );
        if !self.limits.is_empty() {
            text += "\n";
            text += &table::layout(
                &[
                    ("API", false),
                    ("OPEN", true),
                    ("LIMIT", true),
                    ("REFUSED", true),
                ],
                self.limits.iter().map(|limit| {
                    vec![
                        limit.name.clone(),
                        limit.used.to_string(),
                        limit.limit.to_string(),
                        limit.refused.to_string(),
                    ]
                }),
            );
        }
        text
    }
}
