//! Why reals are as they are, and what was read of their load.

use std::net::IpAddr;

use lb_proto::v1;
use tonic::Status;

use super::{
    Api, convert,
    error::{refused, unread},
};
use crate::control::RealView;
use crate::intent::Refusal;
use crate::observe::{Found, ReadingFound};

impl Api {
    pub(super) async fn explain_reals(
        &self,
        request: v1::ExplainRequest,
    ) -> Result<v1::ExplainResponse, Status> {
        let reals = self
            .found_of_each(request.vip, &request.address, explanation)
            .await?;
        Ok(v1::ExplainResponse { reals })
    }

    pub(super) async fn readings(
        &self,
        request: v1::ListReadingsRequest,
    ) -> Result<v1::ListReadingsResponse, Status> {
        let reals = self
            .found_of_each(request.vip, &request.address, readings)
            .await?;
        Ok(v1::ListReadingsResponse { reals })
    }

    /// What `tell` makes of each real that is asked for and of what is known of it.
    async fn found_of_each<T>(
        &self,
        vip: Option<v1::VipId>,
        address: &str,
        tell: impl Fn(v1::VipId, &RealView, Found) -> T,
    ) -> Result<Vec<T>, Status> {
        let vip = convert::optional_vip(vip, convert::VIP).map_err(refused)?;
        let only = optional_address(address)?;
        let vips = self.control.list(vip).await.map_err(unread)?;
        let mut found = self.observe.found().await;
        let mut told = Vec::new();
        for view in &vips {
            let name = view.vip.address;
            let asked = |real: &&RealView| only.is_none_or(|only| only == real.address);
            for real in view.reals.iter().filter(asked) {
                let found = found.remove(&(name, real.address)).unwrap_or_default();
                told.push(tell(convert::vip_id(&name), real, found));
            }
        }
        match only {
            Some(address) if told.is_empty() => Err(refused(Refusal::NoSuchReal(address))),
            _ => Ok(told),
        }
    }
}

fn optional_address(text: &str) -> Result<Option<IpAddr>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    convert::address(text, "address").map(Some).map_err(refused)
}

fn explanation(vip: v1::VipId, real: &RealView, found: Found) -> v1::Explanation {
    v1::Explanation {
        vip: Some(vip),
        real: Some(convert::real(real)),
        since: Some(convert::timestamp(real.since)),
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

fn readings(vip: v1::VipId, real: &RealView, found: Found) -> v1::RealReadings {
    v1::RealReadings {
        vip: Some(vip),
        address: real.address.to_string(),
        readings: found.readings.into_iter().map(reading).collect(),
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
