//! The command line: verbs with their arguments. Help, manual pages and completions are generated from it.

use clap::Parser;

use crate::{connect::Endpoint, output::Format, verbs::Verb};

/// Text at the end of each long help and of the manual.
const AFTER: &str = "\
Exit status: 0; 1 when the agent refused, failed or was not reached; 2 when the
command line was wrong.

A VIP is written ADDRESS:PORT/PROTOCOL, as in 10.0.0.1:80/tcp and
[2001:db8::1]:443/udp; port 0 is any port.
A duration is a number with a unit, or several: 500ms, 90s, 15m, 1h30m, 2d.

Example:
  lbctl add-vip 10.0.0.1:80/tcp
  lbctl add-real 10.0.0.1:80/tcp 10.1.0.2 --weight 200
  lbctl stats 10.0.0.1:80/tcp --watch";

/// Controls a load balancer through its agent.
#[derive(Debug, Parser)]
#[command(name = "lbctl", version, after_long_help = AFTER, max_term_width = 100)]
pub struct Cli {
    /// Where the agent listens: unix:PATH or http://HOST:PORT
    #[arg(
        long,
        global = true,
        env = "LB_ENDPOINT",
        value_name = "URI",
        default_value = "unix:/run/lb-agent/api.sock"
    )]
    pub endpoint: Endpoint,

    /// How answers are printed
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        default_value_t = Format::Table
    )]
    pub output: Format,

    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, error::ErrorKind};

    use super::*;

    const VIP: &str = "10.0.0.1:80/tcp";

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("lbctl").chain(line.split_whitespace()))
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn right_command_lines_are_read() {
        for line in [
            "add-vip 10.0.0.1:80/tcp",
            "add-vip [2001:db8::1]:443/udp --forward l2 --ring maglev --track all --window 90s --slots 4096",
            "set-vip 10.0.0.1:0/tcp --window 1h30m",
            "del-vip 10.0.0.1:80/tcp",
            "add-real 10.0.0.1:80/tcp 10.1.0.2",
            "add-real 10.0.0.1:80/tcp 2001:db8::2 --weight 0",
            "set-real 10.0.0.1:80/tcp 10.1.0.2 --weight 65535",
            "drain 10.0.0.1:80/tcp 10.1.0.2",
            "drain 10.0.0.1:80/tcp 10.1.0.2 --wait 15m",
            "undrain 10.0.0.1:80/tcp 10.1.0.2",
            "why",
            "why 10.1.0.2",
            "why 10.1.0.2 10.0.0.1:80/tcp",
            "load",
            "add-vip 10.0.0.1:80/tcp --on-down reset --when-empty 10.0.0.2:80/tcp --check tcp --load none",
            "del-real 10.0.0.1:80/tcp 10.1.0.2",
            "list",
            "list 10.0.0.1:80/tcp",
            "stats",
            "stats 10.0.0.1:80/tcp --watch --interval 100ms",
            "flows",
            "ring 10.0.0.1:80/tcp",
            "ring 10.0.0.1:80/tcp --what-if 10.1.0.2=50 10.1.0.3=0 --what-if 2001:db8::3=7",
            "simulate --packet - --iface eth0",
            "status",
            "watch 10.0.0.1:80/tcp",
            "apply",
            "apply script",
            "completions bash",
            "man --dir pages",
            // The agent rejects these, with the name of the field.
            "add-vip 224.0.0.1:80/tcp",
            "add-real 10.0.0.1:80/tcp 10.1.0.2 --weight 65536",
        ] {
            if let Err(error) = parse(line) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn wrong_command_lines_are_refused() {
        for (line, kind) in [
            ("", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            ("frobnicate", ErrorKind::InvalidSubcommand),
            ("add-vip", ErrorKind::MissingRequiredArgument),
            ("add-vip 10.0.0.1:80", ErrorKind::ValueValidation),
            (
                "add-vip 10.0.0.1:80/tcp --window 90",
                ErrorKind::ValueValidation,
            ),
            (
                "add-vip 10.0.0.1:80/tcp --slots -1",
                ErrorKind::ValueValidation,
            ),
            (
                "add-vip 10.0.0.1:80/tcp --forward gre",
                ErrorKind::InvalidValue,
            ),
            (
                "set-vip 10.0.0.1:80/tcp",
                ErrorKind::MissingRequiredArgument,
            ),
            (
                "add-real 10.0.0.1:80/tcp",
                ErrorKind::MissingRequiredArgument,
            ),
            (
                "add-real 10.0.0.1:80/tcp 10.1.0",
                ErrorKind::ValueValidation,
            ),
            (
                "add-real 10.0.0.1:80/tcp 10.1.0.2 --weight many",
                ErrorKind::ValueValidation,
            ),
            (
                "set-real 10.0.0.1:80/tcp 10.1.0.2",
                ErrorKind::MissingRequiredArgument,
            ),
            ("stats --interval 1s", ErrorKind::MissingRequiredArgument),
            ("ring", ErrorKind::MissingRequiredArgument),
            (
                "ring 10.0.0.1:80/tcp --what-if 10.1.0.2",
                ErrorKind::ValueValidation,
            ),
            ("simulate", ErrorKind::MissingRequiredArgument),
            ("simulate --packet 00 --flow x", ErrorKind::ValueValidation),
            (
                "simulate --packet 00 --flags ack",
                ErrorKind::ArgumentConflict,
            ),
            ("status 10.0.0.1:80/tcp", ErrorKind::UnknownArgument),
            ("completions basic", ErrorKind::InvalidValue),
            ("-o xml list", ErrorKind::InvalidValue),
            ("--endpoint ftp://x list", ErrorKind::ValueValidation),
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.kind(), kind, "{line}: {error}");
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn common_options_stand_before_and_after_the_verb() {
        for line in [
            format!("--endpoint unix:/x -o json list {VIP}"),
            format!("list {VIP} --endpoint unix:/x -o json"),
            format!("list -o json {VIP} --endpoint=unix:/x"),
            format!("--output=json list --endpoint unix:/x {VIP}"),
        ] {
            let cli = parse(&line).unwrap();
            assert_eq!(
                (cli.output, cli.endpoint),
                (Format::Json, "unix:/x".parse().unwrap()),
                "{line}"
            );
        }
    }
}
