//! The driver `exec`, with a program that operates processes ([`operator`](crate::operator)).

use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc};

use anyhow::ensure;
use lb_drivers::{Driver, ErrorCode, Owned, exec::ExecDriver, exec::Settings};
use lb_model::pool::Launch;

use crate::{
    conformance::{self, Subject, script},
    operator,
    process::{Processes, runtime},
};

struct Programs {
    /// The folder, the owner's name and the groups of what the program operates.
    processes: Processes,
}

impl Programs {
    fn new(name: &str) -> anyhow::Result<Self> {
        Ok(Programs {
            processes: Processes::new(name)?,
        })
    }

    fn owned(&self, owner: &str) -> Owned {
        Owned {
            allow_exec: true,
            receive_at: None,
            ..self.processes.owned(owner)
        }
    }

    fn settings(&self) -> anyhow::Result<Settings> {
        let folder = self.processes.folder.path().display().to_string();
        Ok(Settings {
            program: std::env::current_exe()?,
            arguments: vec![operator::WORD.to_owned(), folder],
        })
    }
}

impl Subject for Programs {
    fn open(&mut self, owner: &str) -> anyhow::Result<Arc<dyn Driver>> {
        Ok(Arc::new(ExecDriver::open(
            &self.settings()?,
            &self.owned(owner),
        )?))
    }

    fn launch(&self, name: &str, text: &str) -> Launch {
        script(name, text)
    }

    fn sees_endings(&self) -> bool {
        // Whoever started a process learns its status, and that program has ended.
        false
    }
}

pub fn conforms() -> anyhow::Result<()> {
    let mut programs = Programs::new("exec")?;
    let owner = programs.processes.owner.clone();
    runtime()?.block_on(conformance::conforms(&mut programs, &owner))
}

pub fn is_off_unless_allowed() -> anyhow::Result<()> {
    let programs = Programs::new("off")?;
    let owned = Owned {
        allow_exec: false,
        receive_at: None,
        ..programs.owned("main")
    };
    let error = ExecDriver::open(&programs.settings()?, &owned).unwrap_err();
    ensure!(error.to_string().contains("--exec-drivers"), "{error}");
    Ok(())
}

pub fn what_goes_wrong_is_said() -> anyhow::Result<()> {
    let programs = Programs::new("wrong")?;
    let program = programs.processes.folder.path().join("program");
    let settings = Settings {
        program: program.clone(),
        arguments: Vec::new(),
    };
    runtime()?.block_on(async {
        for (text, code, words) in [
            ("#!/bin/sh\necho broken >&2; exit 4\n", ErrorCode::Failed, "it ended with 4: broken"),
            ("#!/bin/sh\necho no json\n", ErrorCode::Failed, "its answer cannot be read"),
            (
                "#!/bin/sh\necho '{\"error\":{\"code\":\"no_room\",\"text\":\"the rack is full\"}}'\n",
                ErrorCode::NoRoom,
                "no room for web-1-1: the rack is full",
            ),
            ("#!/there/is/none\n", ErrorCode::Unreachable, "No such file"),
        ] {
            fs::write(&program, text)?;
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
            let driver = ExecDriver::open(&settings, &programs.owned("main"))?;
            let error = driver.create(&script("web-1-1", "")).await.unwrap_err();
            assert_eq!(error.code(), code, "{error}");
            ensure!(error.to_string().contains(words), "{error}");
        }
        Ok(())
    })
}
