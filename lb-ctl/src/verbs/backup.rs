//! `lbctl backup`.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};

use clap::Args;
use lb_proto::v1;
use serde::Serialize;

use super::Context;
use crate::{
    failure::Failure,
    output::{self, Human, table},
};

/// Where to.
#[derive(Args, Debug)]
pub struct Arguments {
    /// A new file for the copy; `-` is standard output
    file: PathBuf,
}

/// What was written.
#[derive(Debug, Serialize)]
struct Written {
    file: String,
    vips: usize,
}

impl Human for Written {
    fn human(&self) -> String {
        format!(
            "{} written to {}; `lb-agent restore` reads it\n",
            table::count(self.vips, "VIP"),
            self.file
        )
    }
}

/// Writes a copy of the agent's VIPs and reals to a file.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let attempt = "copy the agent's VIPs";
    let mut lines = context
        .client()
        .await?
        .backup(v1::BackupRequest {})
        .await
        .map_err(Failure::refused(attempt))?
        .into_inner();
    let mut text = String::new();
    while let Some(more) = lines.message().await.map_err(Failure::refused(attempt))? {
        text += &more.text;
    }
    if arguments.file.as_os_str() == "-" {
        return output::write(&text);
    }
    write_new(&arguments.file, &text).map_err(|error| Failure::File {
        attempt: format!("write {}", arguments.file.display()),
        error,
    })?;
    context.output.print(&Written {
        file: arguments.file.display().to_string(),
        // Without the first line and the last.
        vips: text.lines().count().saturating_sub(2),
    })
}

/// Writes a file that does not exist, and returns when it is on disk.
pub(super) fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
