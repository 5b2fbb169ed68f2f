//! `lbctl history`: what pools, load balancers and instances carried.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use clap::Args;
use lb_proto::controller::v1;

use super::{Context, backup::write_new};
use crate::{
    connect::AtController,
    failure::Failure,
    output::{self, history::History, plot},
    values::duration,
};

/// What to show, and where the controller is.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    controller: AtController,
    /// A pool, an instance (POOL-NUMBER), or a load balancer (PROJECT/BALANCER)
    name: String,
    /// From when: a time before now, such as 6h or 90d; or seconds since 1970
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "1h")]
    from: Time,
    /// Until when, as --from [default: now]
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<Time>,
    /// How long a point is: at least 10s for the last hour, 1m for a day, 10m before
    #[arg(long, value_name = "DURATION", value_parser = duration::read)]
    step: Option<Duration>,
    /// Print lines with commas
    #[arg(long, conflicts_with = "plot")]
    csv: bool,
    /// Write a picture (SVG) to a new file; `-` is standard output
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// A time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Time {
    /// So long before now.
    Ago(Duration),
    /// Seconds since 1970.
    At(u64),
}

fn time(text: &str) -> Result<Time, String> {
    match text.parse() {
        Ok(seconds) => Ok(Time::At(seconds)),
        Err(_) => duration::read(text).map(Time::Ago),
    }
}

impl Time {
    fn seconds(self) -> u64 {
        match self {
            Time::At(seconds) => seconds,
            Time::Ago(ago) => {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                now.unwrap_or_default().saturating_sub(ago).as_secs()
            }
        }
    }
}

/// Shows it.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let (project, balancer, name) = match arguments.name.split_once('/') {
        Some((project, balancer)) => (project.to_owned(), balancer.to_owned(), String::new()),
        None => (String::new(), String::new(), arguments.name.clone()),
    };
    let mut client = arguments.controller.history().await?;
    let request = v1::GetHistoryRequest {
        project,
        balancer,
        name,
        from: Some(arguments.from.seconds()),
        to: arguments.to.map(Time::seconds),
        step: arguments.step.map(|step| step.as_secs()),
    };
    let answer = client.get_history(request).await;
    let attempt = format!("read the history of {}", arguments.name);
    let answer = answer.map_err(Failure::refused(attempt))?;
    let history = History::new(&arguments.name, answer.get_ref());
    if arguments.csv {
        return output::write(&history.csv());
    }
    let Some(file) = arguments.plot else {
        return context.output.print(&history);
    };
    let attempt = format!("draw {}", file.display());
    let picture = plot::svg(&history).map_err(|error| Failure::File {
        attempt,
        error: std::io::Error::other(error),
    })?;
    if file.as_os_str() == "-" {
        return output::write(&picture);
    }
    write_new(&file, &picture).map_err(|error| Failure::File {
        attempt: format!("write {}", file.display()),
        error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(time("1700000000"), Ok(Time::At(1_700_000_000)));
        assert_eq!(time("6h"), Ok(Time::Ago(Duration::from_secs(21_600))));
        assert!(time("yesterday").is_err());
    }
}
