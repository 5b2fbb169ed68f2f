//! What the operator says about access: `[access]` of the configuration file.

use std::{net::SocketAddr, path::PathBuf};

use lb_model::pool::Size;
use lb_serve::{auth::digest::Algorithm, tls::TlsFiles};

use super::Role;

lb_model::choice! {
    /// What callers may do who do not say who they are.
    pub enum Anonymous = Nothing {
        /// Nothing.
        Nothing = "none",
        /// What the role `read` allows.
        Read = "read",
        /// What the role `operate` allows.
        Operate = "operate",
        /// Everything.
        Admin = "admin",
    }
}

impl Anonymous {
    /// The role in the whole controller.
    #[must_use]
    pub const fn role(self) -> Option<Role> {
        match self {
            Anonymous::Nothing => None,
            Anonymous::Read => Some(Role::Read),
            Anonymous::Operate => Some(Role::Operate),
            Anonymous::Admin => Some(Role::Admin),
        }
    }
}

lb_model::settings! {
    /// TLS: where the controller can be reached from other machines.
    #[derive(Eq)]
    pub struct AccessTls {
        /// File of the controller's certificate, with those of the authorities in between (PEM). It is read again when it
        /// changes, as are the others.
        certificate: PathBuf;
        /// File of its private key (PEM).
        key: PathBuf;
        /// File of the authorities whose certificates of clients count (PEM). A client with a certificate of them is the user
        /// whose name is in it.
        clients: Option<PathBuf> = None;
        /// Where HTTP/JSON and WebSockets are served by TLS.
        http: Option<SocketAddr> = None;
        /// Where gRPC is served by TLS.
        api: Option<SocketAddr> = None;
    }
}

impl AccessTls {
    /// The files.
    #[must_use]
    pub fn files(&self) -> TlsFiles {
        TlsFiles {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            clients: self.clients.clone(),
        }
    }
}

lb_model::settings! {
    /// Who may use the controller.
    pub struct AccessSettings {
        /// What callers of this machine may do who do not say who they are: at loopback addresses, and at Unix sockets, where root,
        /// the controller's own user and `local_admins` may do everything.
        anonymous: Anonymous = Anonymous::Read;
        /// What callers from elsewhere may do who do not say who they are.
        anonymous_remote: Anonymous = Anonymous::Nothing;
        /// Users of this machine that may do everything at Unix sockets, by name or number.
        local_admins: Vec<String> = Vec::new();
        /// Whether `/metrics` needs no role.
        open_metrics: bool = true;
        /// Whether clients may use MD5 for HTTP Digest, which old ones need. It counts for passwords that are set from then on.
        md5: bool = false;
        /// The most bytes of a file of the audit log.
        audit_size: Size = Size(8 << 20), Size(64 << 10)..=Size(1 << 30);
        /// The most files of the audit log.
        audit_files: u32 = 8, 2..=1_000;
        /// Access from other machines. Without it the API is at `listen` and `http` only.
        tls: Option<AccessTls> = None;
    }
}

impl Default for AccessSettings {
    fn default() -> Self {
        lb_model::settings::defaults()
    }
}

impl AccessSettings {
    /// The algorithms of HTTP Digest, the best first.
    #[must_use]
    pub const fn algorithms(&self) -> &'static [Algorithm] {
        if self.md5 {
            &[Algorithm::Sha256, Algorithm::Md5]
        } else {
            &[Algorithm::Sha256]
        }
    }
}
