//! Forwarding under changes: numbered packets through the wire, each of which must come back once.

use std::{
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use lb_dataplane::Dataplane as _;

use crate::bench::{Bench, frame, privileged, service, simulate_until};

/// A packet socket on an interface of this thread's namespace.
fn packet_socket(interface: &str) -> OwnedFd {
    // SAFETY: plain system calls; the descriptor is new and nobody else's.
    unsafe {
        let all = (libc::ETH_P_ALL as u16).to_be();
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(all));
        assert!(fd >= 0);
        let socket = OwnedFd::from_raw_fd(fd);
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = all;
        address.sll_ifindex = nix::net::if_::if_nametoindex(interface).unwrap() as i32;
        let length = size_of::<libc::sockaddr_ll>() as u32;
        assert_eq!(libc::bind(fd, (&raw const address).cast(), length), 0);
        let timeout = libc::timeval {
            tv_sec: 0,
            tv_usec: 100_000,
        };
        let length = size_of::<libc::timeval>() as u32;
        assert_eq!(
            libc::setsockopt(
                fd,
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const timeout).cast(),
                length
            ),
            0
        );
        socket
    }
}

/// Receives one frame; `None` after the timeout.
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Option<usize> {
    // SAFETY: the buffer has the length given.
    let length = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            0,
        )
    };
    usize::try_from(length).ok()
}

/// A packet socket on the neighbour's `far`.
pub struct Wire(OwnedFd);

impl Wire {
    pub fn of(bench: &Bench) -> Wire {
        Wire(bench.neighbour.enter(|| packet_socket("far")).unwrap())
    }
}

/// Sends packets of a client to the VIP over the wire until one comes back in an outer header; each is
/// given a second, the first may meet an interface that is not up yet.
pub fn packet_comes_back(bench: &Bench, wire: &Wire, vip: &str) {
    const ATTEMPTS: u32 = 10;
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let mut buffer = [0; 2_048];
    for _ in 0..ATTEMPTS {
        // A number of its own: an earlier packet that comes late is not taken for this one.
        let number = (NUMBER.fetch_add(1, Ordering::Relaxed) as u32 | 0x8000_0000).to_be_bytes();
        let mut bytes = frame("198.51.100.7", 1_000, vip, false);
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&number);
        // SAFETY: the buffer has the length given.
        let out = unsafe { libc::send(wire.0.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        assert_eq!(out, bytes.len() as isize);
        let give_up = Instant::now() + Duration::from_secs(1);
        while Instant::now() < give_up {
            let Some(length) = receive(&wire.0, &mut buffer) else {
                continue;
            };
            let outer = length > 34 && buffer[12..14] == [8, 0] && buffer[23] == 4;
            if outer && buffer[length - 4..length] == number {
                return;
            }
        }
    }
    panic!("no packet came back with pins in {}", bench.pins.display());
}

/// Ends the sender however its test ends.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn no_packet_is_lost_while_tables_grow_and_agents_change() {
    const VIP: &str = "192.0.2.1:9000/udp";
    if !privileged() {
        return;
    }
    let bench = Bench::new();
    let _passing = bench.start_passing();
    let mut plane = bench.start();
    plane
        .set_service(&service(VIP, &["10.7.0.2", "10.7.0.3"], 256))
        .unwrap();
    for port in 0..64 {
        simulate_until(
            &mut plane,
            &frame("198.51.100.7", 1_000 + port, VIP, false),
            |seen| seen.packet.len() > 60 && seen.real.is_some(),
        );
    }
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let (tell, told) = std::sync::mpsc::channel();
    let returned = Arc::new(AtomicU64::new(0));
    let returning = Arc::clone(&returned);
    // In the neighbour's namespace: one numbered packet at a time.
    std::thread::scope(|scope| {
        let stop = Stop(stop);
        let neighbour = &bench.neighbour;
        let sender = scope.spawn(move || {
            neighbour
                .enter(move || {
                    let socket = packet_socket("far");
                    let (mut sent, mut back, mut twice) = (0_u64, 0_u64, 0_u64);
                    let mut buffer = [0; 2_048];
                    while !stopped.load(Ordering::Relaxed) {
                        let mut bytes =
                            frame("198.51.100.7", 1_000 + (sent % 64) as u16, VIP, false);
                        let end = bytes.len();
                        bytes[end - 4..].copy_from_slice(&(sent as u32).to_be_bytes());
                        // SAFETY: the buffer has the length given.
                        let out = unsafe {
                            libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0)
                        };
                        assert_eq!(out, bytes.len() as isize);
                        let number = (sent as u32).to_be_bytes();
                        sent += 1;
                        // Lost is what has not come by then.
                        let give_up = Instant::now() + Duration::from_secs(10);
                        let mut seen = 0;
                        while seen == 0 && Instant::now() < give_up {
                            let Some(length) = receive(&socket, &mut buffer) else {
                                continue;
                            };
                            // Ours come back in an outer IPv4 header.
                            let ours = length > 34 && buffer[12..14] == [8, 0] && buffer[23] == 4;
                            if ours {
                                if buffer[length - 4..length] == number {
                                    seen += 1;
                                } else {
                                    twice += 1;
                                }
                            }
                        }
                        back += seen;
                        returning.store(back, Ordering::SeqCst);
                        if sent == 100 {
                            tell.send(()).unwrap();
                        }
                    }
                    (sent, back, twice)
                })
                .unwrap()
        });
        told.recv_timeout(Duration::from_secs(30))
            .expect("a hundred packets");
        // Growth of every table that grows, then two new agents.
        let generation = plane.status().generation;
        for number in 0..300_u32 {
            let vip = format!("192.0.{}.{}:80/tcp", 3 + number / 200, 1 + number % 200);
            plane
                .set_service(&service(
                    &vip,
                    &["10.7.0.2", "10.7.0.3", "10.7.0.4", "10.7.0.5"],
                    1_024,
                ))
                .unwrap();
        }
        assert!(plane.status().generation > generation);
        // Counters go over to the larger tables.
        let at_least = returned.load(Ordering::SeqCst);
        let stats = plane.stats().unwrap();
        let name = VIP.parse().unwrap();
        let counted = stats
            .services
            .iter()
            .find(|of| of.vip == name)
            .unwrap()
            .total
            .packets;
        assert!(
            counted >= at_least,
            "{counted} counted, {at_least} came back"
        );
        for _ in 0..2 {
            drop(plane);
            plane = bench.start();
            assert!(plane.status().adopted);
            plane.tick().unwrap();
        }
        drop(stop);
        let (sent, back, twice) = sender.join().unwrap();
        eprintln!("{sent} packets sent, {back} came back, {twice} unexpected");
        assert_eq!((sent, 0), (back, twice));
    });
}
