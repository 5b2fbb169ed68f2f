//! Packets that name their real, while the service changes and agents are restarted.

use lb_common::reason::ChosenBy;
use lb_model::{
    options::OnDown,
    server_id::{QuicLbConfig, ServerId, ServerIdMethod},
};

use super::testbed::{Testbed, address};
use crate::{Dataplane as _, ServerIds, Terms};

fn testbed() -> Testbed {
    let terms = Terms {
        server_ids: ServerIds {
            methods: vec![ServerIdMethod::UdpStable],
            ..ServerIds::default()
        },
        ..Terms::default()
    };
    Testbed::new(terms, &["10.1.0.1", "10.1.0.2", "10.1.0.3"])
}

impl Testbed {
    fn id(&mut self, real: &str, id: u128) {
        self.spec
            .terms
            .server_ids
            .reals
            .insert(address(real), ServerId(id));
        self.set();
    }

    /// The real that a packet with this payload names; `None`: it goes by the ring.
    fn named(&mut self, payload: &[u8]) -> Option<u16> {
        let seen = self.sent([198, 51, 100, 7], payload);
        (seen.chosen_by == ChosenBy::ServerId).then_some(seen.real)
    }

    fn stable(&mut self, id: u8) -> Option<u16> {
        self.named(&[0x52, 0, 0, id])
    }

    /// Entries of both tables.
    fn ids_used(&self) -> [u64; 2] {
        ["SERVER_IDS", "QUIC_LB"].map(|name| self.used(name))
    }
}

#[test]
fn ids_follow_the_reals() {
    let mut bed = testbed();
    assert_eq!(bed.stable(7), None);
    bed.id("10.1.0.2", 7);
    bed.id("10.1.0.3", 8);
    assert_eq!(bed.stable(7), bed.index("10.1.0.2"));
    // The ids change places, and one becomes another.
    bed.spec.terms.server_ids.reals.clear();
    bed.spec
        .terms
        .server_ids
        .reals
        .insert(address("10.1.0.3"), ServerId(7));
    bed.id("10.1.0.2", 9);
    assert_eq!(bed.stable(7), bed.index("10.1.0.3"));
    assert_eq!(
        (bed.stable(8), bed.stable(9)),
        (None, bed.index("10.1.0.2"))
    );
    // A dead real is not named, and one that is back is.
    bed.spec.down.insert(address("10.1.0.2"), OnDown::Rehash);
    bed.set();
    assert_eq!(bed.stable(9), None);
    bed.spec.down.clear();
    bed.set();
    assert_eq!(bed.stable(9), bed.index("10.1.0.2"));
    // A real that is gone leaves no id behind.
    bed.spec.reals.retain(|real| *real != address("10.1.0.2"));
    bed.set();
    assert_eq!((bed.stable(9), bed.ids_used()), (None, [1, 0]));
    // Nor does a service without methods, or one that is removed.
    bed.spec.terms.server_ids = ServerIds::default();
    bed.set();
    assert_eq!((bed.stable(7), bed.ids_used()), (None, [0, 0]));
    bed.spec.terms.server_ids.methods = vec![ServerIdMethod::UdpStable];
    bed.id("10.1.0.3", 7);
    assert_eq!(bed.ids_used(), [1, 0]);
    let vip = bed.spec.vip;
    bed.plane.remove_service(&vip).unwrap();
    assert_eq!(bed.ids_used(), [0, 0]);
}

#[test]
fn the_next_agent_goes_on() {
    let mut bed = testbed();
    bed.id("10.1.0.2", 7);
    let named = bed.index("10.1.0.2");
    let mut bed = bed.restart();
    assert_eq!((bed.stable(7), bed.ids_used()), (named, [1, 0]));
    bed.set();
    assert_eq!(bed.stable(7), named);
    bed.spec.terms.server_ids.reals.clear();
    bed.id("10.1.0.3", 8);
    assert_eq!((bed.stable(7), bed.ids_used()), (None, [1, 0]));
}

#[test]
fn configurations_of_quic_lb_can_be_exchanged() {
    let short = |id: &[u8]| [&[0x40], id, &[0x5A; 24]].concat();
    let config = |text: &str| text.parse::<QuicLbConfig>().unwrap();
    let mut bed = testbed();
    bed.spec.terms.server_ids.methods = vec![ServerIdMethod::QuicLb];
    bed.spec.terms.server_ids.quic_lb = vec![config("0:3:4")];
    bed.id("10.1.0.2", 0xC4605E);
    bed.id("10.1.0.3", 0xED793A);
    let plain = short(&[0x07, 0xC4, 0x60, 0x5E, 0x45, 0x04, 0xCC, 0x4F]);
    let encrypted = short(&[0x27, 0x20, 0xB1, 0xD0, 0x7B, 0x35, 0x9D, 0x3C]);
    assert_eq!(bed.named(&plain), bed.index("10.1.0.2"));
    assert_eq!(bed.named(&encrypted), None);
    // A key is introduced beside what there is.
    let keyed = config("1:3:4:8f95f09245765f80256934e50c66207f");
    bed.spec.terms.server_ids.quic_lb.push(keyed);
    bed.set();
    assert_eq!(bed.named(&plain), bed.index("10.1.0.2"));
    assert_eq!(bed.named(&encrypted), bed.index("10.1.0.3"));
    assert_eq!(bed.ids_used(), [2, 2]);
    // Another agent does not know what the configurations of the tables say, and writes them anew.
    let mut bed = bed.restart();
    bed.spec.terms.server_ids.quic_lb = vec![keyed];
    bed.set();
    assert_eq!(bed.named(&plain), None);
    assert_eq!(bed.named(&encrypted), bed.index("10.1.0.3"));
    assert_eq!(bed.ids_used(), [2, 1]);
}
