//! Next hops of the wanted addresses.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::IpAddr,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rtnetlink::{
    MulticastGroup,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::RouteNetlinkMessage,
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};
use tokio::sync::watch;

use super::{interface, neighbour, neighbour::Neighbour, route, socket::Requests};
use crate::hops::{ResolvedHop, Resolver};

/// The kernel's news come in bursts (a link that goes down takes its routes along): how long one is let pass.
const SETTLE: Duration = Duration::from_millis(5);
/// How often neighbours are looked after, when there is no news.
const ROUND: Duration = Duration::from_secs(1);
/// How long a stale neighbour is believed before it is asked for.
const STALE: Duration = Duration::from_secs(30);
/// A neighbour that does not answer is asked for at intervals that double up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long [`Resolver::resolve_soon`] waits for a neighbour's answer.
const SOON: Duration = Duration::from_millis(20);

/// One wanted address.
#[derive(Clone, Debug)]
struct Way {
    hop: Option<ResolvedHop>,
    trouble: Option<String>,
    /// Whose MAC address the hop has or awaits.
    neighbour: Option<IpAddr>,
    /// When the neighbour may be asked for again, and the pause after that.
    ask_after: Instant,
    pause: Duration,
}

impl Way {
    fn new() -> Way {
        Way {
            hop: None,
            trouble: None,
            neighbour: None,
            ask_after: Instant::now(),
            pause: ROUND,
        }
    }
}

struct Shared {
    ways: Mutex<HashMap<IpAddr, Way>>,
    requests: Mutex<Requests>,
    stop: AtomicBool,
}

/// Knows the ways to the wanted addresses. Its thread ends with it.
pub struct NextHops {
    shared: Arc<Shared>,
}

impl NextHops {
    /// Begins to listen, in the network namespace of the calling thread. The receiver is told whenever
    /// the way to some wanted address has changed.
    ///
    /// # Errors
    /// If the kernel gives no rtnetlink socket or no thread.
    pub fn start() -> io::Result<(NextHops, watch::Receiver<()>)> {
        let news = Socket::new(NETLINK_ROUTE).and_then(|mut news| {
            let groups = [
                MulticastGroup::Link,
                MulticastGroup::Neigh,
                MulticastGroup::Ipv4Ifaddr,
                MulticastGroup::Ipv6Ifaddr,
                MulticastGroup::Ipv4Route,
                MulticastGroup::Ipv6Route,
                MulticastGroup::Ipv4Rule,
                MulticastGroup::Ipv6Rule,
            ];
            let mask = groups
                .iter()
                .fold(0, |mask, &group| mask | 1_u32 << (group as u32 - 1));
            news.bind(&SocketAddr::new(0, mask))?;
            news.set_non_blocking(true)?;
            Ok(news)
        })?;
        let shared = Arc::new(Shared {
            ways: Mutex::new(HashMap::new()),
            requests: Mutex::new(Requests::new()?),
            stop: AtomicBool::new(false),
        });
        let (changed, receiver) = watch::channel(());
        let listener = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("next-hops".to_owned())
            .spawn(move || listen(&listener, &news, &changed))?;
        Ok((NextHops { shared }, receiver))
    }
}

impl Drop for NextHops {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Resolver for NextHops {
    fn resolve(&self, address: IpAddr) -> Option<ResolvedHop> {
        lock(&self.shared.ways).get(&address)?.hop
    }

    fn want(&self, address: IpAddr) {
        let mut ways = lock(&self.shared.ways);
        ways.entry(address).or_insert_with(|| {
            let mut way = Way::new();
            look(&mut lock(&self.shared.requests), address, &mut way);
            way
        });
    }

    fn forget(&self, address: IpAddr) {
        lock(&self.shared.ways).remove(&address);
    }

    fn resolve_soon(&self, address: IpAddr) -> Option<ResolvedHop> {
        let give_up = Instant::now() + SOON;
        loop {
            {
                let mut ways = lock(&self.shared.ways);
                let way = ways.get_mut(&address)?;
                look(&mut lock(&self.shared.requests), address, way);
                // Only an answer that is awaited is worth waiting for.
                if way.hop.is_some() || way.trouble.as_deref() != Some(AWAITED) {
                    return way.hop;
                }
            }
            if Instant::now() >= give_up {
                return None;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn trouble(&self, address: IpAddr) -> Option<String> {
        lock(&self.shared.ways).get(&address)?.trouble.clone()
    }
}

const AWAITED: &str = "its MAC address has been asked for and no answer has come yet";
const SILENT: &str = "it does not answer ARP or neighbour discovery; is it up and on this network?";

/// A panic elsewhere does not make the map of ways wrong.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a burst of news is about.
#[derive(Default)]
struct News {
    /// Links, routes or rules, or some news were lost: everything may have changed.
    all: bool,
    /// These neighbours.
    neighbours: HashSet<IpAddr>,
}

impl News {
    fn read(&mut self, mut bytes: &[u8]) {
        while let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) {
            match &message.payload {
                NetlinkPayload::InnerMessage(
                    RouteNetlinkMessage::NewNeighbour(neighbour)
                    | RouteNetlinkMessage::DelNeighbour(neighbour),
                ) => self.neighbours.extend(neighbour::address(neighbour)),
                _ => self.all = true,
            }
            let length = (message.header.length as usize).next_multiple_of(4);
            if length == 0 || length >= bytes.len() {
                return;
            }
            bytes = &bytes[length..];
        }
        self.all = true;
    }
}

fn listen(shared: &Shared, socket: &Socket, changed: &watch::Sender<()>) {
    let mut buffer = Vec::with_capacity(1 << 16);
    while !shared.stop.load(Ordering::Relaxed) {
        // SAFETY: the socket is borrowed for as long as this loop runs.
        let fd = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
        let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(ROUND).unwrap_or(PollTimeout::NONE);
        let mut news = News::default();
        if poll(&mut fds, timeout).unwrap_or(0) > 0 {
            std::thread::sleep(SETTLE);
            loop {
                buffer.clear();
                match socket.recv(&mut buffer, 0) {
                    Ok(_) => news.read(&buffer),
                    // Some news were lost.
                    Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => news.all = true,
                    Err(_) => break,
                }
            }
        }
        if look_again(shared, &news) {
            changed.send_replace(());
        }
    }
}

/// Looks up again what the news are about and what is due; whether a way has changed.
fn look_again(shared: &Shared, news: &News) -> bool {
    let now = Instant::now();
    let concerned = |way: &Way| {
        news.all
            || way.ask_after <= now
            || way
                .neighbour
                .is_some_and(|neighbour| news.neighbours.contains(&neighbour))
    };
    let addresses: Vec<IpAddr> = lock(&shared.ways)
        .iter()
        .filter(|(_, way)| concerned(way))
        .map(|(&address, _)| address)
        .collect();
    let mut changed = false;
    for address in addresses {
        // One at a time: who resolves must not wait for a whole round.
        let mut ways = lock(&shared.ways);
        if let Some(way) = ways.get_mut(&address) {
            let before = way.hop;
            look(&mut lock(&shared.requests), address, way);
            changed |= way.hop != before;
        }
    }
    changed
}

/// Looks one way up.
fn look(requests: &mut Requests, address: IpAddr, way: &mut Way) {
    match find(requests, address, way) {
        Ok(hop) => {
            way.hop = Some(hop);
            way.trouble = None;
        }
        Err(trouble) => {
            // The kernel throws unused neighbours away; one that was there a moment ago still is.
            if trouble != AWAITED {
                way.hop = None;
            }
            way.trouble = Some(trouble);
        }
    }
}

fn find(requests: &mut Requests, address: IpAddr, way: &mut Way) -> Result<ResolvedHop, String> {
    let now = Instant::now();
    let mut due = now >= way.ask_after;
    if due {
        // A way without a route waits for news rather than for time.
        way.ask_after = now + LONGEST_PAUSE;
    }
    let before = way.neighbour.take();
    let route = route::look_up(requests, address)?;
    way.neighbour = Some(route.neighbour);
    // Another neighbour has not been asked for yet.
    if before != way.neighbour {
        due = true;
        way.pause = ROUND;
    }
    let gone = |error: io::Error| format!("its interface {} is gone ({error})", route.interface);
    let source_mac = interface::mac(requests, route.interface)
        .map_err(gone)?
        .ok_or_else(|| {
            format!(
                "interface {} on the way to it has no MAC address",
                route.interface
            )
        })?;
    let known = neighbour::look_up(requests, route.interface, route.neighbour).map_err(gone)?;
    let dest_mac = match known {
        Neighbour::Known(mac) => {
            way.ask_after = now + STALE;
            way.pause = ROUND;
            Ok(mac)
        }
        Neighbour::Stale(mac) => {
            if due {
                way.ask_after = now + STALE;
                neighbour::provoke(requests, route.interface, route.neighbour).map_err(gone)?;
            }
            Ok(mac)
        }
        Neighbour::Failed | Neighbour::Unknown => {
            if due {
                way.ask_after = now + way.pause;
                way.pause = (way.pause * 2).min(LONGEST_PAUSE);
                neighbour::provoke(requests, route.interface, route.neighbour).map_err(gone)?;
            }
            Err(if known == Neighbour::Failed {
                SILENT
            } else {
                AWAITED
            })
        }
    };
    let hop = |dest_mac| ResolvedHop {
        interface: route.interface,
        source_mac,
        dest_mac,
        direct: route.direct,
    };
    // A router that changed, or a way that did, has nothing in common with the last one.
    if dest_mac.is_err()
        && way
            .hop
            .is_some_and(|last| last.interface != route.interface || last.direct != route.direct)
    {
        way.hop = None;
    }
    dest_mac.map(hop).map_err(str::to_owned)
}
