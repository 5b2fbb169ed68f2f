//! Two network namespaces joined by a veth pair: a client, and a host that becomes a real.
//!
//! The namespaces have no names: they end with the test, however it ends.

use std::{
    fs::File,
    net::IpAddr,
    os::fd::{AsFd as _, AsRawFd as _},
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use lb_dataplane::{
    options::XdpMode,
    real::{Mode, Options},
};
use lb_tests::PacketSocket;
use nix::sched::{CloneFlags, setns, unshare};

/// Longest wait for something that must happen.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 9, 1];
pub const REAL_MAC: [u8; 6] = [2, 0, 0, 0, 9, 2];
/// The real's interface.
pub const INTERFACE: &str = "lbreal0";

pub struct Testbed {
    client: File,
    real: File,
    wire: PacketSocket,
    state: tempfile::TempDir,
}

/// Runs a test in a thread of its own, whose namespace may change.
pub fn run(test: impl AsyncFnOnce(&Testbed) + Send + 'static) {
    let body = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let bed = Testbed::new();
        runtime.block_on(test(&bed));
    };
    if let Err(panic) = std::thread::spawn(body).join() {
        std::panic::resume_unwind(panic);
    }
}

fn new_namespace() -> File {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    File::open("/proc/thread-self/ns/net").unwrap()
}

pub fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until an interface sends frames: it drops them for some milliseconds after its peer appeared.
fn wait_up(interface: &str) {
    let began = Instant::now();
    while !ip(&format!("-o link show dev {interface}")).contains("state UP") {
        assert!(began.elapsed() < PATIENCE, "{interface} stays down");
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Testbed {
    fn new() -> Testbed {
        let real = new_namespace();
        ip("link set lo up");
        let client = new_namespace();
        ip("link set lo up");
        let namespace = format!("/proc/{}/fd/{}", std::process::id(), real.as_raw_fd());
        ip(&format!(
            "link add lbclient0 address 02:00:00:00:09:01 type veth peer name {INTERFACE} address 02:00:00:00:09:02 netns {namespace}"
        ));
        ip("addr add 10.9.0.1/24 dev lbclient0");
        ip("addr add fd00:9::1/64 dev lbclient0 nodad");
        ip("link set lbclient0 up");
        let wire = PacketSocket::open("lbclient0").unwrap();
        let bed = Testbed {
            client,
            real,
            wire,
            state: tempfile::tempdir().unwrap(),
        };
        bed.enter_real();
        // The frames that the client receives must have complete checksums.
        let status = Command::new("ethtool")
            .args(["-K", INTERFACE, "tx", "off"])
            .output()
            .unwrap();
        assert!(
            status.status.success(),
            "ethtool: {}",
            String::from_utf8_lossy(&status.stderr)
        );
        ip(&format!("addr add 10.9.0.2/24 dev {INTERFACE}"));
        ip(&format!("addr add fd00:9::2/64 dev {INTERFACE} nodad"));
        ip(&format!("link set {INTERFACE} up"));
        ip("route add default via 10.9.0.1");
        ip("route add default via fd00:9::1");
        wait_up(INTERFACE);
        bed.enter_client();
        wait_up("lbclient0");
        bed.enter_real();
        bed
    }

    /// Moves this thread into the namespace of the host that becomes a real.
    pub fn enter_real(&self) {
        setns(self.real.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
    }

    /// Moves this thread into the client's namespace.
    pub fn enter_client(&self) {
        setns(self.client.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
    }

    pub fn options(&self, vips: &[IpAddr]) -> Options {
        Options {
            interfaces: vec![INTERFACE.to_owned()],
            vips: vips.to_vec(),
            mode: Mode::Ipip,
            xdp_mode: XdpMode::Native,
            strict_interfaces: true,
            reply_interfaces: Vec::new(),
            state: Some(self.state_folder()),
        }
    }

    pub fn state_folder(&self) -> PathBuf {
        self.state.path().to_owned()
    }

    /// Sends a frame from the client.
    pub fn send(&self, frame: &[u8]) {
        self.wire.send(frame).unwrap();
    }

    /// Returns the result of `wanted` for the first frame at the client for which there is one.
    pub fn receive<T>(&self, what: &str, wanted: impl Fn(&[u8]) -> Option<T>) -> T {
        let start = Instant::now();
        let mut buffer = [0u8; 2_048];
        while start.elapsed() < PATIENCE {
            if let Some(length) = self.wire.receive(&mut buffer).unwrap()
                && let Some(found) = wanted(&buffer[..length])
            {
                return found;
            }
        }
        panic!("no {what} arrived");
    }
}
