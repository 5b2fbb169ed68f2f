//! Verbs. A verb is a file with its arguments, its request and its output, a `mod` line, and a line in the registry
//! below, which has its help.

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
mod audit;
mod backup;
mod capture;
mod command;
mod completions;
mod del_real;
mod del_vip;
mod diff;
mod doctor;
mod drain;
mod env;
mod flows;
mod history;
mod host;
mod http;
mod instance;
mod lb;
mod list;
mod load;
mod man;
mod orphans;
mod pool;
mod project;
mod reload;
mod ring;
mod set_real;
mod set_vip;
mod simulate;
mod stats;
mod status;
mod subnet;
mod target;
mod token;
mod trace;
mod undrain;
mod user;
mod watch;
mod why;

/// What every verb needs.
#[derive(Debug)]
pub struct Context {
    endpoint: Endpoint,
    /// The output.
    pub output: Output,
}

impl Context {
    /// Connects to the agent.
    ///
    /// # Errors
    /// Fails if the agent cannot be reached.
    pub async fn client(&self) -> Result<Client, Failure> {
        connect::connect(&self.endpoint).await
    }
}

/// A verb that changes the balancer. Scripts of `apply` can contain it.
pub trait ChangeVerb {
    /// Returns the change as a line of a script.
    ///
    /// # Errors
    /// Fails if the arguments contradict each other or are not allowed in a script.
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
            /// Returns the change as a line of a script.
            ///
            /// # Errors
            /// See [`ChangeVerb::change`].
            pub fn request(&self) -> Result<apply_request::Change, Failure> {
                match self {
                    $( Change::$change(arguments) => arguments.change(), )*
                }
            }
        }

        /// A verb.
        #[derive(Debug, Subcommand)]
        pub enum Verb {
            /// A verb that changes the balancer.
            #[command(flatten)]
            Change(Change),
            $( $(#[$other_meta])* $other(Box<$other_module::Arguments>), )*
        }

        /// Runs the verb of the command line.
        ///
        /// # Errors
        /// Returns why the verb failed.
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
        /// Change settings of a VIP; the others stay as they are
        SetVip = set_vip;
        /// Delete a VIP with its reals
        DelVip = del_vip;
        /// Add a real to a VIP
        AddReal = add_real;
        /// Change settings of a real; the others stay as they are
        SetReal = set_real;
        /// Give a real no new flows; its established flows stay
        Drain = drain;
        /// Give a drained real new flows again
        Undrain = undrain;
        /// Delete a real from its VIP; its connections end, so drain it first
        DelReal = del_real;
    }
    others {
        /// Show VIPs and their reals
        List = list;
        /// Show counters, once or repeatedly with rates
        Stats = stats;
        /// Show live flows per real
        Flows = flows;
        /// Show a VIP's ring, and how much of it other weights would move
        Ring = ring;
        /// Run the loaded program on a packet with the live tables, and show the result
        Simulate = simulate;
        /// Show where packets of a flow go, and why: VIP, slot, real, and their counters
        Trace = trace;
        /// Write packets as they come and as they leave to a file, with the reason and the real of each
        Capture = capture;
        /// Show why a real, or every real, has its state and its weight
        Why = why;
        /// Show the last load readings of the reals
        Load = load;
        /// Show the agent, its interfaces and how full the tables are
        Status = status;
        /// Look for what may be wrong with the balancer, and say what mends it
        Doctor = doctor;
        /// Show all VIPs, then changes as they happen
        Watch = watch;
        /// Apply a script of changes on one stream
        #[command(after_long_help = apply::AFTER)]
        Apply = apply;
        /// Have the agent read its configuration file again: the objects that belong to the file follow it
        Reload = reload;
        /// Show what a configuration file would change, and the share of new flows that would move
        Diff = diff;
        /// Write a copy of all VIPs and reals to a file, for `lb-agent restore`
        Backup = backup;
        /// Add, change, show and delete pools of instances, by their controller
        Pool = pool;
        /// Pause, suspend, resume, reboot, clone and move instances of pools, by their controller
        Instance = instance;
        /// Add, change, show and delete projects, by their controller
        Project = project;
        /// Add, change, show and delete load balancers of projects, by their controller
        Lb = lb;
        /// Add, show, drain and remove hosts that run instances, by their controller
        Host = host;
        /// Show what a controller has made and nothing refers to any more
        Orphans = orphans;
        /// Create, change, show and destroy environments, which are groups of pools and load balancers, by their controller
        Env = env;
        /// Show, cancel, retry and watch commands of the controller's queue
        Command = command;
        /// Add, change, show and delete networks of projects, by their controller
        Subnet = subnet;
        /// Show what pools, load balancers and instances carried, or draw it
        History = history;
        /// Add, show and remove users of a controller, and set their passwords
        User = user;
        /// Make, show and remove tokens of a controller
        Token = token;
        /// Show who changed what at a controller
        Audit = audit;
        /// Show what an lb-proxy serves and why, and purge its caches
        Http = http;
        /// Print a completion script for a shell
        Completions = completions;
        /// Print the manual, or write all its pages to a folder
        Man = man;
    }
}
