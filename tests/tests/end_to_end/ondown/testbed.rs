//! A testbed with a data plane in the test process instead of an agent, and servers that name themselves.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, ErrorKind, Read as _, Write as _},
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    ops::{Deref, DerefMut},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use lb_dataplane::netlink::NextHops;
use lb_dataplane::{
    Dataplane as _, KernelDataplane, ServiceSpec, Terms, WhenEmpty, detach,
    options::{Options, XdpMode},
};
use lb_model::options::{Forward, OnDown, Track};
use lb_model::vip::RealId;
use lb_tests::{Host, Network, Real, wait_for};

/// Limit for what takes milliseconds on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
const PORT: u16 = 8_000;
const SLOTS: usize = 256;
/// Interval at which a server checks whether it has to stop.
const POLL: Duration = Duration::from_millis(50);

/// Families of VIP and reals, and the forwarding mode.
#[derive(Clone, Copy, Debug)]
pub struct Ways {
    pub vip6: bool,
    pub real6: bool,
    pub forward: Forward,
}

impl Ways {
    pub const fn new(vip6: bool, real6: bool, forward: Forward) -> Ways {
        Ways {
            vip6,
            real6,
            forward,
        }
    }
}

/// A server that answers each byte with its number.
pub struct Server {
    stop: Arc<AtomicBool>,
    /// Connections that have ended.
    pub ended: Arc<AtomicU64>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Server {
    fn start(host: &Host, number: u8) -> Server {
        // A process that another test is starting holds a copy of the last listener until it executes its program.
        let listener = wait_for("the port to be free", PATIENCE, || {
            match host.enter(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)))? {
                Ok(listener) => Ok(Some(listener)),
                Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
        .unwrap();
        listener.set_nonblocking(true).unwrap();
        let (stop, ended) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&ended));
        let thread = host.namespace().thread(move || {
            let mut connections = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let (stopped, counter) = (Arc::clone(&stopped), Arc::clone(&counter));
                        connections.push(std::thread::spawn(move || {
                            answer(stream, number, &stopped);
                            counter.fetch_add(1, Ordering::SeqCst);
                        }));
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(1)),
                }
            }
            drop(listener);
            for connection in connections {
                let _ = connection.join();
            }
            Ok(())
        });
        Server {
            stop,
            ended,
            thread: Some(thread),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A failure has shown in the connections that broke.
            let _ = thread.join();
        }
    }
}

fn answer(mut stream: TcpStream, number: u8, stop: &AtomicBool) {
    let mut byte = [0];
    let _ = stream.set_nonblocking(false);
    let _ = stream.set_read_timeout(Some(POLL));
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut byte) {
            Ok(0) => return,
            Ok(_) => {
                if stream.write_all(&[number]).is_err() {
                    return;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
}

/// A client's connection.
pub struct Connection {
    stream: TcpStream,
    /// The number of the real behind it.
    pub real: usize,
}

impl Connection {
    /// Sends a byte and receives the answer of the same real.
    pub fn exchange(&mut self) -> io::Result<()> {
        let mut number = [0];
        self.stream.write_all(b"x")?;
        self.stream.read_exact(&mut number)?;
        assert_eq!(usize::from(number[0]), self.real, "another real answers");
        Ok(())
    }
}

/// A host behind the balancer.
pub struct DataplaneBackend {
    pub server: Option<Server>,
    pub real: Option<Real>,
    pub host: Host,
}

/// The testbed. Fields are dropped in this order.
pub struct DataplaneTestbed {
    pub plane: Plane,
    pins: Pins,
    pub backends: Vec<DataplaneBackend>,
    pub client: Host,
    pub network: Network,
    pub ways: Ways,
    pub when_empty: WhenEmpty,
}

/// A folder of pins. Dropping it detaches the programs and removes the folder.
struct Pins(PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        if let Err(error) = detach(&self.0, false) {
            eprintln!("{error}");
        }
    }
}

impl DataplaneTestbed {
    pub fn new(ways: Ways, backends: u8) -> DataplaneTestbed {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let network = Network::new().unwrap();
        let client = network.client().unwrap();
        let vip = vip(ways).ip().to_string();
        let backends = (0..backends)
            .map(|number| {
                let host = network.real().unwrap();
                // The addresses must survive that the link goes down.
                host.sysctl("net/ipv6/conf/eth0/keep_addr_on_down", "1")
                    .unwrap();
                DataplaneBackend {
                    server: Some(Server::start(&host, number)),
                    real: Some(Real::start(&host, "eth0", &[&vip]).unwrap()),
                    host,
                }
            })
            .collect();
        let pins = Pins(PathBuf::from(format!(
            "/sys/fs/bpf/lb-test-ondown-{}-{number}",
            std::process::id()
        )));
        let plane = Plane(Some(start(&network, &pins)));
        DataplaneTestbed {
            plane,
            pins,
            backends,
            client,
            network,
            ways,
            when_empty: WhenEmpty::Drop,
        }
    }

    /// Replaces the data plane, as a restart of the agent does.
    pub fn restart(&mut self) {
        // The folder of pins has one owner at a time.
        self.plane.0 = None;
        self.plane.0 = Some(start(&self.network, &self.pins));
    }

    pub fn target(&self) -> SocketAddr {
        vip(self.ways)
    }

    pub fn address(&self, real: usize) -> std::net::IpAddr {
        let host = &self.backends[real].host;
        if self.ways.real6 { host.v6 } else { host.v4 }
    }

    /// The real's name.
    pub fn id(&self, real: usize) -> RealId {
        self.address(real).into()
    }

    /// Returns the service in which these reals are down and those that serve share the ring.
    pub fn service(&self, down: &[(usize, OnDown)], serving: &[u16]) -> ServiceSpec {
        ServiceSpec {
            vip: format!("{}/tcp", self.target()).parse().unwrap(),
            forward: self.ways.forward,
            terms: Terms {
                when_empty: self.when_empty,
                ..Terms::default()
            },
            track: Track::Exceptions,
            window: Duration::from_secs(60),
            reals: (0..self.backends.len()).map(|real| self.id(real)).collect(),
            down: down
                .iter()
                .map(|(real, on_down)| (self.id(*real), *on_down))
                .collect::<BTreeMap<_, _>>(),
            ring: (0..if serving.is_empty() { 0 } else { SLOTS })
                .map(|slot| serving[slot % serving.len()])
                .collect(),
        }
    }

    /// Sets the service, and waits until the reals that serve have a next hop.
    pub fn serve(&mut self, down: &[(usize, OnDown)], serving: &[u16]) {
        let service = self.service(down, serving);
        let plane = &mut self.plane;
        self.network
            .balancer
            .enter(|| plane.set_service(&service))
            .unwrap()
            .unwrap();
        let serving: Vec<_> = serving
            .iter()
            .map(|real| service.reals[usize::from(*real)])
            .collect();
        wait_for("next hops to the reals", PATIENCE, || {
            plane.refresh_next_hops()?;
            let ready = plane
                .flows()?
                .iter()
                .all(|real| real.reachable || !serving.contains(&real.real));
            Ok(ready.then_some(()))
        })
        .unwrap();
    }

    /// Opens a connection.
    pub fn connect(&self) -> anyhow::Result<Connection> {
        let target = self.target();
        let mut stream = self
            .client
            .enter(|| TcpStream::connect_timeout(&target, PATIENCE))??;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut number = [0];
        stream.write_all(b"x")?;
        stream.read_exact(&mut number)?;
        Ok(Connection {
            stream,
            real: usize::from(number[0]),
        })
    }

    pub fn unplug(&self, real: usize) {
        self.backends[real]
            .host
            .sh("ip link set eth0 down")
            .unwrap();
    }

    pub fn plug(&self, real: usize) {
        self.backends[real].host.sh("ip link set eth0 up").unwrap();
    }

    pub fn stop_server(&mut self, real: usize) {
        drop(self.backends[real].server.take());
    }

    pub fn start_server(&mut self, real: usize) {
        let host = &self.backends[real].host;
        self.backends[real].server = Some(Server::start(host, real as u8));
    }

    /// Returns the frames per reason.
    pub fn reasons(&self) -> HashMap<&'static str, u64> {
        let stats = self.plane.stats().unwrap();
        let reasons = &stats.interfaces[0].reasons;
        reasons
            .iter()
            .map(|(reason, frames)| (reason.name(), *frames))
            .collect()
    }
}

/// A data plane that can be ended before its successor starts.
pub struct Plane(Option<KernelDataplane>);

impl Deref for Plane {
    type Target = KernelDataplane;

    fn deref(&self) -> &KernelDataplane {
        self.0.as_ref().expect("the data plane runs")
    }
}

impl DerefMut for Plane {
    fn deref_mut(&mut self) -> &mut KernelDataplane {
        self.0.as_mut().expect("the data plane runs")
    }
}

fn start(network: &Network, pins: &Pins) -> KernelDataplane {
    let options = Options {
        pins: pins.0.clone(),
        xdp_mode: XdpMode::Native,
        ..Options::new(vec!["eth0".to_owned()])
    };
    network
        .balancer
        .enter(|| {
            let (hops, _changes) = NextHops::start().unwrap();
            KernelDataplane::start(&options, Box::new(hops)).unwrap()
        })
        .unwrap()
}

fn vip(ways: Ways) -> SocketAddr {
    let address = if ways.vip6 {
        "2001:db8::10"
    } else {
        "192.0.2.10"
    };
    SocketAddr::new(address.parse().unwrap(), PORT)
}
