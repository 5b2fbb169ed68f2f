//! Options of the command line, derived from the settings of `lb-model`: one for each setting, with its help.

use std::marker::PhantomData;

use clap::{
    Arg, ArgAction, ArgGroup, ArgMatches, Args, Command, FromArgMatches, builder::PossibleValue,
};
use lb_model::{
    duration,
    settings::{Field, FieldError, Level, Map, Settings, Type, Value, one_of, plain, words},
};

use crate::{components, failure::Failure};

/// The word that removes a component, a table or a choice without a default.
const NONE: &str = "none";
/// The form of a list's items that are words of settings.
const TABLE: &str = "table";
/// Group of all options of a table.
pub const GROUP: &str = "settings";

/// The settings of the table `T` that a command line has. `null` resets a setting to its default.
#[derive(Clone, Debug)]
pub struct Options<T> {
    map: Map<String, Value>,
    table: PhantomData<T>,
}

impl<T: Settings> Options<T> {
    /// Builds a message of these settings.
    ///
    /// # Errors
    /// Fails if the message has no field for a setting.
    pub fn message<M: prost::Message + prost::Name + Default>(&self) -> Result<M, Failure> {
        lb_proto::settings::from_map(&self.map, &T::fields())
            .map_err(|error| Failure::Usage(error.to_string()))
    }

    /// Returns the names of these settings.
    pub fn mask(&self) -> prost_types::FieldMask {
        prost_types::FieldMask {
            paths: T::fields()
                .iter()
                .filter(|field| self.map.contains_key(field.name))
                .map(|field| field.name.to_owned())
                .collect(),
        }
    }
}

impl<T: Settings> FromArgMatches for Options<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut map = Map::new();
        for field in T::fields() {
            let Some(values) = matches.get_many::<Value>(field.name) else {
                continue;
            };
            let values: Vec<Value> = values.cloned().collect();
            let value = if is_list(&field.kind) {
                // `none` beside other values has no effect.
                Value::Array(
                    values
                        .into_iter()
                        .filter(|value| !value.is_null())
                        .collect(),
                )
            } else {
                values.into_iter().next_back().unwrap_or(Value::Null)
            };
            map.insert(field.name.to_owned(), value);
        }
        Ok(Options {
            map,
            table: PhantomData,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.map.extend(Self::from_arg_matches(matches)?.map);
        Ok(())
    }
}

impl<T: Settings> Args for Options<T> {
    fn augment_args(command: Command) -> Command {
        let fields = T::fields();
        let names: Vec<_> = fields.iter().map(|field| field.name).collect();
        command
            .args(fields.into_iter().map(option))
            .group(ArgGroup::new(GROUP).args(names).multiple(true))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn is_list(kind: &Type) -> bool {
    matches!(kind, Type::List(_))
}

/// Builds the option for a setting.
fn option(field: Field) -> Arg {
    let name = field.name;
    let arg = Arg::new(name)
        .long(name.replace('_', "-"))
        .help(help(&field))
        .hide(field.level == Level::Expert)
        .action(if is_list(&field.kind) {
            ArgAction::Append
        } else {
            ArgAction::Set
        });
    let arg = match &field.kind {
        Type::Boolean => arg
            .value_name("true|false")
            .num_args(0..=1)
            .default_missing_value("true"),
        Type::Choice(_) => arg.value_name(name.to_uppercase().replace('_', "-")),
        Type::Integer | Type::Number => arg.value_name("N").allow_negative_numbers(true),
        Type::Duration => arg.value_name("DURATION"),
        Type::Text(form) if !form.contains(' ') => arg.value_name(form.to_uppercase()),
        Type::Text(_) => arg.value_name("TEXT"),
        _ => arg.value_name("WORDS"),
    };
    if let Type::Choice(choices) = field.kind {
        let values = choices
            .iter()
            .map(|(name, help)| PossibleValue::new(*name).help(*help));
        // A choice without a default can be taken back.
        let is_optional = field.default == Some(Value::Null);
        let none = is_optional.then(|| PossibleValue::new(NONE).help("As without the setting."));
        let parser = clap::builder::PossibleValuesParser::new(values.chain(none));
        let read = move |text: String| match &*text {
            NONE if is_optional => Value::Null,
            _ => Value::String(text),
        };
        return arg.value_parser(clap::builder::TypedValueParser::map(parser, read));
    }
    arg.value_parser(move |text: &str| read(&field, text))
}

/// Returns the help of a setting, with an example of its words, its range and its default.
fn help(field: &Field) -> String {
    let mut help = field.help_line();
    if help.ends_with('.') {
        help.pop();
    }
    if let Some(example) = components::example(field.name) {
        help.push_str(&format!(", as in '{example}'"));
    }
    if is_list(&field.kind) {
        help.push_str("; repeat the option for several, or give none");
    }
    if let Some((least, most)) = &field.range {
        help.push_str(&format!(", {least} to {most}"));
    }
    match &field.default {
        Some(Value::Null) | None => {}
        Some(Value::Array(items)) if items.is_empty() => {}
        Some(Value::Object(_)) => {}
        Some(default) => help.push_str(&format!(" [default for a new one: {}]", plain(default))),
    }
    help
}

/// Returns whether the value is a negative integer, which no setting accepts.
fn is_negative_integer(field: &Field, value: &Value) -> bool {
    field.kind == Type::Integer && value.as_f64().is_some_and(|number| number < 0.0)
}

/// Returns the valid values of a setting: its range if it has one.
fn advice(field: &Field, error: Option<FieldError>) -> String {
    match (&field.range, error) {
        (Some((least, most)), _) => format!("give {least} to {most}"),
        (None, Some(error)) => error.advice,
        (None, None) => "give a whole number".to_owned(),
    }
}

/// Reads the value of a setting. The agent checks ranges, for all clients.
fn read(field: &Field, text: &str) -> Result<Value, String> {
    match &field.kind {
        Type::Duration => duration::parse(text).map(|time| Value::String(duration::format(time))),
        Type::Choice(choices) if !choices.iter().any(|(name, _)| *name == text) => {
            Err(one_of(choices))
        }
        Type::Component { .. } | Type::List(_) | Type::Table(_) if text == NONE => Ok(Value::Null),
        Type::Component { common, .. } => components::read(field.name, text, common),
        Type::List(item) => match item.as_ref() {
            Type::Component { common, .. } => components::read(field.name, text, common),
            Type::Choice(choices) if !choices.iter().any(|(name, _)| *name == text) => {
                Err(one_of(choices))
            }
            Type::Text(TABLE) => components::read_override(text),
            _ => Ok(Value::String(text.to_owned())),
        },
        Type::Table(fields) => {
            let mut table = Map::new();
            for word in words::split(text)? {
                let (name, value) = word
                    .split_once('=')
                    .ok_or_else(|| format!("`{word}` does not have the form key=value"))?;
                words::set(&mut table, fields, &name.replace('-', "_"), value)
                    .map_err(|error| error.to_string())?;
            }
            Ok(Value::Object(table))
        }
        _ => {
            let mut map = Map::new();
            let read = words::set(&mut map, std::slice::from_ref(field), field.name, text);
            match map.remove(field.name) {
                Some(value) if !is_negative_integer(field, &value) && read.is_ok() => Ok(value),
                _ => Err(advice(field, read.err())),
            }
        }
    }
}
