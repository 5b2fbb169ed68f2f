//! What is seen of environments.

use lb_commands::{
    command::CommandId,
    environment::{Environment, Member, MemberKind, Power, Standing, verbs},
};
use lb_model::environment::pool_of_member;

use super::{Environments, execute::balancer_of};
use crate::projects::{Condition, SERVING};

/// That all members serve that are to.
const COMPLETE: &str = "complete";

/// A member.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberView {
    /// The record.
    pub member: Member,
    /// The name of its pool, or of its load balancer.
    pub object: String,
    /// Its instances, or nodes, that serve, and how many there are.
    pub serving: (usize, usize),
    /// What it does, in words.
    pub state: String,
    /// Where clients reach it, if it is a load balancer that serves.
    pub url: Option<String>,
    /// Names of the members that are bound to it.
    pub bound: Vec<String>,
}

/// An environment.
#[derive(Clone, Debug, PartialEq)]
pub struct EnvironmentView {
    /// The record.
    pub environment: Environment,
    /// The name of its project.
    pub project: String,
    /// Its members, in the order in which they were added.
    pub members: Vec<MemberView>,
    /// Orders about it that have not ended.
    pub under_way: Vec<CommandId>,
    /// Conditions.
    pub conditions: Vec<Condition>,
}

impl EnvironmentView {
    /// What it does, in a word: running, suspended, stopped, changing or destroying.
    #[must_use]
    pub fn state(&self) -> &'static str {
        if self.environment.is_deleted {
            "destroying"
        } else if self.under_way.is_empty() {
            self.environment.power.name()
        } else {
            "changing"
        }
    }

    /// Where clients reach it: the first of its load balancers that serves.
    #[must_use]
    pub fn url(&self) -> Option<&str> {
        self.members.iter().find_map(|one| one.url.as_deref())
    }
}

impl Environments {
    pub(super) fn view(&self, environment: Environment, project: &str) -> EnvironmentView {
        let members: Vec<MemberView> = environment
            .members
            .iter()
            .map(|member| self.member_view(&environment, member))
            .collect();
        let object = verbs::object(environment.id);
        let under_way = self.commands.read(|state| state.queue.open_at(&object));
        let conditions = conditions(&environment, &members, &under_way);
        EnvironmentView {
            environment,
            project: project.to_owned(),
            members,
            under_way,
            conditions,
        }
    }

    fn member_view(&self, environment: &Environment, member: &Member) -> MemberView {
        let bound = member.bound.iter().filter_map(|id| environment.member(*id));
        let bound = bound.map(|one| one.name.clone()).collect();
        let mut view = MemberView {
            member: member.clone(),
            object: String::new(),
            serving: (0, 0),
            state: "there is none yet".to_owned(),
            url: None,
            bound,
        };
        match member.kind {
            MemberKind::Pool => {
                let pool = pool_of_member(environment.id, member.id);
                view.object = pool.to_string();
                for pool in self.controller.views(Some(&pool)).unwrap_or_default() {
                    let instances = &pool.instances;
                    let serving = pool.serving().count();
                    view.serving = (serving, instances.len());
                    view.state = match pool.power {
                        Power::Running => {
                            format!("{serving} of {} instances serve", instances.len())
                        }
                        power => power.name().to_owned(),
                    };
                }
            }
            MemberKind::Balancer => {
                if let Some(balancer) = balancer_of(&self.projects, environment, member) {
                    let nodes = &balancer.seen.nodes;
                    let serving = nodes.iter().filter(|node| node.is_serving).count();
                    view.object = balancer.record.name.to_string();
                    view.serving = (serving, nodes.len());
                    view.state = balancer.state().to_owned();
                    view.url = balancer.url.filter(|_| serving > 0);
                }
            }
        }
        if member.standing != Standing::Member {
            view.state = format!("{}: {}", member.standing.name(), view.state);
        }
        view
    }
}

fn conditions(
    environment: &Environment,
    members: &[MemberView],
    under_way: &[CommandId],
) -> Vec<Condition> {
    let legal = || members.iter().filter(|one| one.member.is_legal());
    // Nothing is remembered of an environment but its record.
    let since = members.iter().map(|one| one.member.since).max();
    let since = since.unwrap_or(environment.created);
    let silent = legal().find(|one| one.serving.0 == 0);
    let serving = match (environment.power, silent) {
        (Power::Running, None) => (true, format!("all {} members serve", legal().count())),
        (Power::Running, Some(one)) => (false, format!("{}: {}", one.member.name, one.state)),
        (power, _) => (false, format!("it is {power}")),
    };
    let complete = match (under_way, members.iter().find(|one| !one.member.is_legal())) {
        ([], None) => (true, "nothing is under way".to_owned()),
        ([], Some(one)) => (
            false,
            format!("{} is {}", one.member.name, one.member.standing.name()),
        ),
        (commands, _) => {
            let commands: Vec<String> = commands.iter().map(ToString::to_string).collect();
            (
                false,
                format!("commands are under way: {}", commands.join(", ")),
            )
        }
    };
    [(SERVING, serving), (COMPLETE, complete)]
        .into_iter()
        .map(|(kind, (is_true, why))| Condition {
            kind,
            is_true,
            since,
            why,
        })
        .collect()
}
