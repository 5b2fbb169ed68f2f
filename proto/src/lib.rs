//! The APIs `lb.v1` of the agent, `lb.controller.v1` of the controller and `lb.host.v1` between hosts and controllers, generated from `proto/lb`.

pub mod endpoint;
pub mod settings;
pub mod vip;

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

/// What hosts and controllers serve to each other.
pub mod host {
    /// Version 1.
    #[expect(
        missing_docs,
        reason = "generated; the documentation is in the .proto files"
    )]
    #[allow(clippy::all, unused_qualifications, reason = "generated")]
    pub mod v1 {
        tonic::include_proto!("lb.host.v1");
    }
}

/// The file descriptors of all, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/lb.v1.bin"));
