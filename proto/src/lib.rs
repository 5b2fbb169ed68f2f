//! The API `lb.v1`, generated from `proto/lb/v1`.

pub mod endpoint;
pub mod settings;

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
