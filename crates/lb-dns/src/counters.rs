//! What the server counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Declares the counters of the server and a plain copy of their values, so that a counter stands once.
macro_rules! counters {
    ($( $(#[doc = $help:literal])* $name:ident; )*) => {
        /// The counters of a server. Each only grows.
        #[derive(Debug, Default)]
        pub struct Counters {
            $( pub(crate) $name: Counter, )*
        }

        /// The values of [`Counters`] at one time.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts {
            $( $(#[doc = $help])* pub $name: u64, )*
        }

        impl Counters {
            /// Returns the values.
            #[must_use]
            pub fn read(&self) -> Counts {
                Counts { $( $name: self.$name.get(), )* }
            }
        }

        impl Counts {
            /// Returns each value with its name, for metrics.
            #[must_use]
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$( (stringify!($name), self.$name), )*]
            }
        }
    };
}

counters! {
    /// Messages that came by UDP.
    udp_messages;
    /// Messages that came by TCP.
    tcp_messages;
    /// Answers with records.
    noerror;
    /// Answers that a name has no record of the type.
    nodata;
    /// Answers that a name does not exist.
    nxdomain;
    /// Answers that a query is refused: another zone, another class, or a transfer that is not permitted.
    refused;
    /// Answers to messages that cannot be read.
    formerr;
    /// Answers to other operations than queries.
    notimp;
    /// Answers to queries with another version of EDNS.
    badvers;
    /// Answers to signed queries: the server has no key.
    notauth;
    /// Answers that did not fit into a datagram; the client asks again by TCP.
    truncated;
    /// Transfers of the zone.
    transfers;
    /// Messages without an answer: too short, or answers themselves.
    ignored;
    /// Messages whose answer failed by a fault of the program; they have none.
    panics;
    /// Queries of networks that sent too many: half of them got no answer, the others a truncated one.
    limited;
    /// Answers that could not be sent.
    unsent;
    /// TCP connections that were served.
    tcp_connections;
    /// TCP connections that were closed because there were too many.
    tcp_refused;
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds 1.
    pub(crate) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
