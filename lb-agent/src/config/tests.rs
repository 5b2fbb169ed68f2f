//! Files that are right, and files that are not.

use lb_model::settings::Settings as _;

use super::*;
use lb_dataplane::options::{Options, XdpMode};
use lb_model::intent::{RealSpec, VipSpec};
use lb_serve::Endpoint;
use serde_json::json;

fn name(text: &str) -> VipKey {
    text.parse().unwrap()
}

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
    let agent = &config.agent;
    assert_eq!(agent.interfaces, ["eth0", "eth1"]);
    assert_eq!(agent.xdp_mode, XdpMode::Native);
    assert_eq!(agent.listen.len(), 2);
    assert_eq!(agent.metrics, Some("[::1]:9464".parse().unwrap()));
    assert_eq!((agent.ring_seed, agent.flow_entries), (7, 1_048_576));
    assert!(agent.exec_checks);
    assert_eq!(agent.kernel_log, KernelLog::Info);
    let vip = config.intent.get(&name("10.0.0.1:80/tcp")).unwrap();
    assert_eq!(vip.window(), std::time::Duration::from_secs(7_200));
    assert_eq!((&vip.owner, vip.reals.len()), (&Owner::File, 2));
}

/// The example names every key, and shows the defaults of those that have one.
#[test]
fn the_example_is_right() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/lb.toml");
    let config = Config::read(&path).unwrap();
    let agent = AgentSettings {
        interfaces: vec!["eth0".to_owned()],
        metrics: Some(crate::metrics::EXAMPLE_ADDRESS.parse().unwrap()),
        ..AgentSettings::default()
    };
    assert_eq!(config.agent, agent);
    let defaults = Options::new(agent.interfaces.clone());
    assert_eq!(agent.xdp_mode, defaults.xdp_mode);
    assert_eq!(agent.listen, [Endpoint::default()]);
    assert_eq!(Path::new(&agent.pins), defaults.pins);
    assert_eq!(agent.ring_seed, defaults.ring_seed);
    assert_eq!(agent.outer_source_v4, defaults.source_v4);
    assert_eq!(agent.outer_source_v6, defaults.source_v6);
    assert_eq!(agent.flow_entries, defaults.flow_entries);
    assert_eq!(
        agent.exec_checks,
        crate::control::Options::default().exec_checks
    );
    let text = std::fs::read_to_string(&path).unwrap();
    for field in AgentSettings::fields() {
        assert!(
            text.contains(&format!("\n{} = ", field.name)),
            "{}",
            field.name
        );
    }

    let text = std::fs::read_to_string(&path).unwrap();
    let file = Value::Object(document::Document::parse(&text).unwrap().settings());
    let set = file["vip"][0].as_object().unwrap();
    let vip = config.intent.vips().next().unwrap();
    for field in VipSpec::fields() {
        assert!(set.contains_key(field.name), "{}", field.name);
    }
    let spec = VipSpec::default();
    assert_eq!(set["forward"], json!(spec.forward));
    assert_eq!(set["ring"], json!(spec.ring));
    assert_eq!(set["track"], json!(spec.track));
    assert_eq!(
        vip.window(),
        lb_model::intent::spec::default_window(vip.address.protocol)
    );
    assert_eq!(
        vip.spec.slots,
        Some(lb_model::ring::default_slots(vip.reals.len()))
    );
    let real = RealSpec::default();
    let set = set["real"][0].as_object().unwrap();
    for field in RealSpec::fields() {
        assert!(set.contains_key(field.name), "{}", field.name);
    }
    assert_eq!(set["weight"], json!(real.weight));
    assert_eq!(set["drained"], json!(real.drained));
}

#[test]
fn an_empty_file_says_nothing() {
    let config = read("").unwrap();
    assert_eq!(config, Config::default());
    assert!(config.agent.interfaces.is_empty() && config.intent.is_empty());
    assert!(config.agent.metrics.is_none());
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
    let intent = &config.intent;
    let name = |text: &str| text.parse::<VipKey>().unwrap();
    for (vip, other) in
        [(1, 2), (2, 1)].map(|(a, b)| (format!("10.0.0.{a}:80/tcp"), format!("10.0.0.{b}:80/tcp")))
    {
        let spec = &intent.get(&name(&vip)).unwrap().spec;
        assert_eq!(spec.when_empty, WhenEmpty::Fallback(name(&other)));
    }
    assert_eq!(
        crate::control::running_programs(&config.intent),
        [name("10.0.0.2:80/tcp")]
    );
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
            ":1: interfaces: eth0: it is given twice",
        ),
        (
            "[[vip]]\naddress = \"10.0.0.1:80/tcp\"\nwhen_empty = \"10.0.0.2:80/tcp\"",
            "there is no such VIP",
        ),
        (
            "[[vip]]\naddress = \"10.0.0.1:80/tcp\"\n[vip.check]\nkind = \"tcp\"\nintervall = \"2s\"",
            ":5: VIP 10.0.0.1:80/tcp: check.intervall: 2s: there is no such setting; there are interval, fast_interval",
        ),
        (
            "[[vip]]\naddress = \"10.0.0.1:80/tcp\"\n[vip.check]\nkind = \"mqtts\"",
            "there is no such probe; there are tcp, http",
        ),
        (
            "[[vip]]\naddress = \"10.0.0.1:80/tcp\"\n[[vip.real]]\naddress = \"10.1.0.2\"\nweigth = 1",
            ":5: VIP 10.0.0.1:80/tcp, real 10.1.0.2: weigth: 1: there is no such setting",
        ),
        (
            "[[vip]]\naddress = \"10.0.0.1:80/tcp\"\nwindow = 90",
            "a number with a unit",
        ),
        (
            "[[vip]]\naddress = \"10.0.0.1:80/tcp\"\ncheck = { kind = \"tcp\", interval = 2 }",
            "a number with a unit",
        ),
        (
            "[[vip]]\naddress = \"10.0.0.1:80/tcp\"\ncheck = { kind = \"http\", tls = true }",
            "check.tls: true: give a table of settings",
        ),
        (
            "[[vip]]\naddress = \"10.0.0.1:80/tcp\"\ncheck = { kind = \"exec\", command = \"/bin/true\" }",
            "check.command: /bin/true: give a list",
        ),
        (
            "[[vip]]\naddress = \"10.0.0.1:80/tcp\"\nshed = \"reset\"",
            "shed: reset: give a table of settings, such as { by = \"reset\" }",
        ),
        (
            "[[vip]]\naddress = \"10.0.0.1:80/tcp\"\nsteering = \"capacity\"",
            "steering: capacity: give a table of settings, such as { controller = ",
        ),
        (
            "[[vip]]\naddress = \"10.0.0.1:80/tcp\"\nload = [\"mosquitto\"]",
            "load[0]: mosquitto: give a table of settings, such as { kind = ",
        ),
        (
            "[[vip]]\naddress = \"10.0.0.1:80/tcp\"\n[[vip.real]]\naddress = \"10.1.0.2:80\"",
            "10.1.0.2:80: write a real as an address alone",
        ),
        ("interfaces = [\"a/b\"]", "not the name of an interface"),
        ("interfaces = [\"averyveryverylongname\"]", "1 to 15"),
        ("listen = [\"http://0.0.0.0:7070\"]", "loopback"),
        ("listen = [\"/run/x\"]", "unix:PATH"),
        ("metrics = \":9464\"", "127.0.0.1:9464"),
        ("xdp_mode = \"fast\"", "fast"),
        ("outer_source_v4 = \"10.0.0.0\"", "10.0.0.0"),
        (
            "outer_source_v4 = \"2001:2::/96\"",
            "outer_source_v4: 2001:2::/96: give an IPv4 prefix",
        ),
        (
            "outer_source_v6 = \"198.18.0.0/16\"",
            "outer_source_v6: 198.18.0.0/16: give an IPv6 prefix",
        ),
    ] {
        let error = read(text).expect_err(text);
        assert!(error.contains(names), "{text}: {error}");
    }
}
