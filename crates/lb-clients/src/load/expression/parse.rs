//! Parses an expression by recursive descent.

use regex::RegexBuilder;

use super::{Condition, Fold, MAX_DEPTH, MAX_LENGTH, Matcher, Node, Operator, SyntaxError, Vector};

/// Bytes of a compiled pattern at most. Nested repetitions such as `(a{99}){99}` exceed it.
const MAX_PATTERN_SIZE: usize = 1 << 20;

pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let mut parser = Parser { text, position: 0 };
    if text.len() > MAX_LENGTH {
        return Err(parser.error(format!("longer than {MAX_LENGTH} bytes")));
    }
    let node = parser.expression(0)?;
    match parser.peek() {
        None => Ok(node),
        Some(')') => Err(parser.error("no parenthesis is open here")),
        Some(_) => Err(parser.error("expected an operator (+ - * /) or the end")),
    }
}

struct Parser<'a> {
    text: &'a str,
    /// In bytes.
    position: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.position..]
    }

    fn error(&self, reason: impl Into<String>) -> SyntaxError {
        SyntaxError {
            column: self.text[..self.position].chars().count() + 1,
            reason: reason.into(),
        }
    }

    /// Skips spaces, and returns the next character without consuming it.
    fn peek(&mut self) -> Option<char> {
        self.position = self.text.len() - self.rest().trim_start().len();
        self.rest().chars().next()
    }

    /// Consumes the next character if it is the expected one.
    fn accept(&mut self, expected: char) -> bool {
        let accepted = self.peek() == Some(expected);
        if accepted {
            self.position += expected.len_utf8();
        }
        accepted
    }

    fn expect(&mut self, expected: char) -> Result<(), SyntaxError> {
        if self.accept(expected) {
            Ok(())
        } else {
            Err(self.error(format!("expected `{expected}`")))
        }
    }

    /// Consumes letters, digits, `_` and the characters of `also`.
    fn word(&mut self, also: &str) -> &'a str {
        self.peek();
        let rest = self.rest();
        let length = rest
            .find(|character: char| {
                !character.is_ascii_alphanumeric() && character != '_' && !also.contains(character)
            })
            .unwrap_or(rest.len());
        self.position += length;
        &rest[..length]
    }

    fn expression(&mut self, depth: usize) -> Result<Node, SyntaxError> {
        let mut left = self.term(depth)?;
        loop {
            let operator = if self.accept('+') {
                Operator::Plus
            } else if self.accept('-') {
                Operator::Minus
            } else {
                return Ok(left);
            };
            left = Node::Binary(operator, left.into(), self.term(depth)?.into());
        }
    }

    fn term(&mut self, depth: usize) -> Result<Node, SyntaxError> {
        let mut left = self.factor(depth)?;
        loop {
            let operator = if self.accept('*') {
                Operator::Times
            } else if self.accept('/') {
                Operator::Over
            } else {
                return Ok(left);
            };
            left = Node::Binary(operator, left.into(), self.factor(depth)?.into());
        }
    }

    fn factor(&mut self, depth: usize) -> Result<Node, SyntaxError> {
        let Some(character) = self.peek() else {
            return Err(self.error("expected a number, a metric or `(`"));
        };
        if depth >= MAX_DEPTH {
            return Err(self.error(format!("nested deeper than {MAX_DEPTH}")));
        }
        if self.accept('-') {
            return Ok(Node::Negative(self.factor(depth + 1)?.into()));
        }
        if self.accept('(') {
            let inner = self.expression(depth + 1)?;
            self.expect(')')?;
            return Ok(inner);
        }
        if character.is_ascii_digit() || character == '.' {
            return self.number();
        }
        if character.is_ascii_alphabetic() || character == '_' || character == ':' {
            return self.vector_or_fold();
        }
        Err(self.error("expected a number, a metric or `(`"))
    }

    fn number(&mut self) -> Result<Node, SyntaxError> {
        let rest = self.rest();
        let mut before = ' ';
        let length = rest
            .find(|character: char| {
                let exponent = matches!(before, 'e' | 'E') && matches!(character, '+' | '-');
                before = character;
                !(character.is_ascii_digit() || matches!(character, '.' | 'e' | 'E') || exponent)
            })
            .unwrap_or(rest.len());
        match rest[..length].parse::<f64>() {
            Ok(number) if number.is_finite() => {
                self.position += length;
                Ok(Node::Number(number))
            }
            _ => Err(self.error(format!("`{}` is not a number", &rest[..length]))),
        }
    }

    fn vector_or_fold(&mut self) -> Result<Node, SyntaxError> {
        let start = self.position;
        let word = self.word(":");
        let fold = match word {
            "sum" => Fold::Sum,
            "min" => Fold::Min,
            "max" => Fold::Max,
            "avg" => Fold::Average,
            "count" => Fold::Count,
            _ => Fold::Single,
        };
        if self.peek() != Some('(') {
            // A metric may be named `sum`.
            return Ok(Node::Vector(Fold::Single, self.selector(word, false)?));
        }
        if fold == Fold::Single {
            self.position = start;
            return Ok(Node::Vector(Fold::Single, self.vector()?));
        }
        self.expect('(')?;
        let vector = self.vector()?;
        self.expect(')')?;
        Ok(Node::Vector(fold, vector))
    }

    fn vector(&mut self) -> Result<Vector, SyntaxError> {
        self.peek();
        let start = self.position;
        let word = self.word(":");
        if self.peek() != Some('(') {
            if !crate::load::exposition::is_name(word) {
                self.position = start;
                return Err(self.error("expected a metric"));
            }
            return self.selector(word, false);
        }
        if word != "rate" {
            self.position = start;
            return Err(self.error(format!(
                "`{word}` is not a function here; use rate, and sum, min, max, avg or count around it or a metric"
            )));
        }
        self.expect('(')?;
        self.peek();
        let start = self.position;
        let word = self.word(":");
        if !crate::load::exposition::is_name(word) || self.peek() == Some('(') {
            self.position = start;
            return Err(self.error("expected a metric: `rate` takes one, without a function"));
        }
        let vector = self.selector(word, true)?;
        if self.peek() == Some('[') {
            return Err(
                self.error("remove the range: `rate` compares the reader's last two scrapes")
            );
        }
        self.expect(')')?;
        Ok(vector)
    }

    fn selector(&mut self, name: &str, rate: bool) -> Result<Vector, SyntaxError> {
        let mut matchers = Vec::new();
        if self.accept('{') {
            while !self.accept('}') {
                matchers.push(self.matcher()?);
                if !self.accept(',') && self.peek() != Some('}') {
                    return Err(self.error("expected `,` or `}`"));
                }
            }
        }
        Ok(Vector {
            name: name.to_owned(),
            matchers,
            rate,
        })
    }

    fn matcher(&mut self) -> Result<Matcher, SyntaxError> {
        let label = self.word("");
        if label.is_empty() {
            return Err(self.error("expected a label"));
        }
        self.peek();
        let signs = [
            ("=~", false, true),
            ("!~", true, true),
            ("!=", true, false),
            ("=", false, false),
        ];
        let Some((sign, negated, pattern)) = signs
            .into_iter()
            .find(|(sign, ..)| self.rest().starts_with(sign))
        else {
            return Err(self.error("expected =, !=, =~ or !~"));
        };
        self.position += sign.len();
        let (text, column) = self.quoted()?;
        let condition = if pattern {
            Condition::Matches(anchored(&text).map_err(|reason| SyntaxError { column, reason })?)
        } else {
            Condition::Equals(text)
        };
        Ok(Matcher {
            label: label.to_owned(),
            condition,
            negated,
        })
    }

    /// Parses a text in quotes, and returns it with the column in which it begins.
    fn quoted(&mut self) -> Result<(String, usize), SyntaxError> {
        let quote = match self.peek() {
            Some(quote @ ('"' | '\'')) => quote,
            _ => return Err(self.error("expected a text in quotes")),
        };
        let column = self.error("").column + 1;
        let mut text = String::new();
        let mut characters = self.rest()[1..].char_indices();
        while let Some((index, character)) = characters.next() {
            match character {
                _ if character == quote => {
                    self.position += 1 + index + 1;
                    return Ok((text, column));
                }
                '\\' => text.extend(characters.next().map(|(_, escaped)| escaped)),
                _ => text.push(character),
            }
        }
        Err(self.error(format!("this {quote} is not closed")))
    }
}

/// Compiles a pattern that must match a whole value. As in Prometheus, `.` matches every character.
fn anchored(pattern: &str) -> Result<regex::Regex, String> {
    RegexBuilder::new(&format!("^(?s:{pattern})$"))
        .size_limit(MAX_PATTERN_SIZE)
        .build()
        .map_err(|error| {
            // The library's message repeats the pattern on several lines; its last line is the reason.
            let message = error.to_string();
            let reason = message.lines().last().unwrap_or_default();
            let reason = reason.strip_prefix("error: ").unwrap_or(reason);
            format!("`{pattern}` is not a regular expression: {reason}")
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn errors_have_a_column() {
        for (text, column, part) in [
            ("", 1, "expected a number"),
            ("1 +", 4, "expected a number"),
            ("1 2", 3, "expected an operator"),
            ("1)", 2, "no parenthesis"),
            ("(1", 3, "expected `)`"),
            ("up{", 4, "expected a label"),
            ("up{a}", 5, "expected ="),
            ("up{a=b}", 6, "in quotes"),
            ("up{a=\"b}", 6, "not closed"),
            (
                "up{a=~\"b[0-9\"}",
                8,
                "`b[0-9` is not a regular expression: unclosed character class",
            ),
            ("up{a=~'(a{99}){99}{99}'}", 8, "is not a regular expression"),
            ("sum(1)", 5, "expected a metric"),
            ("sum(rate(up)", 13, "expected `)`"),
            ("rate(sum(up))", 6, "expected a metric"),
            ("rate(up[5m])", 8, "remove the range"),
            ("irate(up)", 1, "`irate` is not a function"),
            ("1e999", 1, "is not a number"),
            ("é", 1, "expected a number"),
            ("1 + é", 5, "expected a number"),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!(error.column, column, "{text}: {error}");
            assert!(error.reason.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let error = parse(&"(".repeat(1_000)).unwrap_err();
        assert!(error.reason.contains("nested deeper"), "{error}");
        let error = parse(&"-".repeat(1_000)).unwrap_err();
        assert!(error.reason.contains("nested deeper"), "{error}");
        let error = parse(&"1+".repeat(MAX_LENGTH)).unwrap_err();
        assert!(error.reason.contains("longer than"), "{error}");
        parse(&format!("1{}", "+1".repeat(500))).unwrap();
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(
            text in "\\PC{0,60}",
            near in "[a-z(){}\\[\\]=~!\"'|.*/+\u{e9}0-9 ,\\\\-]{0,60}",
        ) {
            let _ = parse(&text);
            let _ = parse(&near);
        }
    }
}
