//! `lbctl`, a thin client of the API `lb.v1`: it parses the command line, sends a request to the agent, and prints
//! the answer. The agent validates requests.

use std::process::ExitCode;

use clap::Parser as _;

mod cli;
mod components;
mod connect;
mod failure;
mod names;
mod options;
mod output;
mod pcapng;
mod values;
mod verbs;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("lbctl: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(verbs::run(cli));
    // Do not wait for a thread that may be blocked in reading standard input.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(text) = failure.report() {
                eprintln!("lbctl: {text}");
            }
            ExitCode::from(failure.status())
        }
    }
}
