//! Where the API is reached: Unix sockets, and TCP on loopback.

use std::{
    fmt, fs, io,
    net::SocketAddr,
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    str::FromStr,
};

use tokio::net::{TcpListener, UnixListener};

/// Only root and the socket's group.
const SOCKET_MODE: u32 = 0o660;

/// Where to listen: `unix:PATH` or `http://ADDRESS:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// TCP without encryption, so on loopback only.
    Tcp(SocketAddr),
}

impl Default for Endpoint {
    fn default() -> Self {
        Endpoint::Unix(PathBuf::from("/run/lb-agent/api.sock"))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix:{}", path.display()),
            Endpoint::Tcp(address) => write!(f, "http://{address}"),
        }
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            // unix:///run/x and unix:/run/x are the same.
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err(format!(
                    "{text}: no path; write unix:/run/lb-agent/api.sock"
                ));
            }
            return Ok(Endpoint::Unix(path.into()));
        }
        if let Some(address) = text.strip_prefix("http://") {
            let address: SocketAddr = address.trim_end_matches('/').parse().map_err(|_| {
                format!(
                    "{text}: not ADDRESS:PORT; write http://127.0.0.1:7070 or http://[::1]:7070"
                )
            })?;
            if !address.ip().is_loopback() {
                return Err(format!(
                    "{text}: TCP is not encrypted, so only a loopback address is taken; use 127.0.0.1 or ::1"
                ));
            }
            return Ok(Endpoint::Tcp(address));
        }
        Err(format!("{text}: neither unix:PATH nor http://ADDRESS:PORT"))
    }
}

lb_model::text_setting!(Endpoint, "`unix:PATH` or `http://ADDRESS:PORT`");

/// Why an endpoint cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// An agent answers there.
    #[error("{0} is served by a running agent; stop that one, or give this one another --listen")]
    InUse(Endpoint),
    /// There is something that is no socket.
    #[error("{0} exists and is no socket; move it away, or give another --listen")]
    NoSocket(PathBuf),
    /// A system call failed.
    #[error("listening on {endpoint}: {operation}: {source}")]
    System {
        /// Where.
        endpoint: Endpoint,
        /// What was tried.
        operation: &'static str,
        /// The cause.
        source: io::Error,
    },
}

/// A bound endpoint. A Unix socket is removed when it is dropped.
#[derive(Debug)]
pub struct Listener {
    endpoint: Endpoint,
    socket: Socket,
}

/// What is bound.
#[derive(Debug)]
pub enum Socket {
    /// A Unix socket, and its file.
    Unix(UnixListener, SocketFile),
    /// TCP.
    Tcp(TcpListener),
}

/// The file of a Unix socket. It is removed when this is dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Binds. The socket of a dead agent is replaced; that of a running one is not.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn bind(endpoint: Endpoint) -> Result<Self, ListenError> {
        let failed = |operation| {
            let endpoint = endpoint.clone();
            move |source| ListenError::System {
                endpoint,
                operation,
                source,
            }
        };
        let socket = match &endpoint {
            Endpoint::Tcp(address) => match TcpListener::bind(address).await {
                Ok(listener) => Socket::Tcp(listener),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    return Err(ListenError::InUse(endpoint));
                }
                Err(error) => return Err(failed("bind")(error)),
            },
            Endpoint::Unix(path) => {
                if let Some(directory) = path.parent() {
                    fs::create_dir_all(directory).map_err(failed("making its directory"))?;
                }
                check_dead(path, &endpoint)?;
                // Bound under another name, so that it is never there with wider permissions, and a
                // client never finds none.
                let mut name = path.clone().into_os_string();
                name.push(format!(".{}.new", std::process::id()));
                let new = SocketFile(PathBuf::from(name));
                let _ = fs::remove_file(&new.0);
                let listener = UnixListener::bind(&new.0).map_err(failed("bind"))?;
                fs::set_permissions(&new.0, fs::Permissions::from_mode(SOCKET_MODE))
                    .map_err(failed("chmod"))?;
                fs::rename(&new.0, path).map_err(failed("rename"))?;
                Socket::Unix(listener, SocketFile(path.clone()))
            }
        };
        Ok(Listener { endpoint, socket })
    }

    /// Where it listens.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The socket, for a server.
    #[must_use]
    pub fn into_socket(self) -> Socket {
        self.socket
    }
}

fn check_dead(path: &Path, endpoint: &Endpoint) -> Result<(), ListenError> {
    use std::os::unix::fs::FileTypeExt as _;
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            return Err(ListenError::System {
                endpoint: endpoint.clone(),
                operation: "looking at it",
                source,
            });
        }
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ListenError::NoSocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
            ) =>
        {
            Ok(())
        }
        Ok(_) => Err(ListenError::InUse(endpoint.clone())),
        Err(source) => Err(ListenError::System {
            endpoint: endpoint.clone(),
            operation: "asking whether an agent runs",
            source,
        }),
    }
}
