//! The APIs `lb.v1` of the agent and `lb.controller.v1` of the controller, generated from `proto/lb`.

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

/// The controller's API.
pub mod controller {
    /// Version 1.
    #[expect(
        missing_docs,
        reason = "generated; the documentation is in the .proto files"
    )]
    #[allow(clippy::all, unused_qualifications, reason = "generated")]
    pub mod v1 {
        tonic::include_proto!("lb.controller.v1");
    }
}

/// The file descriptors of both, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/lb.v1.bin"));
