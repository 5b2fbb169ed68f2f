//! The interface of a data plane.

use std::{collections::BTreeSet, net::IpAddr};

use lb_model::vip::{RealId, VipKey};

use crate::{
    capture::{CaptureFilter, CaptureReader},
    error::{DataplaneError, system},
    service::ServiceSpec,
    simulation::Simulation,
    stats::{RealFlows, Stats},
    status::{InterfaceStatus, Status},
};

/// The owner of the tables. A call blocks no longer than a few system calls or a scan of memory take.
pub trait Dataplane: Send {
    /// Adds a service, or changes the one with this name. New flows see the change when the call returns;
    /// running flows keep their reals for the window. On an error nothing has changed.
    ///
    /// # Errors
    /// [`DataplaneError::Full`], [`DataplaneError::System`] from growing a table, or [`DataplaneError::OwnAddress`] if a real
    /// is added that is an address of this host and is not dead.
    fn set_service(&mut self, spec: &ServiceSpec) -> Result<(), DataplaneError>;

    /// Resets up to `flows` running flows of a real soon, so that their clients reconnect and the ring
    /// chooses again: each of its next TCP packets with data ends its flow, until so many are ended. Replaces
    /// an earlier number that is not yet reached; 0 cancels it. CPUs that end flows at the same moment may
    /// end more than `flows`, by less than the number of CPUs. Returns how many flows of the earlier number
    /// were still to be reset.
    ///
    /// # Errors
    /// [`DataplaneError::CannotShed`].
    fn shed(&mut self, vip: &VipKey, real: RealId, flows: u32) -> Result<u32, DataplaneError>;

    /// The mark (`SO_MARK`) of a socket whose packets to the VIP reach this real whatever the ring says, as
    /// clients' packets do: encapsulated, or with its MAC address. `None` if there is no such real, or if
    /// packets of this host do not pass this data plane. It can change with the service. The answers come
    /// from the VIP's address to the host's own.
    fn probe_mark(&self, vip: &VipKey, real: RealId) -> Option<u32>;

    /// Why probes to a VIP do not leave this host by the data plane, and what to do; `None` if they do, as
    /// far as routes and neighbours tell. Waits some milliseconds for a neighbour's answer.
    fn probe_problem(&mut self, vip: &VipKey) -> Option<String>;

    /// Removes a service and its reals; from now on its packets pass to the host's stack. Does nothing if
    /// there is no such service.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn remove_service(&mut self, vip: &VipKey) -> Result<(), DataplaneError>;

    /// Names of the services in the tables: an adopting agent compares them with intent.
    fn services(&self) -> Vec<VipKey>;

    /// Does what is due: settles slots whose window is over, frees indices that nothing names any more,
    /// sweeps the flow table. Call it about once a second.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn tick(&mut self) -> Result<(), DataplaneError>;

    /// Whether a service that has carried no packet yet was changed. Its slots settle before its first packet if
    /// [`Self::settle_unused`] is called soon, and not only by the next tick.
    fn awaits_settling(&self) -> bool {
        false
    }

    /// Settles slots of services that have carried no packet. What changed within the grace period of packets under way
    /// (100 ms) is left for another call, which [`Self::awaits_settling`] asks for.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn settle_unused(&mut self) -> Result<(), DataplaneError> {
        Ok(())
    }

    /// All counters.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn stats(&self) -> Result<Stats, DataplaneError>;

    /// Live flows of every real.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn flows(&self) -> Result<Vec<RealFlows>, DataplaneError>;

    /// Runs the program on a frame without changing flows or counters.
    ///
    /// # Errors
    /// [`DataplaneError::NoInterface`], [`DataplaneError::FrameLength`], [`DataplaneError::System`].
    fn simulate(
        &mut self,
        interface: Option<&str>,
        frame: &[u8],
    ) -> Result<Simulation, DataplaneError>;

    /// Begins to copy the packets of a filter. Only one capture runs at a time. It costs nothing until then, and until
    /// [`Self::stop_capture`] each packet some time.
    ///
    /// # Errors
    /// [`DataplaneError::CaptureRuns`], [`DataplaneError::System`].
    fn start_capture(
        &mut self,
        _filter: &CaptureFilter,
    ) -> Result<Box<dyn CaptureReader>, DataplaneError> {
        Err(system("capturing packets")(
            "this data plane cannot capture",
        ))
    }

    /// Ends the capture that runs, if one does.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn stop_capture(&mut self) -> Result<(), DataplaneError> {
        Ok(())
    }

    /// The names of a captured packet's service and real, if they are still there.
    fn capture_names(&self, _indices: (u32, u32)) -> (Option<VipKey>, Option<RealId>) {
        (None, None)
    }

    /// The state of the data plane itself.
    fn status(&self) -> Status;

    /// Looks every next hop up again, after a route, neighbour or interface has changed. Returns whether a
    /// real became reachable or unreachable.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn refresh_next_hops(&mut self) -> Result<bool, DataplaneError>;

    /// Compares the interfaces with what should be attached there, and attaches where that is possible: an interface is
    /// back, or its program was detached. Returns the interfaces that packets are forwarded from again, or no longer, in
    /// the order of these changes: one that was attached again is in the list twice.
    /// Call it about once a second, and after a notification about an interface.
    fn check_links(&mut self) -> Vec<InterfaceStatus> {
        Vec::new()
    }

    /// What somebody else has changed in the tables, as the last tick saw it, and what to do.
    fn foreign_changes(&self) -> Option<String> {
        None
    }

    /// Reals that are addresses of this host: no packet leaves the host for them.
    fn own_reals(&self) -> BTreeSet<IpAddr> {
        BTreeSet::new()
    }
}
