//! What nothing refers to any more.

use lb_proto::controller::v1;
use serde::Serialize;

use super::{
    Human,
    table::{Column, layout},
};
use crate::values::duration;

/// One of them.
#[derive(Debug, Serialize)]
struct Orphan {
    kind: String,
    name: String,
    host: String,
    /// Seconds.
    age: u64,
    /// Seconds; not there if it is never removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<u64>,
}

/// All of them.
#[derive(Debug, Serialize)]
pub struct Orphans {
    orphans: Vec<Orphan>,
    dry_run: bool,
}

impl From<&v1::ListOrphansResponse> for Orphans {
    fn from(answer: &v1::ListOrphansResponse) -> Self {
        let seconds = |time: prost_types::Duration| duration::from_proto(time).as_secs();
        let orphans = answer.orphans.iter().map(|one| Orphan {
            kind: one.kind.clone(),
            name: one.name.clone(),
            host: one.host.clone(),
            age: one.age.map(seconds).unwrap_or_default(),
            left: one.left.map(seconds),
        });
        Orphans {
            orphans: orphans.collect(),
            dry_run: answer.dry_run,
        }
    }
}

const COLUMNS: [Column; 5] = [
    ("KIND", false),
    ("NAME", false),
    ("HOST", false),
    ("AGE", true),
    ("REMOVED IN", true),
];

impl Human for Orphans {
    fn human(&self) -> String {
        if self.orphans.is_empty() {
            return "there are none\n".to_owned();
        }
        let rows = self.orphans.iter().map(|one| {
            let left = one
                .left
                .map_or_else(|| "never".to_owned(), |seconds| format!("{seconds} s"));
            vec![
                one.kind.clone(),
                one.name.clone(),
                one.host.clone(),
                format!("{} s", one.age),
                left,
            ]
        });
        let mut text = layout(&COLUMNS, rows);
        if self.dry_run {
            text.push_str("collector.dry_run is set: they are shown only\n");
        }
        text
    }
}
