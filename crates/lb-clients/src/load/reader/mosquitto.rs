//! Mosquitto: its `$SYS` topics.

use std::time::Duration;

use super::{
    kind::{LoadReader, NoSettings, Reader, SourceTarget, Transport},
    shared::systree::Systree,
};

pub(super) static KIND: super::ReaderKind = super::ReaderKind::of::<Mosquitto>();

/// Reads Mosquitto's `$SYS` topics.
pub(super) struct Mosquitto;

impl LoadReader for Mosquitto {
    const NAME: &'static str = "mosquitto";
    const HELP: &'static str = "Subscribes to Mosquitto's `$SYS` topics, which have no utilisation in any version: add \
                                another source for it.";
    const TRANSPORT: Transport = Transport::Mqtt;
    const PORT: Option<u16> = Some(1883);
    const TLS_PORT: Option<u16> = Some(8883);
    /// The default of `sys_interval`.
    const INTERVAL: Duration = Duration::from_secs(10);

    type Settings = NoSettings;

    fn open(_: NoSettings, _: &SourceTarget<'_>) -> Reader {
        Reader::Subscribe(Box::new(Systree::default()))
    }
}
