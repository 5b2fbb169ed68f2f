//! The state of the data plane itself: interfaces, tables, warnings.

use crate::stats::SlotStates;

/// An interface that the options name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// Its index; that of the last interface of this name if it is gone, 0 if there was none yet.
    pub index: u32,
    /// Whether the program is attached now: not if the interface is gone, or the program was detached meanwhile.
    pub attached: bool,
    /// Whether the program runs in the driver.
    pub native: bool,
    /// What is wrong with it, and what to do; empty if nothing is.
    pub warning: String,
}

/// Use of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableUse {
    /// Its name.
    pub name: &'static str,
    /// Entries in use.
    pub used: u64,
    /// Entries there is room for.
    pub capacity: u64,
    /// Kernel memory it takes, in bytes.
    pub bytes: u64,
}

/// The state of a data plane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Interfaces, in the order of the options.
    pub interfaces: Vec<InterfaceStatus>,
    /// Tables.
    pub tables: Vec<TableUse>,
    /// The slots of all rings.
    pub slots: SlotStates,
    /// Layout version of the tables.
    pub layout: u32,
    /// How often the tables were recreated.
    pub generation: u32,
    /// Whether the tables of an earlier agent were adopted.
    pub adopted: bool,
    /// What an operator should know.
    pub warnings: Vec<String>,
}
