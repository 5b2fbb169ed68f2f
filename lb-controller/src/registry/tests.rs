//! Orders against each other, without nodes.

use std::{collections::BTreeSet, time::Duration};

use lb_model::{
    pool::{PoolName, PoolSpec},
    settings::{Map, Value, from_map},
};
use proptest::prelude::*;
use serde_json::json;

use super::{
    BalancerRecord, Key, Making, ProjectRecord, Refusal,
    Refusal::{BalancerExists, Deleting, NoAddresses, NoProject, NotEmpty, ProjectExists},
    Registry, Update,
};
use crate::KINDS;

fn map(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn making() -> Making {
    let nodes = from_map(&map(json!({
        "bridge": "br-lb",
        "range": "10.90.0.11-10.90.0.22/24",
        "each": 3,
        "cpu": 0.5,
        "memory": "64MiB",
    })))
    .unwrap();
    let shared = from_map(&map(json!({ "range": "203.0.113.10-203.0.113.11/24" }))).unwrap();
    Making {
        nodes: Some(nodes),
        shared: Some(shared),
    }
}

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

/// A registry to which orders are given as if they were stored at once.
#[derive(Clone, Debug, Default)]
struct Orders(Registry);

impl Orders {
    fn project(&mut self, name: &str, settings: Value) -> Result<ProjectRecord, Refusal> {
        let record = self
            .0
            .new_project(name.parse().unwrap(), &map(settings), Duration::ZERO)?;
        self.0.put_project(record.clone());
        Ok(record)
    }

    fn balancer(
        &mut self,
        project: &str,
        name: &str,
        settings: Value,
    ) -> Result<BalancerRecord, Refusal> {
        let (key, name) = (key(project), name.parse().unwrap());
        let making = making();
        let record = self
            .0
            .new_balancer(&key, name, &map(settings), &making, Duration::ZERO)?;
        self.0.put_balancer(record.clone());
        Ok(record)
    }

    fn set(&mut self, project: &str, name: &str, patch: Value) -> Result<BalancerRecord, Refusal> {
        let making = making();
        let (project, name) = (key(project), key(name));
        let record =
            self.0
                .changed_balancer(&project, &name, &map(patch), Update::Patch, &making)?;
        self.0.put_balancer(record.clone());
        Ok(record)
    }

    fn delete(&mut self, project: &str, name: &str) -> Result<(), Refusal> {
        let record = self.0.deleted_balancer(&key(project), &key(name))?;
        self.0.put_balancer(record);
        Ok(())
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, Refusal>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn names_are_unique_and_ids_are_never_given_out_twice() {
    let mut orders = Orders::default();
    let shop = orders.project("shop", json!({})).unwrap();
    assert_eq!(
        orders.project("shop", json!({})),
        Err(ProjectExists("shop".parse().unwrap()))
    );
    orders.project("bank", json!({})).unwrap();
    let web = orders.balancer("shop", "web", json!({})).unwrap();
    let other = orders.balancer("bank", "web", json!({})).unwrap();
    let again = BalancerExists("web".parse().unwrap(), "shop".parse().unwrap());
    assert_eq!(orders.balancer("shop", "web", json!({})), Err(again));
    assert_eq!((shop.id, web.id, other.id), (1, 3, 4));
    // By id, but only in its own project.
    let project = orders.0.project(&key("1")).unwrap();
    assert_eq!(orders.0.balancer(project, &key("3")), Ok(&web));
    assert!(orders.0.balancer(project, &key("4")).is_err());
    orders.0.remove_balancer(4);
    assert_eq!(orders.balancer("bank", "web", json!({})).unwrap().id, 5);
    assert_eq!(
        orders.balancer("zoo", "web", json!({})),
        Err(NoProject(key("zoo")))
    );
    // What was stored goes on counting, although the last object is gone.
    let restored = Registry::restored(vec![shop], Vec::new(), 9);
    assert_eq!(restored.last_id(), 9);
}

#[test]
fn addresses_belong_to_one_balancer_until_it_is_gone() {
    let mut orders = Orders::default();
    orders
        .project("shop", json!({ "quota": { "nodes": 100 } }))
        .unwrap();
    let addresses: Vec<String> = ["a", "b", "c", "d"]
        .map(|name| {
            orders
                .balancer("shop", name, json!({}))
                .unwrap()
                .addresses
                .to_string()
        })
        .to_vec();
    assert_eq!(addresses[0], "10.90.0.11-10.90.0.13/24");
    assert_eq!(addresses[3], "10.90.0.20-10.90.0.22/24");
    assert_eq!(
        orders.balancer("shop", "e", json!({})),
        Err(NoAddresses("nodes.range"))
    );
    orders.delete("shop", "b").unwrap();
    assert_eq!(
        orders.balancer("shop", "b", json!({})),
        Err(Deleting("b".parse().unwrap()))
    );
    assert_eq!(
        orders.set("shop", "b", json!({ "nodes": 2 })),
        Err(Deleting("b".parse().unwrap()))
    );
    assert_eq!(
        orders.balancer("shop", "e", json!({})),
        Err(NoAddresses("nodes.range"))
    );
    let id = orders
        .0
        .balancers()
        .find(|one| one.name.as_str() == "b")
        .unwrap()
        .id;
    orders.0.remove_balancer(id);
    let e = orders.balancer("shop", "e", json!({})).unwrap();
    assert_eq!(e.addresses.to_string(), addresses[1]);
}

#[test]
fn quotas_hold_for_new_and_changed_balancers_and_for_themselves() {
    let quota = json!({ "quota": { "balancers": 2, "nodes": 4, "cpu": 1.5, "memory": "1GiB" } });
    let mut orders = Orders::default();
    orders.project("shop", quota).unwrap();
    orders.balancer("shop", "a", json!({ "nodes": 2 })).unwrap();
    let text = refused(orders.balancer("shop", "b", json!({ "nodes": 2 })));
    assert!(text.contains("1.5 CPUs, and would have 2"), "{text}");
    let text = refused(orders.balancer("shop", "b", json!({ "nodes": 3 })));
    assert!(text.contains("4 nodes, and would have 5"), "{text}");
    orders.balancer("shop", "b", json!({})).unwrap();
    let text = refused(orders.balancer("shop", "c", json!({})));
    assert!(
        text.contains("2 load balancers, and would have 3"),
        "{text}"
    );
    let text = refused(orders.set("shop", "b", json!({ "auto_scaling": true, "max_nodes": 3 })));
    assert!(text.contains("4 nodes, and would have 5"), "{text}");
    let text = refused(orders.set("shop", "b", json!({ "nodes": 4 })));
    assert!(text.contains("addresses for 3 nodes"), "{text}");
    // What is being deleted does not count.
    orders.delete("shop", "b").unwrap();
    orders.set("shop", "a", json!({ "nodes": 3 })).unwrap();
    let smaller = map(json!({ "quota": { "nodes": 2 } }));
    let text = refused(
        orders
            .0
            .changed_project(&key("shop"), &smaller, Update::Patch, &making()),
    );
    assert!(text.contains("2 nodes, and would have 3"), "{text}");
}

#[test]
fn pools_of_environments_count_in_quotas() {
    let pool_of = |template: Value, max: u32| {
        let map = json!({
            "driver": { "kind": "process" },
            "network": { "port": 8000 },
            "template": template,
            "scaling": { "min": 1, "max": max },
        });
        PoolSpec::read(map.as_object().unwrap(), &KINDS).unwrap()
    };
    let full = json!({ "program": "/bin/true", "cpu": 0.5, "memory": "100MiB" });
    let (web, db): (PoolName, PoolName) = ("env-1-1".parse().unwrap(), "env-1-2".parse().unwrap());
    let mut orders = Orders::default();
    let quota = json!({ "quota": { "instances": 4, "cpu": 2.25, "memory": "1GiB" } });
    let id = orders.project("shop", quota).unwrap().id;
    let check = |orders: &Orders, pool: &PoolName, spec: &PoolSpec| {
        orders.0.check_guest(&key("shop"), pool, spec, &making())
    };
    let three = pool_of(full.clone(), 3);
    check(&orders, &web, &three).unwrap();
    orders.0.put_guest(id, web.clone(), &three);
    // In its own place it counts once.
    check(&orders, &web, &pool_of(full.clone(), 4)).unwrap();
    let text = refused(check(&orders, &db, &pool_of(full.clone(), 2)));
    assert!(
        text.contains("4 instances of environments, and would have 5"),
        "{text}"
    );
    let text = refused(check(
        &orders,
        &db,
        &pool_of(json!({ "program": "/bin/true" }), 1),
    ));
    assert!(text.contains("template.cpu"), "{text}");
    // Nodes have what instances leave.
    orders.balancer("shop", "a", json!({})).unwrap();
    let text = refused(orders.balancer("shop", "b", json!({})));
    assert!(text.contains("2.25 CPUs, and would have 2.5"), "{text}");
    let smaller = map(json!({ "quota": { "instances": 2 } }));
    let changed = |orders: &Orders| {
        let shop = key("shop");
        orders
            .0
            .changed_project(&shop, &smaller, Update::Patch, &making())
    };
    let text = refused(changed(&orders));
    assert!(text.contains("2 instances of environments"), "{text}");
    orders.0.remove_guest(&web);
    changed(&orders).unwrap();
    orders.balancer("shop", "b", json!({})).unwrap();
}

#[test]
fn a_change_counts_generations_only_if_it_is_one() {
    let mut orders = Orders::default();
    orders.project("shop", json!({})).unwrap();
    orders.balancer("shop", "a", json!({ "port": 81 })).unwrap();
    assert_eq!(
        orders
            .set("shop", "a", json!({ "port": 81 }))
            .unwrap()
            .generation,
        1
    );
    let changed = orders
        .set("shop", "a", json!({ "port": 82, "description": "x" }))
        .unwrap();
    assert_eq!(changed.generation, 2);
    let replaced = orders
        .0
        .changed_balancer(
            &key("shop"),
            &key("a"),
            &map(json!({ "port": 83 })),
            Update::Replace,
            &making(),
        )
        .unwrap();
    assert!(!replaced.spec.contains_key("description"), "{replaced:?}");
}

#[test]
fn a_project_with_balancers_is_deleted_only_with_them() {
    let mut orders = Orders::default();
    orders.project("shop", json!({})).unwrap();
    orders.balancer("shop", "a", json!({})).unwrap();
    let refused = orders.0.deleted_project(&key("shop"), false);
    assert!(
        matches!(&refused, Err(NotEmpty { balancers, .. }) if balancers == &["a"]),
        "{refused:?}"
    );
    let (project, balancers, _) = orders.0.deleted_project(&key("shop"), true).unwrap();
    assert!(project.is_deleted && balancers.iter().all(|one| one.is_deleted));
    orders.0.put_project(project);
    assert_eq!(
        orders.balancer("shop", "b", json!({})),
        Err(Deleting("shop".parse().unwrap()))
    );
    assert_eq!(
        orders.project("shop", json!({})),
        Err(Deleting("shop".parse().unwrap()))
    );
}

/// An order of a random history.
#[derive(Clone, Debug)]
enum Order {
    Project(u8, u32),
    Balancer(u8, u8, u32),
    Set(u8, u8, u32),
    Delete(u8, u8),
    Gone(u8),
}

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![
        (0..3_u8, 0..12_u32).prop_map(|(name, nodes)| Order::Project(name, nodes)),
        (0..3_u8, 0..5_u8, 1..5_u32)
            .prop_map(|(project, name, nodes)| Order::Balancer(project, name, nodes)),
        (0..3_u8, 0..5_u8, 1..5_u32)
            .prop_map(|(project, name, nodes)| Order::Set(project, name, nodes)),
        (0..3_u8, 0..5_u8).prop_map(|(project, name)| Order::Delete(project, name)),
        (0..8_u8).prop_map(Order::Gone),
    ]
}

proptest! {
    /// Whatever is ordered: nobody has more than their quota, no two load balancers share an address, and no id comes twice.
    #[test]
    fn orders_keep_to_quotas_and_addresses(history in prop::collection::vec(order(), 1..60)) {
        let mut orders = Orders::default();
        let mut ids = BTreeSet::new();
        for order in history {
            let before = orders.0.clone();
            let is_refused = match order {
                Order::Project(name, nodes) => {
                    let quota = json!({ "quota": { "nodes": nodes, "balancers": 3 } });
                    match orders.project(&format!("p{name}"), quota) {
                        Ok(record) => !ids.insert(record.id),
                        Err(_) => true,
                    }
                }
                Order::Balancer(project, name, nodes) => {
                    let settings = json!({ "nodes": nodes });
                    match orders.balancer(&format!("p{project}"), &format!("b{name}"), settings) {
                        Ok(record) => {
                            prop_assert!(ids.insert(record.id));
                            false
                        }
                        Err(_) => true,
                    }
                }
                Order::Set(project, name, nodes) => {
                    let patch = json!({ "nodes": nodes });
                    orders.set(&format!("p{project}"), &format!("b{name}"), patch).is_err()
                }
                Order::Delete(project, name) => {
                    orders.delete(&format!("p{project}"), &format!("b{name}")).is_err()
                }
                Order::Gone(at) => {
                    let deleted = orders.0.balancers().filter(|one| one.is_deleted);
                    let id = deleted.map(|one| one.id).nth(at.into());
                    id.is_some_and(|id| { orders.0.remove_balancer(id); false })
                }
            };
            if is_refused {
                prop_assert_eq!(&orders.0, &before);
            }
            let all: Vec<_> = orders.0.balancers().collect();
            for (at, one) in all.iter().enumerate() {
                prop_assert!(all[..at].iter().all(|other| !other.addresses.overlaps(&one.addresses)));
            }
            for project in orders.0.projects() {
                let open = orders.0.balancers_of(project.id).filter(|one| !one.is_deleted);
                let counts: Vec<u64> = open.map(|one| one.spec["nodes"].as_u64().unwrap()).collect();
                let most = project.spec["quota"]["nodes"].as_u64().unwrap();
                prop_assert!(counts.len() <= 3 && counts.iter().sum::<u64>() <= most);
            }
        }
    }
}
