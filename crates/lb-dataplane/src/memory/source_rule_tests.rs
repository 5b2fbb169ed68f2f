//! Rules about sources, while the service changes and agents are restarted.

use lb_common::{
    reason::{ChosenBy, Reason},
    tables::source_rule::SourceKey,
};

use super::testbed::{Testbed, address};
use crate::{Dataplane as _, Terms};

fn testbed() -> Testbed {
    Testbed::new(Terms::default(), &["10.1.0.1", "10.1.0.2"])
}

impl Testbed {
    fn rules(&mut self, rules: &[&str]) {
        let rules = rules.iter().map(|rule| rule.parse().unwrap());
        self.spec.terms.source_rules = rules.collect();
        self.set();
    }

    /// Whether a client is refused, and the real that it has by a rule.
    fn of(&mut self, client: [u8; 4]) -> (bool, Option<u16>) {
        let seen = self.sent(client, &[]);
        let by_rule = seen.chosen_by == ChosenBy::SourceRule;
        (
            seen.reason == Reason::SourceDenied,
            by_rule.then_some(seen.real),
        )
    }
}

const TABLE: &str = "SOURCE_RULES";
const CLIENT: [u8; 4] = [198, 51, 100, 7];

#[test]
fn rules_follow_changes_of_the_service() {
    let mut bed = testbed();
    assert_eq!(bed.of(CLIENT), (false, None));
    bed.rules(&["0.0.0.0/0=deny", "198.51.100.0/24=10.1.0.2"]);
    assert_eq!(bed.of(CLIENT), (false, bed.index("10.1.0.2")));
    assert_eq!(bed.of([203, 0, 113, 1]), (true, None));
    bed.rules(&["198.51.100.0/24=deny"]);
    assert_eq!(bed.of(CLIENT), (true, None));
    assert_eq!(bed.of([203, 0, 113, 1]), (false, None));
    bed.rules(&["198.51.100.0/24=allow", "0.0.0.0/0=deny"]);
    assert_eq!((bed.of(CLIENT), bed.used(TABLE)), ((false, None), 2));
    bed.rules(&[]);
    assert_eq!(
        (bed.of([203, 0, 113, 1]), bed.used(TABLE)),
        ((false, None), 0)
    );
}

#[test]
fn a_rule_waits_for_its_real() {
    let mut bed = testbed();
    bed.rules(&["198.51.100.0/24=10.1.0.3"]);
    assert_eq!(bed.of(CLIENT), (false, None));
    bed.spec.reals.push(address("10.1.0.3"));
    bed.set();
    assert_eq!(bed.of(CLIENT), (false, bed.index("10.1.0.3")));
    bed.spec.reals.pop();
    bed.set();
    assert_eq!(bed.of(CLIENT), (false, None));
}

#[test]
fn the_next_agent_goes_on_and_nothing_is_left_behind() {
    let mut bed = testbed();
    bed.rules(&["198.51.100.0/24=10.1.0.2", "203.0.113.0/24=deny"]);
    let own = bed.index("10.1.0.2");
    let mut bed = bed.restart();
    assert_eq!((bed.of(CLIENT), bed.used(TABLE)), ((false, own), 2));
    bed.rules(&["203.0.113.0/24=deny"]);
    assert_eq!((bed.of(CLIENT), bed.used(TABLE)), ((false, None), 1));
    let vip = bed.spec.vip;
    bed.plane.remove_service(&vip).unwrap();
    assert_eq!(bed.used(TABLE), 0);
}

#[test]
fn rules_that_stay_are_not_made_again() {
    let mut bed = testbed();
    let count = 100_000_u32;
    let rules = (0..count).map(|number| {
        let address = std::net::Ipv4Addr::from(0x0B00_0000 + number * 256);
        format!("{address}/24=deny").parse().unwrap()
    });
    bed.spec.terms.source_rules = rules.collect();
    bed.set();
    assert_eq!(bed.used(TABLE), u64::from(count));
    assert_eq!(bed.of([11, 0, 0, 1]), (true, None));
    // What the table has is not looked at while rules and the reals that they name are the same ones ...
    let key = SourceKey::new(1, [11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 24);
    let tables = bed.plane.engine.backend_mut().tables_mut();
    assert!(tables.source_rules.remove(&key).is_some());
    bed.set();
    assert_eq!(bed.of([11, 0, 0, 1]), (false, None));
    // ... and a rule that is added does not touch the others.
    let mut more = bed.spec.terms.source_rules.to_vec();
    more.push("203.0.113.0/24=deny".parse().unwrap());
    bed.spec.terms.source_rules = more.into();
    bed.set();
    assert_eq!(bed.of([203, 0, 113, 1]), (true, None));
    assert_eq!(bed.of([11, 0, 1, 1]), (true, None));
}
