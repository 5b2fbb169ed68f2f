//! Hosts whose driver makes machines on a bridge, and a client.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use lb_drivers::{
    Command, Driver, Listed, Output, Owned, Phase,
    qemu::{QemuDriver, Settings},
};
use lb_model::pool::{Attachment, InstanceName, Launch, Leg, Network as Place, Size, Vm};
use lb_tests::{Host, Network, client, guest, remove_groups, wait_for};

/// How long anything may take: everything is emulated, on a machine that does other things.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// Addresses that the testbed gives to nobody.
pub const ADDRESSES: [&str; 4] = ["10.10.60.11", "10.10.60.12", "10.10.60.13", "10.10.60.14"];

/// A host with a bridge, and the driver of its machines.
pub struct Hypervisor {
    pub host: Host,
    pub driver: Arc<dyn Driver>,
    pub owner: String,
    pub folder: tempfile::TempDir,
}

impl Hypervisor {
    pub fn new(network: &Network, name: &str) -> anyhow::Result<Self> {
        let host = network.real()?;
        host.bridge()?;
        host.sh("ip link add br1 type bridge")?;
        host.sh("ip addr add 10.20.0.254/24 dev br1")?;
        host.sh("ip link set br1 up")?;
        let folder = tempfile::Builder::new().prefix("lb-vms-").tempdir()?;
        let owner = lb_tests::owner(name);
        let settings = settings(&host);
        let owned = owned(folder.path(), &owner);
        let driver = host
            .namespace()
            .block_on(async move { open(&settings, &owned) })?;
        Ok(Hypervisor {
            host,
            driver,
            owner,
            folder,
        })
    }

    /// Opens the driver again, as the next run of a controller that was killed does.
    pub fn open_again(&mut self) -> anyhow::Result<()> {
        let (settings, owned) = (settings(&self.host), owned(self.folder.path(), &self.owner));
        self.driver = self
            .host
            .namespace()
            .block_on(async move { open(&settings, &owned) })?;
        Ok(())
    }

    /// Runs a future on the host, with the threads that it starts.
    pub fn run<T: Send>(
        &self,
        work: impl Future<Output = anyhow::Result<T>> + Send,
    ) -> anyhow::Result<T> {
        self.host.namespace().block_on(work)
    }

    /// Makes a machine and starts it.
    pub fn start(&self, launch: &Launch) -> anyhow::Result<()> {
        self.run(async {
            self.driver.create(launch).await?;
            self.driver.start(&launch.name).await?;
            Ok(())
        })
    }

    pub fn find(&self, name: &InstanceName) -> anyhow::Result<Option<Listed>> {
        let mut found = self.run(async { Ok(self.driver.list().await?) })?;
        found.retain(|listed| listed.name == *name);
        Ok(found.pop())
    }

    pub fn phase(&self, name: &InstanceName) -> anyhow::Result<Phase> {
        let listed = self.find(name)?;
        Ok(listed
            .with_context(|| format!("{name} is not listed"))?
            .phase)
    }

    /// Runs a script of the shell in a guest, when its agent answers.
    pub fn exec(&self, name: &InstanceName, script: &str) -> anyhow::Result<Output> {
        let command = Command {
            words: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            input: Vec::new(),
        };
        wait_for("the guest's agent", PATIENCE, || {
            Ok(Some(self.run(async {
                Ok(self.driver.exec(name, &command).await?)
            })?))
        })
    }

    /// The end of what a machine has printed.
    pub fn console(&self, name: &InstanceName) -> String {
        let log = self.run(async { Ok(self.driver.logs(name, 65_536).await?) });
        String::from_utf8_lossy(&log.unwrap_or_default()).into_owned()
    }

    /// Waits until a machine has printed these words.
    pub fn wait_printed(&self, name: &InstanceName, words: &str) -> anyhow::Result<()> {
        wait_for(words, PATIENCE, || {
            let text = self.console(name);
            if text.contains(words) {
                return Ok(Some(()));
            }
            bail!("{name} has printed: {text}")
        })
    }

    /// The number of the process of a machine.
    pub fn pid(&self, name: &InstanceName) -> anyhow::Result<i32> {
        let path = self.folder.path().join("qemu").join(name.to_string());
        let text = fs::read_to_string(path.join("qemu.pid"))?;
        Ok(text.trim().parse()?)
    }
}

impl Drop for Hypervisor {
    fn drop(&mut self) {
        remove_groups(&self.owner);
    }
}

fn settings(host: &Host) -> Settings {
    Settings {
        receive_at: Some(host.v4),
        ..lb_model::settings::defaults()
    }
}

pub fn owned(folder: &Path, owner: &str) -> Owned {
    Owned {
        owner: owner.to_owned(),
        state: folder.to_owned(),
        agent: "/there/is/none".into(),
        allow_exec: false,
        receive_at: None,
    }
}

pub fn open(settings: &Settings, owned: &Owned) -> anyhow::Result<Arc<dyn Driver>> {
    Ok(Arc::new(QemuDriver::open(settings, owned)?))
}

/// A virtual machine with the project's kernel and this file system.
pub fn vm(initrd: &str) -> Vm {
    let map = serde_json::json!({
        "kernel": guest("vmlinuz"),
        "initrd": guest(initrd),
        "ram": "128MiB",
    });
    let vm = lb_model::settings::from_map::<Vm>(map.as_object().unwrap()).unwrap();
    assert_eq!(vm.ram, Size(128 << 20));
    vm
}

/// A machine whose guest runs this script of the shell, at an address of the bridge or at a port of the host.
pub fn machine(name: &str, address: Option<&str>, script: &str) -> Launch {
    let address = address.map(|address| (address, format!("{address}:80")));
    let network = match &address {
        Some(_) => Place::Bridge(Attachment {
            bridge: "br0".to_owned(),
            prefix: 16,
            gateway: None,
            mtu: None,
            vips: Vec::new(),
            encapsulated: false,
            legs: Vec::new(),
        }),
        None => Place::Host {
            inner_port: Some(80),
        },
    };
    let endpoint = address.map_or("127.0.0.1:8000".to_owned(), |(_, endpoint)| endpoint);
    Launch {
        name: name.parse().unwrap(),
        image: None,
        vm: Some(vm("initrd-bare")),
        program: Some("/bin/sh".into()),
        arguments: vec!["-c".to_owned(), script.to_owned()],
        environment: BTreeMap::from([("COLOUR".to_owned(), "blue".to_owned())]),
        user: None,
        cpu: None,
        memory: None,
        processes: None,
        labels: BTreeMap::from([("team".to_owned(), "shop".to_owned())]),
        volume: None,
        files: BTreeMap::new(),
        endpoint: endpoint.parse().unwrap(),
        network,
    }
}

/// The same machine with an interface on a second bridge, `br1`, at this address.
pub fn with_leg(launch: Launch, address: &str) -> Launch {
    let Place::Bridge(attachment) = launch.network else {
        panic!("{} is on no bridge", launch.name);
    };
    let leg = Leg {
        bridge: "br1".to_owned(),
        address: address.parse().unwrap(),
        prefix: 24,
        mtu: Some(1_400),
    };
    Launch {
        network: Place::Bridge(Attachment {
            legs: vec![leg],
            ..attachment
        }),
        ..launch
    }
}

/// Serves a page with the machine's name.
pub const WEB: &str =
    "mkdir -p /www; hostname >/www/index.html; echo serving; exec httpd -f -p 80 -h /www";

/// The page at an address, once there is one.
pub fn wait_page(client: &Host, at: &str) -> anyhow::Result<(String, Duration)> {
    let begin = Instant::now();
    let target = SocketAddr::new(at.parse()?, 80);
    let text = wait_for(&format!("a page at {at}"), PATIENCE, || {
        Ok(Some(client::page(client.namespace(), target, "/")?))
    })?;
    Ok((text.trim().to_owned(), begin.elapsed()))
}

/// A file of a folder that is made for a test.
pub fn write(folder: &Path, name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let path = folder.join(name);
    fs::write(&path, text)?;
    Ok(path)
}
