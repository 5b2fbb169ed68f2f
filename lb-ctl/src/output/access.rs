//! Users, tokens and the audit log.

use lb_proto::controller::v1;
use serde::Serialize;

use super::{
    Human,
    table::{Column, layout},
};

/// A user.
#[derive(Debug, Serialize)]
pub struct User {
    name: String,
    roles: Vec<String>,
    password: bool,
    created: Option<String>,
}

impl From<&v1::User> for User {
    fn from(user: &v1::User) -> Self {
        User {
            name: user.name.clone(),
            roles: user.roles.clone(),
            password: user.password,
            created: user.created.map(|time| time.to_string()),
        }
    }
}

impl Human for User {
    fn human(&self) -> String {
        let proof = if self.password {
            "by password, or by a certificate of this name"
        } else {
            "by a certificate of this name"
        };
        format!("{}: {}, {proof}\n", self.name, self.roles.join(", "))
    }
}

/// Users.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Users(pub Vec<User>);

impl Human for Users {
    fn human(&self) -> String {
        const COLUMNS: [Column; 4] = [
            ("USER", false),
            ("ROLES", false),
            ("PASSWORD", false),
            ("CREATED", false),
        ];
        if self.0.is_empty() {
            return "there are no users; `lbctl user add` adds one\n".to_owned();
        }
        let rows = self.0.iter().map(|user| {
            let password = if user.password { "yes" } else { "no" };
            vec![
                user.name.clone(),
                user.roles.join(", "),
                password.to_owned(),
                user.created.clone().unwrap_or_default(),
            ]
        });
        layout(&COLUMNS, rows)
    }
}

/// A token.
#[derive(Debug, Serialize)]
pub struct Token {
    id: String,
    project: String,
    role: String,
    description: String,
    created: Option<String>,
    expires: Option<String>,
}

impl From<&v1::Token> for Token {
    fn from(token: &v1::Token) -> Self {
        Token {
            id: token.id.clone(),
            project: token.project.clone(),
            role: token.role.clone(),
            description: token.description.clone(),
            created: token.created.map(|time| time.to_string()),
            expires: token.expires.map(|time| time.to_string()),
        }
    }
}

/// Tokens.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Tokens(pub Vec<Token>);

impl Human for Tokens {
    fn human(&self) -> String {
        const COLUMNS: [Column; 5] = [
            ("TOKEN", false),
            ("PROJECT", false),
            ("ROLE", false),
            ("EXPIRES", false),
            ("DESCRIPTION", false),
        ];
        if self.0.is_empty() {
            return "there are no tokens; `lbctl token add` makes one\n".to_owned();
        }
        let or = |text: &str, other: &str| if text.is_empty() { other } else { text }.to_owned();
        let rows = self.0.iter().map(|token| {
            vec![
                token.id.clone(),
                or(&token.project, "(all)"),
                token.role.clone(),
                or(token.expires.as_deref().unwrap_or_default(), "never"),
                token.description.clone(),
            ]
        });
        layout(&COLUMNS, rows)
    }
}

/// A token that was made, with its text.
#[derive(Debug, Serialize)]
pub struct NewToken {
    #[serde(flatten)]
    token: Token,
    text: String,
}

impl NewToken {
    /// What the controller answers.
    #[must_use]
    pub fn new(answer: &v1::AddTokenResponse) -> Self {
        let token = answer.token.clone().unwrap_or_default();
        NewToken {
            token: Token::from(&token),
            text: answer.text.clone(),
        }
    }
}

impl Human for NewToken {
    /// The text alone, for scripts; what is to be known of it goes to standard error.
    fn human(&self) -> String {
        format!("{}\n", self.text)
    }
}

/// A line of the audit log.
#[derive(Debug, Serialize)]
pub struct Entry {
    time: Option<String>,
    who: String,
    from: String,
    via: String,
    verb: String,
    project: u64,
    object: String,
    outcome: String,
    status: String,
    before: Option<u64>,
    after: Option<u64>,
    request: String,
}

impl From<&v1::AuditEntry> for Entry {
    fn from(entry: &v1::AuditEntry) -> Self {
        Entry {
            time: entry.time.map(|time| time.to_string()),
            who: entry.who.clone(),
            from: entry.from.clone(),
            via: entry.via.clone(),
            verb: entry.verb.clone(),
            project: entry.project,
            object: entry.object.clone(),
            outcome: entry.outcome.clone(),
            status: entry.status.clone(),
            before: entry.before,
            after: entry.after,
            request: entry.request.clone(),
        }
    }
}

/// The audit log, the oldest first.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Entries(pub Vec<Entry>);

impl Human for Entries {
    fn human(&self) -> String {
        const COLUMNS: [Column; 7] = [
            ("TIME", false),
            ("WHO", false),
            ("FROM", false),
            ("VERB", false),
            ("OBJECT", false),
            ("OUTCOME", false),
            ("GENERATION", false),
        ];
        if self.0.is_empty() {
            return "nothing was changed\n".to_owned();
        }
        let rows = self.0.iter().map(|entry| {
            let generation = match (entry.before, entry.after) {
                (Some(before), Some(after)) if before != after => format!("{before} -> {after}"),
                (_, Some(after)) => after.to_string(),
                (Some(before), None) => format!("{before} -> gone"),
                (None, None) => String::new(),
            };
            vec![
                entry.time.clone().unwrap_or_default(),
                entry.who.clone(),
                entry.from.clone(),
                entry.verb.clone(),
                entry.object.clone(),
                entry.outcome.clone(),
                generation,
            ]
        });
        layout(&COLUMNS, rows)
    }
}
