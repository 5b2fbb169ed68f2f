//! One file for each verb, with its arguments, what it asks the agent and what it prints, its `mod` line
//! and its line in the registry below, which gives its help.

use clap::Subcommand;
use lb_proto::v1::apply_request;

use crate::{
    cli::Cli,
    connect::{self, Client, Endpoint},
    failure::Failure,
    output::Output,
};

mod add_real;
mod add_vip;
mod apply;
mod completions;
mod del_real;
mod del_vip;
mod drain;
mod flows;
mod list;
mod load;
mod man;
mod ring;
mod set_real;
mod set_vip;
mod simulate;
mod stats;
mod status;
mod target;
mod undrain;
mod watch;
mod why;

/// What every verb works with.
#[derive(Debug)]
pub struct Context {
    endpoint: Endpoint,
    /// Where the answer goes.
    pub output: Output,
}

impl Context {
    /// Connects to the agent.
    ///
    /// # Errors
    /// There is no agent, or no way to it.
    pub async fn client(&self) -> Result<Client, Failure> {
        connect::connect(&self.endpoint).await
    }
}

/// A verb that changes the balancer: a script of `apply` can hold it, too.
pub trait ChangeVerb {
    /// The change as a line of a script.
    ///
    /// # Errors
    /// The arguments contradict each other, or have no place in a script.
    fn change(&self) -> Result<apply_request::Change, Failure>;
}

macro_rules! verbs {
    (
        changes { $( $(#[$change_meta:meta])* $change:ident = $change_module:ident; )* }
        others { $( $(#[$other_meta:meta])* $other:ident = $other_module:ident; )* }
    ) => {
        /// A verb that changes the balancer.
        #[derive(Debug, Subcommand)]
        pub enum Change {
            $( $(#[$change_meta])* $change(Box<$change_module::Arguments>), )*
        }

        impl Change {
            /// The change as a line of a script.
            ///
            /// # Errors
            /// As [`ChangeVerb::change`].
            pub fn request(&self) -> Result<apply_request::Change, Failure> {
                match self {
                    $( Change::$change(arguments) => arguments.change(), )*
                }
            }
        }

        /// What to do.
        #[derive(Debug, Subcommand)]
        pub enum Verb {
            /// A verb that changes the balancer.
            #[command(flatten)]
            Change(Change),
            $( $(#[$other_meta])* $other(Box<$other_module::Arguments>), )*
        }

        /// Does what the command line says.
        ///
        /// # Errors
        /// Why it could not be done.
        pub async fn run(cli: Cli) -> Result<(), Failure> {
            let context = &Context {
                endpoint: cli.endpoint,
                output: Output::new(cli.output),
            };
            match cli.verb {
                $( Verb::Change(Change::$change(arguments)) => {
                    $change_module::run(context, *arguments).await
                } )*
                $( Verb::$other(arguments) => $other_module::run(context, *arguments).await, )*
            }
        }
    };
}

verbs! {
    changes {
        /// Add a VIP
        AddVip = add_vip;
        /// Change a VIP; settings that are not given stay
        SetVip = set_vip;
        /// Delete a VIP with its reals
        DelVip = del_vip;
        /// Add a real to a VIP
        AddReal = add_real;
        /// Change a real: its weight, or what differs for it; settings that are not given stay
        SetReal = set_real;
        /// Give a real no new flows; the old ones stay
        Drain = drain;
        /// Give a drained real new flows again
        Undrain = undrain;
        /// Delete a real from its VIP; its connections end, so drain it first
        DelReal = del_real;
    }
    others {
        /// Show VIPs and their reals
        List = list;
        /// Show counters, once or again and again with rates
        Stats = stats;
        /// Show live flows per real
        Flows = flows;
        /// Show a VIP's ring, and what other weights would move
        Ring = ring;
        /// Run the loaded program on a packet and the live tables, and show what it does
        Simulate = simulate;
        /// Show why a real, or each, has the state and the weight it has
        Why = why;
        /// Show the last readings of the reals' load
        Load = load;
        /// Show the agent, its interfaces and how full the tables are
        Status = status;
        /// Show all VIPs, then each change as it happens
        Watch = watch;
        /// Run a script of changes on one stream
        #[command(after_long_help = apply::AFTER)]
        Apply = apply;
        /// Print a completion script for a shell
        Completions = completions;
        /// Print the manual, or write all its pages to a folder
        Man = man;
    }
}
