//! Mosquitto: the `$SYS` topics over the HTTP API of version 2.1.

use std::time::Instant;

use futures::future::BoxFuture;

use super::{
    Poll,
    kind::{LoadReader, NoSettings, Reader, SourceTarget, Transport},
    shared::{fetch::Fetch, systree::Systree},
};
use crate::load::reading::Answer;
use crate::peer::Deadline;

const SYSTREE: &str = "/api/v1/systree";

pub(super) static KIND: super::ReaderKind = super::ReaderKind::of::<MosquittoHttp>();

/// Polls the HTTP API.
#[derive(Debug)]
pub(super) struct MosquittoHttp {
    page: Fetch,
    systree: Systree,
}

impl LoadReader for MosquittoHttp {
    const NAME: &'static str = "mosquitto-http";
    const HELP: &'static str =
        "Reads the `$SYS` topics from the HTTP API of Mosquitto 2.1, which have no utilisation.";
    const TRANSPORT: Transport = Transport::Http;

    type Settings = NoSettings;

    fn open(_: NoSettings, target: &SourceTarget<'_>) -> Reader {
        Reader::Poll(Box::new(MosquittoHttp {
            page: target.page(SYSTREE),
            systree: Systree::default(),
        }))
    }
}

impl Poll for MosquittoHttp {
    fn poll<'a>(&'a mut self, deadline: &'a Deadline) -> BoxFuture<'a, Result<Answer, String>> {
        Box::pin(async {
            let body = self.page.get(deadline).await?;
            self.systree.read(&body, Instant::now())
        })
    }
}
