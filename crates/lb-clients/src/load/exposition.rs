//! Parses the samples of the Prometheus text format: `name{label="value"} number`.
//!
//! Comments, time stamps and exemplars are skipped. The text format of OpenMetrics is accepted as well.

use std::borrow::Cow;

/// Labels of one series at most, far more than known exporters use.
const MAX_LABELS: usize = 64;

/// A label with its value.
pub type Label<'a> = (&'a str, Cow<'a, str>);

/// One series with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Series<'a> {
    /// The metric's name.
    pub name: &'a str,
    /// The text between the braces as written. Together with `name` it identifies the series.
    pub identity: &'a str,
    /// The labels.
    pub labels: Vec<Label<'a>>,
    /// The value; may be NaN or infinite.
    pub value: f64,
}

/// Parses the series for whose name `wanted` returns true.
///
/// # Errors
/// The number of the first invalid line, or that the text has no series at all.
pub fn read<'a>(text: &'a str, wanted: impl Fn(&str) -> bool) -> Result<Vec<Series<'a>>, String> {
    let mut selected = Vec::new();
    let mut is_empty = true;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let invalid = || {
            format!(
                "line {} is not Prometheus text: {:?}",
                number + 1,
                shorten(line)
            )
        };
        let end = line
            .find(|character: char| character == '{' || character.is_whitespace())
            .ok_or_else(invalid)?;
        let (name, rest) = line.split_at(end);
        if !is_name(name) {
            return Err(invalid());
        }
        is_empty = false;
        if wanted(name) {
            selected.push(series(name, rest).ok_or_else(invalid)?);
        }
    }
    if is_empty {
        return Err("the answer has no metric".to_owned());
    }
    Ok(selected)
}

/// Returns true if `text` is a valid name of a metric.
#[must_use]
pub fn is_name(text: &str) -> bool {
    text.bytes().enumerate().all(|(index, byte)| {
        byte.is_ascii_alphabetic()
            || byte == b'_'
            || byte == b':'
            || (index > 0 && byte.is_ascii_digit())
    }) && !text.is_empty()
}

fn series<'a>(name: &'a str, rest: &'a str) -> Option<Series<'a>> {
    let rest = rest.trim_start();
    let (identity, labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => {
            let (labels, length) = labels(inside)?;
            (&inside[..length], labels, &inside[length + 1..])
        }
        None => ("", Vec::new(), rest),
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Series {
        name,
        identity,
        labels,
        value,
    })
}

/// Parses the labels, and returns them with the position of the closing brace.
fn labels(text: &str) -> Option<(Vec<Label<'_>>, usize)> {
    let mut labels = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.starts_with('}') {
            return Some((labels, text.len() - rest.len()));
        }
        let (label, after) = rest.split_once('=')?;
        let (value, length) = quoted(after.trim_start().strip_prefix('"')?)?;
        labels.push((label.trim(), value));
        rest = &after.trim_start()[length + 2..];
        if labels.len() > MAX_LABELS {
            return None;
        }
    }
}

/// Parses a text up to its closing quote, and returns it with its length as written. `\\`, `\"` and `\n` are escapes.
fn quoted(text: &str) -> Option<(Cow<'_, str>, usize)> {
    let mut value: Option<String> = None;
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Some((value.map_or(text[..index].into(), Cow::from), index)),
            '\\' => {
                let value = value.get_or_insert_with(|| text[..index].to_owned());
                match characters.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                }
            }
            _ => {
                if let Some(value) = &mut value {
                    value.push(character);
                }
            }
        }
    }
    None
}

fn shorten(line: &str) -> String {
    const LENGTH: usize = 60;
    line.chars().take(LENGTH).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn series_are_read() {
        let text = "# HELP up Whether.\n# TYPE up gauge\nup 1\n\
            http_total{code=\"200\",path=\"/a \\\"b\\\" {c}\\\\\"} 1.5e3 1700000000000\n\
            other{x=\"y\"} NaN\n\
            open_total{a=\"b\",} 7 # {trace=\"1\"} 0.5\n# EOF\n";
        let read = read(text, |name| name != "other").unwrap();
        assert_eq!(read.len(), 3);
        assert_eq!((read[0].name, read[0].value), ("up", 1.0));
        assert_eq!(read[1].value, 1_500.0);
        assert_eq!(read[1].labels[0], ("code", "200".into()));
        assert_eq!(read[1].labels[1], ("path", r#"/a "b" {c}\"#.into()));
        assert_eq!((read[2].value, read[2].identity), (7.0, r#"a="b","#));
    }

    #[test]
    fn invalid_lines_are_named() {
        for (text, part) in [
            ("<html>\n", "line 1"),
            ("up 1\nup{a=\"b} 1\n", "line 2"),
            ("up one", "line 1"),
            ("up{a=b} 1", "line 1"),
            ("", "no metric"),
            ("# only a comment", "no metric"),
        ] {
            let error = read(text, |_| true).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "\\PC{0,200}", line in "[a-z]{1,3}\\{[a-z=\", \\\\}\u{e9}]{0,20}\\}? ?[0-9.eN]{0,4}") {
            let _ = read(&text, |_| true);
            let _ = read(&line, |_| true);
        }
    }
}
