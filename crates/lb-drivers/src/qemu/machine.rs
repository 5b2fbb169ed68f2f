//! The command line of QEMU for an instance, and what its guest is told, purely.
//!
//! QEMU works in the instance's folder, so all files of the instance have short names without commas, which QEMU's options
//! would read as the end of a value.

use std::{ffi::OsString, fmt::Write as _, net::IpAddr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use lb_model::pool::{Launch, Network, Vm};

use crate::network::{INNER, mac};

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

/// The arguments of QEMU.
#[must_use]
pub fn arguments(
    launch: &Launch,
    vm: &Vm,
    tap: Option<&str>,
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
    let netdev = match (tap, &launch.network) {
        (Some(tap), _) => format!("tap,id=net,ifname={tap},script=no,downscript=no"),
        (None, Network::Host { inner_port }) => {
            let endpoint = launch.endpoint;
            let inner = inner_port.unwrap_or(endpoint.port());
            format!("user,id=net,hostfwd=tcp:{endpoint}-:{inner}")
        }
        // A machine whose state is saved for others is on no bridge yet.
        (None, Network::Bridge(_)) => "hubport,id=net,hubid=0".to_owned(),
    };
    add("-netdev", netdev.into());
    let address = mac(launch.endpoint.ip()).map(|byte| format!("{byte:02x}"));
    add(
        "-device",
        // Without a ROM, with which a machine of the network would boot.
        format!(
            "virtio-net-pci,netdev=net,mac={},romfile=",
            address.join(":")
        )
        .into(),
    );
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
    if let Some(attachment) = launch.attachment() {
        let address = launch.endpoint.ip();
        let any = |address: IpAddr| if address.is_ipv4() { "-4" } else { "-6" };
        set("lb_interface", INNER);
        set("lb_family", any(address));
        set("lb_address", &format!("{address}/{}", attachment.prefix));
        let octets = mac(address).map(|byte| format!("{byte:02x}"));
        set("lb_mac", &octets.join(":"));
        if let Some(gateway) = attachment.gateway {
            set("lb_gateway", &gateway.to_string());
        }
        if let Some(mtu) = attachment.mtu {
            set("lb_mtu", &mtu.to_string());
        }
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
    let own = [("LB_INSTANCE".to_owned(), launch.name.to_string())];
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
    let network = launch.attachment().map(|attachment| {
        let address = launch.endpoint.ip();
        let octets = mac(address).map(|byte| format!("{byte:02x}"));
        let mut network = serde_json::json!({
            "match": { "macaddress": octets.join(":") },
            "set-name": INNER,
            "addresses": [format!("{address}/{}", attachment.prefix)],
        });
        if let Some(gateway) = attachment.gateway {
            let key = if gateway.is_ipv4() {
                "gateway4"
            } else {
                "gateway6"
            };
            network[key] = gateway.to_string().into();
        }
        if let Some(mtu) = attachment.mtu {
            network["mtu"] = mtu.into();
        }
        // JSON is YAML.
        serde_json::json!({ "version": 2, "ethernets": { INNER: network } }).to_string()
    });
    let none = || "{\"version\": 2, \"ethernets\": {}}".to_owned();
    [
        ("meta-data", meta),
        ("network-config", network.unwrap_or_else(none)),
    ]
}

#[cfg(test)]
mod tests {
    use lb_model::{
        pool::{Attachment, Network},
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
            endpoint: "10.0.0.1:80".parse().unwrap(),
            network: Network::Bridge(Attachment {
                bridge: "br0".to_owned(),
                prefix: 24,
                gateway: Some("10.0.0.254".parse().unwrap()),
                mtu: Some(1_400),
                vips: vec!["192.0.2.1".parse().unwrap()],
                encapsulated: true,
            }),
        }
    }

    fn words(vm: &serde_json::Value, begin: Begin<'_>) -> String {
        let vm = Vm::from_json(vm).unwrap();
        let words = arguments(&launch(), &vm, Some("tap0"), Accelerator::Threads, begin);
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
        assert!(kernel.contains("tap,id=net,ifname=tap0,"), "{kernel}");
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
        let show = "printf '%s|' \"$lb_address\" \"$lb_gateway\" \"$lb_vips\" \"$COLOUR\" \"$LB_INSTANCE\" \"$@\"";
        let output = std::process::Command::new("sh")
            .args(["-c", &format!("{script}{show}")])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(
            text,
            "/etc/lb/a b=x\ny|\n10.0.0.1/24|10.0.0.254|192.0.2.1|dark blue|web-1-1|/bin/echo|it's|$HOME|"
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
    }
}
