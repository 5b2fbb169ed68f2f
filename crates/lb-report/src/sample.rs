//! One measurement, as it is served.

use std::time::{Duration, SystemTime};

use lb_proto::v1;
use serde::{Serialize, Serializer};

use super::cgroup::Version;

/// The origin of the fractions of CPU and memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The whole host.
    Host,
    /// A control group, version 1.
    CgroupV1,
    /// A control group, version 2.
    CgroupV2,
}

impl From<Version> for Source {
    fn from(version: Version) -> Self {
        match version {
            Version::V1 => Source::CgroupV1,
            Version::V2 => Source::CgroupV2,
        }
    }
}

/// One measurement. Unknown values are `None` and are left out when the sample is served. Fields, units and ranges
/// are those of `lb.v1.ReportedLoad`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// When the sample was taken; serialised as seconds since 1970.
    #[serde(serialize_with = "unix_seconds")]
    pub taken_at: SystemTime,
    /// The time that the sample covers; serialised as seconds.
    #[serde(serialize_with = "seconds")]
    pub over: Duration,
    /// Used CPU as a fraction of the subject's own limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
    /// Used CPU since the reporter started, in seconds of the subject's whole limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// The subject's CPU limit in cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_limit: Option<f64>,
    /// Fraction of the quota's periods in which the subject was throttled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttled: Option<f64>,
    /// Used CPU of the host as a fraction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_cpu: Option<f64>,
    /// Used memory of the host as a fraction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_memory: Option<f64>,
    /// Used memory as a fraction of the subject's own limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<f64>,
    /// The subject's memory limit in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<u64>,
    /// Open file descriptors as a fraction of the limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_descriptors: Option<f64>,
    /// Traffic of the busiest interface as a fraction of its rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<f64>,
    /// Received bytes per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<f64>,
    /// Sent bytes per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<f64>,
    /// Established TCP connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<u64>,
    /// Load average over one minute: runnable and waiting processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_average: Option<f64>,
    /// The origin of `cpu` and `memory`.
    pub source: Source,
    /// The host, control group or process that was measured.
    pub subject: String,
    /// Why values are unknown.
    pub notes: Vec<String>,
    /// Version of this program.
    pub version: &'static str,
}

fn unix_seconds<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    // A clock before 1970 counts as 1970.
    seconds(&since.unwrap_or_default(), serializer)
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

impl From<&Sample> for v1::ReportedLoad {
    fn from(sample: &Sample) -> Self {
        let source = match sample.source {
            Source::Host => v1::ReportSource::Host,
            Source::CgroupV1 => v1::ReportSource::CgroupV1,
            Source::CgroupV2 => v1::ReportSource::CgroupV2,
        };
        Self {
            taken_at: Some(sample.taken_at.into()),
            // The conversion fails only above 2^63 seconds.
            over: sample.over.try_into().ok(),
            cpu: sample.cpu,
            cpu_seconds: sample.cpu_seconds,
            cpu_limit: sample.cpu_limit,
            throttled: sample.throttled,
            host_cpu: sample.host_cpu,
            host_memory: sample.host_memory,
            memory: sample.memory,
            memory_limit: sample.memory_limit,
            file_descriptors: sample.file_descriptors,
            network: sample.network,
            received: sample.received,
            sent: sample.sent,
            connections: sample.connections,
            load_average: sample.load_average,
            source: source.into(),
            subject: sample.subject.clone(),
            notes: sample.notes.clone(),
            version: sample.version.to_owned(),
        }
    }
}

/// A sample for the tests of this crate and of the servers of samples.
#[doc(hidden)]
#[must_use]
pub fn example() -> Sample {
    Sample {
        taken_at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_500),
        over: Duration::from_secs(1),
        cpu: Some(0.5),
        cpu_seconds: Some(7.5),
        cpu_limit: Some(2.0),
        throttled: Some(0.0),
        host_cpu: Some(0.25),
        host_memory: Some(0.75),
        memory: Some(0.125),
        memory_limit: Some(67_108_864),
        file_descriptors: Some(0.5),
        network: None,
        received: Some(1000.0),
        sent: Some(2000.0),
        connections: Some(17),
        load_average: Some(1.5),
        source: Source::CgroupV2,
        subject: "/system.slice/mosquitto.service".to_owned(),
        notes: Vec::new(),
        version: "0.1.0",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_values_are_left_out() {
        let json = serde_json::to_value(example()).expect("a sample is serialisable");
        let expected = serde_json::json!({
            "taken_at": 1_700_000_000.5, "over": 1.0, "cpu": 0.5, "cpu_seconds": 7.5, "cpu_limit": 2.0, "throttled": 0.0,
            "host_cpu": 0.25, "host_memory": 0.75, "memory": 0.125, "memory_limit": 67_108_864,
            "file_descriptors": 0.5, "received": 1000.0, "sent": 2000.0, "connections": 17,
            "load_average": 1.5, "source": "cgroup_v2", "subject": "/system.slice/mosquitto.service",
            "notes": [], "version": "0.1.0",
        });
        assert_eq!(json, expected);
        let message = v1::ReportedLoad::from(&example());
        assert_eq!(message.network, None);
        assert_eq!(message.cpu, Some(0.5));
        assert_eq!(message.source(), v1::ReportSource::CgroupV2);
        assert_eq!(
            message.taken_at,
            Some(prost_types::Timestamp {
                seconds: 1_700_000_000,
                nanos: 500_000_000
            })
        );
    }
}
