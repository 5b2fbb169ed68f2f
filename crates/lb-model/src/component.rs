//! Components: parts of the configuration whose kinds are in a registry.
//!
//! The probe of a check, the reader of a load source, the controller of a VIP and its way of shedding are components: a
//! kind with settings that only this kind has. This crate carries them as data; the crate that runs them declares the kinds, one file
//! each, and lists them in a [`Registry`]. Validation, documentation, completion and the command line follow from the
//! registry, so that a new kind needs nothing else.

use serde_json::{Map, Value};

use crate::settings::{self, Field, FieldError, Level, Settings};

/// A kind and its own settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Component {
    /// The kind.
    pub kind: String,
    /// Its settings. In an accepted configuration, [`Registry::normalize`] has checked them and filled in defaults.
    pub settings: Map<String, Value>,
}

impl Component {
    /// Creates a component with these settings.
    #[must_use]
    pub fn new<T: Settings>(kind: &str, settings: &T) -> Self {
        Component {
            kind: kind.to_owned(),
            settings: settings.to_map(),
        }
    }

    /// Creates a component without settings.
    #[must_use]
    pub fn named(kind: &str) -> Self {
        Component {
            kind: kind.to_owned(),
            settings: Map::new(),
        }
    }

    /// Takes the kind and all remaining settings out of a map.
    ///
    /// # Errors
    /// Fails if there is no kind and no default, or if the kind is not a text.
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

    /// Writes it into the map of its table.
    pub fn write(&self, key: &'static str, map: &mut Map<String, Value>) {
        map.insert(key.to_owned(), Value::String(self.kind.clone()));
        map.extend(self.settings.clone());
    }

    /// Reads its settings as the type of its kind.
    ///
    /// # Errors
    /// Fails if the kind does not have a setting, or if a value is invalid.
    pub fn read<T: Settings>(&self) -> Result<T, FieldError> {
        settings::from_map(&self.settings)
    }
}

/// Checks the settings of a kind and fills in defaults.
type Normalize = fn(&mut Map<String, Value>) -> Result<Map<String, Value>, FieldError>;
/// Checks and completes a whole table: common settings and those of the kind.
type Complete = fn(&mut Map<String, Value>) -> Result<(), FieldError>;

/// A kind of a registry.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// Its help: what it does, in a sentence.
    pub help: &'static str,
    /// Its own settings.
    pub fields: fn() -> Vec<Field>,
    /// Whether it connects to a port of the real, so that a VIP for any port needs the setting `port`.
    pub needs_port: bool,
    /// The port of its peer if none is set, without and with TLS; `None` if it has no port of its own.
    pub default_ports: Option<(u16, u16)>,
    /// Whether it runs a program on the balancer, which the agent accepts only with `--exec-checks`.
    pub runs_program: bool,
    normalize: Normalize,
    complete: Complete,
}

crate::settings! {
    /// The settings of a kind that has none.
    #[derive(Eq, Default)]
    pub struct NoSettings {}
}

impl Kind {
    /// Creates a kind with the settings `T`.
    #[must_use]
    pub const fn of<T: Settings>(name: &'static str, help: &'static str) -> Self {
        Kind {
            name,
            help,
            fields: T::fields,
            needs_port: true,
            default_ports: None,
            runs_program: false,
            normalize: |map| T::take(map).map(|settings| settings.to_map()),
            complete: |_| Ok(()),
        }
    }

    /// Adds a function that gets the whole table. It fills in defaults of common settings that depend on the kind, and
    /// rejects common settings that this kind does not use or that contradict its own.
    #[must_use]
    pub const fn completed_by(self, complete: Complete) -> Self {
        Kind { complete, ..self }
    }

    /// States that the kind does not connect to a port of the real.
    #[must_use]
    pub const fn without_port(self) -> Self {
        Kind {
            needs_port: false,
            ..self
        }
    }

    /// States the default ports of the kind's peer, without and with TLS.
    #[must_use]
    pub const fn with_default_ports(self, ports: Option<(u16, u16)>) -> Self {
        Kind {
            default_ports: ports,
            ..self
        }
    }

    /// States that the kind runs a program on the balancer.
    #[must_use]
    pub const fn running_program(self) -> Self {
        Kind {
            runs_program: true,
            ..self
        }
    }
}

/// Rejects common settings that a kind does not use, for [`Kind::completed_by`].
///
/// # Errors
/// Returns the first such setting.
pub fn refuse_unused(
    map: &Map<String, Value>,
    kind: &str,
    unused: &[&str],
) -> Result<(), FieldError> {
    match unused.iter().find_map(|name| map.get_key_value(*name)) {
        None => Ok(()),
        Some((name, value)) => {
            let value = if settings::is_secret(name) {
                "hidden".to_owned()
            } else {
                settings::plain(value)
            };
            let advice = format!("`{kind}` does not use it; leave it out");
            Err(FieldError::new(name, value, advice))
        }
    }
}

/// The kinds of one family.
#[derive(Clone, Copy, Debug)]
pub struct Registry {
    /// Name of a member: `probe`, `load reader`.
    pub family: &'static str,
    /// The setting that names the kind: `kind`, `by`, `controller`.
    pub key: &'static str,
    /// The kinds, in the order of the documentation.
    pub kinds: &'static [&'static Kind],
}

impl Registry {
    /// Returns the kind with this name.
    ///
    /// # Errors
    /// Fails if there is none, with the names of all kinds.
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
    /// Fails on an unknown kind, on a setting that neither the table nor the kind has, and on an invalid value.
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

    /// Removes expert settings with their default value from a table with its component, for lists that operators read.
    pub fn remove_expert_defaults<T: Settings>(&self, map: &mut Map<String, Value>) {
        let mut fields = T::fields();
        if let Some(Ok(kind)) = map
            .get(self.key)
            .map(|kind| self.find(&settings::plain(kind)))
        {
            fields.extend((kind.fields)());
        }
        for field in fields {
            if field.level == Level::Expert && map.get(field.name) == field.default.as_ref() {
                map.remove(field.name);
            }
        }
    }

    /// Reads `KIND key=value …` with the settings `common` that every kind has, and those of the kind.
    ///
    /// # Errors
    /// See [`settings::words::read`].
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

    /// Writes a table with its component in the form that [`read_words`](Self::read_words) reads. A kind that this
    /// registry does not know, for example one of a newer agent, is written with all settings.
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
