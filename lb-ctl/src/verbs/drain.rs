//! `lbctl drain`, and waiting until a drained real has no flows left.

use std::time::Duration;

use clap::Args;
use lb_proto::v1::{self, apply_request::Change};
use tokio::time::{Instant, MissedTickBehavior};

use super::{
    ChangeVerb, Context,
    target::{Real, Writing},
};
use crate::{
    connect::Client,
    failure::Failure,
    names,
    output::{self, Output, drain::Progress},
    values::duration,
};

/// How often the flows are counted.
const INTERVAL: Duration = Duration::from_secs(1);

/// The arguments: a real, and how long to wait.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    target: Real,
    #[command(flatten)]
    writing: Writing,
    /// End its connections at the VIP's `shed_rate`, so that the clients reconnect elsewhere; for connections that would live
    /// for hours
    #[arg(long)]
    evacuate: bool,
    /// Wait until no flow of it is left, at most this long, and report the number of flows meanwhile; exit status 1 if
    /// some may be left then. Silent flows count as ended when the VIP's window has passed since the drain began (1h
    /// by default), or at once if the VIP tracks all flows
    #[arg(long, value_name = "DURATION", value_parser = duration::read)]
    wait: Option<Duration>,
}

impl Arguments {
    /// Builds the request.
    pub fn request(&self) -> v1::UpdateRealRequest {
        let spec = v1::RealSpec {
            drained: Some(true),
            evacuated: Some(self.evacuate),
            ..v1::RealSpec::default()
        };
        request(&self.target, &self.writing, spec)
    }
}

impl ChangeVerb for Arguments {
    fn change(&self) -> Result<Change, Failure> {
        if self.wait.is_some() {
            return Err(Failure::Usage(
                "a script does not wait: leave --wait out, and `lbctl drain --wait` the real before what is to come \
                 after it"
                    .to_owned(),
            ));
        }
        Ok(Change::UpdateReal(self.request()))
    }
}

/// Builds the request that changes whether a real is drained, and evacuated.
pub fn request(target: &Real, writing: &Writing, spec: v1::RealSpec) -> v1::UpdateRealRequest {
    v1::UpdateRealRequest {
        vip: target.vip.id(),
        address: target.address.to_string(),
        spec: Some(spec),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["drained".to_owned(), "evacuated".to_owned()],
        }),
        writer: writing.writer(),
    }
}

/// Drains the real, prints its new state, and waits if the command line says so.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let (mut client, output) = (context.client().await?, context.output);
    let target = &arguments.target;
    let real = client
        .update_real(arguments.request())
        .await
        .map_err(Failure::refused(format!("drain {target}")))?;
    let Some(wait) = arguments.wait else {
        return output.print(&output::vip::Real::from(real.get_ref()));
    };
    wait_until_empty(client, target, wait, output).await
}

async fn wait_until_empty(
    mut client: Client,
    target: &Real,
    wait: Duration,
    output: Output,
) -> Result<(), Failure> {
    let began = Instant::now();
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_printed = None;
    loop {
        ticks.tick().await;
        let window = window_if_drained(&mut client, target).await?;
        let flows = flows(&mut client, target).await?;
        let drained = drained_for(&flows, began.elapsed());
        let progress = Progress {
            vip: target.vip.vip.to_string(),
            address: target.address.to_string(),
            seconds: drained.as_secs_f64().round(),
            flows: if flows.exact {
                flows.flows
            } else {
                flows.entries
            },
            // A flow that has been silent since the drain began may exist until the window is over.
            exact: flows.exact || drained >= window,
        };
        let done = progress.flows == 0 && progress.exact;
        if done || last_printed != Some((progress.flows, progress.exact)) {
            last_printed = Some((progress.flows, progress.exact));
            output.print_item(&progress)?;
        }
        if done {
            return Ok(());
        }
        if began.elapsed() >= wait {
            let flows = progress.flows;
            let silent = if progress.exact {
                String::new()
            } else {
                let left = Duration::from_secs(window.saturating_sub(drained).as_secs() + 1);
                format!(
                    ", and silent ones may exist for another {} (the VIP's window)",
                    duration::write(left)
                )
            };
            return Err(Failure::NotYet(format!(
                "{target} serves {flows} flows{silent}; it stays drained, repeat the command to wait longer"
            )));
        }
    }
}

/// Returns how long the real has taken no new flows, by the agent's monotonic clock. The time of day is of no use: it is set
/// now and then, and this machine may have another. An older agent does not say how long: then only the time that was
/// waited here counts.
fn drained_for(flows: &v1::RealFlows, waited: Duration) -> Duration {
    match (flows.quiet_for, &flows.quiet_since) {
        (Some(quiet), _) => quiet.try_into().unwrap_or_default(),
        (None, Some(_)) => waited,
        (None, None) => Duration::ZERO,
    }
}

/// Returns the VIP's window. Fails if the real is no longer drained.
async fn window_if_drained(client: &mut Client, target: &Real) -> Result<Duration, Failure> {
    let answer = client
        .list_vips(v1::ListVipsRequest {
            id: target.vip.id(),
        })
        .await
        .map_err(Failure::refused(format!("list {}", target.vip)))?;
    let vip = answer
        .into_inner()
        .vips
        .into_iter()
        .next()
        .unwrap_or_default();
    let address = target.address.to_string();
    let real = vip.reals.into_iter().find(|real| real.address == address);
    let spec = real.ok_or_else(|| gone(target))?.spec.unwrap_or_default();
    if spec.drained != Some(true) {
        return Err(Failure::NotYet(format!(
            "{target} is no longer drained: the drain was ended meanwhile"
        )));
    }
    let window = vip.spec.unwrap_or_default().window.unwrap_or_default();
    Ok(duration::from_proto(window))
}

fn gone(target: &Real) -> Failure {
    Failure::NotYet(format!(
        "{target} does not exist any more; `lbctl list {}` shows the reals of the VIP",
        names::vip(target.vip.id().as_ref())
    ))
}

async fn flows(client: &mut Client, target: &Real) -> Result<v1::RealFlows, Failure> {
    let answer = client
        .list_flows(v1::ListFlowsRequest {
            id: target.vip.id(),
        })
        .await
        .map_err(Failure::refused(format!("count the flows of {target}")))?;
    let address = target.address.to_string();
    answer
        .into_inner()
        .reals
        .into_iter()
        .find(|real| real.address == address)
        .ok_or_else(|| gone(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_does_not_count() {
        let waited = Duration::from_secs(3);
        let long_ago = Some(prost_types::Timestamp {
            seconds: 1,
            nanos: 0,
        });
        let flows = |quiet_since, quiet_for| v1::RealFlows {
            quiet_since,
            quiet_for,
            ..v1::RealFlows::default()
        };
        let quiet = Some(prost_types::Duration {
            seconds: 60,
            nanos: 0,
        });
        assert_eq!(
            drained_for(&flows(long_ago, quiet), waited),
            Duration::from_secs(60)
        );
        assert_eq!(drained_for(&flows(long_ago, None), waited), waited);
        assert_eq!(drained_for(&flows(None, None), waited), Duration::ZERO);
    }
}
