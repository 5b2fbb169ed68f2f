//! Sends 1,000 VIPs with 10 reals each on one `Apply` stream and says how long it took, from the first
//! request to the last acknowledgement: `cargo run --release --example apply -- /run/lb-agent/api.sock`.

use std::time::Instant;

use lb_proto::v1::{self, apply_request::Change, balancer_client::BalancerClient};
use tokio_stream::StreamExt as _;

const VIPS: u32 = 1_000;
const REALS: u32 = 10;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let socket = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "/run/lb-agent/api.sock".to_owned());
    let mut client = BalancerClient::connect(format!("unix://{socket}")).await?;
    let id = |vip: u32| {
        let address = format!("10.200.{}.{}", vip / 250, vip % 250 + 1);
        Some(v1::VipId {
            address,
            port: 80,
            protocol: v1::Protocol::Tcp.into(),
            ..v1::VipId::default()
        })
    };
    let changes = (0..VIPS).flat_map(move |vip| {
        let reals = (0..REALS).map(move |real| {
            let address = format!("10.201.{}.{}", vip % 250, real + 1);
            Change::AddReal(v1::AddRealRequest {
                vip: id(vip),
                address,
                spec: None,
                ..Default::default()
            })
        });
        std::iter::once(Change::AddVip(v1::AddVipRequest {
            id: id(vip),
            spec: None,
            ..Default::default()
        }))
        .chain(reals)
    });
    let requests = changes.zip(0..).map(|(change, sequence)| v1::ApplyRequest {
        sequence,
        change: Some(change),
    });
    let begin = Instant::now();
    let mut responses = client
        .apply(tokio_stream::iter(requests))
        .await?
        .into_inner();
    let (mut done, mut refused) = (0, 0);
    while let Some(response) = responses.next().await {
        let response = response?;
        if response.code == 0 {
            done += 1;
        } else {
            refused += 1;
            eprintln!("{}: {}", response.sequence, response.error);
        }
    }
    println!(
        "{done} changes acknowledged, {refused} refused, {:.3} s",
        begin.elapsed().as_secs_f64()
    );
    Ok(())
}
