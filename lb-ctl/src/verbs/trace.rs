//! `lbctl trace`.

use clap::Args;
use lb_model::vip::Protocol;
use lb_proto::v1;

use super::Context;
use crate::{
    failure::Failure,
    output::trace::{PacketTrace, Trace},
    values::{
        flow::Flow,
        frame::{self, TcpFlag},
    },
};

/// The arguments: a flow.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The flow, as in "tcp 198.51.100.7:40000 -> 10.0.0.1:80"; IPv6 addresses in brackets
    flow: Flow,
    /// Trace one TCP packet with these flags, as in syn,ack [default: the first packet of a connection, and a later one]
    #[arg(long, value_enum, value_delimiter = ',')]
    flags: Vec<TcpFlag>,
    /// The interface that the packets arrive on [default: the agent's first]
    #[arg(long)]
    iface: Option<String>,
}

/// Prints where packets of the flow go, and why.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let flow = arguments.flow;
    let packets: Vec<&[TcpFlag]> = match (flow.protocol, arguments.flags.as_slice()) {
        (Protocol::Udp | Protocol::Sctp, []) => vec![&[]],
        (Protocol::Udp | Protocol::Sctp, _) => {
            return Err(Failure::Usage(
                "--flags: only TCP packets have flags".to_owned(),
            ));
        }
        (Protocol::Tcp | Protocol::TcpUdp, []) => vec![&[TcpFlag::Syn], &[TcpFlag::Ack]],
        (Protocol::Tcp | Protocol::TcpUdp, flags) => vec![flags],
    };
    let mut client = context.client().await?;
    let mut traces = Vec::new();
    for flags in packets {
        let answer = client
            .trace(v1::SimulateRequest {
                packet: frame::build(&flow, flags),
                interface: arguments.iface.clone().unwrap_or_default(),
            })
            .await
            .map_err(Failure::refused("trace the flow".to_owned()))?;
        traces.push(PacketTrace::new(flags, answer.get_ref()));
    }
    context.output.print(&Trace {
        flow: flow.to_string(),
        packets: traces,
    })
}
