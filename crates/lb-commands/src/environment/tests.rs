//! The story of an environment, as exact trees of commands.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use serde_json::{Map, Value, json};

use super::{
    Change, Environment, Event, MemberKind, OwnHandler, Power, Standing, answer, applied, run,
    verbs::{self, NewMember},
};
use crate::{
    command::{Command, CommandId, NewCommand, State},
    queue::{Limits, Outcome, Queue},
};

/// A queue and environments, and pools that do at once what they are told, or refuse it.
struct Play {
    queue: Queue,
    environments: BTreeMap<u64, Environment>,
    now: Duration,
    /// What commands with these words are answered.
    failing: BTreeMap<String, String>,
    /// What own handlers answer, by name.
    answers: BTreeMap<String, Value>,
    /// Kills the process before the step of this number, and has another one go on with what is stored.
    crash_at: Option<usize>,
    steps: usize,
    stored: BTreeMap<CommandId, Command>,
}

impl Play {
    fn new() -> Self {
        let mut play = Play {
            queue: Queue::new(Limits::default()),
            environments: BTreeMap::new(),
            now: Duration::from_secs(1_000),
            failing: BTreeMap::new(),
            answers: BTreeMap::new(),
            crash_at: None,
            steps: 0,
            stored: BTreeMap::new(),
        };
        play.environments
            .insert(1, Environment::new(1, 1, "shop", play.now));
        play
    }

    fn environment(&self) -> &Environment {
        &self.environments[&1]
    }

    /// Runs a command to its end, with all that it brings, and returns the tree.
    fn order(&mut self, command: NewCommand) -> String {
        let id = self.queue.submit(command, self.now).unwrap();
        self.store();
        loop {
            self.steps += 1;
            if self.crash_at == Some(self.steps) {
                let stored = self.stored.values().cloned().collect();
                self.queue = Queue::restored(Limits::default(), stored);
                self.queue.recover(|_| false, self.now);
            }
            let Some(task) = self.queue.next("me", 1, self.now).pop() else {
                if self.queue.open() == 0 {
                    break;
                }
                self.now = self.queue.next_time().unwrap();
                self.queue.expire(self.now);
                continue;
            };
            self.store();
            let command = self.queue.get(task.id).unwrap().clone();
            self.steps += 1;
            if self.crash_at == Some(self.steps) {
                // It was run, and that is not stored.
                let stored = self.stored.values().cloned().collect();
                self.queue = Queue::restored(Limits::default(), stored);
                self.queue.recover(|_| false, self.now);
                continue;
            }
            let outcome = self.run(&command);
            self.queue.finish(task, outcome, self.now).unwrap();
            self.store();
        }
        self.tree(id)
    }

    fn store(&mut self) {
        for (id, command) in self.queue.take_records() {
            match command {
                Some(command) => self.stored.insert(id, command),
                None => self.stored.remove(&id),
            };
        }
    }

    fn run(&mut self, command: &Command) -> Outcome {
        let id = command.number(verbs::ENVIRONMENT);
        if let Some(why) = self.failing.get(&command.about) {
            return Outcome::Failed(why.clone());
        }
        if verbs::is_pure(&command.verb) {
            let ran = run(self.environments.get(&id), command, self.now);
            match ran.change {
                Change::Nothing => {}
                Change::Put(environment) => {
                    self.environments.insert(id, *environment);
                }
                Change::Remove => {
                    self.environments.remove(&id);
                }
            }
            return ran.outcome;
        }
        let environment = &self.environments[&id];
        if command.verb == verbs::CALL {
            if command.stage > 0 {
                return Outcome::Done(Value::Null);
            }
            let answer = self.answers.get(command.text("handler"));
            return match answer::read(environment, answer.unwrap_or(&Value::Null)) {
                Ok(verdict) => verdict.outcome(),
                Err(why) => Outcome::Refused(why),
            };
        }
        if let Some(changed) = applied(environment, command) {
            self.environments.insert(id, changed);
        }
        Outcome::Done(Value::Null)
    }

    fn tree(&self, id: CommandId) -> String {
        let mut text = String::new();
        for command in self.queue.tree(id) {
            let state = match command.state {
                State::Done => "",
                state => state.name(),
            };
            let line = format!("{}{} {state}", "  ".repeat(command.depth()), command.about);
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }

    fn add(&mut self, name: &str, role: &str) -> String {
        self.order(verbs::add(1, &member(name, role)))
    }

    fn all(&mut self, verb: &str) -> String {
        self.order(verbs::about_all(1, "shop", verb))
    }

    fn about(&mut self, name: &str, verb: &str) -> String {
        let environment = self.environment();
        let member = environment.named(name).unwrap();
        let command = verbs::about_member(environment, member, verb);
        self.order(command.with("cause", "its host is lost"))
    }

    /// The members, with what load balancers are bound to.
    fn members(&self) -> Vec<String> {
        let environment = self.environment();
        let members = environment.members.iter().map(|one| {
            let bound = one.bound.iter().filter_map(|id| environment.member(*id));
            let bound: Vec<&str> = bound.map(|one| one.name.as_str()).collect();
            let standing = match one.standing {
                Standing::Member => "",
                standing => standing.name(),
            };
            let text = format!("{} {standing} {}", one.name, bound.join(","));
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        });
        members.collect()
    }
}

fn member(name: &str, role: &str) -> NewMember {
    let kind = if role == "balancer" {
        "balancer"
    } else {
        "pool"
    };
    let map = json!({ "name": name, "role": role, kind: { "of": name } });
    answer::new_member(map.as_object().unwrap()).unwrap()
}

#[test]
fn the_story_of_an_environment() {
    let mut play = Play::new();
    assert_eq!(play.all("create"), "create shop\n");
    assert_eq!(
        play.add("web-1", "web"),
        "\
add web-1
  create web-1
"
    );
    assert_eq!(
        play.add("web-2", "web"),
        "\
add web-2
  add balancer
    create balancer
    bind web-1 to balancer
  create web-2
  bind web-2 to balancer
"
    );
    assert_eq!(play.members(), ["web-1", "web-2", "balancer web-1,web-2"]);
    assert_eq!(
        play.add("web-3", "web"),
        "\
add web-3
  create web-3
  bind web-3 to balancer
"
    );
    assert_eq!(
        play.add("db", "db"),
        "\
add db
  create db
"
    );
    assert_eq!(
        play.about("balancer", "is-down"),
        "\
is-down balancer
  expel balancer
  add balancer-2
    create balancer-2
    bind web-1 to balancer-2
    bind web-2 to balancer-2
    bind web-3 to balancer-2
"
    );
    assert_eq!(
        play.members(),
        [
            "web-1",
            "web-2",
            "balancer illegal web-1,web-2,web-3",
            "web-3",
            "db",
            "balancer-2 web-1,web-2,web-3"
        ]
    );
    // That it is still down is no news.
    assert_eq!(play.about("balancer", "is-down"), "is-down balancer\n");
    assert_eq!(
        play.about("balancer", "collect"),
        "\
collect balancer
  delete balancer
"
    );
    assert!(play.environment().named("balancer").is_none());
    assert_eq!(
        play.all("suspend"),
        "\
suspend shop
  suspend balancer-2
  suspend web-1
  suspend web-2
  suspend web-3
  suspend db
"
    );
    assert_eq!(play.environment().power, Power::Suspended);
    // Nobody is down who is not to run.
    assert_eq!(play.about("balancer-2", "is-down"), "is-down balancer-2\n");
    assert_eq!(
        play.all("resume"),
        "\
resume shop
  resume db
  resume web-1
  resume web-2
  resume web-3
  resume balancer-2
"
    );
    play.environments
        .insert(2, Environment::new(2, 1, "shop-2", play.now));
    let clone = verbs::about_all(1, "shop", "clone").with("target", 2);
    let other = json!({ "web-2": { "of": "other" } });
    assert_eq!(
        play.order(clone.with("settings", other)),
        "\
clone shop
  add web-1
    create web-1
  add web-2
    add balancer
      create balancer
      bind web-1 to balancer
    create web-2
    bind web-2 to balancer
  add web-3
    create web-3
    bind web-3 to balancer
  add db
    create db
"
    );
    let cloned = &play.environments[&2];
    assert_eq!(cloned.named("web-2").unwrap().settings["of"], "other");
    assert_eq!(cloned.named("web-3").unwrap().settings["of"], "web-3");
    assert_eq!(
        play.all("stop"),
        "\
stop shop
  stop balancer-2
  stop web-1
  stop web-2
  stop web-3
  stop db
"
    );
    assert_eq!(
        play.all("suspend"),
        "suspend shop failed\n",
        "what is stopped cannot be suspended"
    );
    assert_eq!(
        play.all("start"),
        "\
start shop
  start db
  start web-1
  start web-2
  start web-3
  start balancer-2
"
    );
    assert_eq!(
        play.about("web-2", "remove"),
        "\
remove web-2
  unbind web-2 from balancer-2
  delete web-2
"
    );
    assert_eq!(
        play.all("destroy"),
        "\
destroy shop
  delete balancer-2
  delete web-1
  delete web-3
  delete db
"
    );
    assert!(!play.environments.contains_key(&1));
}

#[test]
fn what_cannot_be_added_leaves_nothing_behind() {
    let mut play = Play::new();
    play.add("web-1", "web");
    let before = play.environment().clone();
    play.failing
        .insert("create web-2".to_owned(), "no room".to_owned());
    assert_eq!(
        play.add("web-2", "web"),
        "\
add web-2 failed
  add balancer
    create balancer
    bind web-1 to balancer
  create web-2 failed
    undo: create web-2
  undo: add balancer
    delete balancer
  undo: add web-2
    delete web-2
"
    );
    assert_eq!(play.environment().members, before.members);
    let failed = play
        .queue
        .all()
        .find(|one| one.about == "add web-2")
        .unwrap();
    assert!(
        failed.why().contains("(create web-2): no room"),
        "{}",
        failed.why()
    );
    // There is one of this name; that one stays.
    assert_eq!(play.add("web-1", "web"), "add web-1 failed\n");
    assert_eq!(play.environment().members, before.members);
}

#[test]
fn a_balancer_that_cannot_be_replaced_is_legal_again() {
    let mut play = Play::new();
    play.add("web-1", "web");
    play.add("web-2", "web");
    play.failing
        .insert("create balancer-2".to_owned(), "no addresses".to_owned());
    assert_eq!(
        play.about("balancer", "is-down"),
        "\
is-down balancer failed
  expel balancer
  add balancer-2 failed
    create balancer-2 failed
      undo: create balancer-2
    undo: add balancer-2
      delete balancer-2
  undo: expel balancer
"
    );
    assert_eq!(play.members(), ["web-1", "web-2", "balancer web-1,web-2"]);
}

fn own(name: &str, event: Event, role: &str, priority: u32) -> OwnHandler {
    OwnHandler {
        name: name.to_owned(),
        event,
        role: role.to_owned(),
        priority,
    }
}

#[test]
fn own_handlers_are_called_in_their_order_and_may_veto_or_order() {
    let mut play = Play::new();
    play.add("db", "db");
    let environment = play.environments.get_mut(&1).unwrap();
    environment.handlers = vec![
        own("late", Event::BeforeItIsAdded, "", 9),
        own("early", Event::BeforeItIsAdded, "web", 1),
        own("of-db", Event::BeforeOtherIsAdded, "db", 0),
        own("after", Event::AfterItIsAdded, "", 0),
        own("stop", Event::BeforeStop, "db", 0),
    ];
    let cache =
        json!({ "commands": [{ "verb": "add", "name": "cache", "role": "cache", "pool": {} }] });
    play.answers.insert("early".to_owned(), cache);
    assert_eq!(
        play.add("web", "web"),
        "\
add web
  call early: before_it_is_added of web
    add cache
      call late: before_it_is_added of cache
      call of-db: before_other_is_added of db
      create cache
      call after: after_it_is_added of cache
  call late: before_it_is_added of web
  call of-db: before_other_is_added of db
  create web
  call after: after_it_is_added of web
"
    );
    play.answers
        .insert("stop".to_owned(), json!({ "veto": "a backup runs" }));
    assert_eq!(
        play.all("stop"),
        "\
stop shop failed
  call stop: before_stop of db failed
"
    );
    assert_eq!(play.environment().power, Power::Running);
    let failed = play
        .queue
        .all()
        .find(|one| one.about == "stop shop")
        .unwrap();
    assert!(failed.why().ends_with("a backup runs"), "{}", failed.why());
}

#[test]
fn handlers_that_call_themselves_fail_clearly() {
    let mut play = Play::new();
    let environment = play.environments.get_mut(&1).unwrap();
    environment.handlers = vec![own("again", Event::BeforeItIsAdded, "web", 0)];
    let same = json!({ "commands": [{ "verb": "add", "name": "two", "role": "web", "pool": {} }] });
    play.answers.insert("again".to_owned(), same);
    let tree = play.add("one", "web");
    let root = play.queue.all().next().unwrap();
    assert_eq!(root.state, State::Failed, "{tree}");
    assert!(
        root.why().contains("there is a member two already"),
        "{}",
        root.why()
    );
    assert!(play.environment().members.is_empty());
    // Removing and adding the same for ever meets the limit of the depth.
    let loops = json!({ "commands": [{ "verb": "start" }] });
    play.environments.get_mut(&1).unwrap().handlers = Vec::new();
    play.add("one", "web");
    play.environments.get_mut(&1).unwrap().handlers =
        vec![own("loop", Event::AfterStart, "web", 0)];
    play.answers.insert("loop".to_owned(), loops);
    let tree = play.all("start");
    let root = play
        .queue
        .all()
        .rev()
        .find(|one| one.about == "start shop" && one.parent.is_none())
        .unwrap();
    assert_eq!(root.state, State::Failed, "{tree}");
    assert!(root.why().contains("deep"), "{}", root.why());
}

#[test]
fn answers_of_handlers_are_checked() {
    let environment = Environment::new(1, 1, "shop", Duration::ZERO);
    for (answer, words) in [
        (json!([]), "no JSON object"),
        (json!({ "vote": 1 }), "\"vote\""),
        (json!({ "veto": 1 }), "veto: give the reason"),
        (json!({ "commands": {} }), "commands: give a list"),
        (
            json!({ "commands": [{ "verb": "explode" }] }),
            "commands[0]: verb: \"explode\"",
        ),
        (
            json!({ "commands": [{ "verb": "remove", "member": "x" }] }),
            "there is no member x",
        ),
        (
            json!({ "commands": [{ "verb": "add", "name": "x", "role": "web" }] }),
            "give the settings of a pool",
        ),
    ] {
        let error = answer::read(&environment, &answer).unwrap_err();
        assert!(error.contains(words), "{answer}: {error}");
    }
    let pool = Map::from_iter([
        ("name".to_owned(), json!("x")),
        ("role".to_owned(), json!("db")),
        ("pool".to_owned(), json!({})),
    ]);
    let new = answer::new_member(&pool).unwrap();
    assert_eq!((new.priority, new.kind), (10, MemberKind::Pool));
}

/// The story comes to the same end, with the same trees, wherever the process is killed.
#[test]
fn a_crash_at_any_step_leads_to_the_same_environment() {
    let story = |crash_at: Option<usize>| {
        let mut play = Play::new();
        play.crash_at = crash_at;
        let mut trees = vec![
            play.add("web-1", "web"),
            play.add("web-2", "web"),
            play.add("web-3", "web"),
            play.about("balancer", "is-down"),
            play.about("balancer", "collect"),
            play.all("suspend"),
            play.all("resume"),
            play.about("web-1", "remove"),
            play.all("stop"),
            play.all("start"),
        ];
        let mut environment = play.environment().clone();
        for member in &mut environment.members {
            member.since = Duration::ZERO;
        }
        trees.push(play.all("destroy"));
        assert!(play.environments.is_empty());
        (trees, environment.members, play.steps)
    };
    let (trees, members, steps) = story(None);
    assert!(steps > 80, "{steps}");
    for crash in 1..=steps {
        let (again, same, _) = story(Some(crash));
        assert_eq!(again, trees, "killed before step {crash}");
        assert_eq!(same, members, "killed before step {crash}");
    }
}
