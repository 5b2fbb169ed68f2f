//! Connections that remember their real.

use lb_dataplane::MemoryDataplane;

use crate::weights::REALS;

/// A connection that lives long sends a packet this often, in seconds: it must, within its VIP's window.
const PAUSE: f64 = 1_500.0;

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const FIN: u8 = 0x11;

/// Connections of a real, since the beginning.
#[derive(Clone, Copy, Debug, Default)]
pub struct Carried {
    /// Opened.
    pub opened: u64,
    /// Ended.
    pub closed: u64,
}

/// Client connections to the VIP.
pub struct Connections {
    /// The index of each one's real in the tables.
    reals: Vec<u16>,
    carried: Vec<Carried>,
    /// How many connections came from each client before.
    turns: Vec<u16>,
    life: f64,
    /// The next one to send.
    next: usize,
    /// Fractions of a connection that are still to be played.
    rest: f64,
    frame: Vec<u8>,
    random: fastrand::Rng,
    broken: u64,
}

impl Connections {
    /// Opens them.
    pub fn new(number: u32, life: f64, plane: &mut MemoryDataplane) -> Connections {
        let mut frame = Vec::new();
        etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([0; 4], [10, 0, 0, 1], 64)
            .tcp(0, 80, 1, 1_024)
            .write(&mut frame, b"data")
            .expect("memory takes a frame");
        let mut connections = Connections {
            reals: vec![0; number as usize],
            carried: vec![Carried::default(); usize::from(REALS)],
            turns: vec![0; number as usize],
            life,
            next: 0,
            rest: 0.0,
            frame,
            random: fastrand::Rng::with_seed(3),
            broken: 0,
        };
        for client in 0..number as usize {
            connections.open(client, plane);
        }
        connections
    }

    /// Connections that there are at once.
    pub fn number(&self) -> usize {
        self.reals.len()
    }

    /// Packets that reached another real than the one before.
    pub fn broken(&self) -> u64 {
        self.broken
    }

    /// Those of each real.
    pub fn carried(&self) -> &[Carried] {
        &self.carried
    }

    /// Those of the real that a connection is on. The tables number reals from 1, in their order.
    fn of_real(&mut self, client: usize) -> &mut Carried {
        &mut self.carried[usize::from(self.reals[client]) - 1]
    }

    fn open(&mut self, client: usize, plane: &mut MemoryDataplane) {
        self.turns[client] = self.turns[client].wrapping_add(1);
        self.reals[client] = self.send(client, SYN, plane);
        self.of_real(client).opened += 1;
        self.data(client, ACK, plane);
    }

    fn data(&mut self, client: usize, flags: u8, plane: &mut MemoryDataplane) {
        let real = self.send(client, flags, plane);
        self.broken += u64::from(real != self.reals[client]);
    }

    fn send(&mut self, client: usize, flags: u8, plane: &mut MemoryDataplane) -> u16 {
        let source = (100 << 24) + client as u32;
        self.frame[26..30].copy_from_slice(&source.to_be_bytes());
        let port = 1_024 + self.turns[client] % 60_000;
        self.frame[34..36].copy_from_slice(&port.to_be_bytes());
        self.frame[47] = flags;
        plane.forward(&self.frame).0.real
    }

    /// Plays some seconds: connections send, and end and begin.
    pub fn play(&mut self, seconds: f64, plane: &mut MemoryDataplane) {
        let pause = PAUSE.min(self.life);
        self.rest += self.reals.len() as f64 * seconds / pause;
        let ends = pause / self.life;
        while self.rest >= 1.0 {
            self.rest -= 1.0;
            let client = self.next;
            self.next = (client + 1) % self.reals.len();
            self.data(client, ACK, plane);
            if self.random.f64() < ends {
                self.data(client, FIN, plane);
                self.of_real(client).closed += 1;
                self.open(client, plane);
            }
        }
    }
}
