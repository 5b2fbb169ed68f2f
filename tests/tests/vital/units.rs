//! The units for systemd in the documentation.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use lb_tests::binary;

/// The folder of the installed programs in units.
const INSTALLED: &str = "/usr/local/bin/";

/// What every unit must have.
const SETTINGS: [&str; 6] = [
    "Type=notify",
    "Restart=always",
    "RestartSec=",
    "StartLimitIntervalSec=0",
    "CapabilityBoundingSet=",
    "NoNewPrivileges=yes",
];

/// A unit in the documentation.
struct Unit {
    /// The file it stands in.
    path: PathBuf,
    /// The name of its service.
    name: String,
    text: String,
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// The files of `folder` and of the folders in it whose names end like this.
fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|name| name == extension) {
            found.push(path);
        }
    }
}

/// The files that are units, and the code blocks of pages that are.
fn units() -> Vec<Unit> {
    let mut units = Vec::new();
    let mut paths = Vec::new();
    files(&docs(), "service", &mut paths);
    files(&docs(), "md", &mut paths);
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.ends_with(".service") {
            let name = name.to_owned();
            units.push(Unit { path, name, text });
            continue;
        }
        let blocks = text.split("```").skip(1).step_by(2);
        for (number, block) in blocks.enumerate() {
            if !block.contains("[Service]") {
                continue;
            }
            // The first line is the language of the block.
            let (_, text) = block.split_once('\n').unwrap();
            units.push(Unit {
                path: path.clone(),
                name: format!("{}-{number}.service", name.trim_end_matches(".md")),
                text: text.to_owned(),
            });
        }
    }
    units
}

pub fn the_units_are_right() {
    let units = units();
    assert!(units.len() >= 5, "{}", units.len());
    let folder = tempfile::tempdir().unwrap();
    let page = fs::read_to_string(docs().join("operations.md")).unwrap();
    for Unit { path, name, text } in units {
        let shown = path.display();
        if path.extension().is_some_and(|name| name == "service") {
            let link = format!("systemd/{name}");
            assert!(page.contains(&link), "{shown} is not in operations.md");
        }
        for setting in SETTINGS {
            let has = text.lines().any(|line| line.starts_with(setting));
            assert!(has, "{shown}: {name} lacks {setting}");
        }
        // The program is not installed here.
        let program = match name.as_str() {
            "lb-proxy.service" => "lb-proxy",
            "lb-controller.service" => "lb-controller",
            _ => "lb-agent",
        };
        let installed = format!("{INSTALLED}{program}");
        assert!(text.contains(&installed), "{shown}");
        let built = binary(program).unwrap().display().to_string();
        let copy = folder.path().join(&name);
        fs::write(&copy, text.replace(&installed, &built)).unwrap();
        let output = Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .arg(&copy)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        // It also complains about other units of the machine.
        let about: Vec<&str> = said.lines().filter(|line| line.contains(&name)).collect();
        assert!(
            output.status.success() && about.is_empty(),
            "{shown}: {said}"
        );
    }
}
