//! `lbctl man`.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use clap_mangen::Man;

use super::Context;
use crate::{cli::Cli, failure::Failure, output};

/// The arguments: a folder for the pages.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Write lbctl.1 and a page for each verb to this folder, which is created if it does not exist
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Prints lbctl(1), or writes all pages.
pub async fn run(_: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Some(dir) = &arguments.dir else {
        let mut page = Vec::new();
        Man::new(Cli::command())
            .render(&mut page)
            .map_err(|error| Failure::File {
                attempt: "generate the manual page".to_owned(),
                error,
            })?;
        return output::write(&String::from_utf8_lossy(&page));
    };
    std::fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), dir))
        .map_err(|error| Failure::File {
            attempt: format!("write manual pages to {}", dir.display()),
            error,
        })
}
