//! The driver `docker`, with an engine that the test starts.

use std::{sync::Arc, time::Duration};

use anyhow::ensure;
use lb_drivers::{
    Driver, ErrorCode, Hint, Owned, Phase,
    docker::{DockerDriver, Pull, Settings},
};
use lb_model::pool::Launch;
use lb_tests::server::DockerEngine;

use crate::{
    conformance::{self, PATIENCE, POLITE, Subject, find, script, until, until_printed},
    process::{Processes, runtime},
};

/// The driver with an engine of its own.
pub struct Containers {
    pub engine: DockerEngine,
    /// The folder, the owner's name and the program for reals; its groups are those of the companions.
    pub processes: Processes,
}

impl Containers {
    pub fn new(name: &str) -> anyhow::Result<Self> {
        Ok(Containers {
            engine: DockerEngine::start()?,
            processes: Processes::new(name)?,
        })
    }

    pub fn driver(&self, owner: &str) -> anyhow::Result<Arc<dyn Driver>> {
        let settings = Settings {
            socket: self.engine.socket(),
            pull: Pull::Never,
        };
        let owned: Owned = self.processes.owned(owner);
        Ok(Arc::new(DockerDriver::open(&settings, &owned)?))
    }
}

/// A container with the machine's programs.
pub fn container(name: &str, text: &str) -> Launch {
    Launch {
        image: Some("lb".to_owned()),
        volume: Some(("/usr".into(), "/usr".into())),
        ..script(name, text)
    }
}

impl Subject for Containers {
    fn open(&mut self, owner: &str) -> anyhow::Result<Arc<dyn Driver>> {
        self.driver(owner)
    }

    fn launch(&self, name: &str, text: &str) -> Launch {
        container(name, text)
    }
}

pub fn conforms() -> anyhow::Result<()> {
    let mut containers = Containers::new("docker")?;
    let owner = containers.processes.owner.clone();
    runtime()?.block_on(async {
        conformance::conforms(&mut containers, &owner).await?;
        // What cannot be made is told from what fails.
        let driver = containers.open(&owner)?;
        let launch = Launch {
            image: Some("there/is:none".to_owned()),
            ..container("web-1-1", POLITE)
        };
        let error = driver.create(&launch).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Invalid, "{error}");
        Ok(())
    })
}

pub fn an_engine_that_restarts_is_adopted_again() -> anyhow::Result<()> {
    let mut containers = Containers::new("restart")?;
    let owner = containers.processes.owner.clone();
    runtime()?.block_on(async {
        let driver = containers.open(&owner)?;
        let launch = container("web-1-1", POLITE);
        driver.create(&launch).await?;
        driver.start(&launch.name).await?;
        until_printed(&*driver, &launch.name, "started").await?;
        let mut hints = driver.watch();
        containers.engine.kill_engine()?;
        let error = until("an error", || async { Ok(driver.list().await.err()) }).await?;
        assert_eq!(error.code(), ErrorCode::Unreachable, "{error}");
        let error = driver.start(&launch.name).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Unreachable, "{error}");
        // The engine starts while the driver goes on trying.
        containers.engine.run_engine()?;
        tokio::time::timeout(PATIENCE, async {
            while hints.recv().await? != Hint::Relist {}
            anyhow::Ok(())
        })
        .await??;
        let listed = until("the list", || async { find(&*driver, &launch.name).await }).await?;
        assert_eq!(listed.phase, Phase::Running);
        let log = driver.logs(&launch.name, 10_000).await?;
        assert_eq!(String::from_utf8_lossy(&log).matches("started").count(), 1);
        // Its events are followed again.
        let mut hints = driver.watch();
        tokio::time::timeout(PATIENCE, async {
            loop {
                driver.pause(&launch.name).await?;
                driver.resume(&launch.name).await?;
                let hint = tokio::time::timeout(Duration::from_millis(500), hints.recv()).await;
                if hint == Ok(Ok(Hint::Changed(launch.name.clone()))) {
                    return anyhow::Ok(());
                }
            }
        })
        .await??;
        driver.remove(&launch.name).await?;
        Ok(())
    })
}

pub fn a_container_is_cloned_with_what_it_has_written() -> anyhow::Result<()> {
    let mut containers = Containers::new("clone")?;
    let owner = containers.processes.owner.clone();
    runtime()?.block_on(async {
        let driver = containers.open(&owner)?;
        let say = "cat /written 2>/dev/null; echo $LB_INSTANCE >/written; echo started; sleep 1000";
        let launch = container("web-1-1", say);
        driver.create(&launch).await?;
        driver.start(&launch.name).await?;
        until_printed(&*driver, &launch.name, "started").await?;
        let copy = container("web-2-1", say);
        driver.clone_to(&launch.name, &copy).await?;
        driver.clone_to(&launch.name, &copy).await?;
        let listed = find(&*driver, &copy.name).await?.unwrap();
        assert_eq!(listed.phase, Phase::Created);
        driver.start(&copy.name).await?;
        until_printed(&*driver, &copy.name, "started").await?;
        let log = driver.logs(&copy.name, 1_000).await?;
        ensure!(log.starts_with(b"web-1-1\n"), "{log:?}");
        // One that runs on is as before, and nothing of the clone is left.
        let listed = find(&*driver, &launch.name).await?.unwrap();
        assert_eq!(listed.phase, Phase::Running);
        driver.remove(&copy.name).await?;
        let images = containers.engine.docker(&["images", "lb-clone", "-q"])?;
        assert_eq!(images.trim(), "");
        driver.remove(&launch.name).await?;
        // What a driver cannot is refused by its name.
        let error = driver.suspend(&launch.name).await.unwrap_err();
        assert_eq!(error.to_string(), "the driver docker cannot suspend");
        Ok(())
    })
}

pub fn a_container_of_somebody_else_is_not_touched() -> anyhow::Result<()> {
    let mut containers = Containers::new("foreign")?;
    let owner = containers.processes.owner.clone();
    containers.engine.run("web-1-1", "sleep 1000")?;
    runtime()?.block_on(async {
        let driver = containers.open(&owner)?;
        let launch = container("web-1-1", POLITE);
        assert_eq!(driver.list().await?, []);
        for refused in [
            driver.create(&launch).await,
            driver.start(&launch.name).await,
            driver.stop(&launch.name, PATIENCE).await,
            driver.pause(&launch.name).await,
            driver.remove(&launch.name).await,
        ] {
            let error = refused.unwrap_err();
            assert_eq!(error.code(), ErrorCode::Foreign, "{error}");
        }
        let running = containers
            .engine
            .docker(&["ps", "--format", "{{.Names}} {{.State}}"])?;
        ensure!(running.contains("web-1-1 running"), "{running}");
        Ok(())
    })
}
