//! `lb-controller docs`: writes the reference page.

use std::path::PathBuf;

use anyhow::Context as _;

/// Arguments of `docs`.
#[derive(Debug, clap::Args)]
pub struct Docs {
    /// Folder that the page is written to.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

impl Docs {
    pub fn execute(&self) -> anyhow::Result<()> {
        let path = self.dir.join("pools.md");
        std::fs::write(&path, lb_controller::reference::page())
            .with_context(|| format!("writing {}", path.display()))
    }
}
