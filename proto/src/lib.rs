//! The API `lb.v1`, generated from `proto/lb/v1`.

/// Version 1.
#[expect(
    missing_docs,
    reason = "generated; the documentation is in the .proto files"
)]
#[allow(clippy::all, unused_qualifications, reason = "generated")]
pub mod v1 {
    tonic::include_proto!("lb.v1");
}

/// The file descriptors of `lb.v1`, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/lb.v1.bin"));

/// Calls a macro with the names of the numbers, and then of the times, of [`v1::Steering`]: what converts one field
/// converts them all, and a new one is named here only.
#[macro_export]
macro_rules! steering_fields {
    ($apply:ident) => {
        $apply! {
            [
                slow_start_from, overload, overload_periods, overload_drain,
                overload_drain_periods, overload_back, overload_back_periods,
                max_drained, flap_changes, panic, stale_periods, moved,
                moved_busy, busy, step, deadband, least_share, most_share,
                long_lived_periods, deficit_least, deficit_most, gain, certainty, surprise,
                surprise_deviations, error_penalty, least_utilisation,
                no_signal, guard_from, guard_full, shed_rate, exponent,
                small_step,
            ]
            [
                period, slow_start, flap_within, flap_hold, flap_hold_max,
                fade_after, fade, horizon, life_over, healthy_for,
                latency_decay,
            ]
        }
    };
}
