//! Placement, reservations and balance, with random fleets.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use lb_model::{
    host::HostName,
    pool::{Placement, PoolName},
};
use proptest::prelude::*;
use serde_json::json;

use super::{
    balance::Balance,
    ledger::{Held, HostRoom, Ledger, Place},
    placement::{Claim, suits},
};

fn placement(value: serde_json::Value) -> Placement {
    lb_model::settings::from_map(value.as_object().unwrap()).unwrap()
}

fn host(number: usize) -> HostName {
    format!("h{number}").parse().unwrap()
}

fn room(cores: f64, mebibytes: u64, rack: &str) -> HostRoom {
    HostRoom {
        capacity: Claim::new(cores, mebibytes << 20),
        labels: BTreeMap::from([("rack".to_owned(), rack.to_owned())]),
        is_open: true,
    }
}

fn fleet(rooms: &[HostRoom]) -> Ledger {
    let mut ledger = Ledger::default();
    let rooms = rooms.iter().enumerate();
    ledger.set_hosts(
        rooms
            .map(|(at, room)| (host(at + 1), room.clone()))
            .collect(),
    );
    ledger
}

struct Asked<'a> {
    ledger: Ledger,
    pool: PoolName,
    placement: &'a Placement,
    claim: Claim,
}

impl Asked<'_> {
    fn place(&mut self, number: u32) -> Result<String, String> {
        let placed = self.ledger.place(Place {
            pool: &self.pool,
            number,
            placement: self.placement,
            claim: self.claim,
            prefer: None,
            leave: None,
            unlisted: &BTreeSet::new(),
        });
        placed
            .map(|host| host.to_string())
            .map_err(|no_room| no_room.to_string())
    }
}

fn asked<'a>(rooms: &[HostRoom], placement: &'a Placement) -> Asked<'a> {
    Asked {
        ledger: fleet(rooms),
        pool: "web".parse().unwrap(),
        placement,
        claim: Claim::new(0.5, 100 << 20),
    }
}

#[test]
fn instances_are_spread_over_racks_first_and_then_over_hosts() {
    let rooms = [
        room(8.0, 800, "a"),
        room(8.0, 800, "a"),
        room(2.0, 300, "b"),
    ];
    let spread = placement(json!({ "spread": "rack" }));
    let mut asked = asked(&rooms, &spread);
    let hosts: Vec<String> = (1..=4).map(|number| asked.place(number).unwrap()).collect();
    assert_eq!(hosts, ["h1", "h3", "h2", "h3"]);
}

#[test]
fn a_host_to_be_avoided_is_taken_when_no_other_has_room() {
    let rooms = [room(0.6, 800, "a"), room(8.0, 800, "b")];
    let avoid = placement(json!({ "avoid": ["h2"] }));
    let mut asked = asked(&rooms, &avoid);
    let hosts: Vec<String> = (1..=3).map(|number| asked.place(number).unwrap()).collect();
    assert_eq!(hosts, ["h1", "h2", "h2"]);
}

#[test]
fn a_host_of_which_the_pool_knows_no_list_takes_nothing() {
    let rooms = [room(8.0, 800, "a"), room(0.6, 800, "a")];
    let (pool, placement) = ("web".parse().unwrap(), placement(json!({})));
    let mut ledger = fleet(&rooms);
    let mut place = |number, unlisted: &BTreeSet<HostName>| {
        ledger.place(Place {
            pool: &pool,
            number,
            placement: &placement,
            claim: Claim::new(0.5, 100 << 20),
            prefer: None,
            leave: None,
            unlisted,
        })
    };
    let unlisted = BTreeSet::from([host(1)]);
    assert_eq!(place(1, &unlisted), Ok(host(2)));
    assert!(place(2, &unlisted).is_err());
    assert_eq!(place(2, &BTreeSet::new()), Ok(host(1)));
}

#[test]
fn without_room_it_is_said_why() {
    let none = placement(json!({}));
    let mut nobody = asked(&[], &none);
    assert!(nobody.place(1).unwrap_err().contains("no host has joined"));
    let mut rooms = [room(0.7, 800, "a"), room(8.0, 99, "b"), room(8.0, 800, "c")];
    rooms[2].is_open = false;
    let ab = placement(json!({ "labels": { "rack": "a" }, "anti_affinity": true }));
    let mut asked = asked(&rooms, &ab);
    assert_eq!(asked.place(1).as_deref(), Ok("h1"));
    // The same again is its own successor.
    assert_eq!(asked.place(1).as_deref(), Ok("h1"));
    let text = asked.place(2).unwrap_err();
    assert!(
        text.contains("of 3: 2 are not those") && text.contains("1 have one of the pool"),
        "{text}"
    );
    let any = placement(json!({}));
    asked.placement = &any;
    let text = asked.place(2).unwrap_err();
    assert!(
        text.contains("1 take no instances now")
            && text.contains(
                "2 have too little left (8 cores and 700MiB at most; 0.5 and 100MiB are wanted)"
            ),
        "{text}"
    );
    // What is no longer named is free.
    let pool = asked.pool.clone();
    let before = asked.ledger.revision();
    asked.ledger.set_pool(&pool, []);
    assert!(asked.ledger.revision() > before);
    assert_eq!(asked.place(2).as_deref(), Ok("h1"));
}

#[test]
fn the_own_host_has_instances_only_if_it_is_named() {
    let any = placement(json!({}));
    let own = placement(json!({ "hosts": ["local", "h1"] }));
    let labels = BTreeMap::new();
    assert!(!suits(&any, &HostName::local(), &labels) && suits(&any, &host(1), &labels));
    assert!(suits(&own, &HostName::local(), &labels) && !suits(&own, &host(2), &labels));
}

#[test]
fn only_moves_that_win_are_made_and_none_is_undone() {
    let rooms = [room(4.0, 4_000, "a"), room(4.0, 4_000, "b")];
    let mut ledger = fleet(&rooms);
    let pool: PoolName = "web".parse().unwrap();
    let held = |on_first: u32| {
        (1..=6_u32).map(move |number| Held {
            number,
            host: host(if number <= on_first { 1 } else { 2 }),
            claim: Claim::new(0.5, 1 << 20),
        })
    };
    let period = Duration::from_secs(600);
    let mut balance = Balance::default();
    let mut moves = |ledger: &Ledger, seconds: u64| {
        let moves = balance.moves(ledger, period, 0.1, Duration::from_secs(seconds));
        moves.get(&pool).copied()
    };
    ledger.set_pool(&pool, held(6));
    let first = moves(&ledger, 10).unwrap();
    // While it is under way nothing else is moved.
    assert_eq!(moves(&ledger, 20), Some(first));
    ledger.set_pool(
        &pool,
        held(6).map(|mut one| {
            if one.number == first {
                one.host = host(2);
            }
            one
        }),
    );
    assert_eq!(moves(&ledger, 30), None, "its hosts rest");
    let second = moves(&ledger, 700).unwrap();
    assert_ne!(first, second);
    // 2 of 4 cores against 1: a move would win an eighth only.
    let mut ledger = fleet(&rooms);
    ledger.set_pool(&pool, held(4));
    assert_eq!(
        Balance::default().moves(&ledger, period, 0.2, Duration::ZERO),
        BTreeMap::new()
    );
}

/// What a random fleet is asked for.
#[derive(Clone, Debug)]
enum Order {
    Place(usize, u32),
    Forget(usize, u32),
    Close(usize, bool),
}

fn orders() -> impl Strategy<Value = Vec<Order>> {
    let order = prop_oneof![
        6 => (0..3_usize, 1..12_u32).prop_map(|(pool, number)| Order::Place(pool, number)),
        3 => (0..3_usize, 1..12_u32).prop_map(|(pool, number)| Order::Forget(pool, number)),
        1 => (0..5_usize, any::<bool>()).prop_map(|(host, is_open)| Order::Close(host, is_open)),
    ];
    prop::collection::vec(order, 1..120)
}

proptest! {
    /// Whatever is placed and forgotten: no host has more than it has, no reservation is left over, and one that is refused
    /// really has no host.
    #[test]
    fn nothing_is_reserved_twice_and_nothing_is_left(
        orders in orders(),
        sizes in prop::collection::vec((1..8_u64, 1..8_u64, 0..2_usize), 1..5),
        anti_affinity in any::<bool>(),
        spread in any::<bool>(),
    ) {
        let mut rooms: BTreeMap<HostName, HostRoom> = sizes
            .iter()
            .enumerate()
            .map(|(at, (cores, memory, rack))| {
                (host(at), room(*cores as f64, memory * 128, ["a", "b"][*rack]))
            })
            .collect();
        let mut ledger = Ledger::default();
        ledger.set_hosts(rooms.clone());
        let mut map = json!({ "anti_affinity": anti_affinity });
        if spread {
            map["spread"] = json!("rack");
        }
        let placement = placement(map);
        let claim = Claim::new(0.75, 200 << 20);
        let pools: Vec<PoolName> = ["web", "shop", "db"].iter().map(|name| name.parse().unwrap()).collect();
        let mut held: Vec<BTreeMap<u32, HostName>> = vec![BTreeMap::new(); 3];
        for order in orders {
            match order {
                Order::Place(pool, number) if held[pool].contains_key(&number) => {}
                Order::Place(pool, number) => {
                    let placed = ledger.place(Place {
                        pool: &pools[pool], number, placement: &placement, claim, prefer: None, leave: None,
                        unlisted: &BTreeSet::new(),
                    });
                    match placed {
                        Ok(host) => {
                            prop_assert!(rooms[&host].is_open);
                            held[pool].insert(number, host);
                        }
                        Err(_) => for (name, room) in &rooms {
                            let is_taken = anti_affinity && held[pool].values().any(|on| on == name);
                            let has_room = room.capacity.less(ledger.used(name)).holds(claim);
                            prop_assert!(!room.is_open || is_taken || !has_room, "{name} has room");
                        },
                    }
                }
                Order::Forget(pool, number) => {
                    held[pool].remove(&number);
                    let left = held[pool].iter();
                    let left = left.map(|(number, host)| Held { number: *number, host: host.clone(), claim });
                    ledger.set_pool(&pools[pool], left.collect::<Vec<_>>());
                }
                Order::Close(at, is_open) => {
                    if let Some(room) = rooms.get_mut(&host(at)) {
                        room.is_open = is_open;
                    }
                    ledger.set_hosts(rooms.clone());
                }
            }
            for (name, room) in &rooms {
                prop_assert!(room.capacity.holds(ledger.used(name)));
                let on = held.iter().flat_map(BTreeMap::values).filter(|on| *on == name).count();
                prop_assert_eq!(ledger.used(name), Claim { cpu: 750 * on as u64, memory: (200 << 20) * on as u64 });
                prop_assert_eq!(ledger.count(name), on);
            }
            if anti_affinity {
                for hosts in &held {
                    let distinct: BTreeSet<_> = hosts.values().collect();
                    prop_assert_eq!(distinct.len(), hosts.len());
                }
            }
        }
        for pool in &pools {
            ledger.set_pool(pool, []);
        }
        prop_assert!(rooms.keys().all(|name| ledger.used(name) == Claim::default()));
    }
}
