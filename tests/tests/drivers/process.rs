//! The driver `process`.

use std::{fs, sync::Arc, time::Duration};

use anyhow::ensure;
use lb_drivers::{Driver, Owned, Phase, process::ProcessDriver, process::Settings};
use lb_model::pool::Launch;
use lb_tests::{binary, remove_groups};

use crate::conformance::{self, POLITE, Subject, find, script, until, until_printed};

/// The driver with a folder of its own.
pub struct Processes {
    pub folder: tempfile::TempDir,
    pub owner: String,
    pub agent: std::path::PathBuf,
}

impl Processes {
    pub fn new(name: &str) -> anyhow::Result<Self> {
        Ok(Processes {
            folder: tempfile::Builder::new().prefix("lb-drivers-").tempdir()?,
            owner: lb_tests::owner(name),
            agent: "/there/is/none".into(),
        })
    }

    /// With the program that makes instances reals.
    pub fn with_agent(mut self) -> anyhow::Result<Self> {
        self.agent = binary("lb-agent")?;
        Ok(self)
    }

    pub fn owned(&self, owner: &str) -> Owned {
        Owned {
            owner: owner.to_owned(),
            state: self.folder.path().join(owner),
            agent: self.agent.clone(),
            allow_exec: false,
            receive_at: None,
        }
    }

    pub fn driver(&self) -> anyhow::Result<Arc<dyn Driver>> {
        Ok(Arc::new(ProcessDriver::open(
            &Settings {},
            &self.owned(&self.owner),
        )?))
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        // A failed test leaves processes.
        for suffix in ["", "-other"] {
            remove_groups(&format!("{}{suffix}", self.owner));
        }
    }
}

impl Subject for Processes {
    fn open(&mut self, owner: &str) -> anyhow::Result<Arc<dyn Driver>> {
        Ok(Arc::new(ProcessDriver::open(
            &Settings {},
            &self.owned(owner),
        )?))
    }

    fn launch(&self, name: &str, text: &str) -> Launch {
        script(name, text)
    }
}

pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

pub fn conforms() -> anyhow::Result<()> {
    let mut processes = Processes::new("conforms")?;
    let owner = processes.owner.clone();
    runtime()?.block_on(conformance::conforms(&mut processes, &owner))
}

pub fn an_instance_ends_with_all_that_it_started() -> anyhow::Result<()> {
    let processes = Processes::new("all")?;
    runtime()?.block_on(async {
        let driver = processes.driver()?;
        // A process in a session of its own outlives the first one.
        let launch = script(
            "web-1-1",
            "setsid sh -c 'trap \"\" TERM; while :; do sleep 0.1; done' & echo started; sleep 0.2",
        );
        driver.create(&launch).await?;
        driver.start(&launch.name).await?;
        until("its end", || async {
            let listed = find(&*driver, &launch.name).await?.unwrap();
            Ok(match listed.phase {
                Phase::Ended {
                    status: Some(0),
                    reason,
                } => Some(reason),
                _ => None,
            })
        })
        .await
        .map(|reason| assert_eq!(reason, "processes that it started are left"))?;
        // A new start does not run beside what is left.
        driver.start(&launch.name).await?;
        until_printed(&*driver, &launch.name, "started").await?;
        driver.remove(&launch.name).await?;
        ensure!(driver.list().await?.is_empty());
        Ok(())
    })
}

pub fn an_instance_is_adopted_although_its_start_was_not_noted() -> anyhow::Result<()> {
    let processes = Processes::new("adopted")?;
    runtime()?.block_on(async {
        let launch = script("web-1-1", POLITE);
        let driver = processes.driver()?;
        driver.create(&launch).await?;
        driver.start(&launch.name).await?;
        until_printed(&*driver, &launch.name, "started").await?;
        drop(driver);
        // The controller was killed between the start and the note.
        let run = processes
            .owned(&processes.owner)
            .state
            .join("process/web-1-1/run.json");
        fs::remove_file(&run)?;
        let driver = processes.driver()?;
        assert_eq!(
            find(&*driver, &launch.name).await?.unwrap().phase,
            Phase::Running
        );
        ensure!(run.exists(), "it is noted now");
        driver.start(&launch.name).await?;
        let log = driver.logs(&launch.name, 10_000).await?;
        assert_eq!(String::from_utf8_lossy(&log).matches("started").count(), 1);
        driver.stop(&launch.name, Duration::from_secs(30)).await?;
        until_printed(&*driver, &launch.name, "bye").await?;
        driver.remove(&launch.name).await?;
        Ok(())
    })
}

pub fn a_group_without_a_folder_is_listed_and_removed() -> anyhow::Result<()> {
    let processes = Processes::new("orphan")?;
    runtime()?.block_on(async {
        let launch = script("web-1-1", POLITE);
        let driver = processes.driver()?;
        driver.create(&launch).await?;
        driver.start(&launch.name).await?;
        until_printed(&*driver, &launch.name, "started").await?;
        drop(driver);
        // The disk with the controller's state was lost.
        fs::remove_dir_all(&processes.owned(&processes.owner).state)?;
        let driver = processes.driver()?;
        let listed = driver.list().await?;
        assert_eq!(listed.len(), 1);
        assert_eq!(
            (&listed[0].name, &listed[0].phase),
            (&launch.name, &Phase::Running)
        );
        driver.remove(&launch.name).await?;
        ensure!(driver.list().await?.is_empty());
        Ok(())
    })
}

pub fn what_is_noted_of_an_instance_is_written_again() -> anyhow::Result<()> {
    let processes = Processes::new("noted")?;
    runtime()?.block_on(async {
        let launch = script("web-1-1", POLITE);
        let driver = processes.driver()?;
        driver.create(&launch).await?;
        driver.start(&launch.name).await?;
        until_printed(&*driver, &launch.name, "started").await?;
        let root = processes.owned(&processes.owner).state.join("process");
        let folder = root.join("web-1-1");
        let read = || -> anyhow::Result<_> {
            Ok(["launch.json", "run.json"].map(|name| fs::read(folder.join(name)).ok()))
        };
        let good = read()?;
        ensure!(good.iter().all(Option::is_some), "{good:?}");
        let truncate = |name: &str| fs::write(folder.join(name), "");
        let remove = |name: &str| fs::remove_file(folder.join(name));
        let ways: [&dyn Fn() -> std::io::Result<()>; 6] = [
            &|| truncate("launch.json"),
            &|| truncate("run.json"),
            &|| remove("launch.json"),
            &|| remove("run.json"),
            &|| fs::remove_dir_all(&folder),
            &|| fs::remove_dir_all(&root),
        ];
        for lose in ways {
            lose()?;
            let listed = driver.list().await?;
            assert_eq!(listed.len(), 1);
            assert_eq!(listed[0].phase, Phase::Running);
            assert_eq!(listed[0].labels, launch.labels);
            assert_eq!(read()?, good);
        }
        // The lock is another file now, and holds as before.
        let error = processes.driver().unwrap_err().to_string();
        ensure!(error.contains("another controller uses"), "{error}");
        // What nobody knows any more costs nothing else, and the instance can be removed.
        drop(driver);
        let driver = processes.driver()?;
        for name in ["launch.json", "run.json", "ending.json"] {
            truncate(name)?;
        }
        let listed = driver.list().await?;
        assert_eq!((listed.len(), &listed[0].phase), (1, &Phase::Running));
        driver.stop(&launch.name, Duration::ZERO).await?;
        let listed = driver.list().await?;
        ensure!(matches!(listed[0].phase, Phase::Ended { .. }), "{listed:?}");
        driver.remove(&launch.name).await?;
        ensure!(driver.list().await?.is_empty());
        Ok(())
    })
}

pub fn two_controllers_do_not_share_a_folder() -> anyhow::Result<()> {
    let processes = Processes::new("two")?;
    runtime()?.block_on(async {
        let _driver = processes.driver()?;
        let error = processes.driver().unwrap_err().to_string();
        ensure!(error.contains("another controller uses"), "{error}");
        Ok(())
    })
}

pub fn an_instance_runs_as_its_user() -> anyhow::Result<()> {
    let processes = Processes::new("user")?;
    runtime()?.block_on(async {
        let driver = processes.driver()?;
        let data = processes.folder.path().join("data/1");
        // Others may enter the folders above the data.
        std::os::unix::fs::chown(processes.folder.path(), Some(1234), None)?;
        let launch = Launch {
            user: Some((1234, Some(4321))),
            volume: Some((data.clone(), "/data".into())),
            ..script(
                "web-1-1",
                "id -u; id -g; id -G; echo mine > $LB_VOLUME/file && echo written; sleep 100",
            )
        };
        driver.create(&launch).await?;
        driver.start(&launch.name).await?;
        until_printed(&*driver, &launch.name, "written").await?;
        let log = driver.logs(&launch.name, 1_000).await?;
        assert_eq!(String::from_utf8_lossy(&log), "1234\n4321\n4321\nwritten\n");
        // The data stays for the next one.
        driver.remove(&launch.name).await?;
        assert_eq!(fs::read_to_string(data.join("file"))?, "mine\n");
        Ok(())
    })
}
