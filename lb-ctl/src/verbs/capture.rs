//! `lbctl capture`.

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal as _, Write},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use clap::Args;
use lb_model::vip::{RealId, VipKey};
use lb_proto::v1::{self, capture_event::Event};

use super::Context;
use crate::{
    failure::Failure,
    names,
    output::capture::Summary,
    pcapng::{Direction, Packet, Writer},
};

/// The arguments: what to capture, for how long, and where to.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Where the packets are written, as pcapng; `-` is standard output, as in `lbctl capture -w - | tshark -r -`
    #[arg(short, long, value_name = "FILE")]
    write: PathBuf,
    /// Only packets for this VIP
    #[arg(long, value_parser = names::read_vip)]
    vip: Option<VipKey>,
    /// Only packets to this real; an address alone is every real that has it; can be given several times
    #[arg(long, value_name = "ADDRESS")]
    real: Vec<RealId>,
    /// Only packets with this reason, one of those in `lbctl stats`, as in no_real; can be given several times
    #[arg(long)]
    reason: Vec<String>,
    /// End after so many packets
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after this time [default: an hour]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: Option<u32>,
    /// The most packets in a second; what exceeds it is counted and not captured
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(50..=100_000))]
    rate: u32,
}

/// Writes the packets until a limit is reached or the user interrupts.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let to_stdout = arguments.write.as_os_str() == "-";
    if to_stdout && io::stdout().is_terminal() {
        return Err(Failure::Usage(
            "-w -: standard output is a terminal; give a file, or a program that reads packets: lbctl capture -w - | \
             tshark -r -"
                .to_owned(),
        ));
    }
    let mut client = context.client().await?;
    let mut stream = client
        .capture(v1::CaptureRequest {
            vip: arguments.vip.map(names::vip_id),
            reals: arguments.real.iter().map(RealId::to_string).collect(),
            reasons: arguments.reason.clone(),
            count: arguments.count.unwrap_or_default(),
            duration: arguments.seconds.map(|seconds| prost_types::Duration {
                seconds: seconds.into(),
                nanos: 0,
            }),
            packets_per_second: arguments.rate,
        })
        .await
        .map_err(Failure::refused("capture packets".to_owned()))?
        .into_inner();
    let failed = |error| Failure::File {
        attempt: format!("write {}", arguments.write.display()),
        error,
    };
    let mut file = None;
    let mut summary = Summary {
        file: arguments.write.display().to_string(),
        ..Summary::default()
    };
    // One for the whole loop: a signal that comes while a packet is written must not be missed.
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let event = tokio::select! {
            event = stream.message() => event,
            _ = &mut interrupt => break,
        };
        let event = event.map_err(Failure::refused("capture packets".to_owned()))?;
        let Some(event) = event.and_then(|event| event.event) else {
            break;
        };
        let written = match event {
            Event::Started(started) => {
                eprintln!("capturing on {}", started.interfaces.join(", "));
                let output: Box<dyn Write> = if to_stdout {
                    Box::new(io::stdout())
                } else {
                    Box::new(File::create(&arguments.write).map_err(failed)?)
                };
                Writer::new(BufWriter::new(output), &started.interfaces)
                    .map(|writer| file = Some((writer, started.interfaces)))
            }
            Event::Packet(packet) => {
                summary.packets += 1;
                match &mut file {
                    Some((writer, interfaces)) => write(writer, interfaces, &packet, to_stdout),
                    None => Ok(()),
                }
            }
            Event::Losses(losses) => {
                summary.lost = losses.lost;
                summary.over_budget = losses.over_budget;
                Ok(())
            }
        };
        match written {
            // The program behind the pipe has seen enough.
            Err(error) if to_stdout && error.kind() == io::ErrorKind::BrokenPipe => break,
            result => result.map_err(failed)?,
        }
    }
    if let Some((writer, _)) = &mut file {
        match writer.flush() {
            Err(error) if to_stdout && error.kind() == io::ErrorKind::BrokenPipe => {}
            result => result.map_err(failed)?,
        }
    }
    if to_stdout {
        eprint!("{}", crate::output::Human::human(&summary));
        return Ok(());
    }
    context.output.print(&summary)
}

/// Writes a packet as it came, and as it left if it did.
fn write(
    writer: &mut Writer<impl Write>,
    interfaces: &[String],
    packet: &v1::CapturedPacket,
    flush: bool,
) -> io::Result<()> {
    let position = interfaces.iter().position(|name| *name == packet.interface);
    // There are 32 interfaces at most.
    let interface = position.unwrap_or_default() as u32;
    let time = packet
        .time
        .and_then(|time| SystemTime::try_from(time).ok())
        .unwrap_or(SystemTime::UNIX_EPOCH);
    let about = comment(packet);
    writer.packet(&Packet {
        interface,
        time,
        bytes: &packet.original,
        length: packet.original_length,
        direction: Direction::In,
        comment: &format!("in: {about}"),
    })?;
    if packet.changed_length > 0 {
        writer.packet(&Packet {
            interface,
            // After the other one, also for programs that sort.
            time: time + Duration::from_nanos(1),
            bytes: &packet.changed,
            length: packet.changed_length,
            direction: Direction::Out,
            comment: &format!("out: {about}"),
        })?;
    }
    // Who reads along wants to see each packet.
    if flush { writer.flush() } else { Ok(()) }
}

fn comment(packet: &v1::CapturedPacket) -> String {
    let mut text = format!("{} ({})", packet.reason, packet.verdict);
    if packet.vip.is_some() {
        text += &format!(", VIP {}", names::vip(packet.vip.as_ref()));
    }
    if !packet.real.is_empty() {
        text += &format!(", real {}, chosen by {}", packet.real, packet.chosen_by);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_names_reason_vip_and_real() {
        let mut packet = v1::CapturedPacket {
            verdict: "tx".to_owned(),
            reason: "forwarded_tx".to_owned(),
            vip: Some(names::vip_id(names::read_vip("10.0.0.1:80/tcp").unwrap())),
            real: "10.1.0.2".to_owned(),
            chosen_by: "ring".to_owned(),
            ..v1::CapturedPacket::default()
        };
        assert_eq!(
            comment(&packet),
            "forwarded_tx (tx), VIP 10.0.0.1:80/tcp, real 10.1.0.2, chosen by ring"
        );
        packet.real.clear();
        packet.vip = None;
        assert_eq!(comment(&packet), "forwarded_tx (tx)");
    }
}
