//! Histories of commands, some told and many random.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Limits, Outcome, Queue, QueueError, Task};
use crate::command::{Command, CommandId, NewCommand, State};

const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn limits() -> Limits {
    Limits {
        failures: 3,
        ..Limits::default()
    }
}

fn new(object: &str) -> NewCommand {
    NewCommand::new(object, "do").about(format!("do it to {object}"))
}

fn state(queue: &Queue, id: CommandId) -> State {
    queue.get(id).unwrap().state
}

/// Gives out one command, which there must be.
fn one(queue: &mut Queue, now: Duration) -> Task {
    let tasks = queue.next("me", 1, now);
    assert_eq!(tasks.len(), 1);
    tasks[0]
}

fn done() -> Outcome {
    Outcome::Done(Value::Null)
}

#[test]
fn commands_of_one_object_come_one_after_the_other() {
    let mut queue = Queue::new(limits());
    let first = queue.submit(new("web"), at(1)).unwrap();
    let second = queue.submit(new("web"), at(1)).unwrap();
    let other = queue.submit(new("db"), at(1)).unwrap();
    let tasks = queue.next("me", 9, at(2));
    let ids: Vec<CommandId> = tasks.iter().map(|task| task.id).collect();
    assert_eq!(ids, [first, other]);
    assert!(queue.next("me", 9, at(2)).is_empty());
    queue
        .finish(tasks[0], Outcome::Failed("no".to_owned()), at(3))
        .unwrap();
    // One that is tried again later keeps its object.
    assert!(queue.next("me", 9, at(3)).is_empty());
    queue.expire(at(10));
    let again = one(&mut queue, at(10));
    assert_eq!(again.id, first);
    queue.finish(again, done(), at(11)).unwrap();
    assert_eq!(one(&mut queue, at(11)).id, second);
}

#[test]
fn a_parent_waits_for_its_children_and_goes_on() {
    let mut queue = Queue::new(limits());
    let parent = queue.submit(new("shop"), at(1)).unwrap();
    let task = one(&mut queue, at(1));
    let children = vec![
        new("web").in_step(1),
        new("db"),
        // The parent has the object, and so its children do.
        new("shop"),
    ];
    queue
        .finish(task, Outcome::Children(children, json!("half")), at(2))
        .unwrap();
    assert_eq!(state(&queue, parent), State::WaitsForChildren);
    let tasks = queue.next("me", 9, at(2));
    let objects: Vec<&str> = tasks
        .iter()
        .map(|task| queue.get(task.id).unwrap().object.as_str())
        .collect();
    assert_eq!(objects, ["db", "shop"]);
    for task in tasks {
        queue.finish(task, done(), at(3)).unwrap();
    }
    let web = one(&mut queue, at(3));
    assert_eq!(queue.get(web.id).unwrap().object, "web");
    queue.finish(web, done(), at(4)).unwrap();
    let task = one(&mut queue, at(4));
    let parent = queue.get(task.id).unwrap();
    assert_eq!((parent.stage, &parent.memo), (1, &json!("half")));
    queue.finish(task, done(), at(5)).unwrap();
    assert_eq!(state(&queue, task.id), State::Done);
    assert_eq!(queue.open(), 0);
}

#[test]
fn what_fails_is_tried_again_and_then_undone_backwards() {
    let mut queue = Queue::new(limits());
    let parent = queue.submit(new("shop").undone_by("undo"), at(1)).unwrap();
    let task = one(&mut queue, at(1));
    let children = vec![
        new("one").undone_by("undo"),
        new("two").undone_by("undo").in_step(1),
        new("three").undone_by("undo").in_step(2),
        new("four").undone_by("undo").in_step(3),
    ];
    queue
        .finish(task, Outcome::Children(children, Value::Null), at(1))
        .unwrap();
    let mut now = 1;
    for attempt in 0..5 {
        now += 60;
        queue.expire(at(now));
        let task = one(&mut queue, at(now));
        let is_third = queue.get(task.id).unwrap().object == "three";
        assert_eq!(is_third, attempt > 1);
        let outcome = if is_third {
            Outcome::Failed("no room".to_owned())
        } else {
            done()
        };
        queue.finish(task, outcome, at(now)).unwrap();
    }
    // The third has undone itself first; then come its siblings, the last one first, and the parent.
    let mut undone = Vec::new();
    while let Some(task) = queue.next("me", 1, at(now)).first() {
        let command = queue.get(task.id).unwrap();
        assert!(command.is_undo && command.verb == "undo");
        undone.push(command.object.clone());
        queue.finish(*task, done(), at(now)).unwrap();
    }
    assert_eq!(undone, ["three", "two", "one", "shop"]);
    assert_eq!(state(&queue, parent), State::Failed);
    let why = queue.get(parent).unwrap().why();
    assert!(why.ends_with("(do it to three): no room"), "{why}");
    let four = queue.all().find(|one| one.object == "four").unwrap();
    assert_eq!(four.state, State::Cancelled);
    // It is tried again as a whole.
    let again = queue.retry(parent, at(now)).unwrap();
    assert_ne!(again, parent);
    assert_eq!(
        queue.retry(four_of(&queue), at(now)),
        Err(QueueError::Part(four_of(&queue), parent))
    );
    assert_eq!(one(&mut queue, at(now)).id, again);
}

fn four_of(queue: &Queue) -> CommandId {
    queue.all().find(|one| one.object == "four").unwrap().id
}

#[test]
fn a_cancelled_parent_cancels_what_it_waits_for() {
    let mut queue = Queue::new(limits());
    let parent = queue.submit(new("shop"), at(1)).unwrap();
    let task = one(&mut queue, at(1));
    let children = vec![new("one").undone_by("undo"), new("two")];
    queue
        .finish(task, Outcome::Children(children, Value::Null), at(1))
        .unwrap();
    let running = one(&mut queue, at(2));
    queue.cancel(parent, "an operator said so", at(3)).unwrap();
    assert_eq!(
        queue.take_stops().into_iter().collect::<Vec<_>>(),
        [running]
    );
    assert!(queue.next("me", 9, at(3)).is_empty());
    assert_eq!(
        queue.cancel(parent, "again", at(3)),
        Err(QueueError::Ending(parent))
    );
    queue
        .finish(running, Outcome::Failed("stopped".to_owned()), at(4))
        .unwrap();
    let undo = one(&mut queue, at(4));
    assert_eq!(queue.get(undo.id).unwrap().verb, "undo");
    queue.finish(undo, done(), at(5)).unwrap();
    for command in queue.tree(parent) {
        let expected = if command.is_undo {
            State::Done
        } else {
            State::Cancelled
        };
        assert_eq!(command.state, expected, "{command:?}");
    }
}

#[test]
fn leases_end_and_old_ones_do_not_count() {
    let mut queue = Queue::new(limits());
    queue.submit(new("web"), at(0)).unwrap();
    let first = one(&mut queue, at(0));
    queue.extend(first, at(20)).unwrap();
    queue.expire(at(40));
    assert!(queue.next("me", 1, at(40)).is_empty());
    queue.expire(at(50));
    assert_eq!(queue.take_stops().len(), 1);
    let second = one(&mut queue, at(50));
    assert_eq!(second.id, first.id);
    let stale = Err(QueueError::Stale(first.id));
    assert_eq!(queue.finish(first, done(), at(51)), stale);
    assert_eq!(queue.extend(first, at(51)), stale);
    queue.finish(second, done(), at(52)).unwrap();
}

#[test]
fn nothing_outlives_its_deadline() {
    let mut queue = Queue::new(limits());
    let short = NewCommand {
        patience: Some(at(100)),
        ..new("shop")
    };
    let parent = queue.submit(short, at(0)).unwrap();
    let task = one(&mut queue, at(0));
    let children = vec![new("web"), new("db").in_step(1)];
    queue
        .finish(task, Outcome::Children(children, Value::Null), at(1))
        .unwrap();
    let web = one(&mut queue, at(90));
    assert_eq!(
        queue.get(web.id).unwrap().lease.as_ref().unwrap().until,
        at(100)
    );
    queue.expire(at(100));
    assert!(queue.finish(web, done(), at(100)).is_err());
    assert_eq!(state(&queue, parent), State::Failed);
    assert_eq!(queue.open(), 0);
    let why = queue.get(parent).unwrap().why();
    assert!(why.contains("longer than it may"), "{why}");
}

#[test]
fn a_command_that_would_wait_for_itself_fails() {
    let mut queue = Queue::new(limits());
    queue.submit(new("one"), at(0)).unwrap();
    queue.submit(new("two"), at(0)).unwrap();
    let tasks = queue.next("me", 2, at(0));
    let child = |object: &str| Outcome::Children(vec![new(object)], Value::Null);
    queue.finish(tasks[0], child("two"), at(1)).unwrap();
    queue.finish(tasks[1], child("one"), at(1)).unwrap();
    assert_eq!(state(&queue, tasks[1].id), State::Failed);
    let why = queue.get(tasks[1].id).unwrap().why();
    assert!(why.contains("would wait for itself"), "{why}");
    // The other one goes on.
    let free = one(&mut queue, at(2));
    assert_eq!(queue.get(free.id).unwrap().parent, Some(tasks[0].id));
}

#[test]
fn depth_and_number_of_children_have_limits() {
    let mut queue = Queue::new(limits());
    queue.submit(new("web"), at(0)).unwrap();
    let last = loop {
        let task = one(&mut queue, at(1));
        let child = Outcome::Children(vec![new("web")], Value::Null);
        queue.finish(task, child, at(1)).unwrap();
        if state(&queue, task.id).has_ended() {
            break task.id;
        }
    };
    let command = queue.get(last).unwrap();
    assert_eq!(command.depth(), limits().depth);
    assert!(command.why().contains("8 deep"), "{}", command.why());
    assert_eq!(queue.open(), 0);
    let many = queue.submit(new("web"), at(2)).unwrap();
    let task = one(&mut queue, at(2));
    let children = vec![new("web"); limits().children + 1];
    queue
        .finish(task, Outcome::Children(children, Value::Null), at(2))
        .unwrap();
    assert_eq!(state(&queue, many), State::Failed);
}

#[test]
fn a_repeated_request_is_not_a_second_command_and_too_many_are_refused() {
    let mut queue = Queue::new(Limits {
        open: 2,
        ended: 1,
        ..limits()
    });
    let named = || NewCommand {
        request: Some("r1".to_owned()),
        ..new("web")
    };
    let first = queue.submit(named(), at(0)).unwrap();
    assert_eq!(queue.submit(named(), at(1)), Ok(first));
    let second = queue.submit(new("web"), at(1)).unwrap();
    assert_eq!(queue.submit(new("web"), at(1)), Err(QueueError::Full(2)));
    queue.cancel(first, "x", at(2)).unwrap();
    queue.cancel(second, "x", at(2)).unwrap();
    queue.submit(new("web"), at(3)).unwrap();
    // The oldest that has ended is forgotten.
    assert!(queue.get(first).is_none() && queue.get(second).is_some());
}

#[test]
fn what_cannot_be_stored_is_taken_back() {
    let mut queue = Queue::new(limits());
    queue.submit(new("web"), at(0)).unwrap();
    let stored = queue.take_records();
    let before = stored[0].1.clone().unwrap();
    let task = one(&mut queue, at(1));
    let other = queue.submit(new("db"), at(1)).unwrap();
    let undone = queue.roll_back();
    assert_eq!(undone, [(task.id, Some(before.clone())), (other, None)]);
    assert_eq!(queue.get(task.id), Some(&before));
    assert!(queue.get(other).is_none() && !queue.has_records());
    assert_eq!(one(&mut queue, at(2)).id, task.id);
}

/// What the world does in a random history.
#[derive(Clone, Debug)]
enum Act {
    Submit {
        object: u8,
        patience: u16,
    },
    Next(u8),
    Finish {
        which: u8,
    },
    Wait(u16),
    Extend {
        which: u8,
    },
    Cancel {
        which: u8,
    },
    Retry {
        which: u8,
    },
    /// The process is killed: what is stored is read again.
    Crash,
    /// The store fails, and what was not stored is taken back.
    RollBack,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..5_u8, 1..2_000_u16).prop_map(|(object, patience)| Act::Submit { object, patience }),
        6 => (1..6_u8).prop_map(Act::Next),
        8 => any::<u8>().prop_map(|which| Act::Finish { which }),
        3 => (0..90_u16).prop_map(Act::Wait),
        1 => any::<u8>().prop_map(|which| Act::Extend { which }),
        1 => any::<u8>().prop_map(|which| Act::Cancel { which }),
        1 => any::<u8>().prop_map(|which| Act::Retry { which }),
        1 => Just(Act::Crash),
        1 => Just(Act::RollBack),
    ]
}

/// What a run of a command does: the same whenever it is run at this place and stage.
fn fate(command: &Command, seed: u64) -> Outcome {
    let key = command
        .path
        .iter()
        .fold(seed ^ u64::from(command.stage), |hash, part| {
            (hash ^ part)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(23)
        });
    let verdict = key % 16;
    if command.is_undo {
        return if verdict == 0 {
            Outcome::Refused("cannot be undone".to_owned())
        } else {
            done()
        };
    }
    match verdict {
        0 => Outcome::Refused("it cannot be".to_owned()),
        1 => Outcome::Failed("not now".to_owned()),
        2 if command.attempts < 4 => Outcome::Again(at(1 + key % 7), "not yet".to_owned()),
        3..=7 if command.depth() < 3 && command.stage < 2 => {
            let children = (0..key % 4).map(|number| {
                let place = (key >> 20).wrapping_add(number) % 5;
                // Objects in levels: what has one of a level waits for deeper ones only, so none waits for itself.
                let object = if command.object.starts_with('l') {
                    format!("l{} {place}", command.depth() + 1)
                } else {
                    format!("o{place}")
                };
                let child = new(&object).in_step((number % 2) as u32);
                if number % 3 == 0 {
                    child
                } else {
                    child.undone_by("undo")
                }
            });
            Outcome::Children(children.collect(), json!(command.stage))
        }
        _ => done(),
    }
}

/// A queue, the store, and the workers' side of leases.
struct History {
    queue: Queue,
    stored: BTreeMap<CommandId, Command>,
    now: Duration,
    running: Vec<Task>,
    seed: u64,
    /// What was given out and is not over, by command.
    leases: HashMap<CommandId, (u64, Duration)>,
}

impl History {
    fn new(seed: u64) -> Self {
        History {
            queue: Queue::new(limits()),
            stored: BTreeMap::new(),
            now: at(1_000_000),
            running: Vec::new(),
            seed,
            leases: HashMap::new(),
        }
    }

    fn store(&mut self) {
        for (id, command) in self.queue.take_records() {
            match command {
                Some(command) => self.stored.insert(id, command),
                None => self.stored.remove(&id),
            };
        }
    }

    /// Ends the leases that time has ended, and stops what is to be stopped.
    fn pass(&mut self) {
        self.queue.expire(self.now);
        for task in self.queue.take_stops() {
            let was_running = self.running.contains(&task);
            self.running.retain(|one| *one != task);
            if was_running {
                // Its worker says that it has stopped.
                let _ = self
                    .queue
                    .finish(task, Outcome::Failed("stopped".to_owned()), self.now);
            }
        }
        self.check();
    }

    fn take(&mut self, most: usize) {
        for task in self.queue.next("me", most, self.now) {
            let command = self.queue.get(task.id).unwrap();
            let until = command.lease.as_ref().unwrap().until;
            let before = self.leases.insert(task.id, (task.token, until));
            // Two leases of a command are never alive.
            let is_alive = self.running.iter().any(|one| one.id == task.id);
            assert!(!is_alive, "{before:?} {command:?}");
            self.running.push(task);
        }
        self.store();
        self.check();
    }

    fn finish(&mut self, task: Task) {
        self.running.retain(|one| *one != task);
        let Some(command) = self.queue.get(task.id) else {
            return;
        };
        let outcome = fate(command, self.seed);
        let _ = self.queue.finish(task, outcome, self.now);
        self.pass();
    }

    /// Commands of an object never run at the same time, unless one waits for the other.
    fn check(&self) {
        let mut by_object: HashMap<&str, Vec<&Command>> = HashMap::new();
        for command in self.queue.all() {
            let is_active = !command.state.has_ended() && command.has_begun();
            if is_active {
                by_object.entry(&command.object).or_default().push(command);
            }
            if command.state == State::Running {
                assert!(command.lease.is_some());
            } else {
                assert!(command.lease.is_none(), "{command:?}");
            }
            // Nothing that has ended has open children.
            if command.state.has_ended() {
                for child in &command.children {
                    assert!(self.queue.get(*child).unwrap().state.has_ended());
                }
            }
        }
        for active in by_object.values() {
            for (at, one) in active.iter().enumerate() {
                for other in &active[..at] {
                    assert!(one.is_related(other), "{one:?} {other:?}");
                }
            }
        }
        assert_eq!(
            self.queue.open(),
            self.queue
                .all()
                .filter(|one| !one.state.has_ended())
                .count()
        );
    }

    fn crash(&mut self) {
        self.running.clear();
        self.leases.clear();
        self.queue = Queue::restored(limits(), self.stored.values().cloned().collect());
        self.queue.recover(|_| false, self.now);
        self.store();
    }

    fn play(&mut self, act: &Act) {
        let pick = |count: usize, which: u8| usize::from(which) % count.max(1);
        match act {
            Act::Submit { object, patience } => {
                let command = NewCommand {
                    patience: Some(at(u64::from(*patience))),
                    ..new(&format!("o{object}")).undone_by("undo")
                };
                self.queue.submit(command, self.now).unwrap();
                self.store();
            }
            Act::Next(most) => self.take(usize::from(*most)),
            Act::Finish { which } => {
                if let Some(task) = self.running.get(pick(self.running.len(), *which)) {
                    self.finish(*task);
                }
            }
            Act::Wait(seconds) => {
                self.now += at(u64::from(*seconds));
                self.pass();
            }
            Act::Extend { which } => {
                if let Some(task) = self.running.get(pick(self.running.len(), *which)) {
                    let _ = self.queue.extend(*task, self.now);
                }
            }
            Act::Cancel { which } => {
                let ids: Vec<CommandId> = self.queue.all().map(|one| one.id).collect();
                if let Some(id) = ids.get(pick(ids.len(), *which)) {
                    let cancelled = self.queue.cancel(*id, "x", self.now);
                    if cancelled.is_ok() {
                        self.check_cancelled(*id);
                    }
                    self.pass();
                }
            }
            Act::Retry { which } => {
                let ids: Vec<CommandId> = self.queue.all().map(|one| one.id).collect();
                if let Some(id) = ids.get(pick(ids.len(), *which)) {
                    let _ = self.queue.retry(*id, self.now);
                }
            }
            Act::Crash => self.crash(),
            Act::RollBack => {
                // What runs was stored before; what was not stored did not happen, save that workers know it.
                self.queue.roll_back();
                let queue = &self.queue;
                self.running.retain(|task| {
                    let command = queue.get(task.id);
                    let lease = command.and_then(|command| command.lease.as_ref());
                    lease.is_some_and(|lease| lease.token == task.token)
                });
            }
        }
        self.check();
    }

    /// All that a cancelled command waits for is on its way to its end.
    fn check_cancelled(&self, id: CommandId) {
        for command in self.queue.tree(id) {
            assert!(
                command.state.has_ended() || command.ending.is_some() || command.is_undo,
                "{command:?}"
            );
        }
    }

    /// Runs everything to its end.
    fn drain(&mut self) {
        for _ in 0..5_000 {
            self.take(8);
            while let Some(task) = self.running.first().copied() {
                self.finish(task);
            }
            self.store();
            if self.queue.open() == 0 {
                return;
            }
            let next = self.queue.next_time();
            let is_idle = self.queue.clone().next("me", 1, self.now).is_empty();
            if is_idle {
                let next = next.expect("something is due");
                self.now = self.now.max(next);
                self.pass();
            }
        }
        let open: Vec<_> = self
            .queue
            .all()
            .filter(|one| !one.state.has_ended())
            .collect();
        panic!("commands that do not end at {:?}: {open:#?}", self.now);
    }

    /// How the roots ended. Which of the siblings of a failed command had already run, and were undone, depends on the moment.
    fn ends(&self) -> Vec<(CommandId, State)> {
        let roots = self.queue.all().filter(|one| one.parent.is_none());
        roots.map(|one| (one.id, one.state)).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(600), max_shrink_iters: 100, ..ProptestConfig::default() })]

    /// Whatever happens, every command ends, and the invariants of [`History`] hold.
    #[test]
    fn every_command_ends(acts in prop::collection::vec(act(), 1..120), seed in any::<u64>()) {
        let mut history = History::new(seed);
        for act in &acts {
            history.play(act);
        }
        history.drain();
        let open = history.queue.all().filter(|one| !one.state.has_ended()).count();
        prop_assert_eq!(open, 0);
        // What is stored is what there is.
        let now: BTreeMap<_, _> = history.queue.all().map(|one| (one.id, one.clone())).collect();
        prop_assert_eq!(&history.stored, &now);
    }

    /// A process that is killed after any number of its steps is followed by one that comes to the same end.
    #[test]
    fn a_crash_at_any_point_leads_to_the_same_end(
        objects in prop::collection::vec(0..5_u8, 1..8),
        crashes in prop::collection::vec(0..60_usize, 0..4),
        seed in any::<u64>(),
    ) {
        let run = |crashes: &[usize]| {
            let mut history = History::new(seed);
            for object in &objects {
                let command = NewCommand {
                    patience: Some(at(1_000_000)),
                    ..new(&format!("l0 {object}")).undone_by("undo")
                };
                history.queue.submit(command, history.now).unwrap();
            }
            history.store();
            for step in 0..100 {
                if crashes.contains(&step) {
                    history.crash();
                }
                if step % 3 == 0 {
                    history.now += at(1);
                    history.pass();
                }
                if step % 2 == 0 {
                    history.take(1);
                } else if let Some(task) = history.running.first().copied() {
                    history.finish(task);
                }
                // What a run did is lost with the process unless it is stored; it is run again then.
                if step % 5 == 0 {
                    history.store();
                }
            }
            history.drain();
            history.ends()
        };
        prop_assert_eq!(run(&[]), run(&crashes));
    }
}
