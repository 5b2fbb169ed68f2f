//! A data plane that panics or hangs: the owner's end is told.

use std::{sync::Arc, time::Duration};

use lb_dataplane::{Dataplane, DataplaneError, RealFlows, ServiceSpec, Simulation, Stats, Status};
use lb_model::{
    intent::{Change, Patch},
    vip::{RealId, VipKey},
};
use lb_serve::{vital::Vital, watchdog::Watchdog};
use tokio::sync::Mutex;

use crate::{
    control::{self, ChangeRequest},
    store::State,
};

/// A part that ends within a test does so at once.
const PATIENCE: Duration = Duration::from_secs(20);

async fn next_end(vital: &mut Vital) -> String {
    let end = tokio::time::timeout(PATIENCE, vital.next_end()).await;
    format!("{:#}", end.unwrap().into_error())
}

/// A data plane that panics where it is told to, and hangs in `tick` while a lock is held.
#[derive(Default)]
struct Broken {
    panics: &'static str,
    lock: Arc<Mutex<()>>,
}

impl Broken {
    fn call(&self, name: &str) {
        assert_ne!(self.panics, name, "the data plane broke in {name}");
    }
}

impl Dataplane for Broken {
    fn set_service(&mut self, _: &ServiceSpec) -> Result<(), DataplaneError> {
        self.call("set_service");
        Ok(())
    }

    fn shed(&mut self, _: &VipKey, _: RealId, _: u32) -> Result<u32, DataplaneError> {
        self.call("shed");
        Ok(0)
    }

    fn probe_mark(&self, _: &VipKey, _: RealId) -> Option<u32> {
        None
    }

    fn probe_problem(&mut self, _: &VipKey) -> Option<String> {
        None
    }

    fn remove_service(&mut self, _: &VipKey) -> Result<(), DataplaneError> {
        Ok(())
    }

    fn services(&self) -> Vec<VipKey> {
        Vec::new()
    }

    fn tick(&mut self) -> Result<(), DataplaneError> {
        self.call("tick");
        drop(self.lock.blocking_lock());
        Ok(())
    }

    fn stats(&self) -> Result<Stats, DataplaneError> {
        self.call("stats");
        Ok(Stats::default())
    }

    fn flows(&self) -> Result<Vec<RealFlows>, DataplaneError> {
        self.call("flows");
        Ok(Vec::new())
    }

    fn simulate(&mut self, _: Option<&str>, _: &[u8]) -> Result<Simulation, DataplaneError> {
        Err(DataplaneError::NoInterface {
            name: String::new(),
            attached: String::new(),
        })
    }

    fn status(&self) -> Status {
        self.call("status");
        Status::default()
    }

    fn refresh_next_hops(&mut self) -> Result<bool, DataplaneError> {
        self.call("refresh_next_hops");
        Ok(false)
    }
}

#[tokio::test]
async fn a_data_plane_that_panics_ends_the_owner_and_is_told() {
    for panics in [
        "tick",
        "set_service",
        "stats",
        "status",
        "refresh_next_hops",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let state = State::open(directory.path()).unwrap();
        let plane = Box::new(Broken {
            panics,
            ..Broken::default()
        });
        let (owner, thread) = control::start(state, plane, control::Options::default()).unwrap();
        let mut vital = Vital::new();
        vital.thread("the owner", thread).unwrap();
        // In each case the owner is gone before it answers.
        match panics {
            "tick" => owner.tick(),
            "stats" => assert!(owner.stats(None).await.is_err()),
            "status" => assert!(owner.status().await.is_err()),
            "refresh_next_hops" => owner.refresh_next_hops().await,
            _ => {
                let change = Change::AddVip {
                    vip: "10.0.0.1:80/tcp".parse().unwrap(),
                    patch: Patch::new(),
                };
                let request = ChangeRequest::new(change, Arc::from("test"));
                assert!(owner.change(request).await.is_err());
            }
        }
        let message = next_end(&mut vital).await;
        assert!(message.starts_with("the owner panicked"), "{message}");
        assert!(message.contains(&format!("broke in {panics}")), "{message}");
    }
}

#[tokio::test]
async fn a_data_plane_that_hangs_ends_the_program() {
    let limit = Duration::from_millis(300);
    let directory = tempfile::tempdir().unwrap();
    let state = State::open(directory.path()).unwrap();
    let lock = Arc::new(Mutex::new(()));
    let plane = Box::new(Broken {
        lock: Arc::clone(&lock),
        ..Broken::default()
    });
    let (owner, thread) = control::start(state, plane, control::Options::default()).unwrap();
    let mut vital = Vital::new();
    vital.thread("the owner", thread).unwrap();
    let held = lock.lock().await;
    owner.tick();
    Watchdog::new("test", limit)
        .only_reporting(limit / 10)
        .watch("the owner", owner.pulse(), || {})
        .start(&vital)
        .unwrap();
    // The program ends at this, also if it was to end at that time: nobody waits for the owner.
    let error = vital.finish("the owner").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the owner hangs: it has made no progress for 300ms"
    );
    drop(held);
    owner.stop().await;
}
