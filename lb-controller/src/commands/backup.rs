//! `lb-controller backup FILE` and `lb-controller restore FILE`.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write as _,
    path::PathBuf,
};

use anyhow::{Context as _, bail};
use lb_controller::{
    config::check_name,
    keeper::{Backup as Copy, Place},
    pool::StoredPool,
    registry::Registry,
};
use lb_model::pool::PoolName;
use lb_store::{Store, StoreError};

/// Which store.
#[derive(Debug, clap::Args)]
struct Source {
    /// Folder of the database.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/lb-controller")]
    state: PathBuf,
    /// Where the pools are stored: redb, a file in the folder; or redis:URL.
    #[arg(
        long,
        value_name = "redb|redis:URL",
        env = "LB_STORE",
        hide_env_values = true,
        default_value = "redb"
    )]
    store: Place,
    /// The controller's name, which is that of its store in Redis.
    #[arg(long, value_name = "NAME", default_value = "main")]
    name: String,
}

impl Source {
    fn open(&self, advice: &'static str) -> anyhow::Result<Box<dyn Store>> {
        check_name(&self.name)
            .map_err(|advice| anyhow::anyhow!("--name={:?}: {advice}", self.name))?;
        self.store
            .open(&self.state, &self.name)
            .map_err(|error| match error {
                StoreError::InUse { .. } => anyhow::Error::new(error).context(advice),
                other => other.into(),
            })
    }
}

/// Arguments of `backup`.
#[derive(Debug, clap::Args)]
pub struct Backup {
    /// A new file for the copy.
    file: PathBuf,
    #[command(flatten)]
    source: Source,
}

impl Backup {
    pub fn execute(self) -> anyhow::Result<()> {
        let is_there = self.source.store != Place::Redb || self.source.state.is_dir();
        if !is_there {
            bail!(
                "there is no folder {}; name it with --state",
                self.source.state.display()
            );
        }
        let store = self
            .source
            .open("while a controller runs, `lbctl pool backup FILE` copies its store")?;
        let copy = Copy::take(&*store)?;
        let write = || -> std::io::Result<()> {
            let mut file = File::create_new(&self.file)?;
            file.write_all(copy.write().as_bytes())?;
            file.sync_all()
        };
        write().with_context(|| format!("writing {}", self.file.display()))?;
        println!(
            "{} pools written to {}; `lb-controller restore` reads it",
            copy.len(),
            self.file.display()
        );
        Ok(())
    }
}

/// Arguments of `restore`.
#[derive(Debug, clap::Args)]
pub struct Restore {
    /// A copy that `lbctl pool backup` or `lb-controller backup` has written.
    file: PathBuf,
    #[command(flatten)]
    source: Source,
    /// Restore; without it only the differences are shown.
    #[arg(long)]
    yes: bool,
}

/// What is compared of a pool.
fn by_name(pools: Vec<StoredPool>) -> BTreeMap<PoolName, StoredPool> {
    let pools = pools.into_iter();
    pools.map(|pool| (pool.name.clone(), pool)).collect()
}

impl Restore {
    pub fn execute(self) -> anyhow::Result<()> {
        let text = fs::read_to_string(&self.file)
            .with_context(|| format!("reading {}", self.file.display()))?;
        let copy = Copy::read(&text).with_context(|| self.file.display().to_string())?;
        let mut store = self
            .source
            .open("stop the controller first; instances run on")?;
        let stored = Copy::take(&*store)?.stored()?;
        let copied = copy.stored()?;
        let before = by_name(StoredPool::read(&stored)?);
        let after = by_name(StoredPool::read(&copied)?);
        println!("{}: {} pools", self.file.display(), after.len());
        let projects = Registry::read(&copied)?;
        let mut is_same = stored.is_same_besides_pools(&copied);
        if !is_same {
            println!(
                "projects, load balancers and what belongs to them would be those of then: {} projects, {} load balancers",
                projects.projects().count(),
                projects.balancers().count()
            );
        }
        let mut differs = |name: &PoolName, text: &str| {
            is_same = false;
            println!("pool {name}: {text}");
        };
        for name in before.keys().filter(|name| !after.contains_key(*name)) {
            differs(
                name,
                "the store has it, the copy does not: its instances would be removed",
            );
        }
        for (name, pool) in &after {
            match before.get(name) {
                None => differs(name, "it would be added"),
                Some(stored) if stored.record.spec != pool.record.spec => {
                    differs(name, "its settings would change");
                }
                Some(stored) if stored.instances != pool.instances => {
                    differs(name, "it would have the instances of then");
                }
                Some(_) => {}
            }
        }
        if is_same {
            println!("the store has the same");
        }
        if !self.yes {
            println!("nothing was changed; `--yes` restores");
            return Ok(());
        }
        copy.restore(&mut *store)?;
        println!("restored to {}", store.location());
        Ok(())
    }
}
