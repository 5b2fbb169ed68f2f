//! What takes many settings is typed as a kind and `key=value` words: `http path=/healthz interval=2s`.

use std::str::FromStr;

use super::duration;

/// Words that are being written, as [`Words`] reads them.
#[derive(Debug)]
pub struct Text(String);

impl Text {
    /// The kind alone.
    pub fn new(kind: &str) -> Self {
        Text(kind.to_owned())
    }

    /// Adds a setting that has a value.
    pub fn set(&mut self, key: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.0
                .push_str(&format!(" {key}={}", quote(&value.to_string())));
        }
    }

    /// Adds a time that is set.
    pub fn time(&mut self, key: &str, time: Option<prost_types::Duration>) {
        self.set(
            key,
            time.map(|time| duration::write(duration::from_proto(time))),
        );
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

/// What a setting may be.
pub trait Value: FromStr {
    /// What is to be written, for who wrote something else.
    const FORM: &'static str;
}

impl Value for u32 {
    const FORM: &'static str = "write a whole number, as 5";
}

impl Value for u64 {
    const FORM: &'static str = "write a whole number, as 5";
}

impl Value for f64 {
    const FORM: &'static str = "write a number, as 0.5";
}

impl Value for bool {
    const FORM: &'static str = "write true or false";
}

/// A kind with its settings, each of which is to be taken once.
#[derive(Clone, Debug)]
pub struct Words {
    /// The first word.
    pub kind: String,
    settings: Vec<(String, String)>,
    /// Settings that somebody asked for.
    known: Vec<String>,
}

impl Words {
    /// Reads them. A value with spaces stands in single or double quotes. `first` is what the first word is, `example`
    /// what could be written.
    ///
    /// # Errors
    /// Says which word is wrong.
    pub fn read(text: &str, first: &str, example: &str) -> Result<Self, String> {
        let mut words = split(text)?.into_iter();
        let kind = words.next().ok_or_else(|| {
            format!("nothing is said; write {first} and its settings, as in `{example}`")
        })?;
        if kind.contains('=') {
            return Err(format!(
                "`{kind}` comes first; begin with {first}, as in `{example}`"
            ));
        }
        let mut settings: Vec<(String, String)> = Vec::new();
        for word in words {
            let (key, value) = word
                .split_once('=')
                .ok_or_else(|| format!("`{word}` is no setting; write KEY=VALUE"))?;
            let key = key.replace('-', "_");
            if settings.iter().any(|(other, _)| *other == key) {
                return Err(format!("`{key}` is given twice"));
            }
            settings.push((key, value.to_owned()));
        }
        Ok(Words {
            kind,
            settings,
            known: Vec::new(),
        })
    }

    /// Takes a setting's text out.
    pub fn text(&mut self, key: &str) -> Option<String> {
        self.known.push(key.to_owned());
        let position = self.settings.iter().position(|(name, _)| name == key)?;
        Some(self.settings.remove(position).1)
    }

    /// Takes a setting out and reads it.
    ///
    /// # Errors
    /// Names the setting and says what is wrong with its value.
    pub fn take<T: Value>(&mut self, key: &str) -> Result<Option<T>, String> {
        self.with(key, |text| text.parse().map_err(|_| T::FORM.to_owned()))
    }

    /// Takes a setting out and reads it with this function.
    ///
    /// # Errors
    /// Names the setting and says what is wrong with its value.
    pub fn with<T>(
        &mut self,
        key: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        self.text(key)
            .map(|text| read(&text).map_err(|error| format!("{key}={text}: {error}")))
            .transpose()
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// Names a setting that nobody took.
    pub fn end(self) -> Result<(), String> {
        match self.settings.first() {
            Some((key, _)) => Err(format!(
                "`{}` has no setting `{key}`; there are {}",
                self.kind,
                self.known.join(", ")
            )),
            None => Ok(()),
        }
    }
}

/// Splits at white space; what stands in single or double quotes stays together.
///
/// # Errors
/// When a quote is not closed.
pub fn split(text: &str) -> Result<Vec<String>, String> {
    parts(text, false)
}

/// As [`split`], but a word that begins with an unquoted `#` begins a comment.
///
/// # Errors
/// When a quote is not closed.
pub fn split_line(text: &str) -> Result<Vec<String>, String> {
    parts(text, true)
}

fn parts(text: &str, comments: bool) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for character in text.chars() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(character),
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            (None, '#') if comments && word.is_none() => break,
            (None, _) => word.get_or_insert_default().push(character),
        }
    }
    if let Some(open) = quote {
        return Err(format!("a {open} is opened and not closed"));
    }
    words.extend(word);
    Ok(words)
}

/// Writes a word so that [`split`] gives it back.
#[must_use]
pub fn quote(word: &str) -> String {
    if word.is_empty() {
        "''".to_owned()
    } else if !word.contains(|c: char| c.is_whitespace() || c == '\'' || c == '"') {
        word.to_owned()
    } else if !word.contains('\'') {
        format!("'{word}'")
    } else if !word.contains('"') {
        format!("\"{word}\"")
    } else {
        format!("'{}'", word.replace('\'', "'\"'\"'"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_one_word() {
        for word in ["a", "", "a b", "it's", "\"a\"", "'a' \"b\"", "\t"] {
            assert_eq!(split(&quote(word)), Ok(vec![word.to_owned()]), "{word:?}");
        }
    }

    #[test]
    fn a_line_may_end_in_a_comment() {
        let line = |text| split_line(text).unwrap();
        assert_eq!(line("a 'b # c' d#e # f 'g"), ["a", "b # c", "d#e"]);
        assert_eq!(line("'#a'"), ["#a"]);
        assert!(line("# a").is_empty());
        assert_eq!(split("# a").unwrap(), ["#", "a"]);
    }

    #[test]
    fn settings_are_taken_one_by_one() {
        let mut words = Words::read(
            r#"http path=/a?b=c body="all is well" unhealthy-threshold=3"#,
            "a kind",
            "tcp interval=2s",
        )
        .unwrap();
        assert_eq!(words.kind, "http");
        assert_eq!(words.text("path").as_deref(), Some("/a?b=c"));
        assert_eq!(words.text("body").as_deref(), Some("all is well"));
        assert_eq!(words.take::<u32>("unhealthy_threshold"), Ok(Some(3)));
        assert_eq!(words.take::<u32>("port"), Ok(None));
        words.end().unwrap();
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, names) in [
            ("", "nothing is said"),
            ("port=80", "begin with a kind"),
            ("tcp port", "`port` is no setting"),
            ("tcp port=1 port=2", "given twice"),
            ("tcp 'port=1", "not closed"),
        ] {
            let error = Words::read(text, "a kind", "tcp interval=2s").expect_err(text);
            assert!(error.contains(names), "{text}: {error}");
        }
        let mut words = Words::read("tcp port=many", "a kind", "tcp interval=2s").unwrap();
        let error = words.take::<u32>("port").unwrap_err();
        assert_eq!(error, "port=many: write a whole number, as 5");
        let mut words = Words::read("tcp prot=1", "a kind", "tcp interval=2s").unwrap();
        words.text("port");
        words.text("via");
        let error = words.end().unwrap_err();
        assert_eq!(error, "`tcp` has no setting `prot`; there are port, via");
    }
}
