//! One file for each verb: its arguments, what it asks the agent, what it prints.

use crate::{
    cli::{Change, Cli, Verb},
    connect,
    failure::Failure,
    output::Output,
};

pub mod add_real;
pub mod add_vip;
pub mod apply;
pub mod completions;
pub mod del_real;
pub mod del_vip;
pub mod drain;
pub mod flows;
pub mod list;
pub mod load;
pub mod man;
mod real_options;
pub mod ring;
pub mod set_real;
pub mod set_vip;
pub mod simulate;
pub mod stats;
pub mod status;
mod target;
pub mod undrain;
mod vip_options;
pub mod watch;
pub mod why;

/// Does what the command line says.
///
/// # Errors
/// Why it could not be done.
pub async fn run(cli: Cli) -> Result<(), Failure> {
    let output = Output::new(cli.output);
    let endpoint = cli.endpoint;
    let client = || connect::connect(&endpoint);
    match cli.verb {
        Verb::Change(change) => {
            let client = client().await?;
            match change {
                Change::AddVip(arguments) => add_vip::run(client, &arguments, output).await,
                Change::SetVip(arguments) => set_vip::run(client, &arguments, output).await,
                Change::DelVip(arguments) => del_vip::run(client, &arguments, output).await,
                Change::AddReal(arguments) => add_real::run(client, &arguments, output).await,
                Change::SetReal(arguments) => set_real::run(client, &arguments, output).await,
                Change::Drain(arguments) => drain::run(client, &arguments, output).await,
                Change::Undrain(arguments) => undrain::run(client, &arguments, output).await,
                Change::DelReal(arguments) => del_real::run(client, &arguments, output).await,
            }
        }
        Verb::List(arguments) => list::run(client().await?, &arguments, output).await,
        Verb::Stats(arguments) => stats::run(client().await?, &arguments, output).await,
        Verb::Flows(arguments) => flows::run(client().await?, &arguments, output).await,
        Verb::Ring(arguments) => ring::run(client().await?, arguments, output).await,
        // What these read is checked before the agent is asked for.
        Verb::Simulate(arguments) => simulate::run(&endpoint, arguments, output).await,
        Verb::Apply(arguments) => apply::run(&endpoint, &arguments, output).await,
        Verb::Why(arguments) => why::run(client().await?, &arguments, output).await,
        Verb::Load(arguments) => load::run(client().await?, &arguments, output).await,
        Verb::Status => status::run(client().await?, output).await,
        Verb::Watch(arguments) => watch::run(client().await?, &arguments, output).await,
        Verb::Completions(arguments) => completions::run(&arguments),
        Verb::Man(arguments) => man::run(&arguments),
    }
}
