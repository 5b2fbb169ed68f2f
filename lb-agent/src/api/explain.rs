//! Why reals are as they are, and what was read of their load.

use lb_model::vip::RealId;
use lb_proto::v1;
use tonic::Status;

use super::{
    Api, convert,
    error::{refused, unread},
};
use crate::control::RealView;
use crate::supervisor::{ReadingSnapshot, RealSnapshot};
use lb_model::intent::Refusal;

impl Api {
    pub(super) async fn explain_reals(
        &self,
        request: v1::ExplainRequest,
    ) -> Result<v1::ExplainResponse, Status> {
        let reals = self
            .of_each(request.vip, &request.address, explanation)
            .await?;
        Ok(v1::ExplainResponse { reals })
    }

    pub(super) async fn readings(
        &self,
        request: v1::ListReadingsRequest,
    ) -> Result<v1::ListReadingsResponse, Status> {
        let reals = self
            .of_each(request.vip, &request.address, readings)
            .await?;
        Ok(v1::ListReadingsResponse { reals })
    }

    /// The answer for each real that is asked for, from what is known of it.
    async fn of_each<T>(
        &self,
        vip: Option<v1::VipId>,
        address: &str,
        answer: impl Fn(v1::VipId, &RealView, RealSnapshot) -> T,
    ) -> Result<Vec<T>, Status> {
        let vip = convert::optional_vip(vip, convert::VIP).map_err(refused)?;
        let only = optional_real(address)?;
        let vips = self.control.list(vip).await.map_err(unread)?;
        let mut snapshots = self.supervisor.snapshots().await;
        let mut answers = Vec::new();
        for view in &vips {
            let name = view.vip.address;
            let asked = |real: &&RealView| only.is_none_or(|only| only == real.address);
            for real in view.reals.iter().filter(asked) {
                let snapshot = snapshots.remove(&(name, real.address)).unwrap_or_default();
                answers.push(answer(convert::vip_id(&name), real, snapshot));
            }
        }
        match only {
            Some(address) if answers.is_empty() => Err(refused(Refusal::NoSuchReal(address))),
            _ => Ok(answers),
        }
    }
}

fn optional_real(text: &str) -> Result<Option<RealId>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    convert::real_id(text, "address").map(Some).map_err(refused)
}

pub(super) fn explanation(
    vip: v1::VipId,
    real: &RealView,
    snapshot: RealSnapshot,
) -> v1::Explanation {
    v1::Explanation {
        vip: Some(vip),
        real: Some(convert::real(real)),
        since: Some(convert::timestamp(real.since)),
        probe: snapshot.probe.map(|probe| v1::ProbeResult {
            verdict: probe.verdict.to_owned(),
            reason: probe.reason,
            time: Some(convert::timestamp(probe.time)),
            // A probe takes seconds at most, so it fits.
            latency: prost_types::Duration::try_from(probe.latency).ok(),
        }),
        readings: snapshot.readings.into_iter().map(reading).collect(),
        utilisation: snapshot.utilisation,
        capacity: snapshot.capacity,
        wanted_share: snapshot.wanted_share,
        limit: snapshot.limited_by.unwrap_or_default(),
        trust: snapshot.trust.map(|trust| trust.level),
        doubt: snapshot
            .trust
            .and_then(|trust| trust.doubt)
            .map_or_else(String::new, |doubt| doubt.to_string()),
    }
}

fn readings(vip: v1::VipId, real: &RealView, snapshot: RealSnapshot) -> v1::RealReadings {
    v1::RealReadings {
        vip: Some(vip),
        address: real.address.to_string(),
        readings: snapshot.readings.into_iter().map(reading).collect(),
    }
}

fn reading(reading: ReadingSnapshot) -> v1::Reading {
    v1::Reading {
        quantity: reading.quantity.to_owned(),
        value: reading.value,
        unit: reading.unit,
        time: Some(convert::timestamp(reading.time)),
        source: reading.source,
        problem: reading.problem,
    }
}
