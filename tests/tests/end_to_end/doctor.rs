//! `lbctl doctor` and `lb-agent doctor` find what is wrong, and their commands mend it.

use lb_tests::{AgentOptions, binary, wait_for};
use serde_json::Value;

use crate::fixture::{HTTP_V4, PATIENCE, Testbed, serve};

/// The findings, as check, severity, object and command. A problem fails the verb.
fn findings(testbed: &Testbed) -> (bool, Vec<(String, String, String, String)>) {
    let output = testbed
        .agent
        .lbctl_command(["-o", "json", "doctor"])
        .unwrap()
        .output()
        .unwrap();
    let checks: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let findings = checks.as_array().unwrap().iter().flat_map(|check| {
        let findings = check["findings"].as_array().unwrap();
        findings.iter().map(|finding| {
            (
                text(&check["check"]),
                text(&finding["severity"]),
                text(&finding["object"]),
                text(&finding["mend"]),
            )
        })
    });
    (output.status.success(), findings.collect())
}

pub fn what_is_wrong_with_a_balancer_is_found_and_mended() {
    let testbed = Testbed::new(1, &[HTTP_V4], AgentOptions::default()).unwrap();
    let balancer = &testbed.network.balancer;
    serve(&testbed, HTTP_V4, "--forward ipip", false, &[100]);
    let of = |check: &str| -> Vec<(String, String, String)> {
        let (_, findings) = findings(&testbed);
        let of_check = findings.into_iter().filter(|finding| finding.0 == check);
        of_check
            .map(|finding| (finding.1, finding.2, finding.3))
            .collect()
    };
    let (is_well, all) = findings(&testbed);
    assert!(is_well, "{all:#?}");
    assert!(
        !all.iter().any(|finding| finding.1 == "problem"),
        "{all:#?}"
    );

    // No health check: the command that is given makes one.
    let reals = of("reals");
    let [(severity, object, mend)] = &reals[..] else {
        panic!("{reals:#?}");
    };
    assert_eq!((&**severity, &**object), ("warning", HTTP_V4));
    balancer
        .sysctl("net/ipv4/conf/eth0/rp_filter", "1")
        .unwrap();
    let words = shlex(mend.strip_prefix("lbctl ").unwrap());
    testbed.agent.lbctl(words).unwrap();
    assert_eq!(of("reals"), []);

    // Probes now come back from the VIP's address.
    let strict = of("reverse_path");
    let [(_, object, mend)] = &strict[..] else {
        panic!("{strict:#?}");
    };
    assert_eq!(object, "eth0");
    balancer.sh(mend).unwrap();
    assert_eq!(
        balancer
            .sysctl_value("net/ipv4/conf/eth0/rp_filter")
            .unwrap()
            .trim(),
        "2"
    );
    assert_eq!(of("reverse_path"), []);

    // An outer header does not fit beside a client's largest packet.
    let mtu = of("mtu");
    let [(severity, _, mend)] = &mtu[..] else {
        panic!("{mtu:#?}");
    };
    assert_eq!(severity, "note");
    let (command, _) = mend.split_once(',').unwrap();
    assert_eq!(command, "ip link set eth0 mtu 1520");
    balancer.sh(command).unwrap();
    assert_eq!(of("mtu"), []);

    // The host's stack sends nothing on.
    balancer.sysctl("net/ipv4/ip_forward", "0").unwrap();
    let stack = of("stack");
    assert_eq!(stack.len(), 1, "{stack:#?}");
    balancer.sh(&stack[0].2).unwrap();
    assert_eq!(of("stack"), []);

    // A real that nobody can reach.
    testbed
        .agent
        .ctl(&format!("add-real {HTTP_V4} 10.10.30.250"))
        .unwrap();
    let (is_well, _) = findings(&testbed);
    assert!(!is_well, "a problem fails the verb");
    let unreachable = of("next_hops");
    let [(severity, object, mend)] = &unreachable[..] else {
        panic!("{unreachable:#?}");
    };
    assert_eq!(
        (&**severity, &**object),
        ("problem", "192.0.2.10:80/tcp real 10.10.30.250")
    );
    assert!(mend.starts_with("ip route get 10.10.30.250"), "{mend}");
    testbed
        .agent
        .ctl(&format!("del-real {HTTP_V4} 10.10.30.250"))
        .unwrap();
    assert_eq!(of("next_hops"), []);
}

/// Words of a command in which single quotes keep some together.
fn shlex(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in line.split('\'').enumerate() {
        if at % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

pub fn a_real_without_its_program_is_found_from_both_ends() {
    let mut testbed = Testbed::new(1, &[HTTP_V4], AgentOptions::default()).unwrap();
    serve(&testbed, HTTP_V4, "--forward ipip", false, &[100]);
    // Probes leave the host as packets to the VIP; that neighbour never gets them.
    let balancer = &testbed.network.balancer;
    let route = format!("ip route add 192.0.2.0/24 via {}", testbed.client.v4);
    balancer.sh(&route).unwrap();
    testbed
        .lbctl(&[
            "set-vip",
            HTTP_V4,
            "--check",
            "tcp interval=200ms via=tunnel",
        ])
        .unwrap();
    let address = testbed.backends[0].address();
    testbed.wait_healthy(HTTP_V4, &address).unwrap();
    let own = |testbed: &Testbed| {
        let program = binary("lb-agent").unwrap();
        let output = testbed.backends[0]
            .host
            .command(program)
            .args(["doctor", "--iface", "eth0", "--vip", HTTP_V4])
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    let (is_well, text) = own(&testbed);
    assert!(is_well, "{text}");
    for check in ["vip", "decap", "silence", "reverse_path", "mtu_probing"] {
        assert!(text.contains(&format!("ok       {check}: ")), "{text}");
    }

    testbed.backends[0].real.take().unwrap().stop().unwrap();
    let (is_well, text) = own(&testbed);
    assert!(!is_well, "{text}");
    for part in [
        "problem  vip: 192.0.2.10: it is no address of lo",
        "problem  decap: eth0: no XDP program is attached",
        "mend: lb-agent real --iface eth0 --vip 192.0.2.10",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let found = wait_for("a failed probe", PATIENCE, || {
        let (is_well, findings) = findings(&testbed);
        let of_reals = findings.into_iter().find(|finding| finding.0 == "reals");
        Ok(of_reals.filter(|_| !is_well))
    })
    .unwrap();
    assert_eq!(found.1, "problem");
    assert_eq!(found.2, format!("{HTTP_V4} real {address}"));
    assert_eq!(
        found.3,
        format!("on {address}: lb-agent doctor --iface IFACE --vip 192.0.2.10")
    );
}
