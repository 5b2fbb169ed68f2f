//! EMQX 5 and 6: the HTTP API on port 18083. The list of nodes, which needs an API key, has connections and memory; the
//! metrics have the use of the processors. The utilisation is that of the whole host.

use std::{net::IpAddr, time::Instant};

use futures::future::BoxFuture;
use serde::Deserialize;

use super::{
    Poll,
    kind::{LoadReader, Reader, SourceTarget, Transport},
    shared::{
        fetch::Fetch,
        json::{Field, lenient},
        metrics::{Metrics, Preset},
        peer::validate_text,
    },
};
use crate::json;
use crate::load::reading::{Answer, Missing, Quantity, Sample};
use crate::peer::Deadline;

lb_model::settings! {
    /// EMQX's HTTP API.
    pub(super) struct Settings {
        /// Name of the node, such as `emqx@{address}`; without it the node whose name ends in `@` and the address, or the
        /// only one.
        node: Option<String> = None;
    }
    validate(settings) {
        match &settings.node {
            Some(node) => validate_text("node", node),
            None => Ok(()),
        }
    }
}

const NODES: &str = "/api/v5/nodes";
/// The values that are read from the metrics.
const PRESET: Preset = Preset {
    path: "/api/v5/prometheus/stats",
    values: &[
        (Quantity::Utilisation, "emqx_vm_cpu_use / 100"),
        (
            Quantity::Memory,
            "emqx_vm_used_memory / emqx_vm_total_memory",
        ),
        (Quantity::Connections, "emqx_live_connections_count"),
        (Quantity::RunQueue, "emqx_vm_run_queue"),
    ],
    progress: None,
};
const RUNNING: &str = "running";

/// The fields that are read of a node. A stopped node has only a name and a status.
#[derive(Debug, Deserialize)]
struct Node {
    node: String,
    #[serde(default, deserialize_with = "lenient")]
    node_status: Field<String>,
    #[serde(default, deserialize_with = "lenient")]
    live_connections: Field<f64>,
    #[serde(default, deserialize_with = "lenient")]
    memory_total: Field<Memory>,
    #[serde(default, deserialize_with = "lenient")]
    memory_used: Field<Memory>,
    #[serde(default, deserialize_with = "lenient")]
    uptime: Field<f64>,
}

/// A size such as `1.21G`, without a unit below 1 KB. A JSON number is accepted in case a later version sends one.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Memory {
    Text(String),
    Bytes(f64),
}

impl Memory {
    fn bytes(&self) -> Option<f64> {
        match self {
            Memory::Bytes(bytes) => Some(*bytes),
            Memory::Text(text) => {
                let text = text.trim();
                let (number, scale) = match text.char_indices().last()? {
                    (place, 'K' | 'k') => (&text[..place], 1_024.0),
                    (place, 'M' | 'm') => (&text[..place], 1_048_576.0),
                    (place, 'G' | 'g') => (&text[..place], 1_073_741_824.0),
                    (place, 'T' | 't') => (&text[..place], 1_099_511_627_776.0),
                    _ => (text, 1.0),
                };
                number
                    .trim()
                    .parse::<f64>()
                    .ok()
                    .map(|number| number * scale)
            }
        }
    }
}

/// Reads the list of nodes and returns the values of the node with this name; without a name, of the node whose name
/// ends in `@` and the address, or of the only node.
///
/// # Errors
/// The body is not a list of nodes, the node is not in it, or the node is not running.
pub fn nodes(body: &[u8], name: Option<&str>, address: IpAddr) -> Result<Answer, String> {
    let no_list = |reason: String| format!("not a list of EMQX's nodes: {reason}");
    let list: Vec<serde_json::Value> = json::parse(body)
        .and_then(serde_json::from_value)
        .map_err(|error| no_list(error.to_string()))?;
    // A node that cannot be read is lost alone.
    let nodes: Vec<Node> = list
        .iter()
        .filter_map(|node| Node::deserialize(node).ok())
        .collect();
    if nodes.is_empty() && !list.is_empty() {
        return Err(no_list("none has a name".to_owned()));
    }
    let of_address = |node: &&Node| {
        node.node
            .rsplit_once('@')
            .is_some_and(|(_, host)| host.parse() == Ok(address))
    };
    let node = match name {
        Some(name) => nodes.iter().find(|node| node.node == name),
        None => nodes.iter().find(of_address).or(match &nodes[..] {
            [only] => Some(only),
            _ => None,
        }),
    };
    let Some(node) = node else {
        let names: Vec<_> = nodes
            .iter()
            .take(10)
            .map(|node| node.node.as_str())
            .collect();
        return Err(format!(
            "no node {} in the cluster; set the source's `node` to one of: {}",
            name.map_or_else(|| format!("of {address}"), str::to_owned),
            names.join(", ")
        ));
    };
    match node.node_status.value.as_deref() {
        Some(RUNNING) => {}
        status => {
            return Err(format!(
                "node {} is {}",
                node.node,
                status.unwrap_or("without a status")
            ));
        }
    }
    let mut answer = Answer {
        progress: node.uptime.value,
        ..Answer::default()
    };
    for (name, wrong, quantity) in [
        (
            "live_connections",
            &node.live_connections.wrong,
            Some(Quantity::Connections),
        ),
        (
            "memory_used",
            &node.memory_used.wrong,
            Some(Quantity::Memory),
        ),
        (
            "memory_total",
            &node.memory_total.wrong,
            Some(Quantity::Memory),
        ),
        ("uptime", &node.uptime.wrong, None),
    ] {
        let Some(wrong) = wrong else { continue };
        let reason = format!("{name} cannot be read: {wrong}");
        answer.unreadable.add(|| reason.clone());
        answer
            .missing
            .extend(quantity.map(|quantity| Missing { quantity, reason }));
    }
    // `connections` also counts sessions without a connected client.
    if let Some(connections) = node.live_connections.value {
        answer
            .samples
            .push(Sample::new(Quantity::Connections, connections));
    }
    let bytes = |field: &Field<Memory>| field.value.as_ref().and_then(Memory::bytes);
    let used = bytes(&node.memory_used);
    let total = bytes(&node.memory_total);
    if let (Some(used), Some(total)) = (used, total)
        && total > 0.0
    {
        answer
            .samples
            .push(Sample::new(Quantity::Memory, used / total));
    }
    Ok(answer)
}

/// Adds the metrics that the list of nodes lacks. The list has precedence, because its values are of this node and
/// recent.
fn merge(nodes: Answer, metrics: Answer) -> Answer {
    let mut answer = nodes;
    for _ in 0..metrics.unreadable.count {
        answer.unreadable.add(|| metrics.unreadable.first.clone());
    }
    for sample in metrics.samples {
        if answer.get(sample.quantity).is_none() {
            answer.samples.push(sample);
        }
    }
    for missing in metrics.missing {
        if answer.get(missing.quantity).is_none() {
            answer.missing.push(missing);
        }
    }
    let Answer {
        samples, missing, ..
    } = &mut answer;
    // What one of both has is not missing.
    missing.retain(|missing| {
        samples
            .iter()
            .all(|sample| sample.quantity != missing.quantity)
    });
    answer
}

pub(super) static KIND: super::ReaderKind = super::ReaderKind::of::<Emqx>();

/// Polls one node of EMQX.
#[derive(Debug)]
pub(super) struct Emqx {
    /// The list of nodes; `None` without an API key.
    nodes: Option<Fetch>,
    stats: Fetch,
    metrics: Metrics,
    node: Option<String>,
    address: IpAddr,
}

impl LoadReader for Emqx {
    const NAME: &'static str = "emqx";
    const HELP: &'static str = "Reads EMQX's HTTP API; the utilisation is that of the whole host. With an API key as \
                                `username` and its secret as `password`, connections and memory are those of the node.";
    const TRANSPORT: Transport = Transport::Http;
    const PORT: Option<u16> = Some(18_083);

    type Settings = Settings;

    fn open(settings: Settings, target: &SourceTarget<'_>) -> Reader {
        Reader::Poll(Box::new(Emqx {
            nodes: target.authorization().is_some().then(|| target.page(NODES)),
            stats: target.page(PRESET.path),
            metrics: Metrics::preset(&PRESET),
            node: settings.node.map(|node| target.fill(&node)),
            address: target.address.ip(),
        }))
    }
}

impl Emqx {
    async fn read(&mut self, deadline: &Deadline) -> Result<Answer, String> {
        let nodes = match &mut self.nodes {
            Some(fetch) => {
                let body = fetch.get(deadline).await?;
                nodes(&body, self.node.as_deref(), self.address)?
            }
            None => Answer::default(),
        };
        let metrics = match self.stats.get(deadline).await {
            Ok(body) => self.metrics.read(&body, Instant::now()),
            Err(reason) => Err(reason),
        };
        match metrics {
            Ok(metrics) => Ok(merge(nodes, metrics)),
            // The values of the node are valid without the metrics.
            Err(reason) if !nodes.samples.is_empty() => Ok(Answer {
                missing: nodes
                    .missing
                    .into_iter()
                    .chain([Missing {
                        quantity: Quantity::Utilisation,
                        reason,
                    }])
                    .collect(),
                ..nodes
            }),
            Err(reason) => Err(reason),
        }
    }
}

impl Poll for Emqx {
    fn poll<'a>(&'a mut self, deadline: &'a Deadline) -> BoxFuture<'a, Result<Answer, String>> {
        Box::pin(self.read(deadline))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::load::reader::shared::metrics::assert_reads;

    const TWO: &str = r#"[
        {"node": "emqx@10.0.0.1", "node_status": "running", "connections": 1200, "live_connections": 1180,
         "load1": 2.66, "max_fds": 1024, "memory_total": "4.00G", "memory_used": "1024.00M",
         "uptime": 5120000, "role": "core"},
        {"node": "emqx@10.0.0.2", "node_status": "stopped", "role": "replicant"}]"#;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_node_of_the_address_is_read() {
        let answer = nodes(TWO.as_bytes(), None, address("10.0.0.1")).unwrap();
        assert_eq!(answer.get(Quantity::Connections), Some(1_180.0));
        assert_eq!(answer.get(Quantity::Memory), Some(0.25));
        // The host's load average is not the use of its processors.
        assert_eq!(answer.get(Quantity::Utilisation), None);
        assert_eq!(answer.progress, Some(5_120_000.0));
        for (name, of, part) in [
            (None, "10.0.0.2", "emqx@10.0.0.2 is stopped"),
            (Some("emqx@10.0.0.2"), "10.0.0.1", "is stopped"),
            (None, "10.0.0.3", "no node of 10.0.0.3"),
            (
                Some("x"),
                "10.0.0.1",
                "one of: emqx@10.0.0.1, emqx@10.0.0.2",
            ),
        ] {
            let error = nodes(TWO.as_bytes(), name, address(of)).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        // A value that cannot be read is lost alone, and so is a node.
        let spoilt =
            br#"[{"node": "emqx@10.0.0.1", "node_status": "running", "live_connections": undefined,
            "memory_total": "4.00G", "memory_used": "1024.00M", "uptime": {}}, {"node": 7}, 3]"#;
        let answer = nodes(spoilt, None, address("10.0.0.1")).unwrap();
        assert_eq!(answer.get(Quantity::Memory), Some(0.25));
        assert_eq!(answer.missing.len(), 1);
        assert_eq!(
            answer.missing[0].reason,
            "live_connections cannot be read: \"undefined\""
        );
        assert_eq!((answer.unreadable.count, answer.progress), (2, None));
        let one = r#"[{"node": "emqx@broker.example", "node_status": "running"}]"#;
        nodes(one.as_bytes(), None, address("10.0.0.9")).unwrap();
        assert!(nodes(b"{\"code\": \"BAD_API_KEY\"}", None, address("10.0.0.1")).is_err());
    }

    #[test]
    fn memory_is_text_with_a_unit() {
        for (text, bytes) in [
            ("3.84G", Some(3.84 * 1_073_741_824.0)),
            ("1.5K", Some(1_536.0)),
            ("900", Some(900.0)),
            ("", None),
            ("G", None),
            ("é", None),
        ] {
            assert_eq!(Memory::Text(text.to_owned()).bytes(), bytes, "{text}");
        }
    }

    #[test]
    fn metrics_fill_what_nodes_lack() {
        let text = "emqx_vm_cpu_use 37.5\nemqx_vm_used_memory 3e9\nemqx_vm_total_memory 4e9\n\
            emqx_live_connections_count 5\nemqx_vm_run_queue 0\n";
        assert_reads(
            &PRESET,
            text,
            &[
                (Quantity::Utilisation, 0.375),
                (Quantity::Memory, 0.75),
                (Quantity::Connections, 5.0),
                (Quantity::RunQueue, 0.0),
            ],
        );
        let metrics = Metrics::preset(&PRESET)
            .read(text.as_bytes(), Instant::now())
            .unwrap();
        let merged = merge(
            nodes(TWO.as_bytes(), None, address("10.0.0.1")).unwrap(),
            metrics,
        );
        assert_eq!(merged.get(Quantity::Utilisation), Some(0.375));
        assert_eq!(merged.get(Quantity::Connections), Some(1_180.0));
        assert_eq!(merged.get(Quantity::Memory), Some(0.25));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..100), memory in "\\PC{0,8}") {
            let _ = nodes(&body, None, address("10.0.0.1"));
            let _ = Memory::Text(memory).bytes();
        }
    }
}
