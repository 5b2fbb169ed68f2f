//! The registry of controllers.

use std::{collections::BTreeSet, path::Path};

use crate::{
    descriptions,
    spec::{Kind, Steering},
};

#[test]
fn each_kind_has_one_controller() {
    let registered: Vec<Kind> = descriptions().iter().map(|one| one.kind).collect();
    assert_eq!(registered.len(), Kind::ALL.len());
    for kind in Kind::ALL {
        assert!(registered.contains(&kind), "{kind:?}");
    }
}

#[test]
fn own_settings_exist() {
    let text = toml::to_string(&Steering::default()).unwrap();
    let known: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| Some(line.split_once(" = ")?.0))
        .collect();
    for one in descriptions() {
        for setting in one.settings {
            assert!(known.contains(setting), "{:?}: {setting}", one.kind);
        }
    }
}

#[test]
fn the_documentation_lists_each_controller() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("docs/steering.md"))
        .find(|page| page.exists())
        .expect("docs/steering.md exists in the repository");
    let page = std::fs::read_to_string(page).unwrap();
    for one in descriptions() {
        let row = format!("| `{}` | {} |", one.kind.name(), one.help);
        assert!(
            page.contains(&row),
            "docs/steering.md needs this row:\n{row}"
        );
    }
}
