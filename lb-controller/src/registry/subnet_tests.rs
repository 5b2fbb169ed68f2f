//! Orders about subnets, and the addresses in them.

use std::time::Duration;

use lb_model::settings::{Map, Value, from_map};
use proptest::prelude::*;
use serde_json::json;

use super::{BalancerRecord, Key, Making, Refusal, Registry, SubnetRecord, Update};

fn map(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

fn making() -> Making {
    let nodes = from_map(&map(json!({
        "bridge": "br-lb",
        "range": "10.90.0.1-10.90.15.254/16",
        "each": 3,
    })));
    Making {
        nodes: Some(nodes.unwrap()),
        shared: None,
    }
}

/// A registry to which orders are given as if they were stored at once.
#[derive(Clone, Debug, PartialEq)]
struct Orders(Registry);

impl Orders {
    /// With two projects, `shop` and `bank`.
    fn new() -> Self {
        let mut registry = Registry::default();
        for name in ["shop", "bank"] {
            let settings =
                map(json!({ "quota": { "nodes": 1000, "balancers": 1000, "subnets": 3 } }));
            let name = name.parse().unwrap();
            let project = registry.new_project(name, &settings, Duration::ZERO);
            registry.put_project(project.unwrap());
        }
        Orders(registry)
    }

    fn subnet(
        &mut self,
        project: &str,
        name: &str,
        settings: Value,
    ) -> Result<SubnetRecord, Refusal> {
        let name = name.parse().unwrap();
        let record = self
            .0
            .new_subnet(&key(project), name, &map(settings), Duration::ZERO)?;
        self.0.put_subnet(record.clone());
        Ok(record)
    }

    fn set_subnet(
        &mut self,
        project: &str,
        name: &str,
        patch: Value,
    ) -> Result<SubnetRecord, Refusal> {
        let record =
            self.0
                .changed_subnet(&key(project), &key(name), &map(patch), Update::Patch)?;
        self.0.put_subnet(record.clone());
        Ok(record)
    }

    fn del_subnet(&mut self, project: &str, name: &str, everything: bool) -> Result<(), Refusal> {
        let (subnet, balancers) = self
            .0
            .deleted_subnet(&key(project), &key(name), everything)?;
        self.0.put_subnet(subnet);
        for balancer in balancers {
            self.0.put_balancer(balancer);
        }
        Ok(())
    }

    fn balancer(
        &mut self,
        project: &str,
        name: &str,
        subnet: &str,
    ) -> Result<BalancerRecord, Refusal> {
        let settings = map(json!({ "subnet": subnet }));
        let name = name.parse().unwrap();
        let making = making();
        let record =
            self.0
                .new_balancer(&key(project), name, &settings, &making, Duration::ZERO)?;
        self.0.put_balancer(record.clone());
        Ok(record)
    }

    fn move_balancer(
        &mut self,
        project: &str,
        name: &str,
        subnet: Value,
    ) -> Result<BalancerRecord, Refusal> {
        let patch = map(json!({ "subnet": subnet }));
        let (project, name, making) = (key(project), key(name), making());
        let record = self
            .0
            .changed_balancer(&project, &name, &patch, Update::Patch, &making)?;
        self.0.put_balancer(record.clone());
        Ok(record)
    }

    /// What the task does when nodes were replaced, and when what is deleted is gone.
    fn settle(&mut self) {
        let ids: Vec<u64> = self.0.balancers().map(|one| one.id).collect();
        for id in ids {
            if self.0.balancer_by_id(id).is_some_and(|one| one.is_deleted) {
                self.0.remove_balancer(id);
            } else if let Some(record) = self.0.released(id) {
                self.0.put_balancer(record);
            }
        }
        let gone = self
            .0
            .subnets()
            .filter(|one| one.is_deleted && self.0.is_unused(one.id));
        let gone: Vec<u64> = gone.map(|one| one.id).collect();
        gone.into_iter().for_each(|id| self.0.remove_subnet(id));
    }
}

fn addresses(record: &BalancerRecord) -> String {
    record.leg.as_ref().unwrap().addresses.to_string()
}

fn refused<T: std::fmt::Debug>(result: Result<T, Refusal>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn two_projects_may_have_the_same_addresses_and_one_may_not() {
    let mut orders = Orders::new();
    let cidr = json!({ "cidr": "10.0.0.0/24" });
    let shop = orders.subnet("shop", "back", cidr.clone()).unwrap();
    let bank = orders.subnet("bank", "back", cidr.clone()).unwrap();
    assert_ne!(shop.id, bank.id);
    let text = refused(orders.subnet("shop", "front", json!({ "cidr": "10.0.0.128/25" })));
    assert!(
        text.contains("cidr: 10.0.0.128/25: the subnet back has 10.0.0.0/24"),
        "{text}"
    );
    let text = refused(orders.subnet("shop", "front", json!({ "cidr": "10.0.0.0/8" })));
    assert!(text.contains("the subnet back has"), "{text}");
    let text = refused(orders.subnet("shop", "back", json!({ "cidr": "10.1.0.0/24" })));
    assert!(
        text.contains("a subnet back in project shop already"),
        "{text}"
    );
    // By id in its own project only.
    let project = orders.0.project(&key("shop")).unwrap();
    assert_eq!(orders.0.subnet(project, &Key::Id(shop.id)), Ok(&shop));
    let text = refused(orders.0.subnet(project, &Key::Id(bank.id)));
    assert!(text.contains("no subnet"), "{text}");
    // Both load balancers get the same addresses.
    let one = orders.balancer("shop", "web", "back").unwrap();
    let other = orders.balancer("bank", "web", "back").unwrap();
    assert_eq!(addresses(&one), "10.0.0.128-10.0.0.130/24");
    assert_eq!(addresses(&one), addresses(&other));
    orders
        .subnet("shop", "front", json!({ "cidr": "10.1.0.0/24" }))
        .unwrap();
    orders
        .subnet("shop", "third", json!({ "cidr": "10.2.0.0/24" }))
        .unwrap();
    let text = refused(orders.subnet("shop", "fourth", json!({ "cidr": "10.3.0.0/24" })));
    assert!(
        text.contains("may have 3 subnets, and would have 4"),
        "{text}"
    );
}

#[test]
fn what_is_one_for_the_host_is_nobody_elses() {
    let mut orders = Orders::new();
    let own = json!({ "cidr": "10.0.0.0/24", "gateway": "10.0.0.1", "vxlan": { "id": 7 } });
    orders.subnet("shop", "back", own).unwrap();
    let text = refused(orders.subnet(
        "bank",
        "back",
        json!({ "cidr": "10.0.0.0/16", "gateway": "10.0.1.1" }),
    ));
    assert!(
        text.contains("gateway: 10.0.1.1: the host has an address"),
        "{text}"
    );
    assert!(!text.contains("shop"), "{text}");
    orders
        .subnet("bank", "back", json!({ "cidr": "10.0.0.0/16" }))
        .unwrap();
    let text = refused(orders.set_subnet("bank", "back", json!({ "vxlan": { "id": 7 } })));
    assert!(text.contains("vxlan.id: 7"), "{text}");
    orders
        .set_subnet("bank", "back", json!({ "vxlan": { "id": 8 } }))
        .unwrap();
}

#[test]
fn a_subnet_is_deleted_only_with_what_is_in_it() {
    let mut orders = Orders::new();
    orders
        .subnet("shop", "back", json!({ "cidr": "10.0.0.0/24" }))
        .unwrap();
    orders.balancer("shop", "web", "back").unwrap();
    let text = refused(orders.del_subnet("shop", "back", false));
    assert!(
        text.contains("the load balancers web are in the subnet back"),
        "{text}"
    );
    let text = refused(orders.0.deleted_project(&key("shop"), false));
    assert!(
        text.contains("the load balancers web and the subnets back"),
        "{text}"
    );
    // One that has left counts no more, but its addresses are its own until its nodes are replaced.
    orders.move_balancer("shop", "web", Value::Null).unwrap();
    assert!(!orders.0.is_unused(3));
    orders.del_subnet("shop", "back", false).unwrap();
    let text = refused(orders.balancer("shop", "api", "back"));
    assert!(
        text.contains("subnet: back: back is being deleted"),
        "{text}"
    );
    orders.settle();
    assert!(orders.0.subnet_by_id(3).is_none());
    // With everything.
    orders
        .subnet("shop", "back", json!({ "cidr": "10.0.0.0/24" }))
        .unwrap();
    orders.balancer("shop", "api", "back").unwrap();
    orders.del_subnet("shop", "back", true).unwrap();
    assert!(
        orders
            .0
            .balancers()
            .any(|one| one.name.as_str() == "api" && one.is_deleted)
    );
    orders.settle();
    assert_eq!(orders.0.subnets().count(), 0);
}

#[test]
fn addresses_are_kept_given_back_and_given_again() {
    let mut orders = Orders::new();
    let small = json!({ "cidr": "10.0.0.0/24", "range": "10.0.0.10-10.0.0.18/24" });
    orders.subnet("shop", "back", small).unwrap();
    orders
        .subnet("shop", "other", json!({ "cidr": "10.1.0.0/24" }))
        .unwrap();
    let names = ["a", "b", "c"];
    let given = names.map(|name| addresses(&orders.balancer("shop", name, "back").unwrap()));
    assert_eq!(given[1], "10.0.0.13-10.0.0.15/24");
    let text = refused(orders.balancer("shop", "d", "back"));
    assert!(
        text.contains("the subnet back has no 3 addresses in a row left"),
        "{text}"
    );
    // Other settings of the load balancer leave its addresses as they are.
    let patch = map(json!({ "nodes": 2 }));
    let same = orders
        .0
        .changed_balancer(&key("shop"), &key("b"), &patch, Update::Patch, &making());
    assert_eq!(addresses(&same.unwrap()), given[1]);
    // A range without what is given is refused.
    let text =
        refused(orders.set_subnet("shop", "back", json!({ "range": "10.0.0.13-10.0.0.99/24" })));
    assert!(
        text.contains("range: ") && text.contains("a has 10.0.0.10-10.0.0.12/24"),
        "{text}"
    );
    let text = refused(orders.set_subnet(
        "shop",
        "back",
        json!({ "cidr": "10.5.0.0/24", "range": null }),
    ));
    assert!(
        text.contains("a subnet keeps its addresses, 10.0.0.0/24"),
        "{text}"
    );
    let moved = orders.move_balancer("shop", "b", json!("other")).unwrap();
    assert_eq!(addresses(&moved), "10.1.0.128-10.1.0.130/24");
    assert!(
        orders.balancer("shop", "d", "back").is_err(),
        "nodes of b may still have them"
    );
    // One that returns has those that it had.
    let back = orders.move_balancer("shop", "b", json!("back")).unwrap();
    assert_eq!(addresses(&back), given[1]);
    assert_eq!(back.former_legs.len(), 1);
    orders.move_balancer("shop", "b", json!("other")).unwrap();
    orders.settle();
    let d = orders.balancer("shop", "d", "back").unwrap();
    assert_eq!(addresses(&d), given[1]);
    // The nodes' own network is another one.
    orders
        .subnet("shop", "wide", json!({ "cidr": "10.90.7.0/24" }))
        .unwrap();
    let text = refused(orders.balancer("shop", "e", "wide"));
    assert!(
        text.contains("subnet: wide: ") && text.contains("10.90.0.0/16"),
        "{text}"
    );
    let text = refused(orders.balancer("shop", "e", "nowhere"));
    assert!(
        text.contains("subnet: nowhere: there is no subnet nowhere"),
        "{text}"
    );
    let text = refused(orders.balancer("bank", "e", "back"));
    assert!(
        text.contains("there is no subnet back in project bank"),
        "{text}"
    );
}

#[test]
fn what_pools_have_is_not_given() {
    let mut orders = Orders::new();
    let back = json!({ "cidr": "10.0.0.0/24", "range": "10.0.0.10-10.0.0.30/24" });
    let back = orders.subnet("shop", "back", back).unwrap();
    let reserved = ["10.0.0.1-10.0.0.11/24", "10.0.0.16-10.0.0.16/24"];
    let reserved = reserved.map(|range| range.parse().unwrap()).to_vec();
    orders.0.reserve([(back.id, reserved)].into());
    let given = ["a", "b"].map(|name| addresses(&orders.balancer("shop", name, "back").unwrap()));
    assert_eq!(given, ["10.0.0.12-10.0.0.14/24", "10.0.0.17-10.0.0.19/24"]);
    // To the end, and further.
    let rest = "10.0.0.20-10.0.0.99/24".parse().unwrap();
    orders.0.reserve([(back.id, vec![rest])].into());
    refused(orders.balancer("shop", "c", "back"));
}

/// An order of a random history.
#[derive(Clone, Debug)]
enum Order {
    Subnet(u8, u8, u8),
    Range(u8, u8, u8),
    DelSubnet(u8, u8, bool),
    Balancer(u8, u8, u8),
    Move(u8, u8, Option<u8>),
    DelBalancer(u8, u8),
    Settle,
}

fn order() -> impl Strategy<Value = Order> {
    let (project, name) = (0..2_u8, 0..3_u8);
    let balancer = 0..6_u8;
    prop_oneof![
        (project.clone(), name.clone(), 0..4_u8).prop_map(|(p, s, cidr)| Order::Subnet(p, s, cidr)),
        (project.clone(), name.clone(), 0..12_u8).prop_map(|(p, s, at)| Order::Range(p, s, at)),
        (project.clone(), name.clone(), any::<bool>())
            .prop_map(|(p, s, all)| Order::DelSubnet(p, s, all)),
        (project.clone(), balancer.clone(), name.clone())
            .prop_map(|(p, b, s)| Order::Balancer(p, b, s)),
        (project.clone(), balancer.clone(), prop::option::of(name))
            .prop_map(|(p, b, s)| Order::Move(p, b, s)),
        (project, balancer).prop_map(|(p, b)| Order::DelBalancer(p, b)),
        Just(Order::Settle),
    ]
}

proptest! {
    /// Whatever is ordered: no address of a subnet is given twice or outside of its range, subnets of a project do not overlap,
    /// nobody is in another project's subnet or in one that is not there, and what is refused changes nothing.
    #[test]
    fn addresses_are_never_given_twice(history in prop::collection::vec(order(), 1..80)) {
        let projects = ["shop", "bank"];
        // Two that overlap, and two that have room for two and for few load balancers.
        let cidrs = ["10.0.0.0/24", "10.0.0.128/25", "10.1.0.0/28", "10.2.0.0/29"];
        let mut orders = Orders::new();
        for order in history {
            let before = orders.clone();
            let is_refused = match order {
                Order::Subnet(p, s, cidr) => orders.subnet(projects[usize::from(p)], &format!("s{s}"), json!({ "cidr": cidrs[usize::from(cidr)] })).is_err(),
                Order::Range(p, s, at) => {
                    let range = format!("10.1.0.{}-10.1.0.14/28", at + 1);
                    orders.set_subnet(projects[usize::from(p)], &format!("s{s}"), json!({ "range": range })).is_err()
                }
                Order::DelSubnet(p, s, all) => orders.del_subnet(projects[usize::from(p)], &format!("s{s}"), all).is_err(),
                Order::Balancer(p, b, s) => orders.balancer(projects[usize::from(p)], &format!("b{b}"), &format!("s{s}")).is_err(),
                Order::Move(p, b, s) => {
                    let subnet = s.map_or(Value::Null, |s| format!("s{s}").into());
                    orders.move_balancer(projects[usize::from(p)], &format!("b{b}"), subnet).is_err()
                }
                Order::DelBalancer(p, b) => {
                    let deleted = orders.0.deleted_balancer(&key(projects[usize::from(p)]), &key(&format!("b{b}")));
                    deleted.map(|record| orders.0.put_balancer(record)).is_err()
                }
                Order::Settle => { orders.settle(); false }
            };
            if is_refused {
                prop_assert_eq!(&orders, &before);
            }
            for subnet in orders.0.subnets() {
                let spec = subnet.settings().unwrap();
                let held: Vec<_> = orders.0.holders(subnet.id).collect();
                for (at, one) in held.iter().enumerate() {
                    prop_assert!(held[..at].iter().all(|other| !other.addresses.overlaps(&one.addresses)));
                    let given = spec.given();
                    prop_assert!(given.contains(one.addresses.first()) && given.contains(one.addresses.last()));
                    prop_assert_eq!(one.addresses.len(), 3);
                    prop_assert_eq!(one.balancer.project, subnet.project);
                }
                let mut others = orders.0.subnets_of(subnet.project).filter(|one| one.id != subnet.id);
                prop_assert!(others.all(|one| !one.settings().unwrap().cidr.overlaps(&spec.cidr)));
            }
            for balancer in orders.0.balancers() {
                let legs = balancer.leg.iter().chain(&balancer.former_legs);
                for leg in legs {
                    prop_assert!(orders.0.subnet_by_id(leg.subnet).is_some());
                }
            }
        }
    }
}
