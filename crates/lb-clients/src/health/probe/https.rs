//! The request of [`http`](super::http) over TLS.

use lb_model::{peer::Tls, settings::SettingType as _};

use super::{ProbeKind, http::HttpProbe};

pub(super) static KIND: ProbeKind = ProbeKind::of::<HttpProbe>(
    "https",
    "Sends an HTTP/1.1 request over TLS and judges the answer, as `http` does.",
)
.completed_by(|check| {
    check
        .entry("tls")
        .or_insert_with(|| Tls::default().to_json());
    Ok(())
});
