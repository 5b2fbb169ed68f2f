//! The command line of QEMU for an instance, and what its guest is told, purely.
//!
//! QEMU works in the instance's folder, so all files of the instance have short names without commas, which QEMU's options
//! would read as the end of a value.

use std::{ffi::OsString, fmt::Write as _, net::IpAddr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use lb_model::pool::{Launch, Network, Vm};

use crate::{
    network::{INNER, mac},
    spawn::INSTANCE,
};

/// Sockets in the instance's folder: the monitor for those who operate the machine, the one for those who look at it, and
/// the guest's agent.
pub const CONTROL: &str = "control.sock";
pub const LOOK: &str = "look.sock";
pub const AGENT: &str = "agent.sock";
/// Files in it: the process id that QEMU writes when it is ready, what the guest is told, how the program in the guest
/// ended, the layer above the disk image, and the folder that becomes the disk for cloud-init.
pub const PID: &str = "qemu.pid";
pub const START: &str = "start";
pub const ENDED: &str = "ended";
pub const DISK: &str = "disk.qcow2";
pub const SEED: &str = "seed";
/// The name of [`START`] among the files that the firmware hands over.
const START_KEY: &str = "opt/lb/start";

/// The guest's address in QEMU's own network, and the way out of it.
const USER_ADDRESS: &str = "10.0.2.15/24";
const USER_GATEWAY: &str = "10.0.2.2";
/// Ends a file among what a guest is told; base64 has no such letters.
const END: &str = "__END__";

/// What emulates the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor itself.
    Kvm,
    /// QEMU, with all processors of a guest in one thread: version 7 crashes now and then with a thread for each.
    OneThread,
    /// QEMU, with a thread for each processor of a guest.
    Threads,
}

/// Where a machine begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin<'a> {
    /// At its firmware, told what to run.
    Boot,
    /// At its firmware, waiting for what it is to run.
    Idle,
    /// In the state that is read from this descriptor of the process.
    File(i32),
    /// In the state that another process sends to this address: `tcp:ADDRESS:PORT`.
    Peer(&'a str),
}

/// An interface of a guest on a bridge.
struct Interface {
    name: String,
    address: IpAddr,
    prefix: u8,
    gateway: Option<IpAddr>,
    mtu: Option<u32>,
}

impl Interface {
    /// Those of a machine that is connected to bridges, that with its own address first.
    fn all(launch: &Launch) -> Vec<Self> {
        let Some(attachment) = launch.attachment() else {
            return Vec::new();
        };
        let first = Interface {
            name: INNER.to_owned(),
            address: launch.endpoint.ip(),
            prefix: attachment.prefix,
            gateway: attachment.gateway,
            mtu: attachment.mtu,
        };
        let further = attachment.legs.iter().zip(1..).map(|(leg, at)| Interface {
            name: format!("eth{at}"),
            address: leg.address,
            prefix: leg.prefix,
            gateway: None,
            mtu: leg.mtu,
        });
        std::iter::once(first).chain(further).collect()
    }

    fn mac(&self) -> String {
        mac_text(self.address)
    }

    const fn family(&self) -> &'static str {
        if self.address.is_ipv4() { "-4" } else { "-6" }
    }
}

/// The MAC address of an interface with this address, as text.
fn mac_text(address: IpAddr) -> String {
    mac(&address.to_string())
        .map(|byte| format!("{byte:02x}"))
        .join(":")
}

/// The arguments of QEMU. `taps` are the interfaces of the host by which the machine is connected to bridges.
#[must_use]
pub fn arguments(
    launch: &Launch,
    vm: &Vm,
    taps: &[String],
    accelerator: Accelerator,
    begin: Begin<'_>,
) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    let mut add = |option: &str, value: OsString| words.extend([option.into(), value]);
    add("-name", launch.name.to_string().into());
    add(
        "-accel",
        match accelerator {
            Accelerator::Kvm => "kvm",
            Accelerator::OneThread => "tcg,thread=single,tb-size=64",
            Accelerator::Threads => "tcg,thread=multi,tb-size=64",
        }
        .into(),
    );
    if accelerator == Accelerator::Kvm {
        add("-cpu", "host".into());
    }
    add("-machine", vm.board.name().into());
    // In bytes; a plain number would be in MiB.
    add("-m", format!("{}B", vm.ram.0).into());
    add("-smp", vm.vcpus.to_string().into());
    add("-display", "none".into());
    add("-pidfile", PID.into());
    // The guest's console goes on where it was, whoever starts the machine.
    add("-chardev", "file,id=log,path=log,append=on".into());
    add("-serial", "chardev:log".into());
    add("-serial", format!("file:{ENDED}").into());
    for socket in [CONTROL, LOOK] {
        add("-qmp", format!("unix:{socket},server=on,wait=off").into());
    }
    add("-device", "virtio-serial-pci".into());
    add(
        "-chardev",
        format!("socket,id=agent,path={AGENT},server=on,wait=off").into(),
    );
    add(
        "-device",
        "virtserialport,chardev=agent,name=org.qemu.guest_agent.0".into(),
    );
    // Without a ROM, with which a machine of the network would boot.
    let card = |at: usize, mac: &str| format!("virtio-net-pci,netdev=net{at},mac={mac},romfile=");
    if let Network::Host { inner_port } = launch.network {
        let endpoint = launch.endpoint;
        let inner = inner_port.unwrap_or(endpoint.port());
        let netdev = format!("user,id=net0,hostfwd=tcp:{endpoint}-:{inner}");
        add("-netdev", netdev.into());
        add("-device", card(0, &mac_text(endpoint.ip())).into());
    }
    for (at, (tap, interface)) in taps.iter().zip(Interface::all(launch)).enumerate() {
        let netdev = format!("tap,id=net{at},ifname={tap},script=no,downscript=no");
        add("-netdev", netdev.into());
        add("-device", card(at, &interface.mac()).into());
    }
    if let Some(kernel) = &vm.kernel {
        add("-kernel", kernel.into());
        add("-append", vm.append.clone().into());
        if let Some(initrd) = &vm.initrd {
            add("-initrd", initrd.into());
        }
    }
    if vm.disk.is_some() {
        add(
            "-drive",
            format!("file={DISK},format=qcow2,if=virtio").into(),
        );
    }
    if vm.has_seed() {
        add(
            "-drive",
            format!("driver=vvfat,dir={SEED},label=CIDATA,read-only=on,if=virtio").into(),
        );
    }
    match begin {
        Begin::Boot => add("-fw_cfg", format!("name={START_KEY},file={START}").into()),
        Begin::Idle => {}
        // A machine with a saved state has booted without the file.
        Begin::File(descriptor) => add("-incoming", format!("fd:{descriptor}").into()),
        Begin::Peer(address) => add("-incoming", address.into()),
    }
    words.extend(["-nodefaults", "-no-user-config"].map(OsString::from));
    words
}

/// What the guest is told, as a script of its shell: its name, its network, files that it is to have (`lb_file` is a function
/// of the guest's), and the program that it runs.
#[must_use]
pub fn start_script(launch: &Launch, files: &[(String, Vec<u8>)]) -> String {
    let mut text = String::new();
    let mut set = |name: &str, value: &str| {
        // Writing to a text never fails.
        let _ = writeln!(text, "{name}={}", quoted(value));
    };
    if launch.attachment().is_none() {
        // Behind a port of the host, QEMU's own network has this address for the guest.
        set("lb_interface", INNER);
        set("lb_family", "-4");
        set("lb_address", USER_ADDRESS);
        set("lb_gateway", USER_GATEWAY);
    }
    let interfaces = Interface::all(launch);
    if let Some((first, further)) = interfaces.split_first() {
        set("lb_interface", &first.name);
        set("lb_family", first.family());
        set("lb_address", &format!("{}/{}", first.address, first.prefix));
        set("lb_mac", &first.mac());
        if let Some(gateway) = first.gateway {
            set("lb_gateway", &gateway.to_string());
        }
        if let Some(mtu) = first.mtu {
            set("lb_mtu", &mtu.to_string());
        }
        let legs: Vec<String> = further
            .iter()
            .map(|leg| {
                let mtu = leg.mtu.map(|mtu| mtu.to_string()).unwrap_or_default();
                let (name, mac, family) = (&leg.name, leg.mac(), leg.family());
                format!("{name},{mac},{mtu},{family},{}/{}", leg.address, leg.prefix)
            })
            .collect();
        if !legs.is_empty() {
            set("lb_legs", &legs.join(" "));
        }
    }
    if let Some(attachment) = launch.attachment() {
        let vips: Vec<String> = attachment.vips.iter().map(IpAddr::to_string).collect();
        if !vips.is_empty() {
            set("lb_vips", &vips.join(" "));
            set(
                "lb_mode",
                if attachment.encapsulated {
                    "ipip"
                } else {
                    "l2"
                },
            );
        }
    }
    set("lb_name", &launch.name.to_string());
    // The names of variables are checked by the shell of the guest: those that are none of its own cannot be exported.
    let own = [(INSTANCE.to_owned(), launch.name.to_string())];
    for (name, value) in launch.environment.iter().map(pair).chain(own) {
        if is_variable(&name) {
            let _ = writeln!(text, "export {name}={}", quoted(&value));
        }
    }
    for (path, bytes) in files {
        let bytes = STANDARD.encode(bytes);
        let _ = writeln!(text, "lb_file {} <<'{END}'\n{bytes}\n{END}", quoted(path));
    }
    text.push_str("set --");
    let program = launch.program.iter().map(|path| path.to_string_lossy());
    for word in program.chain(launch.arguments.iter().map(|word| word.into())) {
        let _ = write!(text, " {}", quoted(&word));
    }
    text.push('\n');
    text
}

fn pair((name, value): (&String, &String)) -> (String, String) {
    (name.clone(), value.clone())
}

/// Whether a shell can export a variable of this name.
pub fn is_variable(name: &str) -> bool {
    let mut letters = name.chars();
    letters
        .next()
        .is_some_and(|first| first == '_' || first.is_ascii_alphabetic())
        && letters.all(|letter| letter == '_' || letter.is_ascii_alphanumeric())
}

/// A word as the shell reads it.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The files of the disk for cloud-init, without the user data.
#[must_use]
pub fn seed(launch: &Launch) -> [(&'static str, String); 2] {
    let name = &launch.name;
    let meta = format!("instance-id: {name}\nlocal-hostname: {name}\n");
    let mut ethernets = serde_json::Map::new();
    for interface in Interface::all(launch) {
        let mut network = serde_json::json!({
            "match": { "macaddress": interface.mac() },
            "set-name": interface.name,
            "addresses": [format!("{}/{}", interface.address, interface.prefix)],
        });
        if let Some(gateway) = interface.gateway {
            let key = if gateway.is_ipv4() {
                "gateway4"
            } else {
                "gateway6"
            };
            network[key] = gateway.to_string().into();
        }
        if let Some(mtu) = interface.mtu {
            network["mtu"] = mtu.into();
        }
        ethernets.insert(interface.name, network);
    }
    // JSON is YAML.
    let network = serde_json::json!({ "version": 2, "ethernets": ethernets }).to_string();
    [("meta-data", meta), ("network-config", network)]
}

#[cfg(test)]
mod tests {
    use lb_model::{
        pool::{Attachment, Leg, Network},
        settings::SettingType as _,
    };
    use serde_json::json;

    use super::*;

    fn launch() -> Launch {
        Launch {
            name: "web-1-1".parse().unwrap(),
            image: None,
            vm: None,
            program: Some("/bin/echo".into()),
            arguments: vec!["it's".to_owned(), "$HOME".to_owned()],
            environment: [("COLOUR", "dark blue"), ("a.b", "no variable")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            user: None,
            cpu: None,
            memory: None,
            processes: None,
            labels: Default::default(),
            volume: None,
            files: Default::default(),
            endpoint: "10.0.0.1:80".parse().unwrap(),
            network: Network::Bridge(Attachment {
                bridge: "br0".to_owned(),
                prefix: 24,
                gateway: Some("10.0.0.254".parse().unwrap()),
                mtu: Some(1_400),
                vips: vec!["192.0.2.1".parse().unwrap()],
                encapsulated: true,
                legs: vec![Leg {
                    bridge: "br1".to_owned(),
                    address: "10.1.0.1".parse().unwrap(),
                    prefix: 16,
                    mtu: None,
                }],
            }),
        }
    }

    fn words(vm: &serde_json::Value, begin: Begin<'_>) -> String {
        let vm = Vm::from_json(vm).unwrap();
        let taps = ["tap0", "tap1"].map(str::to_owned);
        let words = arguments(&launch(), &vm, &taps, Accelerator::Threads, begin);
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }

    #[test]
    fn a_machine_has_what_it_is_made_from() {
        let kernel = words(
            &json!({ "kernel": "/a,b/k", "initrd": "/i", "ram": "96MiB" }),
            Begin::Boot,
        );
        assert!(
            kernel.contains("-kernel /a,b/k -append console=ttyS0 quiet panic=-1 -initrd /i"),
            "{kernel}"
        );
        assert!(
            kernel.contains("-m 100663296B") && kernel.contains("-machine pc"),
            "{kernel}"
        );
        for (at, address) in ["10.0.0.1", "10.1.0.1"].into_iter().enumerate() {
            let mac = mac_text(address.parse().unwrap());
            assert!(
                kernel.contains(&format!("tap,id=net{at},ifname=tap{at},"))
                    && kernel.contains(&format!("netdev=net{at},mac={mac},")),
                "{kernel}"
            );
        }
        assert!(
            kernel.contains("-fw_cfg") && !kernel.contains("-drive"),
            "{kernel}"
        );
        let state = words(&json!({ "kernel": "/k" }), Begin::File(7));
        assert!(
            state.contains("-incoming fd:7") && !state.contains("-fw_cfg"),
            "{state}"
        );
        let disk = words(&json!({ "disk": "/d", "board": "q35" }), Begin::Boot);
        assert!(
            disk.contains("-machine q35") && !disk.contains("-kernel"),
            "{disk}"
        );
        assert!(
            disk.contains("file=disk.qcow2") && disk.contains("label=CIDATA"),
            "{disk}"
        );
    }

    #[test]
    fn a_guest_is_told_its_words_as_they_are() {
        let files = [("/etc/lb/a b".to_owned(), b"x\ny".to_vec())];
        let script = start_script(&launch(), &files);
        let script = format!("lb_file() {{ printf '%s=' \"$1\"; base64 -d; echo '|'; }}\n{script}");
        let show = "printf '%s|' \"$lb_address\" \"$lb_gateway\" \"$lb_vips\" \"${lb_legs#eth1,*,}\" \"$COLOUR\" \"$LB_INSTANCE\" \"$@\"";
        let output = std::process::Command::new("sh")
            .args(["-c", &format!("{script}{show}")])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(
            text,
            "/etc/lb/a b=x\ny|\n10.0.0.1/24|10.0.0.254|192.0.2.1|,-4,10.1.0.1/16|dark blue|web-1-1|/bin/echo|it's|$HOME|"
        );
        assert!(output.stderr.is_empty(), "{output:?}");
    }

    #[test]
    fn cloud_init_is_told_name_and_network() {
        let [(_, meta), (_, network)] = seed(&launch());
        assert!(meta.contains("instance-id: web-1-1"), "{meta}");
        let network: serde_json::Value = serde_json::from_str(&network).unwrap();
        let own = &network["ethernets"]["eth0"];
        assert_eq!(own["addresses"], json!(["10.0.0.1/24"]));
        assert_eq!(own["gateway4"], "10.0.0.254");
        let further = &network["ethernets"]["eth1"];
        assert_eq!(further["addresses"], json!(["10.1.0.1/16"]));
    }
}
