//! The units for systemd in the documentation.

use std::{fs, path::Path, process::Command};

use lb_tests::binary;

/// The folder of the units.
fn units() -> Vec<std::path::PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/systemd");
    let mut units: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|name| name == "service"))
        .collect();
    units.sort();
    units
}

pub fn the_units_are_right() {
    let units = units();
    assert_eq!(units.len(), 4, "{units:?}");
    let folder = tempfile::tempdir().unwrap();
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md"))
            .unwrap();
    for unit in units {
        let name = unit.file_name().unwrap().to_str().unwrap();
        assert!(
            page.contains(&format!("systemd/{name}")),
            "{name} is not in operations.md"
        );
        let text = fs::read_to_string(&unit).unwrap();
        for setting in [
            "Type=notify",
            "Restart=always",
            "RestartSec=",
            "StartLimitIntervalSec=0",
            "CapabilityBoundingSet=",
            "NoNewPrivileges=yes",
        ] {
            assert!(text.contains(setting), "{name} lacks {setting}");
        }
        // The programs are not installed here.
        let program = match name {
            "lb-proxy.service" => "lb-proxy",
            _ => "lb-agent",
        };
        let installed = format!("/usr/local/bin/{program}");
        assert!(text.contains(&installed), "{name}");
        let built = binary(program).unwrap().display().to_string();
        let copy = folder.path().join(name);
        fs::write(&copy, text.replace(&installed, &built)).unwrap();
        let output = Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .arg(&copy)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        // It also complains about other units of the machine.
        let about: Vec<&str> = said.lines().filter(|line| line.contains(name)).collect();
        assert!(
            output.status.success() && about.is_empty(),
            "{name}: {said}"
        );
    }
}
