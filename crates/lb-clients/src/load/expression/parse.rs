//! Text → expression.

use super::{Fold, MAX_DEPTH, MAX_LENGTH, Matcher, Node, Operator, SyntaxError, Vector};

/// Characters that mean something in a regular expression; only `.*` and `|` do here.
const PATTERN: [char; 12] = ['.', '*', '+', '?', '(', ')', '[', ']', '{', '}', '^', '$'];

pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let mut parser = Parser { text, place: 0 };
    if text.len() > MAX_LENGTH {
        return Err(parser.wrong(format!("longer than {MAX_LENGTH} bytes")));
    }
    let node = parser.expression(0)?;
    match parser.peek() {
        None => Ok(node),
        Some(')') => Err(parser.wrong("no parenthesis is open here")),
        Some(_) => Err(parser.wrong("expected an operator (+ - * /) or the end")),
    }
}

struct Parser<'a> {
    text: &'a str,
    /// In bytes.
    place: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.place..]
    }

    fn wrong(&self, reason: impl Into<String>) -> SyntaxError {
        SyntaxError {
            column: self.text[..self.place].chars().count() + 1,
            reason: reason.into(),
        }
    }

    /// The next character that is no space.
    fn peek(&mut self) -> Option<char> {
        self.place = self.text.len() - self.rest().trim_start().len();
        self.rest().chars().next()
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.place += wanted.len_utf8();
        }
        found
    }

    fn expect(&mut self, wanted: char) -> Result<(), SyntaxError> {
        if self.take(wanted) {
            Ok(())
        } else {
            Err(self.wrong(format!("expected `{wanted}`")))
        }
    }

    fn word(&mut self, also: &str) -> &'a str {
        self.peek();
        let rest = self.rest();
        let length = rest
            .find(|character: char| {
                !character.is_ascii_alphanumeric() && character != '_' && !also.contains(character)
            })
            .unwrap_or(rest.len());
        self.place += length;
        &rest[..length]
    }

    fn expression(&mut self, depth: usize) -> Result<Node, SyntaxError> {
        let mut left = self.term(depth)?;
        loop {
            let operator = if self.take('+') {
                Operator::Plus
            } else if self.take('-') {
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
            let operator = if self.take('*') {
                Operator::Times
            } else if self.take('/') {
                Operator::Over
            } else {
                return Ok(left);
            };
            left = Node::Binary(operator, left.into(), self.factor(depth)?.into());
        }
    }

    fn factor(&mut self, depth: usize) -> Result<Node, SyntaxError> {
        let Some(character) = self.peek() else {
            return Err(self.wrong("expected a number, a metric or `(`"));
        };
        if depth >= MAX_DEPTH {
            return Err(self.wrong(format!("nested deeper than {MAX_DEPTH}")));
        }
        if self.take('-') {
            return Ok(Node::Negative(self.factor(depth + 1)?.into()));
        }
        if self.take('(') {
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
        Err(self.wrong("expected a number, a metric or `(`"))
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
                self.place += length;
                Ok(Node::Number(number))
            }
            _ => Err(self.wrong(format!("`{}` is no number", &rest[..length]))),
        }
    }

    fn vector_or_fold(&mut self) -> Result<Node, SyntaxError> {
        let start = self.place;
        let word = self.word(":");
        let fold = match word {
            "sum" => Fold::Sum,
            "min" => Fold::Min,
            "max" => Fold::Max,
            "avg" => Fold::Average,
            "count" => Fold::Count,
            _ => Fold::Only,
        };
        if self.peek() != Some('(') {
            // A metric may be called `sum`, too.
            return Ok(Node::Vector(Fold::Only, self.selector(word, false)?));
        }
        if fold == Fold::Only {
            self.place = start;
            return Ok(Node::Vector(Fold::Only, self.vector()?));
        }
        self.expect('(')?;
        let vector = self.vector()?;
        self.expect(')')?;
        Ok(Node::Vector(fold, vector))
    }

    fn vector(&mut self) -> Result<Vector, SyntaxError> {
        self.peek();
        let start = self.place;
        let word = self.word(":");
        if self.peek() != Some('(') {
            if !crate::load::exposition::is_name(word) {
                self.place = start;
                return Err(self.wrong("expected a metric"));
            }
            return self.selector(word, false);
        }
        if word != "rate" {
            self.place = start;
            return Err(self.wrong(format!(
                "`{word}` is no function here; those there are: rate, and around it or a metric sum, min, max, avg, count"
            )));
        }
        self.expect('(')?;
        self.peek();
        let start = self.place;
        let word = self.word(":");
        if !crate::load::exposition::is_name(word) || self.peek() == Some('(') {
            self.place = start;
            return Err(self.wrong("expected a metric: `rate` takes one, without a function"));
        }
        let vector = self.selector(word, true)?;
        if self.peek() == Some('[') {
            return Err(self.wrong(
                "no range is given here: `rate` is between the reader's own last two samples",
            ));
        }
        self.expect(')')?;
        Ok(vector)
    }

    fn selector(&mut self, name: &str, rate: bool) -> Result<Vector, SyntaxError> {
        let mut matchers = Vec::new();
        if self.take('{') {
            while !self.take('}') {
                matchers.push(self.matcher()?);
                if !self.take(',') && self.peek() != Some('}') {
                    return Err(self.wrong("expected `,` or `}`"));
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
            return Err(self.wrong("expected a label"));
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
            return Err(self.wrong("expected =, !=, =~ or !~"));
        };
        self.place += sign.len();
        let (text, start) = self.quoted()?;
        let alternatives = if pattern {
            text.split('|')
                .map(|alternative| {
                    let pieces: Vec<String> = alternative.split(".*").map(str::to_owned).collect();
                    if pieces.iter().any(|piece| piece.contains(PATTERN)) {
                        return Err(SyntaxError {
                            column: start,
                            reason: "only `|` and `.*` are known in a pattern".to_owned(),
                        });
                    }
                    Ok(pieces)
                })
                .collect::<Result<_, _>>()?
        } else {
            vec![vec![text]]
        };
        Ok(Matcher {
            label: label.to_owned(),
            alternatives,
            negated,
        })
    }

    /// A text in quotes, and the column it begins in.
    fn quoted(&mut self) -> Result<(String, usize), SyntaxError> {
        let quote = match self.peek() {
            Some(quote @ ('"' | '\'')) => quote,
            _ => return Err(self.wrong("expected a text in quotes")),
        };
        let column = self.wrong("").column + 1;
        let mut text = String::new();
        let mut characters = self.rest()[1..].char_indices();
        while let Some((place, character)) = characters.next() {
            match character {
                _ if character == quote => {
                    self.place += 1 + place + 1;
                    return Ok((text, column));
                }
                '\\' => text.extend(characters.next().map(|(_, escaped)| escaped)),
                _ => text.push(character),
            }
        }
        Err(self.wrong(format!("this {quote} is not closed")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn mistakes_have_a_column() {
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
            ("up{a=~\"b[0-9]\"}", 8, "only `|` and `.*`"),
            ("sum(1)", 5, "expected a metric"),
            ("sum(rate(up)", 13, "expected `)`"),
            ("rate(sum(up))", 6, "expected a metric"),
            ("rate(up[5m])", 8, "no range"),
            ("irate(up)", 1, "`irate` is no function"),
            ("1e999", 1, "is no number"),
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
