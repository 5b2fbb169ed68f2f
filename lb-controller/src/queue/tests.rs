//! The task, with a store in memory.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use lb_commands::{
    command::{Command, NewCommand, State as CommandState},
    environment::Environment,
    queue::{Limits, Outcome},
};
use lb_serve::vital::Vital;
use lb_store::{MemoryStore, Records, Revision, Store, StoreError, Transaction};
use serde_json::Value;

use super::{CommandError, Commands, Execute, StoredOrders};
use crate::keeper::Keeper;

/// How long what takes no time may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Does what the verb says, and notes it.
#[derive(Debug, Default)]
struct Doer(Mutex<Vec<String>>);

impl Execute for Doer {
    fn execute(&self, command: Command, _: Option<Environment>) -> BoxFuture<'static, Outcome> {
        self.0.lock().unwrap().push(command.object.clone());
        Box::pin(async move {
            match command.verb.as_str() {
                "wait" => std::future::pending().await,
                "panic" => panic!("it broke"),
                "parent" if command.stage == 0 => {
                    let child = |name: &str| NewCommand::new(name, "do");
                    Outcome::Children(vec![child("one"), child("two")], Value::Null)
                }
                _ => Outcome::Done(Value::Null),
            }
        })
    }
}

/// A store that can be made to refuse.
#[derive(Debug)]
struct Fickle {
    store: MemoryStore,
    refuses: Arc<AtomicBool>,
}

impl Store for Fickle {
    fn location(&self) -> String {
        "the store".to_owned()
    }

    fn identity(&self) -> u64 {
        self.store.identity()
    }

    fn revision(&self) -> Revision {
        self.store.revision()
    }

    fn get(&self, table: &str, key: &str) -> Result<Option<lb_store::Entry>, StoreError> {
        self.store.get(table, key)
    }

    fn list(&self, table: &str) -> Result<Vec<lb_store::Entry>, StoreError> {
        self.store.list(table)
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<Revision, StoreError> {
        if self.refuses.load(Ordering::Relaxed) {
            return Err(StoreError::InUse {
                path: "the store".into(),
            });
        }
        self.store.commit(transaction)
    }

    fn check(&self) -> Result<(), StoreError> {
        self.store.check()
    }

    fn rewrite(&mut self, tables: &[(&str, Records)]) -> Result<Revision, StoreError> {
        self.store.rewrite(tables)
    }

    fn changes_since(
        &self,
        revision: Revision,
    ) -> Result<Vec<lb_store::Change>, lb_store::Compacted> {
        self.store.changes_since(revision)
    }

    fn subscribe(&self) -> tokio::sync::watch::Receiver<Revision> {
        self.store.subscribe()
    }
}

struct Bed {
    commands: Commands,
    keeper: Keeper,
    doer: Arc<Doer>,
    refuses: Arc<AtomicBool>,
    // Its parts live as long.
    _vital: Vital,
}

fn bed() -> Bed {
    let vital = Vital::new();
    let refuses = Arc::<AtomicBool>::default();
    let store = Fickle {
        store: MemoryStore::default(),
        refuses: Arc::clone(&refuses),
    };
    let keeper = Keeper::of(Box::new(store)).unwrap().keeper;
    let limits = Limits {
        failures: 2,
        pause: Duration::from_millis(1),
        ..Limits::default()
    };
    // A store that has refused is looked after once a second.
    vital.spawn("the store", keeper.clone().watch());
    let prepared = Commands::prepare(keeper.clone(), limits, StoredOrders::default());
    let commands = prepared.commands();
    let doer = Arc::<Doer>::default();
    prepared.start(Arc::<Doer>::clone(&doer), &vital.registrar());
    Bed {
        commands,
        keeper,
        doer,
        refuses,
        _vital: vital,
    }
}

impl Bed {
    async fn wait(&self, id: u64, state: CommandState) -> Command {
        let mut changed = self.commands.changed();
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let command = self.commands.get(id).unwrap();
                if command.state == state {
                    return command;
                }
                changed.changed().await.unwrap();
            }
        });
        found.await.unwrap()
    }

    /// What is stored of a command.
    async fn stored(&self) -> String {
        self.keeper.copy().await.unwrap().write()
    }
}

#[tokio::test]
async fn commands_are_stored_executed_and_followed() {
    let bed = bed();
    let begin = *bed.commands.changed().borrow();
    let parent = NewCommand::new("shop", "parent");
    let id = bed.commands.submit(parent).await.unwrap();
    assert!(bed.stored().await.contains("\"commands\""));
    bed.wait(id, CommandState::Done).await;
    let done = bed.doer.0.lock().unwrap().clone();
    assert_eq!(done[0], "shop");
    assert_eq!(done.last().map(String::as_str), Some("shop"));
    assert_eq!(done.len(), 4);
    // Followers hear of what is stored, which is a moment later.
    let is_end =
        |one: &super::Changed| (one.command.id, one.command.state) == (id, CommandState::Done);
    let mut changed = bed.commands.changed();
    let heard = tokio::time::timeout(PATIENCE, async {
        loop {
            let changes = bed.commands.since(begin).unwrap();
            if changes.iter().any(is_end) {
                return changes;
            }
            changed.changed().await.unwrap();
        }
    });
    let changes = heard.await.unwrap();
    let last = changes.last().unwrap();
    assert_eq!(bed.commands.tree(id).unwrap().len(), 3);
    assert!(bed.commands.since(last.revision + 1).is_none());
}

#[tokio::test]
async fn a_run_that_panics_is_a_failure_and_one_that_is_cancelled_is_dropped() {
    let bed = bed();
    let id = bed
        .commands
        .submit(NewCommand::new("web", "panic"))
        .await
        .unwrap();
    let failed = bed.wait(id, CommandState::Failed).await;
    assert!(failed.why().contains("it broke"), "{}", failed.why());
    let id = bed
        .commands
        .submit(NewCommand::new("web", "wait"))
        .await
        .unwrap();
    bed.wait(id, CommandState::Running).await;
    bed.commands.cancel(id, "enough".to_owned()).await.unwrap();
    let cancelled = bed.wait(id, CommandState::Cancelled).await;
    assert_eq!(cancelled.why(), "enough");
    // Its object is free.
    let id = bed
        .commands
        .submit(NewCommand::new("web", "do"))
        .await
        .unwrap();
    bed.wait(id, CommandState::Done).await;
}

#[tokio::test]
async fn what_cannot_be_stored_is_refused_and_not_done() {
    let bed = bed();
    bed.refuses.store(true, Ordering::Relaxed);
    let refused = bed.commands.submit(NewCommand::new("web", "do")).await;
    assert!(
        matches!(refused, Err(CommandError::Store(_))),
        "{refused:?}"
    );
    assert!(bed.doer.0.lock().unwrap().is_empty());
    assert!(bed.commands.list(|_, _| true, 10).is_empty());
    bed.refuses.store(false, Ordering::Relaxed);
    let submitted = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Ok(id) = bed.commands.submit(NewCommand::new("web", "do")).await {
                return id;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let id = submitted.await.unwrap();
    bed.wait(id, CommandState::Done).await;
    assert_eq!(bed.doer.0.lock().unwrap().len(), 1);
}
