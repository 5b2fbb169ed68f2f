//! Changes of the configuration file that are ordered while the proxy runs. The file stays the source: a change is made in its
//! text, where everything else, comments included, stays as it is; the new text is checked, and takes the old one's place at once.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use lb_model::settings::{Map, Value};
use serde::Deserialize;
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table};

use super::{Config, ConfigError};

/// A change.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Edit {
    /// A service, with its settings and its `member` tables.
    AddService(Map<String, Value>),
    /// The service of this name goes.
    RemoveService(String),
    /// A route. One for the same host and path goes to the new service.
    SetRoute(Map<String, Value>),
    /// The route for this host and path goes.
    RemoveRoute {
        /// The host; none for all.
        #[serde(default)]
        host: Option<String>,
        /// The beginning of the path.
        path: String,
    },
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// There is nothing to change, or it is there already.
    #[error("{0}")]
    Refused(String),
    /// The file with the change would be wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The file cannot be written.
    #[error("writing {}: {error}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

/// Changes the configuration file, and returns the text that it had.
///
/// # Errors
/// See [`EditError`]; the file is as it was then.
pub fn edit(path: &Path, edit: &Edit) -> Result<String, EditError> {
    let text = lb_model::document::read(path).map_err(ConfigError::from)?;
    // What is wrong already is said with its line.
    Config::parse(&text, path)?;
    let changed = apply(&text, edit).map_err(EditError::Refused)?;
    Config::parse(&changed, path)?;
    replace(path, &changed).map_err(|error| EditError::Write {
        path: path.to_owned(),
        error,
    })?;
    Ok(text)
}

/// Puts a new text in the place of a file, whole or not at all. The file keeps its permissions and its owner, and stays where a
/// symbolic link leads to.
///
/// # Errors
/// If a file cannot be written beside it; it is as it was then.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    let metadata = fs::metadata(&path)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let written = (|| {
        let mut file = File::create(&new)?;
        file.set_permissions(metadata.permissions())?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        keep_owner(&file, &metadata)?;
        fs::rename(&new, &path)
    })();
    if written.is_err() {
        // It may never have been made.
        let _ = fs::remove_file(&new);
    }
    written
}

fn keep_owner(file: &File, metadata: &fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, fchown};
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (metadata.uid(), metadata.gid()) {
        fchown(file, Some(metadata.uid()), Some(metadata.gid()))?;
    }
    Ok(())
}

/// Makes a change in the text of a file that was checked.
fn apply(text: &str, edit: &Edit) -> Result<String, String> {
    let mut document: DocumentMut = text.parse().map_err(|error| format!("{error}"))?;
    match edit {
        Edit::AddService(settings) => {
            let name = text_of(settings, "name").unwrap_or_default();
            let services = tables(&mut document, "service")?;
            if position(services, &[("name", Some(name))]).is_some() {
                return Err(format!(
                    "there is a service {name} already; remove it first, or change it in the file"
                ));
            }
            services.push(table(settings));
        }
        Edit::RemoveService(name) => {
            let services = tables(&mut document, "service")?;
            let at = position(services, &[("name", Some(name))])
                .ok_or_else(|| format!("there is no service {name}"))?;
            services.remove(at);
            for (list, what) in [("route", "route"), ("listener", "listener")] {
                let users = tables(&mut document, list)?;
                if position(users, &[("service", Some(name))]).is_some() {
                    return Err(format!(
                        "a {what} names service {name}; remove it first (`lbctl http list` shows routes)"
                    ));
                }
            }
        }
        Edit::SetRoute(settings) => {
            let (host, path) = (text_of(settings, "host"), path_of(settings));
            let routes = tables(&mut document, "route")?;
            match position(routes, &[("host", host), ("path", Some(path))]) {
                Some(at) => {
                    if let Some(route) = routes.get_mut(at) {
                        for (name, value) in settings {
                            route.insert(name, item(value));
                        }
                    }
                }
                None => routes.push(table(settings)),
            }
        }
        Edit::RemoveRoute { host, path } => {
            let routes = tables(&mut document, "route")?;
            let at = position(routes, &[("host", host.as_deref()), ("path", Some(path))])
                .ok_or_else(|| {
                    let host = host.as_deref().unwrap_or("every host");
                    format!("there is no route for {host} and {path}; `lbctl http list` shows them")
                })?;
            routes.remove(at);
        }
    }
    // An empty list is written as one, and read as a setting that does not exist.
    for list in ["service", "route"] {
        if document[list]
            .as_array_of_tables()
            .is_some_and(ArrayOfTables::is_empty)
        {
            document.remove(list);
        }
    }
    Ok(document.to_string())
}

fn text_of<'a>(settings: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    settings.get(name).and_then(Value::as_str)
}

/// The path of a route, which is `/` where it is not given.
fn path_of(settings: &Map<String, Value>) -> &str {
    text_of(settings, "path").unwrap_or("/")
}

/// The tables of a list, which is made if there is none.
fn tables<'a>(document: &'a mut DocumentMut, list: &str) -> Result<&'a mut ArrayOfTables, String> {
    document
        .entry(list)
        .or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()))
        .as_array_of_tables_mut()
        .ok_or_else(|| format!("{list} is not written as [[{list}]] in the file; change it there"))
}

/// The table that has these texts; a route's path that is not given is `/`, and hosts are compared as names are.
fn position(tables: &ArrayOfTables, wanted: &[(&str, Option<&str>)]) -> Option<usize> {
    let has = |table: &Table, name: &str, wanted: Option<&str>| {
        let value = table.get(name).and_then(Item::as_str);
        match (name, wanted) {
            ("path", Some(wanted)) => {
                value.unwrap_or("/").trim_end_matches('/') == wanted.trim_end_matches('/')
            }
            ("host", _) => match (value, wanted) {
                (Some(value), Some(wanted)) => value.eq_ignore_ascii_case(wanted),
                (value, wanted) => value.is_none() && wanted.is_none(),
            },
            _ => value == wanted,
        }
    };
    tables
        .iter()
        .position(|table| wanted.iter().all(|(name, value)| has(table, name, *value)))
}

fn table(settings: &Map<String, Value>) -> Table {
    let mut table = Table::new();
    for (name, value) in settings {
        table.insert(name, item(value));
    }
    table
}

/// A setting as the file has it: lists of tables, such as the members of a service, are tables of their own.
fn item(value: &Value) -> Item {
    match value {
        Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_object) => {
            Item::ArrayOfTables(
                items
                    .iter()
                    .filter_map(Value::as_object)
                    .map(table)
                    .collect(),
            )
        }
        Value::Object(map) => Item::Value(inline(map).into()),
        value => plain(value).map_or(Item::None, Item::Value),
    }
}

fn inline(map: &Map<String, Value>) -> InlineTable {
    let mut table = InlineTable::new();
    for (name, value) in map {
        if let Some(value) = plain(value) {
            table.insert(name, value);
        }
    }
    table
}

/// A value; `None` for null, which a file does not have.
fn plain(value: &Value) -> Option<toml_edit::Value> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => whole.into(),
            (None, Some(fraction)) => fraction.into(),
            (None, None) => return None,
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().filter_map(plain).collect::<Array>().into(),
        Value::Object(map) => inline(map).into(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FILE: &str = "# Ours.\nadmin = \"127.0.0.1:9470\"\n\n[[listener]]\naddress = \"127.0.0.1:8080\" # clients\n\n\
                        [[route]]\nhost = \"www.example.com\"\nservice = \"web\"\n\n[[service]]\nname = \"web\"\n\
                        [[service.member]]\naddress = \"127.0.0.1:9001\"\n";

    fn read(value: Value) -> Edit {
        serde_json::from_value(value).unwrap()
    }

    fn changed(text: &str, value: Value) -> Result<(String, Config), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("proxy.toml");
        fs::write(&path, text).unwrap();
        let done = edit(&path, &read(value));
        let after = fs::read_to_string(&path).unwrap();
        let files = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(files, 1, "nothing else is left");
        match done {
            Ok(before) => {
                assert_eq!(before, text);
                let config = Config::parse(&after, &path).unwrap();
                Ok((after, config))
            }
            Err(error) => {
                assert_eq!(after, text, "nothing has changed");
                Err(error.to_string())
            }
        }
    }

    #[test]
    fn a_service_and_a_route_are_added_and_removed_and_the_rest_stays() {
        let (text, config) = changed(
            FILE,
            json!({ "add-service": {
                "name": "shop", "choice": "round-robin", "cache": { "items": 10 },
                "member": [{ "address": "127.0.0.1:9002" }, { "address": "127.0.0.1:9003", "weight": 7 }],
            }}),
        )
        .unwrap();
        assert!(text.starts_with(FILE), "{text}");
        let shop = &config.services["shop"];
        assert_eq!(shop.members[1].weight, 7);
        assert_eq!(shop.settings.cache.as_ref().unwrap().items, 10);
        let (text, config) = changed(
            &text,
            json!({ "set-route": { "host": "shop.example.com", "path": "/buy", "service": "shop" } }),
        )
        .unwrap();
        assert_eq!(config.routes.len(), 2);
        // The same place again: another service.
        let (text, config) = changed(
            &text,
            json!({ "set-route": { "host": "SHOP.example.com", "path": "/buy/", "service": "web" } }),
        )
        .unwrap();
        let services: Vec<&str> = config.routes.iter().map(|one| &one.service[..]).collect();
        assert_eq!(services, ["web", "web"]);
        let (text, _) = changed(
            &text,
            json!({ "remove-route": { "host": "shop.example.com", "path": "/buy" } }),
        )
        .unwrap();
        let (text, config) = changed(&text, json!({ "remove-service": "shop" })).unwrap();
        assert_eq!(config, Config::parse(FILE, Path::new("f")).unwrap());
        assert!(
            text.contains("# Ours.") && text.contains("# clients"),
            "{text}"
        );
        // The last ones can go, too.
        let (text, _) = changed(
            &text,
            json!({ "remove-route": { "host": "www.example.com", "path": "/" } }),
        )
        .unwrap();
        let (_, config) = changed(&text, json!({ "remove-service": "web" })).unwrap();
        assert!(config.services.is_empty() && config.routes.is_empty());
    }

    #[test]
    fn what_would_be_wrong_is_refused_and_changes_nothing() {
        for (value, words) in [
            (
                json!({ "add-service": { "name": "web" } }),
                "a service web already",
            ),
            (
                json!({ "add-service": { "name": "shop", "chioce": "x" } }),
                "no such setting",
            ),
            (json!({ "add-service": { "choice": "score" } }), "name"),
            (
                json!({ "remove-service": "web" }),
                "a route names service web",
            ),
            (json!({ "remove-service": "shop" }), "no service shop"),
            (
                json!({ "set-route": { "service": "shop" } }),
                "no service of this name",
            ),
            (
                json!({ "set-route": { "service": "web", "path": "x" } }),
                "begin with /",
            ),
            (
                json!({ "remove-route": { "path": "/" } }),
                "no route for every host and /",
            ),
        ] {
            let error = changed(FILE, value.clone()).unwrap_err();
            assert!(error.contains(words), "{value}: {error}");
        }
        let inline = "service = [{ name = \"web\" }]\n";
        let error = changed(inline, json!({ "add-service": { "name": "shop" } })).unwrap_err();
        assert!(error.contains("not written as [[service]]"), "{error}");
    }

    #[test]
    fn the_file_keeps_its_permissions_and_its_link() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (
            folder.path().join("real.toml"),
            folder.path().join("proxy.toml"),
        );
        fs::write(&file, FILE).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("real.toml", &link).unwrap();
        edit(&link, &read(json!({ "add-service": { "name": "shop" } }))).unwrap();
        assert!(link.is_symlink());
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o640
        );
        assert!(fs::read_to_string(&file).unwrap().contains("shop"));
    }
}
