//! Next hops of a set of addresses, followed as the network changes.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    io,
    net::IpAddr,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
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

use super::{
    interface, neighbour, neighbour::Neighbour, prefixes::Prefixes, route, socket::Requests,
};
use crate::resolver::{ResolvedHop, Resolver};

/// Notifications come in bursts (a link that goes down takes its routes along): how long to let one pass.
const BURST: Duration = Duration::from_millis(5);
/// How often neighbours are checked when there is no notification.
const ROUND: Duration = Duration::from_secs(1);
/// How long a stale neighbour is used before it is solicited.
const STALE: Duration = Duration::from_secs(30);
/// A neighbour that does not answer is solicited at intervals that double up to this.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// How long [`Resolver::resolve_soon`] waits for a neighbour's answer.
const SOON: Duration = Duration::from_millis(20);

/// What is known of one address.
#[derive(Clone, Debug)]
struct Target {
    hop: Option<ResolvedHop>,
    /// Why there is no next hop; `None` if there is one.
    unresolved_reason: Option<String>,
    /// The neighbour whose MAC address the hop has or awaits.
    neighbour: Option<IpAddr>,
    /// When the neighbour may be solicited again, and the interval after that.
    solicit_after: Instant,
    backoff: Duration,
}

impl Target {
    fn new() -> Target {
        Target {
            hop: None,
            unresolved_reason: None,
            neighbour: None,
            solicit_after: Instant::now(),
            backoff: ROUND,
        }
    }

    /// Whether the neighbour was asked for and may still answer.
    fn is_awaited(&self) -> bool {
        self.unresolved_reason.as_deref() == Some(AWAITED)
    }

    /// What its users act on.
    fn state(&self) -> (Option<ResolvedHop>, bool) {
        (self.hop, self.is_awaited())
    }

    /// Whether it is an address of this host.
    fn is_own(&self) -> bool {
        self.unresolved_reason.as_deref() == Some(route::OWN)
    }
}

struct Shared {
    targets: Mutex<HashMap<IpAddr, Target>>,
    requests: Mutex<Requests>,
    /// An address was found in another state than before by somebody who does not announce that: the thread does.
    unannounced: AtomicBool,
    /// How often the kernel has dropped notifications because they were not read in time.
    overflows: AtomicU64,
    stop: AtomicBool,
}

/// Resolves addresses by rtnetlink. Its thread ends with it.
pub struct NextHops {
    shared: Arc<Shared>,
}

impl NextHops {
    /// Begins to listen, in the network namespace of the calling thread. The receiver is notified whenever
    /// the next hop of an address has changed, and whenever a link has.
    ///
    /// # Errors
    /// If the kernel grants no rtnetlink socket or no thread.
    pub fn start() -> io::Result<(NextHops, watch::Receiver<()>)> {
        let events = Socket::new(NETLINK_ROUTE).and_then(|mut events| {
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
            events.bind(&SocketAddr::new(0, mask))?;
            events.set_non_blocking(true)?;
            Ok(events)
        })?;
        let shared = Arc::new(Shared {
            targets: Mutex::new(HashMap::new()),
            requests: Mutex::new(Requests::new()?),
            unannounced: AtomicBool::new(false),
            overflows: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let (changed, receiver) = watch::channel(());
        let listener = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("next-hops".to_owned())
            .spawn(move || listen(&listener, &events, &changed))?;
        Ok((NextHops { shared }, receiver))
    }

    /// How often the kernel has dropped notifications because they were not read in time. All addresses are resolved
    /// again then.
    #[must_use]
    pub fn overflows(&self) -> u64 {
        self.shared.overflows.load(Ordering::Relaxed)
    }
}

impl Drop for NextHops {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Resolver for NextHops {
    fn resolve(&self, address: IpAddr) -> Option<ResolvedHop> {
        lock(&self.shared.targets).get(&address)?.hop
    }

    fn add(&self, address: IpAddr) {
        let mut targets = lock(&self.shared.targets);
        targets.entry(address).or_insert_with(|| {
            let mut target = Target::new();
            update(&mut lock(&self.shared.requests), address, &mut target);
            target
        });
    }

    fn remove(&self, address: IpAddr) {
        lock(&self.shared.targets).remove(&address);
    }

    fn resolve_soon(&self, address: IpAddr) -> Option<ResolvedHop> {
        let give_up = Instant::now() + SOON;
        loop {
            {
                let mut targets = lock(&self.shared.targets);
                let target = targets.get_mut(&address)?;
                let before = target.state();
                update(&mut lock(&self.shared.requests), address, target);
                if target.state() != before {
                    // Others may use the address as well. The thread will find it as it is now.
                    self.shared.unannounced.store(true, Ordering::Release);
                }
                // Waiting makes sense only if an answer is awaited.
                if target.hop.is_some() || !target.is_awaited() {
                    return target.hop;
                }
            }
            if Instant::now() >= give_up {
                return None;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn unresolved_reason(&self, address: IpAddr) -> Option<String> {
        lock(&self.shared.targets)
            .get(&address)?
            .unresolved_reason
            .clone()
    }

    fn is_awaited(&self, address: IpAddr) -> bool {
        lock(&self.shared.targets)
            .get(&address)
            .is_some_and(|target| target.hop.is_none() && target.is_awaited())
    }

    fn own_addresses(&self) -> BTreeSet<IpAddr> {
        lock(&self.shared.targets)
            .iter()
            .filter(|(_, target)| target.is_own())
            .map(|(address, _)| *address)
            .collect()
    }

    fn is_own_address(&self, address: IpAddr) -> bool {
        lock(&self.shared.targets)
            .get(&address)
            .is_some_and(Target::is_own)
    }
}

const AWAITED: &str = "its MAC address was requested and no answer has arrived yet";
const SILENT: &str = "it does not answer ARP or neighbour discovery; is it up and on this network?";

/// A panic of another thread does not make the map of targets wrong.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a burst of notifications is about.
#[derive(Default)]
struct Events {
    /// Links, routes or rules, or some notifications were lost: everything may have changed.
    all: bool,
    /// Links: their addresses may have changed, also of those that no next hop is on.
    links: bool,
    /// These neighbours.
    neighbours: HashSet<IpAddr>,
    /// Routes to these prefixes.
    prefixes: Prefixes,
}

impl Events {
    fn read(&mut self, mut bytes: &[u8]) {
        while let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) {
            match &message.payload {
                NetlinkPayload::InnerMessage(
                    RouteNetlinkMessage::NewNeighbour(neighbour)
                    | RouteNetlinkMessage::DelNeighbour(neighbour),
                ) => self.neighbours.extend(neighbour::address(neighbour)),
                NetlinkPayload::InnerMessage(
                    RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route),
                ) => self.all |= !self.prefixes.insert(route),
                NetlinkPayload::InnerMessage(
                    RouteNetlinkMessage::NewLink(_) | RouteNetlinkMessage::DelLink(_),
                ) => (self.all, self.links) = (true, true),
                _ => self.all = true,
            }
            let length = (message.header.length as usize).next_multiple_of(4);
            if length == 0 || length >= bytes.len() {
                return;
            }
            bytes = &bytes[length..];
        }
        (self.all, self.links) = (true, true);
    }
}

fn listen(shared: &Shared, socket: &Socket, changed: &watch::Sender<()>) {
    let mut buffer = Vec::with_capacity(1 << 16);
    while !shared.stop.load(Ordering::Relaxed) {
        // SAFETY: the socket is borrowed for as long as this loop runs.
        let fd = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
        let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(ROUND).unwrap_or(PollTimeout::NONE);
        let mut events = Events::default();
        if poll(&mut fds, timeout).unwrap_or(0) > 0 {
            std::thread::sleep(BURST);
            loop {
                buffer.clear();
                match socket.recv(&mut buffer, 0) {
                    Ok(_) => events.read(&buffer),
                    // Some notifications were lost.
                    Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                        let overflows = shared.overflows.fetch_add(1, Ordering::Relaxed) + 1;
                        tracing::info!(
                            overflows,
                            "the kernel dropped notifications about routes and neighbours, which change faster than \
                             they can be read; all next hops are looked up again"
                        );
                        (events.all, events.links) = (true, true);
                    }
                    Err(_) => break,
                }
            }
        }
        let unannounced = shared.unannounced.swap(false, Ordering::Acquire);
        if update_concerned(shared, &events) || events.links || unannounced {
            changed.send_replace(());
        }
    }
}

/// Updates the addresses that the notifications are about and those that are due. Returns whether a next hop has
/// changed.
fn update_concerned(shared: &Shared, events: &Events) -> bool {
    let now = Instant::now();
    let concerned = |address: &IpAddr, target: &Target| {
        events.all
            || target.solicit_after <= now
            || events.prefixes.contains(*address)
            || target
                .neighbour
                .is_some_and(|neighbour| events.neighbours.contains(&neighbour))
    };
    let addresses: Vec<IpAddr> = lock(&shared.targets)
        .iter()
        .filter(|(address, target)| concerned(address, target))
        .map(|(&address, _)| address)
        .collect();
    let mut changed = false;
    for address in addresses {
        // The lock is taken for one address at a time, so that a caller does not wait for a whole round.
        let mut targets = lock(&shared.targets);
        if let Some(target) = targets.get_mut(&address) {
            let before = target.state();
            update(&mut lock(&shared.requests), address, target);
            changed |= target.state() != before;
        }
    }
    changed
}

/// Resolves one address again.
fn update(requests: &mut Requests, address: IpAddr, target: &mut Target) {
    match find(requests, address, target) {
        Ok(hop) => {
            target.hop = Some(hop);
            target.unresolved_reason = None;
        }
        Err(reason) => {
            // The kernel drops unused neighbours from its cache; one that was there a moment ago is kept until
            // it fails to answer.
            if reason != AWAITED {
                target.hop = None;
            }
            target.unresolved_reason = Some(reason);
        }
    }
}

/// The smaller of two MTUs, of which 0 is not known.
fn smaller(one: u32, other: u32) -> u32 {
    match (one, other) {
        (0, mtu) | (mtu, 0) => mtu,
        (one, other) => one.min(other),
    }
}

fn find(
    requests: &mut Requests,
    address: IpAddr,
    target: &mut Target,
) -> Result<ResolvedHop, String> {
    let now = Instant::now();
    let mut due = now >= target.solicit_after;
    if due {
        // An address without a route is looked up again on a notification, and rarely otherwise.
        target.solicit_after = now + MAX_BACKOFF;
    }
    let before = target.neighbour.take();
    let route = route::look_up(requests, address)?;
    target.neighbour = Some(route.neighbour);
    // Another neighbour was not solicited yet.
    if before != target.neighbour {
        due = true;
        target.backoff = ROUND;
    }
    let gone = |error: io::Error| format!("its interface {} is gone ({error})", route.interface);
    let (mac, mtu) = interface::mac_and_mtu(requests, route.interface).map_err(gone)?;
    let source_mac = mac.ok_or_else(|| {
        format!(
            "interface {} on the route to it has no MAC address",
            route.interface
        )
    })?;
    let known = neighbour::look_up(requests, route.interface, route.neighbour).map_err(gone)?;
    let dest_mac = match known {
        Neighbour::Known(mac) => {
            target.solicit_after = now + STALE;
            target.backoff = ROUND;
            Ok(mac)
        }
        Neighbour::Stale(mac) => {
            if due {
                target.solicit_after = now + STALE;
                neighbour::solicit(requests, route.interface, route.neighbour).map_err(gone)?;
            }
            Ok(mac)
        }
        Neighbour::Failed | Neighbour::Unknown => {
            if due {
                target.solicit_after = now + target.backoff;
                target.backoff = (target.backoff * 2).min(MAX_BACKOFF);
                neighbour::solicit(requests, route.interface, route.neighbour).map_err(gone)?;
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
        mtu: smaller(mtu, route.mtu),
    };
    // The last next hop is of no use if the route leads by another interface or router kind.
    if dest_mac.is_err()
        && target
            .hop
            .is_some_and(|last| last.interface != route.interface || last.direct != route.direct)
    {
        target.hop = None;
    }
    dest_mac.map(hop).map_err(str::to_owned)
}
