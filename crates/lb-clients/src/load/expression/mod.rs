//! Expressions over what a Prometheus exporter says.
//!
//! ```text
//! expression = term { ("+" | "-") term }
//! term       = factor { ("*" | "/") factor }
//! factor     = number | "-" factor | "(" expression ")" | vector | fold "(" vector ")"
//! vector     = selector | "rate" "(" selector ")"
//! fold       = "sum" | "min" | "max" | "avg" | "count"
//! selector   = name [ "{" [ matcher { "," matcher } [ "," ] ] "}" ]
//! matcher    = label ("=" | "!=" | "=~" | "!~") text
//! text       = '"' characters '"' | "'" characters "'"
//! ```
//! `rate` is the growth per second between the reader's own last two samples; a counter that fell gives no
//! value. A vector that stands alone must be one series. `=~` takes alternatives separated by `|`, in which
//! `.*` is anything; no other pattern is known.

mod evaluate;
mod parse;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

pub use evaluate::{History, NoValue, Sampled};

/// The longest expression, in bytes.
pub const MAX_LENGTH: usize = 1_024;
/// How deep parentheses and signs nest.
pub const MAX_DEPTH: usize = 32;

/// An expression with its text.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    text: String,
    root: Node,
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Number(f64),
    Negative(Box<Node>),
    Binary(Operator, Box<Node>, Box<Node>),
    Vector(Fold, Vector),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Plus,
    Minus,
    Times,
    Over,
}

/// How series become a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fold {
    /// There is to be one.
    Only,
    Sum,
    Min,
    Max,
    Average,
    Count,
}

#[derive(Clone, Debug, PartialEq)]
struct Vector {
    name: String,
    matchers: Vec<Matcher>,
    rate: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct Matcher {
    label: String,
    /// Each a list of texts with anything between them.
    alternatives: Vec<Vec<String>>,
    negated: bool,
}

impl Expression {
    /// Whether it needs this metric.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        fn wants(node: &Node, name: &str) -> bool {
            match node {
                Node::Number(_) => false,
                Node::Negative(inner) => wants(inner, name),
                Node::Binary(_, left, right) => wants(left, name) || wants(right, name),
                Node::Vector(_, vector) => vector.name == name,
            }
        }
        wants(&self.root, name)
    }
}

/// What is wrong with an expression, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {reason}")]
pub struct SyntaxError {
    /// In characters, from 1.
    pub column: usize,
    /// What was expected there.
    pub reason: String,
}

impl FromStr for Expression {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        Ok(Expression {
            text: text.to_owned(),
            root: parse::parse(text)?,
        })
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Expression {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Expression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map_err(|error| D::Error::custom(format!("{text:?}: {error}")))
    }
}
