use lb_dataplane::host::{Link, Offloads};
use lb_model::{check::Via, options::Forward};

use super::*;
use crate::control::RealState;

/// A balancer with which all is well: one VIP over IP in IP, with a probe on the way of clients' packets.
fn sound() -> Facts {
    let setting = |(path, value): &(&str, i64)| ((*path).to_owned(), *value);
    Facts {
        interfaces: vec![InterfaceFacts {
            name: "eth0".to_owned(),
            attached: true,
            native: true,
            link: Some(link(1_540)),
            offloads: Offloads {
                lro: Some(false),
                gro: Some(true),
            },
            warning: String::new(),
        }],
        vips: vec![VipFacts {
            vip: "10.0.0.1:80/tcp".parse().unwrap(),
            keeps_source: false,
            check: Some(Via::Tunnel),
            reals: vec![RealFacts {
                address: [10, 1, 0, 2].into(),
                forward: Forward::Ipip,
                state: RealState::Active,
                probe_failure: None,
            }],
        }],
        reasons: [("forwarded_tx", 1_000), ("no_next_hop", 0)].into(),
        warnings: Vec::new(),
        host: HostFacts {
            kernel: "6.12.1-amd64".to_owned(),
            settings: [
                ("net/core/bpf_jit_enable", 1),
                ("net/ipv4/ip_forward", 1),
                ("net/ipv4/conf/all/rp_filter", 0),
                ("net/ipv4/conf/eth0/rp_filter", 2),
            ]
            .iter()
            .map(setting)
            .collect(),
            clock_synchronized: Some(true),
        },
    }
}

fn link(mtu: u32) -> Link {
    Link {
        index: 2,
        name: "eth0".to_owned(),
        up: true,
        carrier: true,
        mtu,
        mac: Some([2; 6]),
        programs: vec![7],
        native: true,
        is_veth: false,
        peer: None,
        peer_namespace: None,
    }
}

/// The findings: check, severity and command.
fn found<F>(checks: &[&Check<F>], facts: &F) -> Vec<(&'static str, &'static str, String)> {
    examine(checks, facts)
        .into_iter()
        .flat_map(|examined| {
            let findings = examined.findings.into_iter();
            findings.map(move |finding| (examined.name, finding.severity.name(), finding.mend))
        })
        .collect()
}

#[test]
fn a_sound_balancer_has_no_findings() {
    assert_eq!(found(BALANCER, &sound()), []);
}

#[test]
fn each_fault_of_a_balancer_is_found_with_what_mends_it() {
    type Fault = fn(&mut Facts);
    let faults: [(&str, &str, &str, Fault); 23] = [
        ("attachment", "problem", "ip link", |facts| {
            facts.interfaces[0].link = None;
        }),
        ("attachment", "problem", "ip link show eth0", |facts| {
            facts.interfaces[0].attached = false;
        }),
        ("attachment", "warning", "ethtool -i eth0", |facts| {
            facts.interfaces[0].native = false;
            facts.interfaces[0].offloads.gro = Some(false);
        }),
        ("attachment", "problem", "ip link set eth0 up", |facts| {
            facts.interfaces[0].link.as_mut().unwrap().up = false;
        }),
        ("attachment", "problem", "ethtool eth0", |facts| {
            facts.interfaces[0].link.as_mut().unwrap().carrier = false;
        }),
        ("offloads", "problem", "ethtool -K eth0 lro off", |facts| {
            facts.interfaces[0].offloads.lro = Some(true);
        }),
        ("mtu", "note", "ip link set eth0 mtu 1520", |facts| {
            facts.interfaces[0].link = Some(link(1_500));
        }),
        // IPv4 that becomes IPv6.
        ("mtu", "note", "ip link set eth0 mtu 1520", |facts| {
            facts.interfaces[0].link = Some(link(1_500));
            for real in &mut facts.vips[0].reals {
                real.forward = Forward::Nat;
                real.address = "fd00::2".parse().unwrap();
            }
        }),
        ("mtu", "warning", "ip link set eth0 mtu 1540", |facts| {
            facts.interfaces[0].link = Some(link(1_500));
            facts.vips[0].vip = "10.0.0.1:53/udp".parse().unwrap();
            facts.vips[0].reals[0].address = "2001:db8::2".parse().unwrap();
        }),
        ("next_hops", "problem", "ip route get 10.1.0.2", |facts| {
            facts.vips[0].reals[0].state = RealState::Unreachable;
            facts.warnings = vec!["the real 10.1.0.2 is unreachable: no route".to_owned()];
        }),
        (
            "reals",
            "warning",
            "lbctl set-vip 10.0.0.1:80/tcp --check 'tcp via=tunnel'",
            |facts| facts.vips[0].check = None,
        ),
        ("reals", "note", "lbctl set-vip", |facts| {
            facts.vips[0].check = Some(Via::Direct);
        }),
        // The other real of the VIP adds nothing.
        ("mtu", "note", "ip link set eth0 mtu 1528", |facts| {
            facts.interfaces[0].link = Some(link(1_500));
            let mut other = facts.vips[0].reals[0].clone();
            other.forward = Forward::L2;
            facts.vips[0].reals[0].forward = Forward::Gue;
            facts.vips[0].reals.push(other);
        }),
        (
            "reals",
            "note",
            "lbctl set-vip 10.0.0.1:80/tcp --source balancer",
            |facts| facts.vips[0].keeps_source = true,
        ),
        ("reals", "warning", "lbctl add-real", |facts| {
            facts.vips[0].reals.clear();
        }),
        (
            "reals",
            "problem",
            "on 10.1.0.2: lb-agent doctor",
            |facts| {
                facts.vips[0].reals[0].probe_failure = Some("timed out".to_owned());
            },
        ),
        (
            "reverse_path",
            "warning",
            "sysctl -w net.ipv4.conf.eth0.rp_filter=2",
            |facts| {
                let path = "net/ipv4/conf/eth0/rp_filter".to_owned();
                facts.host.settings.insert(path, 1);
            },
        ),
        ("drops", "problem", "start lb-agent run", |facts| {
            facts.reasons.insert("no_headroom", 3);
        }),
        (
            "stack",
            "note",
            "sysctl -w net.ipv4.ip_forward=1",
            |facts| {
                let path = "net/ipv4/ip_forward".to_owned();
                facts.host.settings.insert(path, 0);
            },
        ),
        ("kernel", "problem", "install a newer", |facts| {
            facts.host.kernel = "5.10.0".to_owned();
            facts.vips[0].check = Some(Via::Direct);
            facts.vips[0].reals[0].forward = Forward::L2;
        }),
        ("kernel", "warning", "lbctl set-vip", |facts| {
            facts.host.kernel = "6.1.0-56-amd64".to_owned();
        }),
        (
            "kernel",
            "problem",
            "sysctl -w net.core.bpf_jit_enable=1",
            |facts| {
                let path = "net/core/bpf_jit_enable".to_owned();
                facts.host.settings.insert(path, 0);
            },
        ),
        ("clock", "note", "timedatectl", |facts| {
            facts.host.clock_synchronized = Some(false);
        }),
    ];
    for (check, severity, mend, fault) in faults {
        let mut facts = sound();
        fault(&mut facts);
        let found = found(BALANCER, &facts);
        let [(name, how_bad, command)] = &found[..] else {
            panic!("{check}, {mend}: {found:#?}");
        };
        assert_eq!((*name, *how_bad), (check, severity), "{command}");
        assert!(command.contains(mend), "{command} and not {mend}");
    }
}

#[test]
fn a_real_of_mode_nat_needs_no_vip() {
    let mut facts = sound();
    facts.vips[0].keeps_source = true;
    facts.vips[0].reals[0].forward = Forward::Nat;
    assert_eq!(found(BALANCER, &facts), []);
    facts.vips[0].reals[0].probe_failure = Some("timed out".to_owned());
    let found = found(BALANCER, &facts);
    let [("reals", "problem", mend)] = &found[..] else {
        panic!("{found:#?}");
    };
    assert!(mend.contains("look at the server on 10.1.0.2"), "{mend}");
}

#[test]
fn merged_segments_matter_in_generic_mode() {
    let mut facts = sound();
    facts.interfaces[0].native = false;
    let found = found(BALANCER, &facts);
    assert!(
        found
            .iter()
            .any(|(name, _, mend)| *name == "offloads" && mend == "ethtool -K eth0 gro off"),
        "{found:#?}"
    );
}

#[test]
fn the_worst_comes_first() {
    let mut facts = sound();
    facts.vips[0].check = None;
    facts.vips[0].reals[0].probe_failure = Some("timed out".to_owned());
    let reals = examine(BALANCER, &facts);
    let reals = reals
        .iter()
        .find(|examined| examined.name == "reals")
        .unwrap();
    let severities: Vec<_> = reals
        .findings
        .iter()
        .map(|finding| finding.severity)
        .collect();
    assert_eq!(severities, [Severity::Problem, Severity::Warning]);
}

/// A real with which all is well.
fn sound_real() -> RealHostFacts {
    let vip = [10, 0, 0, 1].into();
    let balancer = sound();
    let mut host = balancer.host;
    for (path, value) in [
        ("net/ipv4/conf/all/arp_ignore", 1),
        ("net/ipv4/conf/all/arp_announce", 2),
        ("net/ipv4/tcp_mtu_probing", 1),
    ] {
        host.settings.insert(path.to_owned(), value);
    }
    RealHostFacts {
        vips: vec![vip],
        tunnelled: true,
        loopback: vec![[127, 0, 0, 1].into(), vip],
        interfaces: balancer.interfaces,
        host,
    }
}

#[test]
fn each_fault_of_a_real_is_found_with_what_mends_it() {
    assert_eq!(found(REAL, &sound_real()), []);
    type Fault = fn(&mut RealHostFacts);
    let faults: [(&str, &str, Fault); 7] = [
        (
            "vip",
            "lb-agent real --iface eth0 --vip 10.0.0.1",
            |facts| {
                facts.loopback.pop();
            },
        ),
        (
            "decap",
            "lb-agent real --iface eth0 --vip 10.0.0.1",
            |facts| {
                facts.interfaces[0].attached = false;
            },
        ),
        ("decap", "ethtool -i eth0", |facts| {
            facts.interfaces[0].native = false;
        }),
        (
            "silence",
            "sysctl -w net.ipv4.conf.all.arp_ignore=1",
            |facts| {
                let path = "net/ipv4/conf/all/arp_ignore".to_owned();
                facts.host.settings.insert(path, 0);
            },
        ),
        (
            "reverse_path",
            "sysctl -w net.ipv4.conf.eth0.rp_filter=2",
            |facts| {
                let path = "net/ipv4/conf/eth0/rp_filter".to_owned();
                facts.host.settings.insert(path, 1);
            },
        ),
        (
            "mtu_probing",
            "sysctl -w net.ipv4.tcp_mtu_probing=1",
            |facts| {
                let path = "net/ipv4/tcp_mtu_probing".to_owned();
                facts.host.settings.insert(path, 0);
            },
        ),
        ("clock", "timedatectl", |facts| {
            facts.host.clock_synchronized = Some(false);
        }),
    ];
    for (check, mend, fault) in faults {
        let mut facts = sound_real();
        fault(&mut facts);
        let found = found(REAL, &facts);
        let [(name, _, command)] = &found[..] else {
            panic!("{check}: {found:#?}");
        };
        assert_eq!(*name, check);
        assert!(command.contains(mend), "{command}");
    }
    // Without a tunnel there is nothing to take off.
    let mut facts = sound_real();
    facts.tunnelled = false;
    facts.interfaces[0].attached = false;
    assert_eq!(found(REAL, &facts), []);
}
