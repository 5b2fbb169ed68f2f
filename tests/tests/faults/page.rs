//! The page of failures, `docs/failures.md`, against the tree.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The root of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn page() -> String {
    text("docs/failures.md")
}

/// The first and the last cell of each row of the page's tables.
fn rows(page: &str) -> Vec<(&str, &str)> {
    let mut rows = Vec::new();
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        let is_head = lines.peek().is_some_and(|next| next.starts_with("|---"));
        if is_head || line.starts_with("|---") || !line.starts_with('|') {
            continue;
        }
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let first = cells.next().unwrap();
        rows.push((first, cells.next_back().unwrap()));
    }
    rows
}

/// The words of a text that stand between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Adds the names of the functions in the Rust files below a folder.
fn add_functions(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                add_functions(&path, names);
            }
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).unwrap();
            let functions = text.split("fn ").skip(1);
            names.extend(functions.filter_map(|rest| Some(rest.split_once("()")?.0.to_owned())));
        }
    }
}

pub fn every_test_of_the_page_exists() {
    let page = page();
    let mut names = BTreeSet::new();
    add_functions(&root(), &mut names);
    let rows = rows(&page);
    assert!(rows.len() > 40, "{}", rows.len());
    for (what, tests) in rows {
        assert!(quoted(tests).next().is_some(), "no test of: {what}");
        for test in quoted(tests) {
            assert!(names.contains(test), "{what}: there is no test {test}");
        }
    }
}

/// Where each program registers its vital parts.
const PROGRAMS: [&str; 2] = [
    "lb-agent/src/commands/run.rs",
    "lb-proxy/src/commands/run.rs",
];

pub fn every_vital_part_is_on_the_page() {
    let page = page();
    let listed: Vec<&str> = rows(&page).into_iter().map(|(first, _)| first).collect();
    for path in PROGRAMS {
        let program = text(path);
        let parts = vital_parts(&program);
        assert!(parts.len() >= 5, "{path}: {parts:?}");
        for part in parts {
            assert!(listed.contains(&part), "{path}: not on the page: {part}");
        }
    }
}

/// The names of the parts that a program registers.
fn vital_parts(program: &str) -> BTreeSet<&str> {
    let constant = |name: &str| {
        let rest = program
            .split_once(&format!("const {name}: &str = \""))
            .unwrap()
            .1;
        rest.split_once('"').unwrap().0.trim_end_matches(',')
    };
    let calls = ["vital.thread(", "vital.task(", "vital.spawn(", ".watch("];
    calls
        .iter()
        .flat_map(|call| program.split(call).skip(1))
        .map(|rest| constant(rest.split_once(',').unwrap().0.trim()))
        .collect()
}

pub fn every_alert_of_the_page_exists() {
    let page = page();
    let alerts = text("docs/monitoring/alerts.yml");
    let named: BTreeSet<&str> = quoted(&page)
        .filter(|word| word.starts_with("Lb") && word.chars().all(char::is_alphanumeric))
        .collect();
    assert!(named.len() > 10, "{named:?}");
    for alert in named {
        assert!(
            alerts.contains(&format!("alert: {alert}\n")),
            "there is no alert {alert}"
        );
    }
}
