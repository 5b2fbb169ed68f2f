//! The records of the tables, one file each. Their layout is the contract between the kernel programs
//! and the agent: change it together with [`meta::LAYOUT_VERSION`].

pub mod bench;
pub mod config;
pub mod counters;
pub mod flow;
pub mod fragment;
pub mod meta;
pub mod nat;
pub mod next_hop;
pub mod real;
pub mod ring;
pub mod server_id;
pub mod service;
pub mod signs;
pub mod source_rule;
pub mod trace;
pub mod v2;
pub mod vip;
pub mod wide;

/// Names of the maps, as they stand in the program.
pub mod names {
    /// Mapped array of buckets, a power of two: [`super::vip::Vip4Bucket`].
    pub const VIPS4: &str = "VIPS4";
    /// Mapped array of as many buckets: [`super::vip::Vip6Bucket`].
    pub const VIPS6: &str = "VIPS6";
    /// Trie: [`super::wide::WideKey`] → `u32`, the index of a set of ports. Added like [`FLOW_EVICTIONS`].
    pub const WIDE: &str = "WIDE";
    /// Mapped array: [`super::wide::PortSet`]. Added like [`FLOW_EVICTIONS`].
    pub const PORT_SETS: &str = "PORT_SETS";
    /// Mapped array, one entry: [`super::config::Config`].
    pub const CONFIG: &str = "CONFIG";
    /// Mapped array, one entry: [`super::meta::Meta`].
    pub const META: &str = "META";
    /// Mapped array by service index: [`super::service::Service`].
    pub const SERVICES: &str = "SERVICES";
    /// Mapped array of chunks of slots: [`super::ring::Chunk`].
    pub const RINGS: &str = "RINGS";
    /// Mapped array by real index: [`super::real::Real`].
    pub const REALS: &str = "REALS";
    /// Mapped array by real index: [`super::real::Budget`].
    pub const BUDGETS: &str = "BUDGETS";
    /// When the next connection of each service is due, in nanoseconds, if those are limited.
    pub const SERVICE_LIMITS: &str = "SERVICE_LIMITS";
    /// The same for each real.
    pub const REAL_LIMITS: &str = "REAL_LIMITS";
    /// The same for source prefixes.
    pub const SOURCE_LIMITS: &str = "SOURCE_LIMITS";
    /// Mapped array by next-hop index: [`super::next_hop::NextHop`].
    pub const NEXT_HOPS: &str = "NEXT_HOPS";
    /// Mapped array of buckets, a power of two: [`super::flow::Bucket`].
    pub const FLOWS: &str = "FLOWS";
    /// Per-CPU array by real index: [`super::counters::RealCounters`].
    pub const REAL_COUNTERS: &str = "REAL_COUNTERS";
    /// Per-CPU array by service index: [`super::counters::ServiceCounters`].
    pub const SERVICE_COUNTERS: &str = "SERVICE_COUNTERS";
    /// Per-CPU array by interface slot × `REASON_SLOTS` + reason, or [`crate::limits::DECAPSULATED_SLOT`]: `u64` frames.
    pub const REASON_COUNTERS: &str = "REASON_COUNTERS";
    /// Per-CPU array, one entry: [`super::counters::FlowTableCounters`].
    pub const FLOW_COUNTERS: &str = "FLOW_COUNTERS";
    /// Per-CPU array, one entry: [`super::counters::FlowEvictions`]. Tables of layout 3 that an earlier build
    /// made lack it; it is added to them when the program is loaded.
    pub const FLOW_EVICTIONS: &str = "FLOW_EVICTIONS";
    /// Per-CPU array by service index: [`super::counters::LookupCounters`]. Added like [`FLOW_EVICTIONS`].
    pub const LOOKUPS: &str = "LOOKUPS";
    /// Mapped array by real index: [`super::signs::Signs`]. Not per CPU: only a sample of the flows is counted, and a
    /// record for each CPU would take hundreds of megabytes on a large host. Added like [`FLOW_EVICTIONS`].
    pub const SIGNS: &str = "SIGNS";
    /// Mapped array of [`crate::limits::SAMPLES`] entries: [`super::signs::Sample`]. Added like [`FLOW_EVICTIONS`].
    pub const SAMPLES: &str = "SAMPLES";
    /// LRU hash map by [`super::nat::NatKey`]: [`super::nat::NatEntry`]. Added like [`FLOW_EVICTIONS`].
    pub const NAT_FLOWS: &str = "NAT_FLOWS";
    /// Mapped array, one entry: [`super::nat::NatSettings`]. Added like [`FLOW_EVICTIONS`].
    pub const NAT_SETTINGS: &str = "NAT_SETTINGS";
    /// Hash map: [`super::server_id::ServerIdKey`] → `u32`, the index of a real. Added like [`FLOW_EVICTIONS`].
    pub const SERVER_IDS: &str = "SERVER_IDS";
    /// Hash map by [`super::server_id::quic_lb_key`]: [`super::server_id::QuicLb`]. Added like [`FLOW_EVICTIONS`].
    pub const QUIC_LB: &str = "QUIC_LB";
    /// Trie: [`super::source_rule::SourceKey`] → `u32`, [`super::source_rule::Rule::number`]. Added like [`FLOW_EVICTIONS`].
    pub const SOURCE_RULES: &str = "SOURCE_RULES";
    /// Array of [`crate::limits::FRAGMENT_BUCKETS`] entries: [`super::fragment::FragmentBucket`]. Added like [`FLOW_EVICTIONS`].
    pub const FRAGMENTS: &str = "FRAGMENTS";
    /// Per-CPU array by service index: [`super::counters::ServerIdCounters`]. Added like [`FLOW_EVICTIONS`].
    pub const SERVER_ID_COUNTERS: &str = "SERVER_ID_COUNTERS";
    /// Array, one entry, written by a simulating program only: [`super::trace::Trace`].
    pub const TRACE: &str = "TRACE";
    /// Array, one entry, written by a simulating program only: [`super::trace::LookedUp`]. It is not pinned: each
    /// program has its own.
    pub const LOOKED_UP: &str = "LOOKED_UP";
    /// Array, one entry: [`crate::capture::Filter`]. It and the others of a capture are not pinned, either.
    pub const CAPTURE_FILTER: &str = "CAPTURE_FILTER";
    /// Array of [`crate::capture::REAL_WORDS`] words: a bit for each real that is captured.
    pub const CAPTURE_REALS: &str = "CAPTURE_REALS";
    /// Array of [`crate::capture::Account`] entries: `u64`.
    pub const CAPTURE_ACCOUNTS: &str = "CAPTURE_ACCOUNTS";
    /// Perf event array: [`crate::capture::Captured`], and behind it the frame as it leaves.
    pub const CAPTURE_EVENTS: &str = "CAPTURE_EVENTS";
}

/// Names of the constants that the agent sets when it loads a program.
pub mod constants {
    /// `u32`: the slot of the interface that this program is attached to (0 to `MAX_INTERFACES` - 1).
    pub const INTERFACE_SLOT: &str = "INTERFACE_SLOT";
    /// `u32`: that interface's index; a next hop with another one is reached by redirection.
    pub const INTERFACE_INDEX: &str = "INTERFACE_INDEX";
    /// `u64`: seed of the ring hash, the same on every balancer of a fleet.
    pub const RING_SEED: &str = "RING_SEED";
    /// `u64`, twice: the flow table's secret, this host's own.
    pub const FLOW_SECRET_0: &str = "FLOW_SECRET_0";
    /// See [`FLOW_SECRET_0`].
    pub const FLOW_SECRET_1: &str = "FLOW_SECRET_1";
    /// `u32`: number of buckets of the flow table, less one.
    pub const FLOW_MASK: &str = "FLOW_MASK";
    /// `u32`: 1 if tunnels end at some address of the balancer.
    pub const TUNNEL_ENDS: &str = "TUNNEL_ENDS";
    /// `u16`: the UDP port of the mode `gue`.
    pub const GUE_PORT: &str = "GUE_PORT";
    /// `u64`: [`crate::vip_table::VipHash::factor`].
    pub const VIP_FACTOR: &str = "VIP_FACTOR";
    /// `u64`, twice: [`crate::vip_table::AddressDigest::factors`].
    pub const DIGEST_FACTOR_0: &str = "DIGEST_FACTOR_0";
    /// See [`DIGEST_FACTOR_0`].
    pub const DIGEST_FACTOR_1: &str = "DIGEST_FACTOR_1";
    /// `u32`: [`crate::vip_table::VipHash::shift`].
    pub const VIP_SHIFT: &str = "VIP_SHIFT";
    /// `u32`: 1 in the program that `simulate` runs; it changes no flow and no counter and writes a trace.
    pub const SIMULATE: &str = "SIMULATE";
    /// `u32`: 1 in a program that logs or captures.
    pub const OBSERVE: &str = "OBSERVE";
    /// `u32`: 1 in a program that copies the packets of a filter to the agent ([`crate::capture`]).
    pub const CAPTURE: &str = "CAPTURE";
}

/// Upper half of the mark (`SO_MARK`) of a packet of this host that is sent to a certain real; the lower half
/// is the real's index.
pub const PROBE_MARK: u32 = 0x6C62_0000;
