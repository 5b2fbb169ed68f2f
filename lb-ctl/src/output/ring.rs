//! A ring, of `ring`.

use lb_proto::v1;
use serde::Serialize;

use super::{Human, table};
use crate::names;

/// A real's part of the ring.
#[derive(Debug, PartialEq, Serialize)]
pub struct RingReal {
    /// Its address.
    pub address: String,
    /// Effective.
    pub weight: u32,
    /// Of the slots, 0 to 1.
    pub share: f64,
}

/// What `ring` prints.
#[derive(Debug, PartialEq, Serialize)]
pub struct Ring {
    /// The VIP's name.
    pub vip: String,
    /// rendezvous or maglev.
    pub algorithm: &'static str,
    /// How many there are.
    pub slots: u32,
    /// Equal on two balancers with the same input.
    pub checksum: String,
    /// Share of the slots that the asked weights would move, 0 to 1.
    pub moved: f64,
    /// As asked, else as it is.
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
