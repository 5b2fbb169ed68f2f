//! Files that are right, and files that are not.

use super::*;
use crate::intent::{RealSpec, VipSpec};
use lb_dataplane::options::Options;

fn read(text: &str) -> Result<Config, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Config::read(file.path()).map_err(|error| error.to_string())
}

#[test]
fn a_full_file_is_read() {
    let config = read(
        r#"
        interfaces = ["eth0", "eth1"]
        xdp_mode = "native"
        listen = ["unix:/run/lb-agent/api.sock", "http://127.0.0.1:7070"]
        metrics = "[::1]:9464"
        state = "/var/lib/lb-agent"
        pins = "/sys/fs/bpf/lb-agent"
        ring_seed = 7
        outer_source_v4 = "198.18.0.0/16"
        outer_source_v6 = "2001:2::/96"
        flow_entries = 1048576
        exec_checks = true
        kernel_log = "info"

        [[vip]]
        address = "10.0.0.1:80/tcp"
        forward = "ipip"
        ring = "maglev"
        track = "all"
        window = "2h"
        slots = 65536
        [[vip.real]]
        address = "10.1.0.2"
        weight = 3
        [[vip.real]]
        address = "fd00::2"
        drained = true
        "#,
    )
    .unwrap();
    assert_eq!(config.interfaces, ["eth0", "eth1"]);
    assert_eq!(config.listen.len(), 2);
    assert_eq!(config.metrics, Some("[::1]:9464".parse().unwrap()));
    assert_eq!(config.exec_checks, Some(true));
    assert_eq!(config.vips[0].window, Some(Duration::from_secs(7_200)));
    assert_eq!(config.changes().len(), 3);
}

/// The example names every key, and shows the defaults of those that have one.
#[test]
fn the_example_is_right() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/lb.toml");
    let config = Config::read(&path).unwrap();
    let defaults = Options::new(config.interfaces.clone());
    assert_eq!(config.interfaces, ["eth0"]);
    assert_eq!(config.xdp_mode, Some(defaults.xdp_mode));
    assert_eq!(config.listen, [Endpoint::default()]);
    assert_eq!(config.pins, Some(defaults.pins));
    assert_eq!(config.ring_seed, Some(defaults.ring_seed));
    assert_eq!(config.outer_source_v4, Some(defaults.source_v4));
    assert_eq!(config.outer_source_v6, Some(defaults.source_v6));
    assert_eq!(config.flow_entries, Some(defaults.flow_entries));
    assert_eq!(
        config.exec_checks,
        Some(crate::control::Options::default().exec_checks)
    );
    assert_eq!(config.kernel_log, Some(KernelLog::default()));
    assert!(config.state.is_some());

    let vip = &config.vips[0];
    let spec = VipSpec::default_for(vip.address.protocol);
    assert_eq!(vip.forward, Some(spec.forward));
    assert_eq!(vip.ring, Some(spec.ring));
    assert_eq!(vip.track, Some(spec.track));
    assert_eq!(vip.window, Some(spec.window));
    assert_eq!(
        vip.slots,
        Some(lb_model::ring::default_slots(vip.reals.len()))
    );
    let real = RealSpec::default();
    assert_eq!(vip.reals[0].weight, Some(real.weight));
    assert_eq!(vip.reals[0].drained, Some(real.drained));
}

#[test]
fn an_empty_file_says_nothing() {
    let config = read("").unwrap();
    assert!(
        config.interfaces.is_empty()
            && config.listen.is_empty()
            && config.vips.is_empty()
            && config.metrics.is_none()
    );
}

#[test]
fn vips_stand_in_for_each_other_in_any_order() {
    let config = read(
        r#"
        [[vip]]
        address = "10.0.0.1:80/tcp"
        when_empty = "10.0.0.2:80/tcp"
        [[vip]]
        address = "10.0.0.2:80/tcp"
        when_empty = "10.0.0.1:80/tcp"
        [vip.check]
        kind = "exec"
        command = ["/bin/true"]
        "#,
    )
    .unwrap();
    let intent = config.intent().unwrap();
    let name = |text: &str| text.parse::<VipAddress>().unwrap();
    for (vip, other) in
        [(1, 2), (2, 1)].map(|(a, b)| (format!("10.0.0.{a}:80/tcp"), format!("10.0.0.{b}:80/tcp")))
    {
        let spec = &intent.get(&name(&vip)).unwrap().spec;
        assert_eq!(spec.when_empty, WhenEmpty::Fallback(name(&other)));
    }
    assert_eq!(config.running_programs(), [name("10.0.0.2:80/tcp")]);
}

#[test]
fn what_is_wrong_is_named() {
    for (text, names) in [
        ("interface = [\"eth0\"]", "interface"),
        (
            "[[vip]]\naddress = \"10.0.0.1:80\"",
            "ADDRESS:PORT/PROTOCOL",
        ),
        (
            "[[vip]]\naddress = \"10.0.0.1:80/tcp\"\nwindow = \"1 week\"",
            "1 week",
        ),
        (
            "[[vip]]\naddress = \"10.0.0.1:80/tcp\"\nwindow = \"31d\"",
            ": VIP 10.0.0.1:80/tcp: window: ",
        ),
        (
            "[[vip]]\naddress = \"10.0.0.1:80/tcp\"\n[[vip]]\naddress = \"10.0.0.1:80/tcp\"",
            "exists already",
        ),
        (
            "[[vip]]\naddress = \"10.0.0.1:80/tcp\"\n[[vip.real]]\naddress = \"224.0.0.1\"",
            "unicast",
        ),
        (
            "[[vip]]\naddress = \"10.0.0.1:80/tcp\"\n[[vip.real]]\naddress = \"10.1.0.2\"\nweight = 70000",
            ": VIP 10.0.0.1:80/tcp, real 10.1.0.2: weight: 70000",
        ),
        (
            "interfaces = [\"eth0\", \"eth1\", \"eth0\"]",
            "eth0 is given twice",
        ),
        (
            "[[vip]]\naddress = \"10.0.0.1:80/tcp\"\nwhen_empty = \"10.0.0.2:80/tcp\"",
            "there is no such VIP",
        ),
        (
            "[[vip]]\naddress = \"10.0.0.1:80/tcp\"\n[vip.check]\nkind = \"tcp\"\nintervall = \"2s\"",
            "fast_interval",
        ),
        (
            "[[vip]]\naddress = \"10.0.0.1:80/tcp\"\n[vip.check]\nkind = \"mqtts\"",
            "MQTT and gRPC over TLS",
        ),
        (
            "[[vip]]\naddress = \"10.0.0.1:80/tcp\"\n[[vip.real]]\naddress = \"10.1.0.2\"\nweigth = 1",
            "weigth",
        ),
        (
            "[[vip]]\naddress = \"10.0.0.1:80/tcp\"\nwindow = 90",
            "a time with its unit",
        ),
        (
            "[[vip]]\naddress = \"10.0.0.1:80/tcp\"\ncheck = { kind = \"tcp\", interval = 2 }",
            "a time with its unit",
        ),
        (
            "[[vip]]\naddress = \"10.0.0.1:80/tcp\"\ncheck = { kind = \"http\", tls = true }",
            "{} for TLS as it comes",
        ),
        (
            "[[vip]]\naddress = \"10.0.0.1:80/tcp\"\ncheck = { kind = \"exec\", command = \"/bin/true\" }",
            "each argument as a text of its own",
        ),
        (
            "[[vip]]\naddress = \"10.0.0.1:80/tcp\"\nshed = \"reset\"",
            "a table, as { by = \"reset\" }",
        ),
        (
            "[[vip]]\naddress = \"10.0.0.1:80/tcp\"\nsteering = \"capacity\"",
            "a table, as { controller",
        ),
        (
            "[[vip]]\naddress = \"10.0.0.1:80/tcp\"\nload = [\"mosquitto\"]",
            "a table, as { kind",
        ),
        (
            "[[vip]]\naddress = \"10.0.0.1:80/tcp\"\n[[vip.real]]\naddress = \"10.1.0.2:80\"",
            "10.1.0.2:80: write a real as an address alone",
        ),
        ("interfaces = [\"a/b\"]", "no interface's name"),
        ("interfaces = [\"averyveryverylongname\"]", "1 to 15"),
        ("listen = [\"http://0.0.0.0:7070\"]", "loopback"),
        ("listen = [\"/run/x\"]", "unix:PATH"),
        ("metrics = \":9464\"", "127.0.0.1:9464"),
        ("xdp_mode = \"fast\"", "fast"),
        ("outer_source_v4 = \"10.0.0.0\"", "10.0.0.0"),
        ("outer_source_v4 = \"2001:2::/96\"", "no IPv4 prefix"),
        ("outer_source_v6 = \"198.18.0.0/16\"", "no IPv6 prefix"),
    ] {
        let error = read(text).expect_err(text);
        assert!(error.contains(names), "{text}: {error}");
    }
}
