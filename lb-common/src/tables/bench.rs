//! The records of the program `bench`, which times other XDP programs. They are not part of the balancer's
//! layout.

/// Name of the map of one [`Job`].
pub const JOB: &str = "JOB";
/// Name of the map of one [`State`].
pub const STATE: &str = "STATE";
/// Name of the map of durations: nanoseconds of each segment played, in order.
pub const TIMES: &str = "TIMES";
/// Name of the map of programs to time.
pub const TARGETS: &str = "TARGETS";
/// Programs that can be timed side by side, including the one that does nothing.
pub const MAX_TARGETS: usize = 8;
/// Segments of a round.
pub const MAX_SEQUENCE: usize = 16;
/// Segments of a run.
pub const MAX_SEGMENTS: u32 = 4_096;
/// Bytes of a packet that are rewritten each time.
pub const TEMPLATE: usize = 80;

/// [`Job::order`]: flow 0, 1, 2, ..., again from 0 after [`Job::mask`].
pub const IN_TURN: u32 = 0;
/// [`Job::order`]: each of the flows once, in random order, then again.
pub const SHUFFLED: u32 = 1;
/// [`Job::order`]: never the same flow twice.
pub const FRESH: u32 = 2;

/// The packets to play and the programs to play them to.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Job {
    /// The packet: Ethernet, IPv4 without options or IPv6, TCP; correct checksums.
    pub template: [u64; TEMPLATE / 8],
    /// Its length: at least 64 for IPv4, [`TEMPLATE`] for IPv6.
    pub length: u32,
    /// 1 for IPv6.
    pub v6: u32,
    /// [`IN_TURN`], [`SHUFFLED`] or [`FRESH`].
    pub order: u32,
    /// Number of flows, a power of two, less one.
    pub mask: u32,
    /// Number of the first flow.
    pub first_flow: u64,
    /// Packets of a segment.
    pub segment: u32,
    /// Packets at the start of a segment that are not timed: they fill the caches with this target's data.
    pub untimed: u32,
    /// Which target each segment of a round runs; [`Job::rounds_of`] of them.
    pub sequence: [u32; MAX_SEQUENCE],
    /// Segments of a round.
    pub rounds_of: u32,
    /// Zero.
    pub pad: u32,
}

/// The progress of a run. Zero before it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct State {
    /// When the timed part of the segment began, nanoseconds.
    pub started: u64,
    /// Packets that could not be restored.
    pub not_restored: u64,
    /// Tail calls that led nowhere.
    pub missed: u64,
    /// Packet of the segment.
    pub packet: u32,
    /// Segment of the round.
    pub position: u32,
    /// Rounds done.
    pub round: u32,
    /// Target that got the last packet.
    pub last: u32,
    /// By how many bytes each target has lengthened its packets, in all.
    pub grown: [i64; MAX_TARGETS],
}
