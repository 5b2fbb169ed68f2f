//! The task that keeps watch over hosts: it asks others whether they reach the instances of a host that is silent, takes it for
//! lost when that is proved, moves instances if that is wanted, and forgets old tokens.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use futures::StreamExt as _;
use lb_model::host::HostName;
use lb_proto::host::v1;
use tokio::time::{MissedTickBehavior, timeout};

use super::TokenRecord;
use super::{
    Hosts,
    balance::Balance,
    presence::{Observer, Standing},
};
use crate::{clock::unix_now, controller::Controller, keeper::Changes};

/// See [`lb_serve::vital`].
pub const WATCH: &str = "the task that keeps watch over hosts";
/// How often.
const LOOK: Duration = Duration::from_secs(1);
/// How long an instance may take to answer, and how long a host that is asked for that may take besides.
const ANSWER: Duration = Duration::from_millis(1_000);
const SLACK: Duration = Duration::from_millis(1_000);
/// Instances of a silent host that are asked for an answer, and hosts that ask.
const ASKED: usize = 32;
const WITNESSES: usize = 5;
/// How long tokens that have ended are known, so that whoever shows one hears that it has ended.
const KEPT: Duration = Duration::from_secs(7 * 86_400);

/// Keeps watch until the process ends.
pub async fn keep(hosts: Hosts, controller: Controller) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut balance = Balance::default();
    loop {
        ticks.tick().await;
        let endpoints = endpoints(&controller);
        look(&hosts, &endpoints).await;
        hosts.judge(&endpoints);
        hosts.forget_tokens();
        hosts.balance(&mut balance);
    }
}

/// Where the instances of each host are reached.
fn endpoints(controller: &Controller) -> BTreeMap<HostName, Vec<SocketAddr>> {
    let mut found: BTreeMap<HostName, Vec<SocketAddr>> = BTreeMap::new();
    for pool in controller.views(None).unwrap_or_default() {
        for one in pool.instances {
            if let (Some(host), Some(endpoint)) = (one.host, one.endpoint) {
                found.entry(host).or_default().push(endpoint);
            }
        }
    }
    found
}

/// Has several observers look at the instances of the hosts that are silent.
async fn look(hosts: &Hosts, endpoints: &BTreeMap<HostName, Vec<SocketAddr>>) {
    let (silent, witnesses) = {
        let state = hosts.state();
        let all: Vec<_> = state.presence.hosts().collect();
        let silent: Vec<HostName> = all
            .iter()
            .filter(|(_, standing)| matches!(standing, Standing::Silent(_)))
            .map(|(name, _)| (*name).clone())
            .collect();
        let mut witnesses: Vec<_> = all
            .iter()
            .filter(|(_, standing)| *standing == Standing::Up)
            .filter_map(|(name, _)| {
                let client = state.remotes.get(*name)?.client()?;
                Some(((*name).clone(), client))
            })
            .collect();
        // Others each time.
        fastrand::shuffle(&mut witnesses);
        witnesses.truncate(WITNESSES);
        (silent, witnesses)
    };
    for host in silent {
        let mut asked: Vec<SocketAddr> = endpoints.get(&host).cloned().unwrap_or_default();
        if asked.is_empty() {
            continue;
        }
        fastrand::shuffle(&mut asked);
        asked.truncate(ASKED);
        let own = async {
            let answers = futures::stream::iter(asked.clone())
                .map(|endpoint| lb_hosts::server::reach(endpoint, ANSWER))
                .buffer_unordered(ASKED);
            let answers: Vec<bool> = answers.collect().await;
            answers.contains(&true)
        };
        let request = v1::ReachRequest {
            endpoints: asked.iter().map(ToString::to_string).collect(),
            timeout_ms: u32::try_from(ANSWER.as_millis()).unwrap_or(u32::MAX),
        };
        let others = futures::future::join_all(witnesses.iter().map(|(name, client)| {
            let (mut client, request) = (client.clone(), request.clone());
            async move {
                let answer = timeout(ANSWER + SLACK, client.reach(request)).await;
                let reached = answer.ok()?.ok()?.into_inner().reached;
                Some((name.clone(), reached.contains(&true)))
            }
        }));
        let (own, others) = tokio::join!(own, others);
        let now = hosts.now();
        let mut state = hosts.state();
        state.presence.see(&host, Observer::Controller, own, now);
        for (name, is_reached) in others.into_iter().flatten() {
            state
                .presence
                .see(&host, Observer::Host(name), is_reached, now);
        }
    }
}

impl Hosts {
    /// Takes hosts for lost where that is proved.
    fn judge(&self, endpoints: &BTreeMap<HostName, Vec<SocketAddr>>) {
        let mut with: BTreeSet<HostName> = self.with_instances();
        with.extend(endpoints.keys().cloned());
        let now = self.now();
        let (lost, records) = {
            let mut state = self.state();
            let (lost, doubts) = state.presence.judge(&with, self.lost_after(), now);
            state.doubts = doubts.into_iter().collect();
            let mut records = Vec::new();
            for name in &lost {
                if let Some(record) = state.records.get_mut(name) {
                    record.is_lost = true;
                    records.push(record.clone());
                }
            }
            (lost, records)
        };
        if lost.is_empty() {
            return;
        }
        for record in records {
            self.store(record);
        }
        for name in &lost {
            tracing::error!("host {name} is lost: its instances are replaced elsewhere");
            let text = "it is lost: it is not connected, and nobody reaches its instances; they are replaced elsewhere";
            self.event(name, "host_lost", text, true);
        }
        self.publish();
    }

    fn forget_tokens(&self) {
        let now = unix_now();
        let old: Vec<String> = {
            let mut state = self.state();
            let old = state
                .tokens
                .iter()
                .filter(|(_, token)| token.ends + KEPT < now);
            let old: Vec<String> = old.map(|(key, _)| key.clone()).collect();
            for key in &old {
                state.tokens.remove(key);
            }
            old
        };
        if !old.is_empty() {
            let mut changes = Changes::default();
            for key in &old {
                changes.remove::<TokenRecord>(key);
            }
            self.0.keeper.owe(changes);
        }
    }

    /// Says which instances are to move, if that is wanted.
    fn balance(&self, balance: &mut Balance) {
        let Some(settings) = self
            .0
            .settings
            .as_ref()
            .filter(|settings| settings.rebalance)
        else {
            return;
        };
        let moves = {
            let ledger = self.ledger();
            balance.moves(
                &ledger,
                settings.rebalance_period,
                settings.rebalance_gain,
                self.now(),
            )
        };
        self.state().moves = moves;
    }
}
