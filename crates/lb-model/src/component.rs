//! Components: a part of the configuration whose kind a registry knows.
//!
//! A check's probe, a source's reader, a VIP's controller and its way of shedding are components: a kind with settings
//! that only this kind has. This crate carries them as data; the crate that runs them declares the kinds, one file
//! each, and lists them in a [`Registry`]. Validation, documentation, completion and the command line follow from the
//! registry, so that a new kind needs nothing else.

use serde_json::{Map, Value};

use crate::settings::{self, Field, FieldError, Settings};

/// A kind and its own settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Component {
    /// The kind.
    pub kind: String,
    /// Its settings. [`Registry::normalize`] has checked them and filled in defaults where the component belongs to
    /// an accepted configuration.
    pub settings: Map<String, Value>,
}

impl Component {
    /// A component with these settings.
    #[must_use]
    pub fn new<T: Settings>(kind: &str, settings: &T) -> Self {
        Component {
            kind: kind.to_owned(),
            settings: settings.to_map(),
        }
    }

    /// Takes the kind and every setting that is left out of a map.
    ///
    /// # Errors
    /// No kind where there is no default, or one that is no text.
    pub fn take(
        map: &mut Map<String, Value>,
        key: &'static str,
        default: Option<&str>,
    ) -> Result<Self, FieldError> {
        let kind = settings::take_field(map, key, default.map(str::to_owned))?;
        Ok(Component {
            kind,
            settings: std::mem::take(map),
        })
    }

    /// Writes it into the map of the table it stands in.
    pub fn write(&self, key: &'static str, map: &mut Map<String, Value>) {
        map.insert(key.to_owned(), Value::String(self.kind.clone()));
        map.extend(self.settings.clone());
    }

    /// Its settings as the type of its kind.
    ///
    /// # Errors
    /// A setting that the kind does not have, or a value it cannot have.
    pub fn read<T: Settings>(&self) -> Result<T, FieldError> {
        settings::from_map(&self.settings)
    }
}

/// Checks the settings of a kind and fills in defaults.
type Normalize = fn(&mut Map<String, Value>) -> Result<Map<String, Value>, FieldError>;
/// Looks at a whole table: the settings of every kind and those of this one.
type Complete = fn(&mut Map<String, Value>) -> Result<(), FieldError>;

/// What a registry knows of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub help: &'static str,
    /// Its own settings.
    pub fields: fn() -> Vec<Field>,
    normalize: Normalize,
    complete: Complete,
}

impl Kind {
    /// The kind with the settings `T`.
    #[must_use]
    pub const fn of<T: Settings>(name: &'static str, help: &'static str) -> Self {
        Kind {
            name,
            help,
            fields: T::fields,
            normalize: |map| T::take(map).map(|settings| settings.to_map()),
            complete: |_| Ok(()),
        }
    }

    /// The kind with a function that sees the whole table: it fills in defaults of common settings that depend on the
    /// kind, and refuses common settings that this kind does not use or that contradict its own.
    #[must_use]
    pub const fn completed_by(self, complete: Complete) -> Self {
        Kind { complete, ..self }
    }
}

/// Refuses common settings that a kind does not use, for [`Kind::completed_by`].
///
/// # Errors
/// The first that is given.
pub fn refuse_unused(
    map: &Map<String, Value>,
    kind: &str,
    unused: &[&str],
) -> Result<(), FieldError> {
    match unused.iter().find_map(|name| map.get_key_value(*name)) {
        None => Ok(()),
        Some((name, value)) => Err(FieldError::new(
            name,
            settings::plain(value),
            format!("`{kind}` does not use it; leave it out"),
        )),
    }
}

/// The kinds of one family.
#[derive(Clone, Copy, Debug)]
pub struct Registry {
    /// What it holds, in the singular: `probe`, `load reader`.
    pub family: &'static str,
    /// The setting that names the kind: `kind`, `by`, `controller`.
    pub key: &'static str,
    /// The kinds, in the order of the documentation.
    pub kinds: &'static [&'static Kind],
}

impl Registry {
    /// The kind with this name.
    ///
    /// # Errors
    /// There is none; names those there are.
    pub fn find(&self, name: &str) -> Result<&'static Kind, FieldError> {
        self.kinds
            .iter()
            .find(|kind| kind.name == name)
            .copied()
            .ok_or_else(|| {
                let names: Vec<_> = self.kinds.iter().map(|kind| kind.name).collect();
                let advice = format!(
                    "there is no such {}; there are {}",
                    self.family,
                    names.join(", ")
                );
                FieldError::new(self.key, name, advice)
            })
    }

    /// Checks a table with its component and fills in the defaults of its kind.
    ///
    /// # Errors
    /// An unknown kind, a setting that neither the table nor the kind has, or a value it cannot have.
    pub fn normalize<T: Settings>(&self, table: &T) -> Result<T, FieldError> {
        let mut map = table.to_map();
        let name = map.get(self.key).map(settings::plain).unwrap_or_default();
        let kind = self.find(&name)?;
        let own = (kind.normalize)(&mut map)?;
        let common = T::fields();
        let known =
            |name: &String| name == self.key || common.iter().any(|field| field.name == name);
        let left: Map<_, _> = map
            .iter()
            .filter(|(name, _)| !known(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let mut fields = common.clone();
        fields.extend((kind.fields)());
        settings::nothing_left(&left, &fields)?;
        map.extend(own);
        (kind.complete)(&mut map)?;
        T::take(&mut map)
    }

    /// Reads `KIND key=value …` with the settings `common` that every kind has, and those of the kind.
    ///
    /// # Errors
    /// As [`settings::words::read`].
    pub fn read_words(
        &self,
        text: &str,
        common: &[Field],
    ) -> Result<Map<String, Value>, FieldError> {
        let mut fields = Vec::new();
        settings::words::read(text, self.key, |kind| {
            fields = common.to_vec();
            fields.extend((self.find(kind)?.fields)());
            Ok(&fields)
        })
    }

    /// Writes a table with its component as [`read_words`](Self::read_words) reads it. A kind that this registry does
    /// not know, of a newer agent say, is written with every setting.
    #[must_use]
    pub fn write_words(&self, map: &Map<String, Value>, common: &[Field]) -> String {
        let kind = map.get(self.key).map(settings::plain).unwrap_or_default();
        let mut fields = common.to_vec();
        if let Ok(known) = self.find(&kind) {
            fields.extend((known.fields)());
        }
        settings::words::write(&kind, map, &fields)
    }
}
