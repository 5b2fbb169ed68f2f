//! Callers and their roles.

use std::fmt;

use serde::{Deserialize, Serialize};

lb_model::choice! {
    /// What a caller may do. Each role includes those before it.
    pub enum Role = Read {
        /// See everything.
        Read = "read",
        /// Change load balancers, pools and what belongs to them.
        Operate = "operate",
        /// Decide who may do what, and create and delete projects.
        Admin = "admin",
    }
}

/// A role in a project, or in the whole controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Grant {
    /// Id of the project; `None` is the whole controller, with all projects.
    pub project: Option<u64>,
    /// The role.
    pub role: Role,
}

impl Grant {
    /// A role in the whole controller.
    #[must_use]
    pub const fn everywhere(role: Role) -> Self {
        Grant {
            project: None,
            role,
        }
    }
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Somebody who did not say.
    Anonymous,
    /// A user of this machine, by a Unix socket.
    Local(u32),
    /// A user, by password.
    User(String),
    /// A user, by the certificate of a client.
    Certificate(String),
    /// The owner of a token: its id.
    Token(String),
    /// A node of a load balancer that reads the pool of this name at a socket of its own.
    Node(String),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Anonymous => f.write_str("anonymous"),
            Who::Local(user) => write!(f, "local:{user}"),
            Who::User(name) => write!(f, "user:{name}"),
            Who::Certificate(name) => write!(f, "certificate:{name}"),
            Who::Token(id) => write!(f, "token:{id}"),
            Who::Node(pool) => write!(f, "node:{pool}"),
        }
    }
}

/// A caller, and what it may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Who it is.
    pub who: Who,
    /// Its roles.
    pub grants: Vec<Grant>,
}

impl Caller {
    /// Somebody who did not say who it is, with this role.
    #[must_use]
    pub fn anonymous(role: Option<Role>) -> Self {
        Caller {
            who: Who::Anonymous,
            grants: role.map(Grant::everywhere).into_iter().collect(),
        }
    }

    /// The role in a project, or in the whole controller.
    #[must_use]
    pub fn role(&self, project: Option<u64>) -> Option<Role> {
        let counts = |grant: &&Grant| grant.project.is_none() || grant.project == project;
        let grants = self.grants.iter().filter(counts);
        grants.map(|grant| grant.role).max()
    }

    /// Whether it has this role in a project.
    #[must_use]
    pub fn has(&self, role: Role, project: u64) -> bool {
        self.role(Some(project)) >= Some(role)
    }

    /// Whether it may know that a project exists.
    #[must_use]
    pub fn sees(&self, project: u64) -> bool {
        self.has(Role::Read, project)
    }

    /// Its best role anywhere.
    #[must_use]
    pub fn best(&self) -> Option<Role> {
        self.grants.iter().map(|grant| grant.role).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_include_those_before_them_and_the_controllers_count_everywhere() {
        assert!(Role::Read < Role::Operate && Role::Operate < Role::Admin);
        let of = |project, role| Grant { project, role };
        let caller = Caller {
            who: Who::User("a".to_owned()),
            grants: vec![of(Some(1), Role::Admin), of(Some(2), Role::Read)],
        };
        assert_eq!(caller.role(None), None);
        assert_eq!(caller.role(Some(1)), Some(Role::Admin));
        assert!(caller.has(Role::Operate, 1) && !caller.has(Role::Operate, 2));
        assert!(caller.sees(2) && !caller.sees(3));
        assert_eq!(caller.best(), Some(Role::Admin));
        let everywhere = Caller::anonymous(Some(Role::Read));
        assert!(everywhere.sees(7) && !everywhere.has(Role::Operate, 7));
        assert_eq!(everywhere.role(None), Some(Role::Read));
        assert_eq!(Caller::anonymous(None).best(), None);
    }
}
