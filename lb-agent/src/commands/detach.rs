//! `lb-agent detach`.

use std::path::PathBuf;

use lb_dataplane::options::DEFAULT_PINS;

/// Arguments of `detach`.
#[derive(Debug, clap::Args)]
pub struct Detach {
    /// Directory of the pins.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_PINS)]
    pins: PathBuf,
    /// Detach although an agent runs. That agent attaches again within a second: this is of use only if it hangs.
    #[arg(long)]
    force: bool,
}

impl Detach {
    pub fn execute(self) -> anyhow::Result<()> {
        let interfaces = lb_dataplane::detach(&self.pins, self.force)?;
        if interfaces.is_empty() {
            println!("nothing is attached with pins in {}", self.pins.display());
        } else {
            println!(
                "detached from {}; nothing is forwarded any more",
                interfaces.join(", ")
            );
        }
        Ok(())
    }
}
