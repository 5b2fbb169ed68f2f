//! Routes that change faster than their notifications are read.

use std::{fmt::Write as _, fs, net::IpAddr};

use lb_dataplane::{netlink::NextHops, resolver::Resolver as _};
use lb_tests::{Namespace, wait_for};

use crate::testbed::PATIENCE;

/// Addresses behind one of two routers.
const TARGETS: u8 = 100;
/// Routes that are of no interest, added and removed again, before each change of a route that is.
const NOISE: u32 = 100;
/// The kernel gives a socket room for some hundred notifications.
const ATTEMPTS: usize = 100;

/// The last byte of a router's IP address, and of its MAC address.
const ROUTERS: [u8; 2] = [1, 2];

fn target(number: u8) -> IpAddr {
    [10, 41, 0, number].into()
}

/// A script for `ip` that leads each target by way of a router, among many other changes.
fn script(router: u8) -> String {
    let mut script = String::new();
    for number in 0..TARGETS {
        for change in ["add", "del"] {
            for other in 0..NOISE {
                let (a, b) = (other / 250, other % 250);
                writeln!(
                    script,
                    "route {change} 10.{}.{a}.{b}/32 dev eth0",
                    100 + number % 100
                )
                .unwrap();
            }
        }
        let target = target(number);
        writeln!(script, "route replace {target}/32 via 10.40.0.{router}").unwrap();
    }
    script
}

pub fn next_hops_are_right_though_notifications_were_dropped() {
    let host = Namespace::new("host").unwrap();
    host.sh("ip link add eth0 type veth peer name far0")
        .unwrap();
    host.sh("ip address add 10.40.0.254/24 dev eth0").unwrap();
    host.sh("ip link set far0 up").unwrap();
    host.sh("ip link set eth0 up").unwrap();
    for router in ROUTERS {
        host.sh(&format!(
            "ip neigh replace 10.40.0.{router} lladdr 02:00:00:00:00:0{router} dev eth0 nud permanent"
        ))
        .unwrap();
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let follow = |router: u8| {
        fs::write(file.path(), script(router)).unwrap();
        let path = file.path().to_str().unwrap();
        host.run(["ip", "-batch", path]).unwrap();
    };
    follow(ROUTERS[0]);
    let (hops, _changed) = host.enter(NextHops::start).unwrap().unwrap();
    for number in 0..TARGETS {
        hops.add(target(number));
    }
    let wait_router = |router: u8| {
        wait_for("the next hop of each target", PATIENCE, || {
            let right = |number| {
                let hop = hops.resolve(target(number));
                hop.is_some_and(|hop| hop.dest_mac == [2, 0, 0, 0, 0, router])
            };
            Ok((0..TARGETS).all(right).then_some(()))
        })
        .unwrap();
    };
    wait_router(ROUTERS[0]);
    let mut routers = ROUTERS.iter().rev().cycle();
    for _ in 0..ATTEMPTS {
        let before = hops.overflows();
        let router = *routers.next().unwrap();
        follow(router);
        // Without a notification an address is looked up every 30 s, which is longer than this waits.
        wait_router(router);
        if hops.overflows() > before {
            return;
        }
    }
    panic!("the kernel has dropped no notification");
}
