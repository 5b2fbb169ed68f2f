//! The one check: whether a caller may do what it asks for. Pure.

use super::{
    Caller, Role,
    verbs::{On, Verb},
};

/// The project that a call names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// None.
    Nothing,
    /// One that does not exist.
    Unknown,
    /// The one with this id.
    Project(u64),
}

/// Why a caller may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It has to say who it is.
    Unauthenticated,
    /// It lacks a role.
    Forbidden {
        /// The role.
        needs: Role,
        /// Whether in the whole controller, or in the project that was named.
        everywhere: bool,
    },
    /// It must not know that what it names exists: it is told that it does not.
    Hidden,
}

impl std::fmt::Display for Denied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Denied::Unauthenticated => f.write_str(
                "this needs a role: say who you are, by a token, a password or a certificate; docs/access.md has how",
            ),
            Denied::Forbidden { needs, everywhere } => {
                let place = if *everywhere {
                    "for the whole controller"
                } else {
                    "in the project"
                };
                write!(f, "this needs the role {needs} {place}")
            }
            Denied::Hidden => f.write_str("hidden: it is foreign, or does not exist"),
        }
    }
}

/// Decides it.
///
/// # Errors
/// [`Denied`].
pub fn decide(caller: &Caller, verb: &Verb, named: Named) -> Result<(), Denied> {
    if verb.on == On::Open {
        return Ok(());
    }
    // Who has no role at all learns nothing, not even what exists.
    let Some(best) = caller.best() else {
        return Err(match caller.who {
            super::Who::Anonymous => Denied::Unauthenticated,
            _ => Denied::Forbidden {
                needs: verb.role,
                everywhere: true,
            },
        });
    };
    let lacks = |everywhere| match caller.who {
        super::Who::Anonymous => Denied::Unauthenticated,
        _ => Denied::Forbidden {
            needs: verb.role,
            everywhere,
        },
    };
    match named {
        Named::Unknown => {
            // Who may do it with every project is told by the verb itself that there is no such one.
            return match caller.role(None) {
                Some(role) if role >= verb.role => Ok(()),
                Some(_) => Err(lacks(true)),
                None => Err(Denied::Hidden),
            };
        }
        Named::Project(id) if !caller.sees(id) => return Err(Denied::Hidden),
        _ => {}
    }
    let (role, everywhere) = match (verb.on, named) {
        (On::Anywhere, _) | (On::Projects, Named::Nothing) => (Some(best), false),
        (On::Project | On::Projects, Named::Project(id)) => (caller.role(Some(id)), false),
        _ => (caller.role(None), true),
    };
    if role >= Some(verb.role) {
        Ok(())
    } else {
        Err(lacks(everywhere))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Grant, Who, verbs};

    const OWN: Named = Named::Project(1);
    const FOREIGN: Named = Named::Project(2);

    fn token(role: Role) -> Caller {
        Caller {
            who: Who::Token("t".to_owned()),
            grants: vec![Grant {
                project: Some(1),
                role,
            }],
        }
    }

    fn check(caller: &Caller, verb: &str, named: Named) -> Result<(), Denied> {
        decide(caller, verbs::named(verb).unwrap(), named)
    }

    #[test]
    fn a_token_of_a_project_does_there_what_its_role_allows() {
        let needs = |needs| {
            Err(Denied::Forbidden {
                needs,
                everywhere: false,
            })
        };
        assert_eq!(check(&token(Role::Read), "balancer.read", OWN), Ok(()));
        assert_eq!(
            check(&token(Role::Read), "balancer.update", OWN),
            needs(Role::Operate)
        );
        assert_eq!(check(&token(Role::Operate), "balancer.update", OWN), Ok(()));
        assert_eq!(
            check(&token(Role::Operate), "token.add", OWN),
            needs(Role::Admin)
        );
        assert_eq!(check(&token(Role::Admin), "token.add", OWN), Ok(()));
    }

    #[test]
    fn what_is_foreign_is_as_what_does_not_exist() {
        for role in Role::ALL {
            for verb in verbs::VERBS {
                if verb.on == On::Open {
                    continue;
                }
                let caller = token(*role);
                let foreign = decide(&caller, verb, FOREIGN);
                assert_eq!(foreign, Err(Denied::Hidden), "{}", verb.name);
                assert_eq!(decide(&caller, verb, Named::Unknown), foreign);
            }
        }
    }

    #[test]
    fn the_controller_is_not_a_projects() {
        let everywhere = |needs| {
            Err(Denied::Forbidden {
                needs,
                everywhere: true,
            })
        };
        let admin = token(Role::Admin);
        for (verb, named) in [
            ("pool.read", Named::Nothing),
            ("metrics.read", Named::Nothing),
            ("token.add", Named::Nothing),
        ] {
            let needs = verbs::named(verb).unwrap().role;
            assert_eq!(check(&admin, verb, named), everywhere(needs), "{verb}");
        }
        assert_eq!(
            check(&admin, "project.update", OWN),
            everywhere(Role::Admin)
        );
        assert_eq!(check(&admin, "project.list", Named::Nothing), Ok(()));
    }

    #[test]
    fn who_did_not_say_who_it_is_is_asked() {
        let reader = Caller::anonymous(Some(Role::Read));
        let nobody = Caller::anonymous(None);
        for verb in verbs::VERBS {
            for named in [Named::Nothing, Named::Unknown, OWN] {
                let expected = match verb.on {
                    On::Open => Ok(()),
                    _ => Err(Denied::Unauthenticated),
                };
                assert_eq!(decide(&nobody, verb, named), expected, "{}", verb.name);
                let read = decide(&reader, verb, named);
                if verb.role > Role::Read {
                    assert_eq!(read, Err(Denied::Unauthenticated), "{}", verb.name);
                } else {
                    assert_eq!(read, Ok(()), "{}", verb.name);
                }
            }
        }
    }

    #[test]
    fn an_admin_of_the_controller_may_do_everything() {
        let admin = Caller::anonymous(Some(Role::Admin));
        for verb in verbs::VERBS {
            for named in [Named::Nothing, Named::Unknown, OWN, FOREIGN] {
                assert_eq!(decide(&admin, verb, named), Ok(()), "{}", verb.name);
            }
        }
    }
}
