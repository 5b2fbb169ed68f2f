//! `/metrics`: the agent's figures for Prometheus.
//!
//! `definitions` has one row for each metric: name, kind, unit, help text, and where its value stands in a
//! [`Scrape`]. A scrape is collected for each request, so the series of a deleted VIP or real end at once.

mod definitions;
mod scrape;
#[cfg(test)]
mod tests;

use std::time::SystemTime;

use http::HeaderMap;
use lb_serve::{
    http::{Page, Site},
    metrics::{Format, reference, render},
};
use tokio::sync::Mutex;

pub use scrape::Scrape;

use crate::{control, supervisor};

/// Where metrics are served by convention, for help texts and documentation.
pub const EXAMPLE_ADDRESS: &str = "127.0.0.1:9464";

/// The page `/metrics`.
#[derive(Debug)]
pub struct Exporter {
    control: control::Handle,
    supervisor: supervisor::Handle,
    started: SystemTime,
    /// One scrape at a time: however many clients ask, the owner collects for one of them and goes on with its own
    /// work before the next.
    turn: Mutex<()>,
}

impl Exporter {
    /// Serves the figures of this owner and this supervisor.
    #[must_use]
    pub fn new(control: control::Handle, supervisor: supervisor::Handle) -> Self {
        Exporter {
            control,
            supervisor,
            started: SystemTime::now(),
            turn: Mutex::new(()),
        }
    }

    async fn scrape(&self) -> Result<Scrape, control::ReadError> {
        let _turn = self.turn.lock().await;
        let waiting = self.control.waiting();
        let mut figures = self.control.figures().await?;
        let observed = self.supervisor.figures().await;
        let warnings = self.supervisor.warnings().await;
        figures.status.warnings.extend(warnings);
        Ok(Scrape::new(self.started, waiting, figures, observed))
    }
}

impl Site for Exporter {
    const PATHS: &'static [&'static str] = &["/metrics"];
    const INDEX: &'static str = "/metrics is for Prometheus\n";

    async fn page(&self, _: &str, headers: &HeaderMap) -> Page {
        let scrape = match self.scrape().await {
            Ok(scrape) => scrape,
            Err(error) => return Page::Unavailable(format!("{error}\n")),
        };
        let format = Format::negotiate(headers);
        match render(scrape, format) {
            Ok(text) => Page::Found {
                media_type: format.media_type(),
                body: text.into(),
            },
            Err(error) => Page::Unavailable(format!("writing the metrics failed: {error}\n")),
        }
    }
}

/// The reference of all metrics, in Markdown: one table for each group.
#[must_use]
pub fn reference() -> String {
    let mut text = String::new();
    for (title, metrics) in definitions::GROUPS {
        let families = metrics.iter().map(|metric| &metric.family);
        text.push_str(&format!("### {title}\n\n{}\n", reference::table(families)));
    }
    text
}
