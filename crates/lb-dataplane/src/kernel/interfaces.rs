//! An interface of the options: whether its packets meet the program, and what to do if they do not.
//!
//! A link of the kernel (`bpf_link`) ends without a notification when its interface is removed, when another process
//! detaches it, or when its pin is removed. So the kernel is asked what is attached, about once a second.

use std::time::{Duration, Instant};

use super::attach::Attached;
use crate::{
    error::{DataplaneError, system},
    netlink::{
        links::{self, Link},
        socket::Requests,
    },
    status::InterfaceStatus,
};

/// The pause after the first failure to attach.
const MIN_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause; loading a program takes the kernel's verifier some time.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// An interface, attached or not.
#[derive(Debug)]
pub(crate) struct Interface {
    pub name: String,
    /// Its slot in the counters.
    pub slot: u32,
    state: State,
    /// Index of the interface that the program was last attached to; 0 if there was none.
    index: u32,
    native: bool,
    /// Why the program does not run in the driver; empty if it does.
    mode_warning: String,
    /// The attempt to attach that failed.
    failure: Option<Failure>,
}

/// Whether the program is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// With this id.
    Attached(u32),
    /// Why not, and what to do.
    Detached(String),
}

#[derive(Debug)]
struct Failure {
    index: u32,
    pause: Duration,
    again: Instant,
}

/// Whether there is an interface of the name.
pub(crate) enum Presence {
    At(Box<Link>),
    Gone,
}

impl Interface {
    /// Nothing is attached yet.
    pub fn new(name: String, slot: u32) -> Interface {
        Interface {
            name,
            slot,
            state: State::Detached(
                "the interface is missing; the agent attaches when it is there".to_owned(),
            ),
            index: 0,
            native: false,
            mode_warning: String::new(),
            failure: None,
        }
    }

    /// Its index when the program was last attached.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Whether the program is attached, as far as was last seen.
    pub fn is_attached(&self) -> bool {
        matches!(self.state, State::Attached(_))
    }

    /// Why the program does not run in the driver.
    pub fn mode_warning(&self) -> Option<String> {
        Some(self.mode_warning.clone()).filter(|warning| !warning.is_empty())
    }

    /// Why the program is not attached, as far as was last seen.
    pub fn reason(&self) -> Option<&str> {
        match &self.state {
            State::Attached(_) => None,
            State::Detached(reason) => Some(reason),
        }
    }

    /// Its state as it was last seen, without the program's id.
    pub fn state(&self) -> State {
        match &self.state {
            State::Attached(_) => State::Attached(0),
            detached => detached.clone(),
        }
    }

    /// Looks for it.
    pub fn presence(&self, requests: &mut Requests) -> Result<Presence, DataplaneError> {
        let link = links::by_name(requests, &self.name)
            .map_err(system(format!("examining the interface {}", self.name)))?;
        Ok(link.map_or(Presence::Gone, |link| Presence::At(Box::new(link))))
    }

    /// The program was attached.
    pub fn attached(&mut self, attached: Attached) {
        self.state = State::Attached(attached.program);
        self.index = attached.index;
        self.native = attached.native;
        self.mode_warning = attached.warning;
        self.failure = None;
    }

    /// The attached program was replaced by this one.
    pub fn replaced(&mut self, program: u32) {
        self.state = State::Attached(program);
    }

    /// The program is not attached, for this reason.
    pub fn detached(&mut self, reason: String) {
        self.state = State::Detached(reason);
    }

    /// An attempt to attach to the interface with this index failed.
    pub fn failed(&mut self, index: u32, error: impl std::fmt::Display) {
        let pause = match &self.failure {
            Some(last) if last.index == index => (last.pause * 2).min(MAX_PAUSE),
            _ => MIN_PAUSE,
        };
        self.failure = Some(Failure {
            index,
            pause,
            again: Instant::now() + pause,
        });
        self.detached(format!("{error}; it is tried again"));
    }

    /// Whether an attempt to attach to the interface with this index is due.
    fn is_due(&self, index: u32) -> bool {
        let failed = self
            .failure
            .as_ref()
            .filter(|failure| failure.index == index);
        failed.is_none_or(|failure| failure.again <= Instant::now())
    }

    /// Brings the state in line with what the kernel has. Returns the index of the interface if the program is to be
    /// attached to it now.
    pub fn examine(&mut self, requests: &mut Requests) -> Option<u32> {
        let presence = match self.presence(requests) {
            Ok(presence) => presence,
            Err(error) => {
                // Nothing is known then, neither good nor bad.
                tracing::debug!("{error}");
                return None;
            }
        };
        let problem = self.problem(&presence);
        match (presence, problem) {
            (_, None) => None,
            (Presence::At(link), Some(problem))
                if link.programs.is_empty() || self.state == State::Attached(0) =>
            {
                if self.is_attached() {
                    self.detached(problem);
                }
                self.is_due(link.index).then_some(link.index)
            }
            (_, Some(problem)) => {
                self.detached(problem);
                self.failure = None;
                None
            }
        }
    }

    /// Why packets do not meet the program; `None` if they do.
    fn problem(&self, presence: &Presence) -> Option<String> {
        let link = match presence {
            Presence::At(link) => link,
            Presence::Gone => {
                return Some(match &self.state {
                    // It was never there.
                    State::Detached(reason) if self.index == 0 => reason.clone(),
                    _ => {
                        "the interface is gone; the agent attaches again when it is back".to_owned()
                    }
                });
            }
        };
        let program = match self.state {
            State::Attached(program) => program,
            State::Detached(_) => 0,
        };
        // A real has interfaces that need no program.
        let needs_none = self.state == State::Attached(0);
        if link.index == self.index && (needs_none || link.programs.contains(&program)) {
            return None;
        }
        if needs_none {
            return Some("the interface was recreated".to_owned());
        }
        Some(match (&self.state, &link.programs[..]) {
            (_, [other, ..]) => format!(
                "another XDP program (id {other}) is in its place; end what attached it, or remove it with `ip link set \
                 {} xdp off`, and the agent attaches again",
                self.name
            ),
            (State::Detached(reason), []) => reason.clone(),
            (State::Attached(_), []) => {
                "its program was detached; the agent attaches it again".to_owned()
            }
        })
    }

    /// Its state, as the kernel has it now.
    pub fn status(&self, requests: &mut Requests) -> InterfaceStatus {
        let (attached, index, warning) = match self.presence(requests) {
            Ok(presence) => match self.problem(&presence) {
                Some(problem) => (false, self.index, problem),
                None => (true, self.index, self.advice(&presence, requests)),
            },
            Err(error) => (self.is_attached(), self.index, error.to_string()),
        };
        InterfaceStatus {
            name: self.name.clone(),
            index,
            attached,
            native: attached && self.native,
            warning,
        }
    }

    /// What an operator should know of an interface whose program is attached.
    fn advice(&self, presence: &Presence, requests: &mut Requests) -> String {
        let mut advice = Vec::new();
        if !self.mode_warning.is_empty() {
            advice.push(self.mode_warning.clone());
        }
        if let Presence::At(link) = presence {
            if !link.up {
                advice.push(format!(
                    "{name} is down: no packet comes in by it; `ip link set {name} up`",
                    name = self.name
                ));
            } else if !link.carrier {
                advice.push(format!(
                    "{} has no carrier: no packet comes in by it; look at the cable or the other end",
                    self.name
                ));
            }
            if self.native {
                advice.extend(super::veth::advice(link, requests));
            }
        }
        advice.join("; ")
    }

    /// Fails if the calling thread is in another network namespace than the interface: programs are attached in the
    /// caller's.
    pub fn is_in_sight(&self, index: u32) -> Result<(), DataplaneError> {
        match nix::net::if_::if_nametoindex(&*self.name) {
            Ok(seen) if seen == index => Ok(()),
            _ => Err(system(format!("attaching to {}", self.name))(
                "the interface has just changed, or this thread is in another network namespace",
            )),
        }
    }
}
