//! Why reals are as they are, and what was read of their load.

use std::net::IpAddr;

use lb_proto::v1;
use tonic::Status;

use super::{
    Api, convert,
    error::{refused, unread},
};
use crate::observe::{Found, ReadingFound};

impl Api {
    pub(super) async fn explain_reals(
        &self,
        request: v1::ExplainRequest,
    ) -> Result<v1::ExplainResponse, Status> {
        let vip = convert::optional_vip_named(request.vip).map_err(refused)?;
        let only = optional_address(&request.address)?;
        let vips = self.control.list(vip).await.map_err(unread)?;
        let mut found = self.observe.found().await;
        let mut reals = Vec::new();
        for view in &vips {
            for real in &view.reals {
                if only.is_some_and(|only| only != real.address) {
                    continue;
                }
                let found = found
                    .remove(&(view.vip.address, real.address))
                    .unwrap_or_default();
                reals.push(explanation(
                    convert::vip_id(&view.vip.address),
                    convert::real(real),
                    found,
                ));
            }
        }
        known(only, reals.is_empty())?;
        Ok(v1::ExplainResponse { reals })
    }

    pub(super) async fn readings(
        &self,
        request: v1::ListReadingsRequest,
    ) -> Result<v1::ListReadingsResponse, Status> {
        let vip = convert::optional_vip_named(request.vip).map_err(refused)?;
        let only = optional_address(&request.address)?;
        let vips = self.control.list(vip).await.map_err(unread)?;
        let mut found = self.observe.found().await;
        let mut reals = Vec::new();
        for view in &vips {
            for real in &view.reals {
                if only.is_some_and(|only| only != real.address) {
                    continue;
                }
                let found = found
                    .remove(&(view.vip.address, real.address))
                    .unwrap_or_default();
                reals.push(v1::RealReadings {
                    vip: Some(convert::vip_id(&view.vip.address)),
                    address: real.address.to_string(),
                    readings: found.readings.into_iter().map(reading).collect(),
                });
            }
        }
        known(only, reals.is_empty())?;
        Ok(v1::ListReadingsResponse { reals })
    }
}

fn optional_address(text: &str) -> Result<Option<IpAddr>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    convert::address(text, "address").map(Some).map_err(refused)
}

fn known(only: Option<IpAddr>, none: bool) -> Result<(), Status> {
    match only {
        Some(address) if none => Err(refused(crate::intent::Refusal::NoSuchReal(address))),
        _ => Ok(()),
    }
}

fn explanation(vip: v1::VipId, real: v1::Real, found: Found) -> v1::Explanation {
    v1::Explanation {
        vip: Some(vip),
        real: Some(real),
        since: found.since.map(convert::timestamp),
        probe: found.probe.map(|probe| v1::ProbeResult {
            verdict: probe.verdict.to_owned(),
            reason: probe.reason,
            time: Some(convert::timestamp(probe.time)),
            // A probe takes seconds at most, so it fits.
            latency: prost_types::Duration::try_from(probe.latency).ok(),
        }),
        readings: found.readings.into_iter().map(reading).collect(),
        utilisation: found.utilisation,
        capacity: found.capacity,
        wanted_share: found.wanted,
        limit: found.limit.unwrap_or_default(),
    }
}

fn reading(found: ReadingFound) -> v1::Reading {
    v1::Reading {
        quantity: found.quantity.to_owned(),
        value: found.value,
        unit: found.unit,
        time: Some(convert::timestamp(found.time)),
        source: found.source,
        problem: found.problem,
    }
}
