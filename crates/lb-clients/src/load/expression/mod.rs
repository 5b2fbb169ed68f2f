//! Expressions over the series of a Prometheus exporter.
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
//! `rate` is the growth per second between the reader's last two scrapes; a counter that was reset has no rate. A
//! selector without a fold must match exactly one series. `=~` takes a regular expression that must match the whole
//! value, as in Prometheus.

mod evaluate;
mod parse;

use std::{fmt, str::FromStr};

use regex::Regex;

pub use evaluate::{History, NoValue, Scrape};

/// The longest expression, in bytes.
pub const MAX_LENGTH: usize = 1_024;
/// The deepest nesting of parentheses and signs.
pub const MAX_DEPTH: usize = 32;

/// A parsed expression with its text.
#[derive(Clone, Debug)]
pub struct Expression {
    text: String,
    root: Node,
}

#[derive(Clone, Debug)]
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

/// How the values of several series become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fold {
    /// Requires exactly one series.
    Single,
    Sum,
    Min,
    Max,
    Average,
    Count,
}

/// Selects series by name and labels.
#[derive(Clone, Debug)]
struct Vector {
    name: String,
    matchers: Vec<Matcher>,
    rate: bool,
}

/// A condition on the value of one label.
#[derive(Clone, Debug)]
struct Matcher {
    label: String,
    condition: Condition,
    negated: bool,
}

#[derive(Clone, Debug)]
enum Condition {
    Equals(String),
    /// Anchored at both ends.
    Matches(Regex),
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Expression {
    /// Returns true if the expression needs the metric with this name.
    #[must_use]
    pub fn uses(&self, name: &str) -> bool {
        fn uses(node: &Node, name: &str) -> bool {
            match node {
                Node::Number(_) => false,
                Node::Negative(inner) => uses(inner, name),
                Node::Binary(_, left, right) => uses(left, name) || uses(right, name),
                Node::Vector(_, vector) => vector.name == name,
            }
        }
        uses(&self.root, name)
    }
}

/// A syntax error with its position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {reason}")]
pub struct SyntaxError {
    /// Position in characters, counted from 1.
    pub column: usize,
    /// What the parser expects there.
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

lb_model::text_setting!(Expression, "expression");
