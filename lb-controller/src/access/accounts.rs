//! The users and tokens that there are, purely: orders are checked against them, and what a caller shows is compared with them.

use std::{collections::BTreeMap, time::Duration};

use lb_model::settings::FieldError;
use lb_serve::auth::{Token, digest};

use super::{
    Caller, Grant, Role, Who,
    record::{TokenRecord, UserRecord},
};

/// The longest name of a user, in bytes.
const MAX_NAME: usize = 64;
/// The longest password, in bytes.
const MAX_PASSWORD: usize = 256;
/// The shortest password.
const MIN_PASSWORD: usize = 8;
/// The longest description of a token.
const MAX_DESCRIPTION: usize = 200;
/// Users and tokens at most, each.
const MOST: usize = 10_000;
/// Roles of a user at most.
const MAX_GRANTS: usize = 1_000;

/// Why an order about users or tokens is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// There is no such user.
    #[error("there is no user {0}; `lbctl user list` shows them")]
    NoUser(String),
    /// There is no such token.
    #[error("there is no token {0}; `lbctl token list` shows them")]
    NoToken(String),
    /// There is a user of this name.
    #[error("there is a user {0} already; remove it first, or give another name")]
    Exists(String),
    /// A value is wrong.
    #[error("{0}")]
    Invalid(FieldError),
    /// There are too many.
    #[error("there are {MOST} {0}, which is the most; remove some")]
    TooMany(&'static str),
}

fn invalid(field: &str, value: &str, advice: String) -> AccountError {
    AccountError::Invalid(FieldError::new(field, format!("{value:?}"), advice))
}

/// Checks the name of a user.
///
/// # Errors
/// What would be right.
pub fn check_name(name: &str) -> Result<(), AccountError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._@+-".contains(&byte);
    if (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_plain) {
        return Ok(());
    }
    let advice = format!("give 1 to {MAX_NAME} of A-Z, a-z, 0-9, ., _, @, + and -");
    Err(invalid("name", name, advice))
}

/// Checks a password.
///
/// # Errors
/// What would be right. The password is not in the text.
pub fn check_password(password: &str) -> Result<(), AccountError> {
    let is_plain = !password.contains(char::is_control);
    if (MIN_PASSWORD..=MAX_PASSWORD).contains(&password.len()) && is_plain {
        return Ok(());
    }
    let advice = format!(
        "give {MIN_PASSWORD} to {MAX_PASSWORD} bytes on one line, without control characters"
    );
    Err(AccountError::Invalid(FieldError::new(
        "password", "hidden", advice,
    )))
}

/// Users and tokens.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    users: BTreeMap<String, UserRecord>,
    tokens: BTreeMap<String, TokenRecord>,
}

impl Accounts {
    /// Those that were stored.
    #[must_use]
    pub fn restored(users: Vec<UserRecord>, tokens: Vec<TokenRecord>) -> Self {
        let users = users.into_iter().map(|one| (one.name.clone(), one));
        let tokens = tokens.into_iter().map(|one| (one.id.clone(), one));
        Accounts {
            users: users.collect(),
            tokens: tokens.collect(),
        }
    }

    /// The users, by name.
    pub fn users(&self) -> impl Iterator<Item = &UserRecord> {
        self.users.values()
    }

    /// The tokens, by id.
    pub fn tokens(&self) -> impl Iterator<Item = &TokenRecord> {
        self.tokens.values()
    }

    /// A user.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn user(&self, name: &str) -> Result<&UserRecord, AccountError> {
        let found = self.users.get(name);
        found.ok_or_else(|| AccountError::NoUser(name.to_owned()))
    }

    /// A token.
    ///
    /// # Errors
    /// There is none of this id.
    pub fn token(&self, id: &str) -> Result<&TokenRecord, AccountError> {
        let found = self.tokens.get(id);
        found.ok_or_else(|| AccountError::NoToken(id.to_owned()))
    }

    /// A new user without a password.
    ///
    /// # Errors
    /// It cannot be.
    pub fn new_user(
        &self,
        name: &str,
        grants: Vec<Grant>,
        now: Duration,
    ) -> Result<UserRecord, AccountError> {
        check_name(name)?;
        if self.users.contains_key(name) {
            return Err(AccountError::Exists(name.to_owned()));
        }
        if self.users.len() >= MOST {
            return Err(AccountError::TooMany("users"));
        }
        if grants.is_empty() || grants.len() > MAX_GRANTS {
            let advice =
                format!("give 1 to {MAX_GRANTS} roles: read, operate or admin, or PROJECT:ROLE");
            return Err(AccountError::Invalid(FieldError::missing("roles", &advice)));
        }
        Ok(UserRecord {
            name: name.to_owned(),
            created: now,
            grants,
            secrets: BTreeMap::new(),
        })
    }

    /// A record of a new token.
    ///
    /// # Errors
    /// It cannot be.
    pub fn new_token(
        &self,
        token: &Token,
        grant: Grant,
        description: &str,
        now: Duration,
        life: Option<Duration>,
    ) -> Result<TokenRecord, AccountError> {
        if self.tokens.len() >= MOST {
            return Err(AccountError::TooMany("tokens"));
        }
        if description.len() > MAX_DESCRIPTION || description.contains(char::is_control) {
            let advice = format!("give one line of at most {MAX_DESCRIPTION} bytes");
            return Err(invalid("description", description, advice));
        }
        Ok(TokenRecord {
            id: token.id().to_owned(),
            description: description.to_owned(),
            project: grant.project,
            role: grant.role,
            created: now,
            expires: life.map(|life| now.saturating_add(life)),
            hash: token.hash(),
        })
    }

    /// Takes a user up, or lets it go.
    pub fn set_user(&mut self, name: &str, record: Option<UserRecord>) {
        match record {
            Some(record) => self.users.insert(name.to_owned(), record),
            None => self.users.remove(name),
        };
    }

    /// Takes a token up, or lets it go.
    pub fn set_token(&mut self, id: &str, record: Option<TokenRecord>) {
        match record {
            Some(record) => self.tokens.insert(id.to_owned(), record),
            None => self.tokens.remove(id),
        };
    }

    /// Tokens that have ended, or whose project is gone.
    pub fn useless<'a>(
        &'a self,
        exists: impl Fn(u64) -> bool + 'a,
        now: Duration,
    ) -> impl Iterator<Item = &'a TokenRecord> {
        self.tokens.values().filter(move |one| {
            one.expires.is_some_and(|end| end <= now) || one.project.is_some_and(|id| !exists(id))
        })
    }

    /// The owner of a token, if it is one of these.
    #[must_use]
    pub fn by_token(&self, token: &Token, now: Duration) -> Option<Caller> {
        let record = self.tokens.get(token.id())?;
        if !token.has(&record.hash) || record.expires.is_some_and(|end| end <= now) {
            return None;
        }
        Some(Caller {
            who: Who::Token(record.id.clone()),
            grants: vec![Grant {
                project: record.project,
                role: record.role,
            }],
        })
    }

    /// The user that has answered a challenge, if the answer is right. The nonce is not looked at.
    #[must_use]
    pub fn by_digest(&self, answer: &digest::Answer, method: &str) -> Option<Caller> {
        let record = self.users.get(&answer.username);
        let secret = record.and_then(|record| record.secrets.get(answer.algorithm.name()));
        // Computed for an unknown user as well, so that the time does not tell who exists.
        let is_proved = answer.proves(secret.map_or("", String::as_str), method);
        let record = record.filter(|_| is_proved && secret.is_some())?;
        Some(Caller {
            who: Who::User(record.name.clone()),
            grants: record.grants.clone(),
        })
    }

    /// The user that has one of these names of a certificate.
    #[must_use]
    pub fn by_certificate(&self, names: &[String]) -> Option<Caller> {
        let record = names.iter().find_map(|name| self.users.get(name))?;
        Some(Caller {
            who: Who::Certificate(record.name.clone()),
            grants: record.grants.clone(),
        })
    }
}

/// Reads a role: `read`, or `PROJECT:read`, whose project `find` knows.
///
/// # Errors
/// What would be right.
pub fn read_grant(
    text: &str,
    find: impl FnOnce(&str) -> Option<u64>,
) -> Result<Grant, AccountError> {
    let (project, role) = match text.rsplit_once(':') {
        Some((project, role)) => (Some(project), role),
        None => (None, text),
    };
    let role: Role = role
        .parse()
        .map_err(|advice: String| invalid("role", role, advice))?;
    let Some(project) = project else {
        return Ok(Grant::everywhere(role));
    };
    match find(project) {
        Some(id) => Ok(Grant {
            project: Some(id),
            role,
        }),
        None => Err(invalid(
            "role",
            text,
            format!("there is no project {project}; `lbctl project list` shows them"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use lb_serve::auth::{Credentials, credentials, digest::Algorithm};

    use super::*;

    const NOW: Duration = Duration::from_secs(1_000);
    const REALM: &str = "r";

    #[test]
    fn a_token_counts_until_it_ends_or_is_removed() {
        let mut accounts = Accounts::default();
        let token = Token::new();
        let grant = Grant {
            project: Some(3),
            role: Role::Operate,
        };
        let life = Some(Duration::from_secs(10));
        let record = accounts.new_token(&token, grant, "ci", NOW, life).unwrap();
        assert!(accounts.by_token(&token, NOW).is_none(), "not taken up");
        accounts.set_token(token.id(), Some(record));
        let caller = accounts.by_token(&token, NOW).unwrap();
        assert_eq!(caller.grants, [grant]);
        assert!(accounts.by_token(&Token::new(), NOW).is_none());
        let late = NOW + Duration::from_secs(10);
        assert!(accounts.by_token(&token, late).is_none());
        let useless = |exists: bool, now| accounts.useless(move |_| exists, now).count();
        assert_eq!(
            [useless(true, NOW), useless(false, NOW), useless(true, late)],
            [0, 1, 1]
        );
        accounts.set_token(token.id(), None);
        assert!(accounts.by_token(&token, NOW).is_none());
    }

    fn answer(user: &str, algorithm: Algorithm) -> digest::Answer {
        let digits = if algorithm == Algorithm::Md5 { 32 } else { 64 };
        let field = format!(
            "Digest username=\"{user}\", realm=\"{REALM}\", nonce=\"n\", uri=\"/\", algorithm={algorithm}, \
             nc=00000001, cnonce=\"c\", qop=auth, response=\"{}\"",
            "0".repeat(digits)
        );
        match credentials(field.as_bytes()) {
            Ok(Credentials::Digest(answer)) => *answer,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_wrong_proof_and_an_unknown_user_are_the_same() {
        let mut accounts = Accounts::default();
        let grants = vec![Grant::everywhere(Role::Admin)];
        let mut alice = accounts.new_user("alice", grants.clone(), NOW).unwrap();
        alice.set_password(REALM, "correct horse", &[Algorithm::Sha256]);
        let bob = accounts.new_user("bob", grants, NOW).unwrap();
        accounts.set_user("alice", Some(alice));
        accounts.set_user("bob", Some(bob));
        for user in ["alice", "bob", "nobody"] {
            for algorithm in [Algorithm::Sha256, Algorithm::Md5] {
                let wrong = digest::secret(algorithm, user, REALM, "wrong horse");
                // Who is unknown, or has no password, has not an empty one.
                for secret in [wrong.as_str(), ""] {
                    let answer = answer(user, algorithm).proved(secret, "GET");
                    assert!(accounts.by_digest(&answer, "GET").is_none(), "{user}");
                }
            }
        }
        let right = digest::secret(Algorithm::Sha256, "alice", REALM, "correct horse");
        let answer = answer("alice", Algorithm::Sha256).proved(&right, "GET");
        let caller = accounts.by_digest(&answer, "GET").unwrap();
        assert_eq!(caller.who, Who::User("alice".to_owned()));
        assert!(accounts.by_digest(&answer, "POST").is_none());
        let names = ["x".to_owned(), "bob".to_owned()];
        let caller = accounts.by_certificate(&names).unwrap();
        assert_eq!(caller.who, Who::Certificate("bob".to_owned()));
        assert!(accounts.by_certificate(&["eve".to_owned()]).is_none());
        assert!(accounts.by_certificate(&[]).is_none());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let mut accounts = Accounts::default();
        let grants = || vec![Grant::everywhere(Role::Read)];
        for name in ["", "a b", "a:b", "a\"b", "\u{e4}", &"a".repeat(65)] {
            let refused = accounts.new_user(name, grants(), NOW);
            assert!(matches!(refused, Err(AccountError::Invalid(_))), "{name}");
        }
        accounts.new_user("alice", vec![], NOW).unwrap_err();
        let alice = accounts.new_user("alice", grants(), NOW).unwrap();
        accounts.set_user("alice", Some(alice));
        assert_eq!(
            accounts.new_user("alice", grants(), NOW),
            Err(AccountError::Exists("alice".to_owned()))
        );
        for password in ["", "short", "with\nline ends", &"x".repeat(257)] {
            let error = check_password(password).unwrap_err().to_string();
            assert!(password.is_empty() || !error.contains(password), "{error}");
        }
        check_password("correct horse").unwrap();
        let token = |text: &str| accounts.new_token(&Token::new(), grants()[0], text, NOW, None);
        token("with\nline ends").unwrap_err();
        token("for the pipeline").unwrap();
    }

    #[test]
    fn roles_are_read() {
        let find = |name: &str| (name == "shop").then_some(7);
        assert_eq!(
            read_grant("admin", find),
            Ok(Grant::everywhere(Role::Admin))
        );
        let of_shop = Grant {
            project: Some(7),
            role: Role::Operate,
        };
        assert_eq!(read_grant("shop:operate", find), Ok(of_shop));
        for wrong in ["", "root", "shop:", "shop:root", "none:read", ":read"] {
            assert!(read_grant(wrong, find).is_err(), "{wrong}");
        }
    }
}
