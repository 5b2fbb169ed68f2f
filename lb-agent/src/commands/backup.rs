//! `lb-agent backup FILE` and `lb-agent restore FILE`.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write as _,
    path::PathBuf,
};

use anyhow::{Context as _, bail};
use lb_agent::{
    config::DEFAULT_STATE,
    store::{
        IntentStore, State,
        backup::{self, Backup as Copy},
    },
};
use lb_dataplane::options::DEFAULT_PINS;
use lb_model::vip::VipKey;

/// Arguments of `backup`.
#[derive(Debug, clap::Args)]
pub struct Backup {
    /// A new file for the copy.
    file: PathBuf,
    /// Directory of the database.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE)]
    state: PathBuf,
}

impl Backup {
    pub fn execute(self) -> anyhow::Result<()> {
        let path = IntentStore::path(&self.state);
        if !path.exists() {
            bail!(
                "there is no database {}; name its directory with --state",
                path.display()
            );
        }
        let state = State::open(&self.state)
            .context("while an agent runs, `lbctl backup FILE` copies its database")?;
        let intent = state.intent.load()?;
        let lines = backup::write(&intent, state.intent.identity(), state.intent.revision().0);
        let write = || -> std::io::Result<()> {
            let mut file = File::create_new(&self.file)?;
            file.write_all(lines.concat().as_bytes())?;
            file.sync_all()
        };
        write().with_context(|| format!("writing {}", self.file.display()))?;
        println!(
            "{} VIPs written to {}; `lb-agent restore` reads it",
            intent.len(),
            self.file.display()
        );
        Ok(())
    }
}

/// Arguments of `restore`.
#[derive(Debug, clap::Args)]
pub struct Restore {
    /// A copy that `lbctl backup` or `lb-agent backup` has written.
    file: PathBuf,
    /// Directory of the database.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE)]
    state: PathBuf,
    /// Directory of the pins, whose tables are compared.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_PINS)]
    pins: PathBuf,
    /// Restore; without it only the differences are shown.
    #[arg(long)]
    yes: bool,
}

impl Restore {
    pub fn execute(self) -> anyhow::Result<()> {
        let text = fs::read_to_string(&self.file)
            .with_context(|| format!("reading {}", self.file.display()))?;
        let copy = Copy::read(&text).with_context(|| self.file.display().to_string())?;
        let path = IntentStore::path(&self.state);
        let database = match path.exists() {
            true => match State::open(&self.state).and_then(|state| state.intent.load()) {
                Ok(intent) => Some(intent),
                Err(error) if error.is_in_use() => {
                    return Err(error).context("stop the agent first; packets flow on");
                }
                Err(error) => {
                    println!("{error}");
                    None
                }
            },
            false => None,
        };
        println!(
            "{}: {} VIPs with {} reals",
            self.file.display(),
            copy.intent.len(),
            copy.intent.reals()
        );
        let mut differences = BTreeMap::new();
        for vip in database.iter().flat_map(|intent| intent.vips()) {
            differences.insert(
                vip.address,
                match copy.intent.get(&vip.address) {
                    None => Some("the database has it, the copy does not: it would be deleted"),
                    Some(copied) if copied.spec == vip.spec && copied.reals == vip.reals => None,
                    Some(_) => Some("it would change"),
                },
            );
        }
        for vip in copy.intent.vips() {
            differences
                .entry(vip.address)
                .or_insert(Some("it would be added"));
        }
        for vip in lb_dataplane::pinned_vips(&self.pins)? {
            if copy.intent.get(&vip).is_none() {
                differences.insert(
                    vip,
                    Some("the tables forward it, the copy does not have it: the next agent would end that"),
                );
            }
        }
        let shown: Vec<(VipKey, &str)> = differences
            .into_iter()
            .filter_map(|(vip, difference)| Some((vip, difference?)))
            .collect();
        for (vip, difference) in &shown {
            println!("VIP {vip}: {difference}");
        }
        if shown.is_empty() {
            println!("the database and the tables have the same");
        }
        if !self.yes {
            println!("nothing was changed; `--yes` restores");
            return Ok(());
        }
        if path.exists() {
            let aside = path.with_extension("replaced");
            fs::rename(&path, &aside)
                .with_context(|| format!("moving {} aside", path.display()))?;
            println!("the database before is kept as {}", aside.display());
        }
        copy.create(&self.state)?;
        println!("restored to {}", path.display());
        Ok(())
    }
}
