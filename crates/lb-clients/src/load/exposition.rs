//! Parses the samples of the Prometheus text format: `name{label="value"} number`.
//!
//! Comments, time stamps and exemplars are skipped. The text format of OpenMetrics is accepted as well. A line that cannot
//! be read is lost alone; a series that is written twice with one value is one series.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
};

use super::reading::Unreadable;

/// Labels of one series at most, far more than known exporters use.
const MAX_LABELS: usize = 64;

/// With which some programs begin a text.
const BYTE_ORDER_MARK: char = '\u{feff}';

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
    /// The value; may be NaN or infinite. NaN if there is a fault.
    pub value: f64,
    /// Why there is no value.
    pub fault: Option<Fault>,
}

/// Why a series has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// In words for operators.
    pub reason: String,
    /// Whether the labels cannot be read either, so that it may be any series of the metric.
    pub any_labels: bool,
}

/// What is read of a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page<'a> {
    /// The series that were wanted, those without a value included.
    pub series: Vec<Series<'a>>,
    /// Lines that cannot be read. Of a metric that is not wanted only the name is read.
    pub unreadable: Unreadable,
}

/// Parses the series for whose name `wanted` returns true.
///
/// # Errors
/// The text has no series that can be read; names the first line that is none.
pub fn read<'a>(text: &'a str, wanted: impl Fn(&str) -> bool) -> Result<Page<'a>, String> {
    let mut page = Page::default();
    let mut is_empty = true;
    // Place in the page and number of the line of each series.
    let mut places = HashMap::new();
    let text = text.trim_start_matches(BYTE_ORDER_MARK);
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let invalid = || format!("line {number} cannot be read: {:?}", shorten(line));
        let end = line.find(|character: char| character == '{' || character.is_whitespace());
        let (name, rest) = line.split_at(end.unwrap_or(line.len()));
        if end.is_none() || !is_name(name) {
            page.unreadable.add(invalid);
            continue;
        }
        if !wanted(name) {
            is_empty = false;
            continue;
        }
        let series = series(name, rest, invalid);
        if series.fault.is_some() {
            page.unreadable.add(invalid);
        } else {
            is_empty = false;
        }
        page.add(series, number, &mut places);
    }
    match (is_empty, &page.unreadable.first[..]) {
        (false, _) => Ok(page),
        (true, "") => Err("the answer has no metric".to_owned()),
        (true, first) => Err(format!("not Prometheus text: {first}")),
    }
}

impl<'a> Page<'a> {
    /// Adds a series, unless it is there already with the same value.
    fn add(
        &mut self,
        series: Series<'a>,
        line: u32,
        places: &mut HashMap<(&'a str, Vec<Label<'a>>), (usize, u32)>,
    ) {
        if series.fault.as_ref().is_some_and(|fault| fault.any_labels) {
            self.series.push(series);
            return;
        }
        let mut labels = series.labels.clone();
        labels.sort_unstable();
        match places.entry((series.name, labels)) {
            Entry::Vacant(entry) => {
                entry.insert((self.series.len(), line));
                self.series.push(series);
            }
            Entry::Occupied(entry) => {
                let (place, first) = *entry.get();
                let before = &mut self.series[place];
                let is_same = before.value == series.value
                    || (before.value.is_nan() && series.value.is_nan());
                if before.fault.is_none() && (series.fault.is_some() || !is_same) {
                    let reason = series.fault.map_or_else(
                        || format!("lines {first} and {line} say different values of one series"),
                        |fault| fault.reason,
                    );
                    self.unreadable.add(|| reason.clone());
                    before.value = f64::NAN;
                    before.fault = Some(Fault {
                        reason,
                        any_labels: false,
                    });
                }
            }
        }
    }
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

fn series<'a>(name: &'a str, rest: &'a str, invalid: impl FnOnce() -> String) -> Series<'a> {
    let rest = rest.trim_start();
    let read = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)
            .map(|(labels, length)| (&inside[..length], labels, &inside[length + 1..])),
        None => Some(("", Vec::new(), rest)),
    };
    let any_labels = read.is_none();
    let (identity, labels, rest) = read.unwrap_or_default();
    let value = rest.split_whitespace().next();
    let value = value.and_then(|value| value.parse().ok());
    Series {
        name,
        identity,
        labels,
        value: value.unwrap_or(f64::NAN),
        fault: value.is_none().then(|| Fault {
            reason: invalid(),
            any_labels,
        }),
    }
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
        let read = read(text, |name| name != "other").unwrap().series;
        assert_eq!(read.len(), 3);
        assert_eq!((read[0].name, read[0].value), ("up", 1.0));
        assert_eq!(read[1].value, 1_500.0);
        assert_eq!(read[1].labels[0], ("code", "200".into()));
        assert_eq!(read[1].labels[1], ("path", r#"/a "b" {c}\"#.into()));
        assert_eq!((read[2].value, read[2].identity), (7.0, r#"a="b","#));
    }

    #[test]
    fn a_line_that_cannot_be_read_is_lost_alone() {
        let text = "\u{feff}up 1\nopen undefined\n<garbage>\nopen{a=\"1\"} 2\nlabels{a=b} 1\nname_only\n\
            not_wanted undefined\nup{a=\"b} 1\nlast 3\n";
        let page = read(text, |name| name != "not_wanted").unwrap();
        let found: Vec<_> = page
            .series
            .iter()
            .map(|series| {
                let fault = series.fault.as_ref();
                (series.name, fault.map(|fault| fault.any_labels))
            })
            .collect();
        assert_eq!(
            found,
            [
                ("up", None),
                ("open", Some(false)),
                ("open", None),
                ("labels", Some(true)),
                ("up", Some(true)),
                ("last", None),
            ]
        );
        assert_eq!(page.unreadable.count, 5);
        assert_eq!(
            page.unreadable.first,
            "line 2 cannot be read: \"open undefined\""
        );
    }

    #[test]
    fn a_series_that_is_written_twice_is_one() {
        let text = "a{x=\"1\",y=\"2\"} 3\na{y=\"2\",x=\"1\",} 3.0\nb NaN\nb nan\nc 1\nc 2\nc 1\nd 1\nd one\n";
        let page = read(text, |_| true).unwrap();
        let found: Vec<_> = page
            .series
            .iter()
            .map(|series| (series.name, series.fault.is_some()))
            .collect();
        assert_eq!(
            found,
            [("a", false), ("b", false), ("c", true), ("d", true)]
        );
        let fault = page.series[2].fault.as_ref().unwrap();
        assert_eq!(
            fault.reason,
            "lines 5 and 6 say different values of one series"
        );
    }

    #[test]
    fn a_text_without_any_metric_is_an_error() {
        for (text, part) in [
            ("<html>\n", "line 1"),
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
