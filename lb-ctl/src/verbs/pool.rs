//! `lbctl pool`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use lb_model::settings::{Map, Value};
use lb_proto::{
    controller::v1::{self, watch_pools_response::Change},
    settings::map_to_struct,
};
use serde::Serialize;

use super::{Context, backup::write_new};
use crate::{
    connect::{AtController, Controller},
    failure::Failure,
    output::{
        self, Human, Output,
        pool::{Explanation, Pool, PoolEvent, Pools},
    },
    values::setting::{self, Setting},
};

/// The arguments: what to do, and where the controller is.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    controller: AtController,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Add a pool
    Add(Add),
    /// Change settings of a pool; the others stay as they are
    Set(Set),
    /// Show pools and their instances
    List(Maybe),
    /// Delete a pool: its instances are stopped and removed
    Del(Named),
    /// Change how many instances a pool has: N for exactly that many, or MIN..MAX
    Scale(Scale),
    /// Show why a pool has as many instances as it has, and what happened last
    Why(Named),
    /// Show pools and events as they happen
    Watch(Watch),
    /// Print the end of what an instance has printed
    Logs(Logs),
    /// Write a copy of the pools to a file, which `lb-controller restore` reads
    Backup(Backup),
}

#[derive(Args, Debug)]
struct Named {
    /// Name of the pool
    name: String,
}

#[derive(Args, Debug)]
struct Maybe {
    /// Name of the pool; without it all
    name: Option<String>,
}

#[derive(Args, Debug)]
struct Add {
    /// Name of the pool: 1 to 40 of a-z, 0-9 and -, beginning with a letter
    name: String,
    /// File with its settings, in TOML; docs/reference/pools.md describes them
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Settings, which count more than those of the file: template.image=web:1
    #[arg(value_name = "SETTING=VALUE", value_parser = setting::read)]
    settings: Vec<Setting>,
}

#[derive(Args, Debug)]
struct Set {
    /// Name of the pool
    name: String,
    /// File with settings to change, in TOML
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Settings: scaling.max=20, template.image=web:2; without a value, check=, a setting has its default again
    #[arg(value_name = "SETTING=VALUE", value_parser = setting::read)]
    settings: Vec<Setting>,
}

#[derive(Args, Debug)]
struct Scale {
    /// Name of the pool
    name: String,
    /// Number of instances: N, or MIN..MAX
    #[arg(value_name = "N|MIN..MAX", value_parser = bounds)]
    bounds: (u32, u32),
}

#[derive(Args, Debug)]
struct Watch {
    /// Name of the pool; without it all
    name: Option<String>,
    /// Begin with the events since this revision, which an event named
    #[arg(long, value_name = "REVISION")]
    since: Option<u64>,
}

#[derive(Args, Debug)]
struct Backup {
    /// A new file for the copy; `-` is standard output
    file: PathBuf,
}

/// What was written.
#[derive(Debug, Serialize)]
struct Written {
    file: String,
}

impl Human for Written {
    fn human(&self) -> String {
        format!(
            "the pools were written to {}; `lb-controller restore` reads it\n",
            self.file
        )
    }
}

#[derive(Args, Debug)]
struct Logs {
    /// Name of the instance: POOL-NUMBER-EPOCH
    name: String,
    /// Bytes at most
    #[arg(long, value_name = "BYTES", default_value_t = 65_536)]
    most: u32,
}

fn bounds(text: &str) -> Result<(u32, u32), String> {
    const FORM: &str = "give a number, or MIN..MAX";
    let number = |text: &str| text.parse::<u32>().map_err(|_| FORM.to_owned());
    let (min, max) = match text.split_once("..") {
        Some((min, max)) => (number(min)?, number(max)?),
        None => (number(text)?, number(text)?),
    };
    if min > max {
        return Err("MIN is above MAX".to_owned());
    }
    Ok((min, max))
}

/// Does it.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let output = context.output;
    let client = arguments.controller.connect().await?;
    match arguments.verb {
        Verb::Add(add) => add.run(client, output).await,
        Verb::Set(set) => {
            let patch = setting::collect(set.file.as_ref(), set.settings)?;
            update(client, output, set.name, patch).await
        }
        Verb::List(list) => show(client, output, list).await,
        Verb::Del(pool) => delete(client, pool).await,
        Verb::Scale(scale) => {
            let (min, max) = scale.bounds;
            let scaling = Map::from_iter([
                ("min".to_owned(), min.into()),
                ("max".to_owned(), max.into()),
            ]);
            let patch = Map::from_iter([("scaling".to_owned(), Value::Object(scaling))]);
            update(client, output, scale.name, patch).await
        }
        Verb::Why(pool) => why(client, output, pool).await,
        Verb::Watch(watch) => watch.run(client, output).await,
        Verb::Logs(logs) => logs.run(client).await,
        Verb::Backup(backup) => backup.run(client, output).await,
    }
}

impl Add {
    async fn run(self, mut client: Controller, output: Output) -> Result<(), Failure> {
        let settings = setting::collect(self.file.as_ref(), self.settings)?;
        let request = v1::AddPoolRequest {
            name: self.name.clone(),
            settings: Some(map_to_struct(settings)),
        };
        let pool = client
            .add_pool(request)
            .await
            .map_err(Failure::refused(format!("add pool {}", self.name)))?;
        output.print(&Pool::from(pool.get_ref()))
    }
}

async fn update(
    mut client: Controller,
    output: Output,
    name: String,
    patch: Map<String, Value>,
) -> Result<(), Failure> {
    let request = v1::UpdatePoolRequest {
        name: name.clone(),
        patch: Some(map_to_struct(setting::some(patch)?)),
    };
    let pool = client
        .update_pool(request)
        .await
        .map_err(Failure::refused(format!("change pool {name}")))?;
    output.print(&Pool::from(pool.get_ref()))
}

async fn show(mut client: Controller, output: Output, list: Maybe) -> Result<(), Failure> {
    let answer = client
        .list_pools(v1::ListPoolsRequest {
            name: list.name.unwrap_or_default(),
        })
        .await
        .map_err(Failure::refused("list pools"))?;
    let answer = answer.get_ref();
    if !output.is_human() {
        // Programs read pools; whoever runs them reads this.
        for warning in &answer.warnings {
            eprintln!("lbctl: warning: {warning}");
        }
    }
    output.print(&Pools::new(answer, output.is_wide()))
}

async fn delete(mut client: Controller, pool: Named) -> Result<(), Failure> {
    let request = v1::DeletePoolRequest {
        name: pool.name.clone(),
    };
    client
        .delete_pool(request)
        .await
        .map_err(Failure::refused(format!("delete pool {}", pool.name)))?;
    Ok(())
}

async fn why(mut client: Controller, output: Output, pool: Named) -> Result<(), Failure> {
    let request = v1::ExplainPoolRequest {
        name: pool.name.clone(),
    };
    let answer = client
        .explain_pool(request)
        .await
        .map_err(Failure::refused(format!("explain pool {}", pool.name)))?;
    output.print(&Explanation::from(answer.get_ref()))
}

impl Watch {
    async fn run(self, mut client: Controller, output: Output) -> Result<(), Failure> {
        let attempt = "watch pools";
        let request = v1::WatchPoolsRequest {
            name: self.name.unwrap_or_default(),
            since_revision: self.since.unwrap_or_default(),
        };
        let mut changes = client
            .watch_pools(request)
            .await
            .map_err(Failure::refused(attempt))?
            .into_inner();
        while let Some(change) = changes.message().await.map_err(Failure::refused(attempt))? {
            if let Some(event) = PoolEvent::of(change.change.as_ref()) {
                output.print_item(&event)?;
            }
            if let Some(Change::SnapshotEnd(end)) = &change.change
                && self.since.is_some()
                && !end.resumed
            {
                eprintln!("some events since then are not known any more");
            }
        }
        Err(Failure::refused(attempt)(tonic::Status::unavailable(
            "the controller ended the stream",
        )))
    }
}

impl Backup {
    async fn run(self, mut client: Controller, output: Output) -> Result<(), Failure> {
        let attempt = "copy the pools";
        let lines = client.backup(v1::BackupRequest {}).await;
        let mut lines = lines.map_err(Failure::refused(attempt))?.into_inner();
        let mut text = String::new();
        while let Some(more) = lines.message().await.map_err(Failure::refused(attempt))? {
            text += &more.text;
        }
        if self.file.as_os_str() == "-" {
            return output::write(&text);
        }
        let file = self.file.display().to_string();
        write_new(&self.file, &text).map_err(|error| Failure::File {
            attempt: format!("write {file}"),
            error,
        })?;
        output.print(&Written { file })
    }
}

impl Logs {
    async fn run(self, mut client: Controller) -> Result<(), Failure> {
        use std::io::Write as _;
        let answer = client
            .get_logs(v1::GetLogsRequest {
                name: self.name.clone(),
                most: self.most,
            })
            .await
            .map_err(Failure::refused(format!(
                "show what {} has printed",
                self.name
            )))?;
        std::io::stdout()
            .write_all(&answer.get_ref().text)
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::BrokenPipe => Failure::ClosedPipe,
                _ => Failure::File {
                    attempt: "print the answer".to_owned(),
                    error,
                },
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_numbers_or_ranges() {
        assert_eq!(bounds("3"), Ok((3, 3)));
        assert_eq!(bounds("2..8"), Ok((2, 8)));
        for bad in ["", "a", "8..2", "2..", "-1"] {
            assert!(bounds(bad).is_err(), "{bad}");
        }
    }
}
