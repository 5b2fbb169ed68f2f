//! The newest report over HTTP: `/load` as JSON, `/metrics` for Prometheus.

use bytes::Bytes;
use http::HeaderMap;

use lb_report::{Newest, Sample};
use lb_serve::{
    http::{Page, Site},
    metrics::{Format, render},
};

use super::metrics::ReportSnapshot;

const NO_REPORT: &str = "no report was taken yet; ask again in a second\n";

/// The pages of the reporter.
#[derive(Clone, Debug)]
pub(super) struct ReportSite(pub(super) Newest);

impl Site for ReportSite {
    const PATHS: &'static [&'static str] = &["/load", "/metrics"];
    const INDEX: &'static str = "/load is the report as JSON, /metrics is for Prometheus\n";

    async fn page(&self, path: &str, headers: &HeaderMap) -> Page {
        let Some(sample) = self.0.borrow().clone() else {
            return Page::Unavailable(NO_REPORT.to_owned());
        };
        if path == "/load" {
            return Page::Found {
                media_type: "application/json",
                body: json(&sample),
            };
        }
        let format = Format::negotiate(headers);
        match render(ReportSnapshot(sample), format) {
            Ok(text) => Page::Found {
                media_type: format.media_type(),
                body: text.into(),
            },
            Err(error) => Page::Unavailable(format!("writing the report failed: {error}\n")),
        }
    }
}

/// The report as it is served and published.
pub(super) fn json(sample: &Sample) -> Bytes {
    // Numbers, texts and lists of texts: nothing that cannot be written.
    serde_json::to_vec(sample).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use lb_report::example;
    use tokio::sync::watch;

    #[tokio::test]
    async fn each_page_is_made() {
        let (newest, receiver) = watch::channel(None);
        let site = ReportSite(receiver);
        let page = async |path| site.page(path, &HeaderMap::new()).await;
        assert!(matches!(page("/load").await, Page::Unavailable(_)));
        newest.send_replace(Some(Arc::new(example())));
        for (path, expected) in [
            ("/load", "application/json"),
            ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ] {
            match page(path).await {
                Page::Found { media_type, body } => {
                    assert_eq!(media_type, expected);
                    assert!(!body.is_empty());
                }
                Page::Unavailable(why) | Page::Refused(why) => panic!("{path}: {why}"),
            }
        }
    }
}
