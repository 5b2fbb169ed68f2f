//! The layout versions of the tables that this build can use, and the form of each table in them.

use aya::maps::MapType;
use lb_common::tables::{
    config::Config,
    counters::{
        FlowEvictions, FlowTableCounters, LookupCounters, RealCounters, ServerIdCounters,
        ServiceCounters,
    },
    flow::Bucket,
    fragment::FragmentBucket,
    meta::{self, LAYOUT_VERSION, Meta},
    names,
    nat::{NatEntry, NatKey, NatSettings},
    next_hop::NextHop,
    real::{Budget, Real},
    ring::Chunk,
    server_id::{QuicLb, ServerIdKey},
    service::Service,
    signs::{Sample, Signs},
    source_rule::SourceKey,
    trace::Trace,
    v2,
    vip::{Vip4Bucket, Vip6Bucket},
    wide::{PortSet, WideKey},
};

use crate::objects;

/// A layout version of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// The one before this build's.
    Previous,
    /// This build's own.
    Current,
}

/// Tables whose records differ between the two layouts, besides `META`, which names the layout.
///
/// A migration copies them while packets flow, so the programs must not write them. A layout that changes
/// the records of another table needs more than that: what the programs write between the copy and the
/// replacement of the last program has to be copied again.
pub(crate) const CONVERTED: [&str; 1] = [names::REALS];

/// Tables that earlier builds of either layout did not have. Loading a program adds them, and a build that does not
/// know them leaves them alone.
pub(crate) const ADDED: [&str; 16] = [
    names::FLOW_EVICTIONS,
    names::LOOKUPS,
    names::SIGNS,
    names::SAMPLES,
    names::WIDE,
    names::PORT_SETS,
    names::NAT_FLOWS,
    names::NAT_SETTINGS,
    names::SERVICE_LIMITS,
    names::REAL_LIMITS,
    names::SOURCE_LIMITS,
    names::SERVER_IDS,
    names::QUIC_LB,
    names::SERVER_ID_COUNTERS,
    names::SOURCE_RULES,
    names::FRAGMENTS,
];

/// `BPF_F_NO_PREALLOC`.
const NO_PREALLOC: u32 = 1;
/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;

/// Type, key size, value size and flags of a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Form {
    pub kind: MapType,
    pub key: u32,
    pub value: u32,
    pub flags: u32,
}

impl Layout {
    /// The layout of tables with this [`Meta::layout`]; `None` if this build cannot use it.
    #[must_use]
    pub fn of(layout: u32) -> Option<Layout> {
        let found = Layout::from_version(meta::version(layout))?;
        // Tables of the previous layout are never marked.
        (found == Layout::Current || layout == found.version()).then_some(found)
    }

    /// The layout with this version; `None` if this build cannot use it.
    #[must_use]
    pub fn from_version(version: u32) -> Option<Layout> {
        [Layout::Previous, Layout::Current]
            .into_iter()
            .find(|layout| layout.version() == version)
    }

    /// Its version.
    #[must_use]
    pub const fn version(self) -> u32 {
        match self {
            Layout::Previous => v2::LAYOUT_VERSION,
            Layout::Current => LAYOUT_VERSION,
        }
    }

    /// The object with the programs for it.
    #[must_use]
    pub fn object(self) -> &'static [u8] {
        match self {
            Layout::Previous => objects::BALANCER_LAYOUT_2,
            Layout::Current => objects::BALANCER,
        }
    }

    /// The form of a table.
    #[must_use]
    pub fn form(self, table: &str) -> Form {
        let array = |value: usize, flags| Form {
            kind: MapType::Array,
            key: 4,
            value: value as u32,
            flags,
        };
        let mapped = |value| array(value, MMAPABLE);
        let per_cpu = |value: usize| Form {
            kind: MapType::PerCpuArray,
            key: 4,
            value: value as u32,
            flags: 0,
        };
        match (table, self) {
            (names::REALS, Layout::Previous) => mapped(size_of::<v2::Real>()),
            (names::REALS, Layout::Current) => mapped(size_of::<Real>()),
            (names::VIPS4, _) => mapped(size_of::<Vip4Bucket>()),
            (names::VIPS6, _) => mapped(size_of::<Vip6Bucket>()),
            (names::CONFIG, _) => mapped(size_of::<Config>()),
            (names::SERVICES, _) => mapped(size_of::<Service>()),
            (names::RINGS, _) => mapped(size_of::<Chunk>()),
            (names::BUDGETS, _) => mapped(size_of::<Budget>()),
            (names::SERVICE_LIMITS | names::REAL_LIMITS | names::SOURCE_LIMITS, _) => {
                array(size_of::<u64>(), 0)
            }
            (names::NEXT_HOPS, _) => mapped(size_of::<NextHop>()),
            (names::FLOWS, _) => mapped(size_of::<Bucket>()),
            (names::REAL_COUNTERS, _) => per_cpu(size_of::<RealCounters>()),
            (names::SERVICE_COUNTERS, _) => per_cpu(size_of::<ServiceCounters>()),
            (names::REASON_COUNTERS, _) => per_cpu(size_of::<u64>()),
            (names::FLOW_COUNTERS, _) => per_cpu(size_of::<FlowTableCounters>()),
            (names::FLOW_EVICTIONS, _) => per_cpu(size_of::<FlowEvictions>()),
            (names::LOOKUPS, _) => per_cpu(size_of::<LookupCounters>()),
            (names::SIGNS, _) => mapped(size_of::<Signs>()),
            (names::SAMPLES, _) => mapped(size_of::<Sample>()),
            (names::WIDE, _) => Form {
                kind: MapType::LpmTrie,
                key: size_of::<WideKey>() as u32,
                value: 4,
                flags: NO_PREALLOC,
            },
            (names::PORT_SETS, _) => mapped(size_of::<PortSet>()),
            (names::NAT_FLOWS, _) => Form {
                kind: MapType::LruHash,
                key: size_of::<NatKey>() as u32,
                value: size_of::<NatEntry>() as u32,
                flags: 0,
            },
            (names::NAT_SETTINGS, _) => mapped(size_of::<NatSettings>()),
            (names::SERVER_IDS, _) => Form {
                kind: MapType::Hash,
                key: size_of::<ServerIdKey>() as u32,
                value: 4,
                flags: NO_PREALLOC,
            },
            (names::SOURCE_RULES, _) => Form {
                kind: MapType::LpmTrie,
                key: size_of::<SourceKey>() as u32,
                value: 4,
                flags: NO_PREALLOC,
            },
            (names::FRAGMENTS, _) => array(size_of::<FragmentBucket>(), 0),
            (names::QUIC_LB, _) => Form {
                kind: MapType::Hash,
                key: 4,
                value: size_of::<QuicLb>() as u32,
                flags: NO_PREALLOC,
            },
            (names::SERVER_ID_COUNTERS, _) => per_cpu(size_of::<ServerIdCounters>()),
            (names::TRACE, _) => array(size_of::<Trace>(), 0),
            // `META` has the same form in every layout, so that its version can be read.
            _ => mapped(size_of::<Meta>()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kernel::loader, table_sizes::TableSizes};

    #[test]
    fn programs_write_no_table_that_is_converted() {
        let written = [
            names::FLOWS,
            names::BUDGETS,
            names::SERVICE_LIMITS,
            names::REAL_LIMITS,
            names::SOURCE_LIMITS,
            names::REAL_COUNTERS,
            names::SERVICE_COUNTERS,
            names::REASON_COUNTERS,
            names::FLOW_COUNTERS,
            names::FLOW_EVICTIONS,
            names::LOOKUPS,
            names::SERVER_ID_COUNTERS,
            names::SIGNS,
            names::SAMPLES,
            names::NAT_FLOWS,
            names::FRAGMENTS,
            names::TRACE,
        ];
        for table in CONVERTED {
            assert!(!written.contains(&table), "{table}");
        }
    }

    #[test]
    fn tables_that_are_not_converted_have_one_form() {
        for (table, _) in loader::tables(&TableSizes::initial(0)) {
            if !CONVERTED.contains(&table) {
                assert_eq!(
                    Layout::Previous.form(table),
                    Layout::Current.form(table),
                    "{table}"
                );
            }
        }
    }

    #[test]
    fn only_two_versions_can_be_used() {
        let current = Layout::Current.version();
        assert_eq!(Layout::from_version(current), Some(Layout::Current));
        assert_eq!(Layout::from_version(current - 1), Some(Layout::Previous));
        assert_eq!(Layout::from_version(current - 2), None);
        assert_eq!(Layout::from_version(current + 1), None);
    }

    #[test]
    fn only_tables_of_the_current_layout_are_marked() {
        let [previous, current] = [Layout::Previous, Layout::Current];
        assert_eq!(Layout::of(current.version()), Some(current));
        assert_eq!(Layout::of(current.version() | meta::FILTERS), Some(current));
        assert_eq!(Layout::of(previous.version()), Some(previous));
        assert_eq!(Layout::of(previous.version() | meta::FILTERS), None);
        assert_eq!(
            Layout::from_version(current.version() | meta::FILTERS),
            None
        );
    }
}
