//! An independent model of the forwarding decision. It derives the expected outcome for a frame directly from the
//! specifications (the records of `lb_common::tables`, RFC 791, 1624, 2003, 2473, 6040, 8200).
//!
//! It shares only definitions with the code under test: the records, the reasons and the two hash functions of our own. It has its
//! own parser, choice, encapsulation and checksums, on vectors and hash maps, and computes a checksum from scratch if the
//! packet had a correct one.

pub mod checksum;
pub mod choose;
pub mod flows;
pub mod fragments;
pub mod generator;
mod headers;
mod icmp;
mod katran;
pub mod named;
mod parse;
pub mod random;
pub mod random_testbed;
mod reset;
mod send;
mod shed;
pub mod sources;
pub mod tables;
pub mod testbed;
pub mod validate;

use std::{collections::HashMap, net::IpAddr};

use lb_common::reason::{ChosenBy, Reason, Verdict};
use lb_common::tables::counters::{RealCounters, ServerIdCounters, ServiceCounters};

use self::{
    flows::FlowTable,
    parse::{Packet, Payload},
    sources::Verdict as SourceVerdict,
    testbed::{Testbed, VipName},
};

/// The expected outcome for a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The reason.
    pub reason: Reason,
    /// The interface that a redirected frame leaves by; 0 for all others.
    pub interface: u32,
    /// The packet's service; 0 if there is none, and for echo requests.
    pub service: u32,
    /// The chosen real; 0 if there is none.
    pub real: u16,
    /// How the real was chosen.
    pub chosen_by: ChosenBy,
    /// The resulting frame.
    pub frame: Vec<u8>,
}

impl Expected {
    /// Returns what happens to the frame.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.reason.verdict()
    }
}

/// Identifies a flow: service, client's address and port, port of the VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Index of its service.
    pub service: u32,
    /// The client.
    pub source: IpAddr,
    /// The client's port.
    pub source_port: u16,
    /// The port that the client connects to. The VIP may be for any port.
    pub destination_port: u16,
}

/// Why no host sends such a segment; `None` if one does (RFC 9293 section 3.10: all segments but the first and resets have
/// ACK).
fn never_sent(packet: &Packet) -> Option<Reason> {
    let Payload::Tcp { flags, .. } = packet.payload else {
        return None;
    };
    let [fin, syn, rst, ack] = [0x01, 0x02, 0x04, 0x10].map(|flag| flags & flag != 0);
    if ack {
        None
    } else if syn && (fin || rst) || !syn && !rst {
        Some(Reason::BadFlags)
    } else {
        (syn && packet.source == packet.destination).then_some(Reason::Land)
    }
}

/// The model: a testbed, its flow table and its counters.
#[derive(Clone, Debug)]
pub struct Model {
    /// The tables as the agent would write them.
    pub testbed: Testbed,
    /// The flow table.
    pub flows: FlowTable,
    /// The clock, in ticks.
    pub now: u32,
    /// Frames by reason.
    pub reasons: Vec<u64>,
    /// Counters by real.
    pub reals: Vec<RealCounters>,
    /// Counters by service.
    pub services: Vec<ServiceCounters>,
    /// Packets that named a real, by service.
    pub server_ids: Vec<ServerIdCounters>,
    /// Flows that were ended by shedding.
    pub ended: u64,
    /// Packets whose first fragment was seen.
    pub fragments: HashMap<fragments::Name, fragments::First>,
}

impl Model {
    /// Creates a model with this many buckets for flows.
    #[must_use]
    pub fn new(testbed: Testbed, buckets: u32) -> Model {
        Model {
            flows: FlowTable::new(buckets),
            now: 0,
            reasons: vec![0; Reason::ALL.len()],
            reals: vec![RealCounters::default(); testbed.reals.len()],
            services: vec![ServiceCounters::default(); testbed.services.len()],
            server_ids: vec![ServerIdCounters::default(); testbed.services.len()],
            ended: 0,
            fragments: HashMap::new(),
            testbed,
        }
    }

    /// Decides on a frame that has `headroom` bytes in front of it.
    pub fn decide(&mut self, frame: &[u8], headroom: usize) -> Expected {
        let mut answer = Expected {
            reason: Reason::Malformed,
            interface: 0,
            service: 0,
            real: 0,
            chosen_by: ChosenBy::Nothing,
            frame: frame.to_vec(),
        };
        answer.reason = match parse::parse(frame) {
            // Too short for an address, or for no station of ours.
            Err(reason @ Reason::NotIp) => reason,
            _ if frame.len() >= parse::ETHERNET && !self.is_addressed(frame) => {
                Reason::OtherStation
            }
            Ok(packet) => self.serve(&packet, headroom, &mut answer),
            Err(Reason::Fragment) => match self.fragment(frame) {
                Ok(packet) => self.serve(&packet, headroom, &mut answer),
                Err(reason) => reason,
            },
            Err(reason) => reason,
        };
        self.reasons[answer.reason as usize] += 1;
        answer
    }

    /// Whether a frame is for one of this host's stations, or for any one if those are not known.
    fn is_addressed(&self, frame: &[u8]) -> bool {
        let stations = &self.testbed.stations;
        let group = frame[0] & 1 != 0;
        !group && (stations.is_empty() || stations.iter().any(|mac| mac[..] == frame[..6]))
    }

    /// An ICMP error goes where the quoted flow's packets go, and leaves no trace but there.
    fn relay(&mut self, packet: &Packet, headroom: usize, answer: &mut Expected) -> Reason {
        let Some(flow) = icmp::quoted(packet, &answer.frame) else {
            return Reason::OtherProtocol;
        };
        let Some(service) = self.service(&flow) else {
            return Reason::OtherProtocol;
        };
        answer.service = service;
        let choice = match self.own_real(flow.source, service) {
            Some(real) => Ok(choose::Choice {
                real,
                by: ChosenBy::SourceRule,
                opened: false,
            }),
            None => {
                let flows = self.flows.clone();
                let choice = self.choose(&flow, service);
                self.flows = flows;
                choice
            }
        };
        let sent = match choice {
            Ok(choice) => {
                (answer.real, answer.chosen_by) = (choice.real, choice.by);
                let sent = send::send(
                    &self.testbed,
                    packet,
                    choose::ring_hash(&self.testbed, &flow, service) as u32,
                    choice.real,
                    headroom,
                    &answer.frame,
                );
                sent.inspect(|_| {
                    let counters = &mut self.reals[usize::from(choice.real)];
                    counters.packets += 1;
                    counters.bytes += packet.length as u64;
                })
            }
            Err(refusal) => {
                (answer.real, answer.chosen_by) = (refusal.real, refusal.by);
                // An error is never answered with one (RFC 1812 section 4.3.2.7).
                Err(match refusal.reason {
                    Reason::UnreachableNoReal => Reason::NoReal,
                    reason => reason,
                })
            }
        };
        match sent {
            Ok(sent) => {
                answer.frame = sent.frame;
                if sent.interface == self.testbed.interface {
                    return Reason::ForwardedTx;
                }
                answer.interface = sent.interface;
                Reason::ForwardedRedirect
            }
            Err(reason) => {
                self.count_dropped(packet, service);
                reason
            }
        }
    }

    fn count_dropped(&mut self, packet: &Packet, service: u32) {
        let counters = &mut self.services[service as usize];
        counters.dropped_packets += 1;
        counters.dropped_bytes += packet.length as u64;
    }

    fn serve(&mut self, packet: &Packet, headroom: usize, answer: &mut Expected) -> Reason {
        if matches!(packet.payload, Payload::IcmpError { .. }) {
            return match self.service(packet) {
                Some(_) => self.relay(packet, headroom, answer),
                None => Reason::OtherProtocol,
            };
        }
        let Some(service) = self.service(packet) else {
            return Reason::NotVip;
        };
        if matches!(packet.payload, Payload::Echo { .. }) {
            if let Some(reason) = icmp::refusal(packet, &answer.frame) {
                return reason;
            }
            answer.frame = send::echo_reply(packet, &answer.frame);
            return Reason::EchoReply;
        }
        answer.service = service;
        if let Some(reason) = never_sent(packet) {
            self.count_dropped(packet, service);
            return reason;
        }
        if self.verdict(packet.source, service) == SourceVerdict::Deny {
            self.count_dropped(packet, service);
            return Reason::SourceDenied;
        }
        let named = self.named(packet, &answer.frame, service);
        let own = self.own_real(packet.source, service);
        let choice = match (named, own) {
            (Some(real), _) => Ok(choose::Choice {
                real,
                by: ChosenBy::ServerId,
                opened: false,
            }),
            (None, Some(real)) => Ok(choose::Choice {
                real,
                by: ChosenBy::SourceRule,
                opened: packet.payload.opens(),
            }),
            (None, None) => self.choose(packet, service),
        };
        let reason = match choice {
            Ok(choice) => {
                answer.real = choice.real;
                answer.chosen_by = choice.by;
                let hash = choose::ring_hash(&self.testbed, packet, service) as u32;
                match send::send(
                    &self.testbed,
                    packet,
                    hash,
                    choice.real,
                    headroom,
                    &answer.frame,
                ) {
                    Ok(sent) => {
                        let ended = self.end_flow(packet, &choice, service);
                        if ended {
                            let last = shed::last_segment(packet, &answer.frame);
                            answer.frame = match send::send(
                                &self.testbed,
                                packet,
                                hash,
                                choice.real,
                                headroom,
                                &last,
                            ) {
                                Ok(sent) => sent.frame,
                                Err(reason) => return reason,
                            };
                        } else {
                            answer.frame = sent.frame;
                        }
                        self.count_forwarded(packet, &choice, ended);
                        if sent.interface == self.testbed.interface {
                            Reason::ForwardedTx
                        } else {
                            answer.interface = sent.interface;
                            Reason::ForwardedRedirect
                        }
                    }
                    Err(Reason::TooLarge) => {
                        let real = self.testbed.reals[usize::from(choice.real)];
                        let reply = real.and_then(|real| {
                            let cause = icmp::Cause::TooLarge(real.largest);
                            icmp::answer(packet, cause, headroom, &answer.frame)
                        });
                        match reply {
                            Some(reply) => {
                                answer.frame = reply;
                                Reason::TooLargeAnswered
                            }
                            None => Reason::TooLarge,
                        }
                    }
                    Err(Reason::TtlExpired) => {
                        let cause = icmp::Cause::TimeExceeded;
                        match icmp::answer(packet, cause, headroom, &answer.frame) {
                            Some(reply) => {
                                answer.frame = reply;
                                Reason::TtlExpiredAnswered
                            }
                            None => Reason::TtlExpired,
                        }
                    }
                    Err(reason) => reason,
                }
            }
            Err(refusal) if refusal.reason == Reason::UnreachableNoReal => {
                let cause = icmp::Cause::PortUnreachable;
                match icmp::answer(packet, cause, headroom, &answer.frame) {
                    Some(reply) => {
                        answer.frame = reply;
                        Reason::UnreachableNoReal
                    }
                    None => Reason::NoReal,
                }
            }
            Err(refusal) => {
                answer.real = refusal.real;
                answer.chosen_by = refusal.by;
                if matches!(refusal.reason, Reason::ResetDownReal | Reason::ResetNoReal) {
                    match icmp::refusal(packet, &answer.frame) {
                        Some(reason) => reason,
                        None => {
                            answer.frame = reset::reset(packet, &answer.frame);
                            refusal.reason
                        }
                    }
                } else {
                    refusal.reason
                }
            }
        };
        if !matches!(reason, Reason::ForwardedTx | Reason::ForwardedRedirect) {
            self.count_dropped(packet, service);
        }
        reason
    }

    fn count_forwarded(&mut self, packet: &Packet, choice: &choose::Choice, ended: bool) {
        let counters = &mut self.reals[usize::from(choice.real)];
        counters.packets += 1;
        counters.bytes += packet.length as u64;
        counters.opened += u64::from(choice.opened);
        counters.closed += u64::from(packet.payload.closes() || ended);
    }

    /// Looks up the exact port, then any port. For an echo request, only the address counts.
    fn service(&self, packet: &Packet) -> Option<u32> {
        let name = |port| VipName {
            address: packet.destination,
            port,
            protocol: packet.protocol,
        };
        let vips = &self.testbed.vips;
        match packet.payload {
            Payload::Echo { .. } | Payload::IcmpError { .. } => vips.get(&name(0)).copied(),
            Payload::Tcp { ports, .. } | Payload::Udp { ports } | Payload::Sctp { ports, .. } => {
                vips.get(&name(ports.1)).copied().or_else(|| {
                    let any_port = match packet.destination {
                        IpAddr::V4(_) => self.testbed.any_port_v4,
                        IpAddr::V6(_) => self.testbed.any_port_v6,
                    };
                    any_port.then(|| vips.get(&name(0)).copied()).flatten()
                })
            }
        }
    }
}
