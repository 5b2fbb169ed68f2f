use serde_json::{Value, json};

use super::*;

/// An answer of Docker Engine 20.10 on control groups of version 1, shortened.
fn stats(usage_ms: u64, periods: u64, throttled: u64) -> Value {
    json!({
        "read": "2026-11-21T07:09:35.439976457Z", "preread": "0001-01-01T00:00:00Z",
        "cpu_stats": {
            "cpu_usage": {
                "total_usage": usage_ms * 1_000_000, "percpu_usage": [451_227_859, 172_392_261],
                "usage_in_kernelmode": 40_000_000, "usage_in_usermode": 570_000_000
            },
            "system_cpu_usage": 2_576_940_000_000_u64, "online_cpus": 2,
            "throttling_data": {
                "periods": periods, "throttled_periods": throttled, "throttled_time": 1_503_269_255
            }
        },
        "precpu_stats": {"cpu_usage": {"total_usage": 0}},
        "memory_stats": {
            "usage": 40_000_000, "max_usage": 41_000_000, "limit": 67_108_864,
            "stats": {"inactive_file": 1, "total_inactive_file": 6_445_568}
        }
    })
}

fn container(host_config: Value) -> Container {
    serde_json::from_value(json!({
        "Id": "1ae7", "Name": "/spin",
        "State": {
            "Status": "running", "Running": true, "Paused": false,
            "StartedAt": "2026-11-21T07:09:32.417600441Z"
        },
        "HostConfig": host_config,
    }))
    .unwrap()
}

fn read(value: Value) -> Stats {
    serde_json::from_value(value).unwrap()
}

#[test]
fn cores_are_the_least_of_all_limits() {
    for (host_config, online, cores) in [
        (json!({"NanoCpus": 200_000_000}), Some(2), Some(0.2)),
        (
            json!({"CpuQuota": 150_000, "CpuPeriod": 100_000}),
            Some(2),
            Some(1.5),
        ),
        (
            json!({"CpuQuota": 50_000, "CpuPeriod": 0}),
            Some(2),
            Some(0.5),
        ),
        (
            json!({"CpuQuota": -1, "CpuPeriod": 100_000}),
            Some(2),
            Some(2.0),
        ),
        (json!({"CpusetCpus": "0-2,5"}), Some(8), Some(4.0)),
        (
            json!({"NanoCpus": 3_000_000_000_i64, "CpusetCpus": "1"}),
            Some(8),
            Some(1.0),
        ),
        (json!({"NanoCpus": 16_000_000_000_i64}), Some(4), Some(4.0)),
        (json!({}), None, None),
    ] {
        assert_eq!(
            container(host_config.clone()).cores(online),
            cores,
            "{host_config}"
        );
    }
}

#[test]
fn use_is_a_fraction_of_the_containers_own_limit() {
    let container = container(json!({"NanoCpus": 200_000_000}));
    let start = Instant::now();
    let mut comparison = Comparison::default();
    let mut answer = |seconds, stats| {
        comparison.answer(
            &container,
            &read(stats),
            start + Duration::from_secs(seconds),
        )
    };
    let first = answer(0, stats(1_000, 10, 0));
    assert_eq!(first.get(Quantity::Utilisation), None);
    assert_eq!(first.get(Quantity::Memory), Some(0.5));
    // 0.1 of 0.2 cores.
    let second = answer(5, stats(1_500, 60, 5));
    assert_eq!(second.get(Quantity::Utilisation), Some(0.5));
    // The same with all but one of the periods throttled.
    let third = answer(10, stats(2_000, 110, 54));
    assert_eq!(third.get(Quantity::Utilisation), Some(0.9));
    // Counters that decreased belong to another run of the container.
    let fourth = answer(15, stats(20, 1, 0));
    assert_eq!(fourth.get(Quantity::Utilisation), None);
}

#[test]
fn the_first_answer_after_a_restart_has_no_utilisation() {
    let before = container(json!({}));
    let mut after = before.clone();
    after.state.started_at = "2026-11-21T08:00:00Z".to_owned();
    let start = Instant::now();
    let mut comparison = Comparison::default();
    comparison.answer(&before, &read(stats(10, 0, 0)), start);
    // The counter happens to exceed the last one.
    let later = start + Duration::from_secs(5);
    let answer = comparison.answer(&after, &read(stats(5_000, 0, 0)), later);
    assert_eq!(answer.get(Quantity::Utilisation), None);
}

#[test]
fn version_2_has_another_name_for_the_cache() {
    let mut value = stats(0, 0, 0);
    value["memory_stats"] = json!({
        "usage": 2_000, "limit": 10_000, "stats": {"anon": 5, "inactive_file": 1_000}
    });
    assert_eq!(read(value).memory(), Some(0.1));
    // The container stopped between the two requests.
    let mut value = stats(0, 0, 0);
    value["memory_stats"] = json!({});
    assert_eq!(read(value).memory(), None);
}
