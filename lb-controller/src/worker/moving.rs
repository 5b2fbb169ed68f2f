//! Copies of instances and moves to another host, as an operator asks for them.

use lb_drivers::{Bounded, Driver as _, DriverError, Phase};
use lb_model::{
    host::HostName,
    pool::{InstanceName, Launch, Placement},
};

use super::Worker;
use crate::{
    hosts::placement::NoRoom,
    pool::{Homeless, PoolOwner},
};

impl Worker {
    /// Has an instance be there that is as another one is now. Its record is stored when this returns.
    ///
    /// # Errors
    /// Why there can be none, in words.
    pub(super) async fn clone_instance(
        &mut self,
        from: &InstanceName,
    ) -> Result<InstanceName, String> {
        if self.pool.owner == PoolOwner::Balancer {
            return Err(
                "its load balancer says how many nodes there are: set `nodes` of that".to_owned(),
            );
        }
        let now = self.now();
        let (wish, host) = self.pool.place_of_copy(from)?;
        let driver = self.drivers.get(&host).map(|driver| &driver.calls);
        let driver = driver.ok_or_else(|| format!("its host {host} is not connected"))?;
        if !driver.capabilities().clone {
            return Err(driver.cannot("clone an instance").to_string());
        }
        self.reserve(&wish, &host)?;
        let copy = self.pool.launch_copy(from, &wish, host, now);
        let copy = copy.ok_or("its place is not there any more")?;
        self.store(false).await;
        if self.pool.store_is_away {
            self.pool.take_back_launch(&copy);
            return Err(self.without_store());
        }
        Ok(copy)
    }

    /// Has an instance move to another host. Its record is stored when this returns.
    ///
    /// # Errors
    /// Why it cannot, in words.
    pub(super) async fn move_instance(
        &mut self,
        name: &InstanceName,
        to: &HostName,
    ) -> Result<(), String> {
        let now = self.now();
        let fleet = self.fleet.borrow().clone();
        if !to.is_local() && !fleet.contains_key(to) {
            return Err(format!(
                "there is no host {to}; `lbctl host list` shows those that there are"
            ));
        }
        let wish = self.pool.check_move(name, to)?;
        let labels = fleet.get(to).map(|member| member.labels.clone());
        if !self.pool.suits(to, &labels.unwrap_or_default()) {
            return Err(format!(
                "{to} is none of the hosts that its pool may use (`placement`)"
            ));
        }
        for host in wish.before.iter().chain([to]) {
            let driver = self.drivers.get(host).map(|driver| &driver.calls);
            let driver = driver.ok_or_else(|| format!("host {host} is not connected"))?;
            let can = driver.capabilities();
            if !can.migrate && !can.suspend {
                return Err(driver.cannot("move an instance").to_string());
            }
            if !can.migrate && host == to {
                return Err(format!(
                    "host {to} receives no instances, or is not connected; `--receive-at` of its `lb-agent host` says where it does, \
                     `receive_at` in `driver` on the controller's own host"
                ));
            }
        }
        self.reserve(&wish, to)?;
        self.pool.begin_move(name, to.clone(), now);
        self.store(false).await;
        if self.pool.store_is_away {
            self.pool.take_back_move(name, now);
            return Err(self.without_store());
        }
        Ok(())
    }

    /// Reserves room for an instance on one host.
    fn reserve(&self, wish: &Homeless, host: &HostName) -> Result<(), String> {
        let placement = self.pool.spec.placement.as_ref();
        let only = placement.map(|placement| Placement {
            hosts: vec![host.clone()],
            spread: None,
            avoid: Vec::new(),
            ..placement.clone()
        });
        let (hosts, unlisted) = (&self.means.hosts, self.pool.unlisted());
        let placed = hosts.place(&self.pool.name, only.as_ref(), wish, unlisted);
        // Nothing is said of the other hosts.
        let why = |no_room: NoRoom| {
            NoRoom {
                hosts: 1,
                excluded: 0,
                ..no_room
            }
            .to_string()
        };
        placed.map(drop).map_err(why)
    }

    fn without_store(&self) -> String {
        let why = self.means.keeper.trouble().unwrap_or_default();
        format!("nothing was changed: the store does not work: {why}")
    }
}

/// What a driver lists of an instance.
async fn phase_of(driver: &Bounded, name: &InstanceName) -> Result<Option<Phase>, DriverError> {
    let listed = driver.list().await?;
    let found = listed.into_iter().find(|one| one.name == *name);
    Ok(found.map(|one| one.phase))
}

/// Moves an instance from one host to another while it runs, also if an earlier attempt was interrupted anywhere.
pub(super) async fn move_between(
    from: &Bounded,
    to: &Bounded,
    launch: &Launch,
) -> Result<(), DriverError> {
    let name = &launch.name;
    if phase_of(from, name)
        .await?
        .is_some_and(|phase| phase.is_up())
    {
        let at = to.receive(launch).await?;
        let phase = from.send(name, &at).await?;
        return to.received(name, phase).await;
    }
    // It was sent, or has ended.
    match phase_of(to, name).await? {
        Some(phase) if phase.is_up() => to.received(name, Phase::Running).await,
        _ => Err(DriverError::NotFound(name.clone())),
    }
}

/// Whether an instance that could not be moved does not run where it was, so that the other host may have it.
pub(super) async fn may_have_moved(from: &Bounded, name: &InstanceName) -> bool {
    !matches!(phase_of(from, name).await, Ok(Some(Phase::Running)))
}
