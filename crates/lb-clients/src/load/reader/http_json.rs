//! Numbers in a JSON document over HTTP.

use futures::future::BoxFuture;

use super::{
    Poll,
    kind::{LoadReader, Reader, SourceTarget, Transport},
    shared::{fetch::Fetch, json, peer::validate_path},
};
use crate::load::{pointer::Pointer, reading::Answer, values::Values};
use crate::peer::Deadline;

lb_model::settings! {
    /// JSON over HTTP.
    pub(super) struct Settings {
        /// Path of the document; may contain `{address}` and `{real}`.
        path: String;
        /// A JSON pointer for each quantity, with a factor if need be, such as `/load/percent * 0.01`.
        values: Values<Pointer>;
    }
    validate(settings) {
        validate_path(&settings.path)?;
        settings.values.validate("utilisation = \"/cpu * 0.01\"")
    }
}

pub(super) static KIND: super::ReaderKind = super::ReaderKind::of::<HttpJson>();

/// Polls a JSON document.
#[derive(Debug)]
pub(super) struct HttpJson {
    page: Fetch,
    values: Values<Pointer>,
}

impl LoadReader for HttpJson {
    const NAME: &'static str = "http-json";
    const HELP: &'static str = "Reads numbers from a JSON document over HTTP.";
    const TRANSPORT: Transport = Transport::Http;

    type Settings = Settings;

    fn open(settings: Settings, target: &SourceTarget<'_>) -> Reader {
        Reader::Poll(Box::new(HttpJson {
            page: target.page(&settings.path),
            values: settings.values,
        }))
    }
}

impl Poll for HttpJson {
    fn poll<'a>(&'a mut self, deadline: &'a Deadline) -> BoxFuture<'a, Result<Answer, String>> {
        Box::pin(async { json::read(&self.page.get(deadline).await?, &self.values) })
    }
}
