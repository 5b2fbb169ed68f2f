//! `lbctl simulate`.

use clap::Args;
use futures::{StreamExt as _, TryStreamExt as _, future};
use lb_model::vip::Protocol;
use lb_proto::v1;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio_stream::wrappers::LinesStream;

use super::Context;
use crate::{
    connect::Client,
    failure::Failure,
    output::{Output, simulation::Simulation},
    values::{
        flow::Flow,
        frame::{self, TcpFlag},
        hex,
    },
};

/// Requests that are sent without waiting for the answers to earlier ones.
const IN_FLIGHT: usize = 32;

/// The arguments: a packet, or a flow to build it from.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("input").args(["packet", "flow"]).required(true))]
pub struct Arguments {
    /// An Ethernet frame in hexadecimal digits; `-` reads a frame per line from standard input
    #[arg(long, value_name = "HEX")]
    packet: Option<String>,
    /// A flow, of which lbctl builds a packet, as in "tcp 198.51.100.7:40000 -> 10.0.0.1:80"
    #[arg(long)]
    flow: Option<Flow>,
    /// Flags of the flow's TCP packet, as in syn,ack [default: syn]
    #[arg(long, value_enum, value_delimiter = ',', conflicts_with = "packet")]
    flags: Vec<TcpFlag>,
    /// The interface that the packet arrives on [default: the agent's first]
    #[arg(long)]
    iface: Option<String>,
}

/// Prints what the program would do with each packet.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let output = context.output;
    let interface = arguments.iface.unwrap_or_default();
    let packet = match (&arguments.packet, &arguments.flow) {
        (Some(dash), _) if dash == "-" => {
            let client = context.client().await?;
            return each_line(client, interface, output).await;
        }
        (Some(digits), _) => hex::read(digits).map_err(Failure::Usage)?,
        (None, Some(flow)) => {
            let flags: &[TcpFlag] = match (flow.protocol, arguments.flags.as_slice()) {
                (Protocol::Udp | Protocol::Sctp, []) => &[],
                (Protocol::Udp | Protocol::Sctp, _) => {
                    return Err(Failure::Usage(
                        "--flags: only TCP packets have flags".to_owned(),
                    ));
                }
                (_, []) => &[TcpFlag::Syn],
                (_, flags) => flags,
            };
            frame::build(flow, flags)
        }
        (None, None) => {
            return Err(Failure::Usage(
                "give a packet with --packet or --flow".to_owned(),
            ));
        }
    };
    let client = context.client().await?;
    let simulation = simulate(client, packet, interface, "simulate the packet".to_owned()).await?;
    output.print(&simulation)
}

/// Prints answers in the order of the lines, each as soon as it arrives: the writer of standard input may wait for an
/// answer before it writes the next line.
async fn each_line(client: Client, interface: String, output: Output) -> Result<(), Failure> {
    let lines = LinesStream::new(BufReader::new(tokio::io::stdin()).lines());
    (lines.enumerate())
        .filter(|(_, line)| future::ready(!matches!(line, Ok(line) if line.trim().is_empty())))
        .map(|(index, line)| {
            let (client, interface) = (client.clone(), interface.clone());
            let number = index + 1;
            async move {
                let line = line.map_err(|error| Failure::File {
                    attempt: "read standard input".to_owned(),
                    error,
                })?;
                let packet = hex::read(&line)
                    .map_err(|error| Failure::Usage(format!("line {number}: {error}")))?;
                simulate(
                    client,
                    packet,
                    interface,
                    format!("simulate the packet of line {number}"),
                )
                .await
            }
        })
        .buffered(IN_FLIGHT)
        .try_for_each(async |simulation| output.print_item(&simulation))
        .await
}

async fn simulate(
    mut client: Client,
    packet: Vec<u8>,
    interface: String,
    attempt: String,
) -> Result<Simulation, Failure> {
    let simulation = client
        .simulate(v1::SimulateRequest { packet, interface })
        .await
        .map_err(Failure::refused(attempt))?;
    Ok(Simulation::from(simulation.get_ref()))
}
