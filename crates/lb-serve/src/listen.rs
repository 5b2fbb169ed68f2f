//! Endpoints of the API: Unix sockets, and TCP on loopback.

use std::{
    fmt, fs, io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    str::FromStr,
    sync::PoisonError,
    time::Duration,
};

use tokio::{
    net::{TcpListener, UnixListener, UnixStream},
    sync::Mutex,
};

use crate::Accept;

/// How often a Unix socket's file is looked after while no client connects.
const LOOK: Duration = Duration::from_secs(1);

/// The mode of the API's sockets: access for root and the socket's group.
const SOCKET_MODE: u32 = 0o660;

/// Where to listen: `unix:PATH` or `http://ADDRESS:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// TCP. There is no encryption, so only loopback is allowed.
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
            // unix:///run/x and unix:/run/x are equivalent.
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
    /// A running agent listens there.
    #[error("a running agent serves {0}; stop it, or give this agent another --listen")]
    InUse(Endpoint),
    /// There is a file that is not a socket.
    #[error("{0} exists and is not a socket; move it away, or give another --listen")]
    NoSocket(PathBuf),
    /// A system call failed.
    #[error("listening on {endpoint}: {operation}: {source}")]
    System {
        /// The endpoint.
        endpoint: Endpoint,
        /// The operation that failed.
        operation: &'static str,
        /// The cause.
        source: io::Error,
    },
}

/// A bound endpoint. Dropping it removes a Unix socket.
#[derive(Debug)]
pub struct Listener {
    endpoint: Endpoint,
    socket: Socket,
}

/// The bound socket.
#[derive(Debug)]
pub enum Socket {
    /// A Unix socket.
    Unix(UnixSocket),
    /// TCP.
    Tcp(TcpListener),
}

/// A Unix socket, whose file is removed when the value is dropped. If somebody else removes the file, no client can connect
/// any more and the kernel tells nobody, so the file is looked after once a second and made again.
#[derive(Debug)]
pub struct UnixSocket {
    /// Dropped first: a client that finds the file finds a server.
    file: std::sync::Mutex<SocketFile>,
    /// Locked by the one who accepts.
    listener: Mutex<UnixListener>,
    path: PathBuf,
    mode: u32,
}

impl UnixSocket {
    /// Binds a Unix socket whose file has this mode. Replaces the socket of a dead process, but not that of a running one.
    ///
    /// # Errors
    /// Returns [`ListenError`].
    pub fn bind(path: &Path, mode: u32) -> Result<Self, ListenError> {
        let endpoint = || Endpoint::Unix(path.to_owned());
        check_dead(path, &endpoint())?;
        let (listener, file) =
            bind_unix(path, mode).map_err(|(operation, source)| ListenError::System {
                endpoint: endpoint(),
                operation,
                source,
            })?;
        Ok(UnixSocket {
            file: std::sync::Mutex::new(file),
            listener: Mutex::new(listener),
            path: path.to_owned(),
            mode,
        })
    }

    /// Makes the socket again if its file is gone. If that fails, it is tried again with the next look.
    fn look_after(&self, listener: &mut UnixListener) {
        let path = &self.path;
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            _ => return,
        }
        match bind_unix(path, self.mode) {
            Ok((new, file)) => {
                *listener = new;
                *self.file.lock().unwrap_or_else(PoisonError::into_inner) = file;
                tracing::warn!(
                    "the socket {} was removed; it is made again",
                    path.display()
                );
            }
            Err((operation, error)) => tracing::error!(
                "the socket {} was removed, and it cannot be made again: {operation}: {error}",
                path.display()
            ),
        }
    }
}

impl Accept for UnixSocket {
    type Connection = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        let mut listener = self.listener.lock().await;
        loop {
            match tokio::time::timeout(LOOK, listener.accept()).await {
                Ok(accepted) => return accepted.map(|(stream, _)| stream),
                Err(_) => self.look_after(&mut listener),
            }
        }
    }
}

/// Binds a Unix socket in the place of what is there. An error is with the operation that failed.
fn bind_unix(
    path: &Path,
    mode: u32,
) -> Result<(UnixListener, SocketFile), (&'static str, io::Error)> {
    let failed = |operation| move |error| (operation, error);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(failed("making its directory"))?;
    }
    // Bind under another name, so that the socket never has wider permissions under its own name, and a client never
    // finds none.
    let mut name = path.to_owned().into_os_string();
    name.push(format!(".{}.new", std::process::id()));
    let new = PathBuf::from(name);
    let _ = fs::remove_file(&new);
    let listener = UnixListener::bind(&new).map_err(failed("bind"))?;
    let mut file = SocketFile {
        inode: inode(&new).map_err(failed("looking at it"))?,
        path: new,
    };
    fs::set_permissions(&file.path, fs::Permissions::from_mode(mode)).map_err(failed("chmod"))?;
    fs::rename(&file.path, path).map_err(failed("rename"))?;
    path.clone_into(&mut file.path);
    Ok((listener, file))
}

/// The file of a Unix socket. It is removed when the value is dropped, unless another process has put its own in the place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

fn inode(path: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    fs::symlink_metadata(path).map(|metadata| metadata.ino())
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if inode(&self.path).ok() == Some(self.inode) {
            // Somebody else may be faster.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Listener {
    /// Binds an endpoint. Replaces the socket of a dead agent, but not that of a running one.
    ///
    /// # Errors
    /// Returns [`ListenError`].
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
            Endpoint::Unix(path) => Socket::Unix(UnixSocket::bind(path, SOCKET_MODE)?),
        };
        Ok(Listener { endpoint, socket })
    }

    /// Returns the endpoint.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Returns the socket, for a server.
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
    match std::os::unix::net::UnixStream::connect(path) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_whose_file_is_removed_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run").join("api.sock");
        let bound = Listener::bind(Endpoint::Unix(path.clone())).await.unwrap();
        let Socket::Unix(socket) = bound.into_socket() else {
            panic!("a Unix socket was bound");
        };
        let accepting = tokio::spawn(async move {
            loop {
                socket.next().await.unwrap();
            }
        });
        UnixStream::connect(&path).await.unwrap();
        // Its folder goes, too.
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        let again = async {
            while UnixStream::connect(&path).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), again)
            .await
            .unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, SOCKET_MODE);
        accepting.abort();
        assert!(accepting.await.unwrap_err().is_cancelled());
        assert!(!path.exists(), "removed with the socket");
    }

    #[tokio::test]
    async fn a_socket_has_its_mode_and_takes_the_place_of_a_dead_one_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let socket = UnixSocket::bind(&path, 0o600).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let error = UnixSocket::bind(&path, 0o600).unwrap_err();
        assert!(matches!(error, ListenError::InUse(_)), "{error}");
        // The next server has put its own in the place: that one stays.
        fs::remove_file(&path).unwrap();
        let next = UnixSocket::bind(&path, 0o600).unwrap();
        drop(socket);
        UnixStream::connect(&path).await.unwrap();
        drop(next);
        assert!(!path.exists());
        fs::write(&path, "a file").unwrap();
        let error = UnixSocket::bind(&path, 0o600).unwrap_err();
        assert!(matches!(error, ListenError::NoSocket(_)), "{error}");
    }
}
