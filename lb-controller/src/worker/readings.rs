//! What a pool reads: the control groups of its instances, and what agents and proxies know of it.

use std::{collections::HashMap, time::Duration};

use lb_steering::{
    Sample,
    scaling::{InstanceReadings, Offered, Phase as ScalingPhase},
};

use super::Worker;
use crate::{
    pool::{Readings, place},
    usage::Counted,
};

impl Worker {
    /// Reads what the instances use of their own limits.
    pub(super) async fn measure(&mut self) {
        // Instances without a bridge share the host's network.
        let has_interfaces = self.pool.spec.network.bridge.is_some();
        let counted: Vec<Counted> = self
            .pool
            .slots
            .values()
            .filter_map(|slot| {
                let seen = slot.seen.as_ref()?;
                let interface = || lb_drivers::host_interface(&self.means.owner, &seen.name);
                (!seen.cgroup.is_empty()).then(|| Counted {
                    name: seen.name.clone(),
                    cgroup: seen.cgroup.clone(),
                    interface: has_interfaces.then(interface),
                })
            })
            .collect();
        if counted.is_empty() {
            return;
        }
        let mut meter = self.meter.take().unwrap_or_default();
        let read = tokio::task::spawn_blocking(move || {
            meter.read(&counted);
            meter
        });
        match read.await {
            Ok(meter) => self.meter = Some(meter),
            // It begins anew.
            Err(error) => {
                tracing::error!("reading control groups: {error}");
                let task = format!("the reader of control groups of pool {}", self.pool.name);
                self.panics.note(task, std::time::Instant::now());
            }
        }
    }

    /// What agents and proxies know of the pool.
    pub(super) fn readings(&mut self) -> Readings {
        let mut readings = Readings::default();
        let vips = &self.pool.spec.vips;
        let states = self.means.agents.states();
        let mut offered = None;
        let mut flows = HashMap::new();
        for (at, (_, state)) in states.iter().enumerate() {
            for vip in vips {
                let Some(count) = state.new_flows.get(vip) else {
                    continue;
                };
                let before = self.flows.get(&(at, *vip)).copied();
                flows.insert((at, *vip), *count);
                // An agent that restarts counts anew.
                let new = before.map_or(0, |before| count.checked_sub(before).unwrap_or(*count));
                *offered.get_or_insert(0.0) += new as f64;
            }
        }
        self.flows = flows;
        self.pool.shed_rate = states
            .iter()
            .flat_map(|(_, state)| vips.iter().filter_map(|vip| state.shed_rates.get(vip)))
            .sum();
        readings.offered = offered.map(Offered::Flows);
        let report = self.report.take();
        if let Some(report) = &report {
            readings.requests = Some(report.requests);
            readings.latency = report.latency.map(now_sample);
        }
        for (number, slot) in &self.pool.slots {
            let Some(endpoint) = self.pool.spec.endpoint(*number) else {
                continue;
            };
            let mut one =
                InstanceReadings::new(place(&self.pool.name, *number), ScalingPhase::Starting);
            for (_, state) in &states {
                for vip in vips {
                    let Some(real) = state.reals.get(&(*vip, endpoint.ip())) else {
                        continue;
                    };
                    let add = |sum: &mut Option<f64>, value: Option<f64>| {
                        if let Some(value) = value {
                            *sum.get_or_insert(0.0) += value;
                        }
                    };
                    add(&mut one.capacity, real.capacity);
                    one.utilisation = real.utilisation.map(now_sample).or(one.utilisation);
                    one.memory = real.memory.map(now_sample).or(one.memory);
                    one.network = real.network.map(now_sample).or(one.network);
                    let flows = real.connections.or(real.flows);
                    let before = one.connections.map_or(0.0, |sample| sample.value);
                    one.connections = flows
                        .map(|flows| now_sample(before + flows))
                        .or(one.connections);
                }
            }
            // A proxy that counts open requests names all instances that have some.
            let counts = report.as_ref().filter(|report| !report.pending.is_empty());
            if let Some(report) = counts {
                let pending = report.pending.get(&slot.record.name).copied();
                let before = one.connections.map_or(0.0, |sample| sample.value);
                one.connections = Some(now_sample(before + pending.unwrap_or_default()));
            }
            self.readers.complete(&slot.record.name, &mut one);
            if let Some(meter) = &self.meter {
                one.utilisation = one.utilisation.or(meter.cpu(&slot.record.name));
                one.memory = one.memory.or(meter.memory(&slot.record.name));
                let bandwidth = self.pool.spec.scaling.bandwidth;
                let network = bandwidth.and_then(|limit| meter.network(&slot.record.name, limit));
                one.network = one.network.or(network);
            }
            // Nobody sends anything to instances that serve no VIP and that no proxy knows.
            if one.connections.is_none() && vips.is_empty() && self.reported.is_none() {
                one.connections = Some(now_sample(0.0));
            }
            readings.instances.push(one);
        }
        readings
    }
}

fn now_sample(value: f64) -> Sample {
    Sample {
        value,
        age: Duration::ZERO,
    }
}
