//! `lb-controller docs`: writes the reference pages.

use std::path::PathBuf;

use anyhow::Context as _;

/// Arguments of `docs`.
#[derive(Debug, clap::Args)]
pub struct Docs {
    /// Folder that the pages are written to.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

impl Docs {
    pub fn execute(&self) -> anyhow::Result<()> {
        for (name, text) in lb_controller::reference::pages() {
            let path = self.dir.join(name);
            std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }
}
