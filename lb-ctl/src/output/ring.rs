//! A ring, for `ring`.

use lb_proto::v1;
use serde::Serialize;

use super::{Human, table};
use crate::names;

/// A real's share of the ring.
#[derive(Debug, PartialEq, Serialize)]
pub struct RingReal {
    /// Its address.
    pub address: String,
    /// Its effective weight.
    pub weight: u32,
    /// Its share of the slots, 0 to 1.
    pub share: f64,
}

/// What `ring` prints.
#[derive(Debug, PartialEq, Serialize)]
pub struct Ring {
    /// The VIP's name.
    pub vip: String,
    /// rendezvous, maglev or maglev-katran.
    pub algorithm: &'static str,
    /// The number of slots.
    pub slots: u32,
    /// Checksum of the ring. Balancers with the same input have the same one.
    pub checksum: String,
    /// Share of the slots that the requested weights would move, 0 to 1.
    pub moved: f64,
    /// The reals, with the requested weights if there are any.
    pub reals: Vec<RingReal>,
}

impl From<&v1::Ring> for Ring {
    fn from(ring: &v1::Ring) -> Self {
        let real = |real: &v1::RingReal| RingReal {
            address: real.address.clone(),
            weight: real.weight,
            share: real.share,
        };
        Ring {
            vip: names::vip(ring.vip.as_ref()),
            algorithm: names::ring(ring.algorithm()),
            slots: ring.slots,
            checksum: ring.checksum.clone(),
            moved: ring.moved,
            reals: ring.reals.iter().map(real).collect(),
        }
    }
}

impl Human for Ring {
    fn human(&self) -> String {
        let rows = self.reals.iter().map(|real| {
            vec![
                real.address.clone(),
                real.weight.to_string(),
                table::percent(real.share),
            ]
        });
        format!(
            "{}: {}, {} slots, checksum {}, {} would move\n{}",
            self.vip,
            self.algorithm,
            self.slots,
            self.checksum,
            table::percent(self.moved),
            table::layout(
                &[("REAL", false), ("EFFECTIVE", true), ("SHARE", true)],
                rows
            )
        )
    }
}
