//! The law keeps the floor in a few situations.

use super::{catalogue, report};

#[test]
fn names_are_unique() {
    let mut names: Vec<String> = catalogue::all().into_iter().map(|it| it.name).collect();
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all);
    let _ = report::MOST_LOST;
}
