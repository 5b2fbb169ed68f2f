//! Handing listening sockets over to the next proxy: connections that wait to be accepted are not lost.
//!
//! A running proxy listens on a Unix socket. The next one connects, gets all listening sockets (`SCM_RIGHTS`, unix(7)) with
//! their addresses, starts, and says that it is ready; then the old one drains. If it ends without being ready, the old one
//! goes on.

use std::{
    collections::BTreeMap,
    fs, io,
    io::{IoSlice, IoSliceMut, Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::{
            fs::PermissionsExt as _,
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use nix::{
    cmsg_space,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg},
};

/// Sockets in one message (`SCM_MAX_FD`, unix(7)).
const MOST: usize = 253;
/// How long each side waits for the other one's next step.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long to wait when no connection can be accepted.
const BACKOFF: Duration = Duration::from_secs(1);
const READY: u8 = b'R';
/// Bytes of a message's text: an address for each socket.
const TEXT: usize = 32 << 10;

/// Listening sockets by address.
pub type Sockets = BTreeMap<SocketAddr, Vec<TcpListener>>;

/// The sockets that a running proxy would hand over.
pub type Held = Arc<Mutex<Sockets>>;

/// The proxy before, which waits until this one is ready.
#[derive(Debug)]
pub struct Previous(UnixStream);

impl Previous {
    /// Tells it to end.
    ///
    /// # Errors
    /// It is gone.
    pub fn end(mut self) -> io::Result<()> {
        self.0.write_all(&[READY])
    }
}

/// Asks a running proxy for its sockets; `None` if none runs.
///
/// # Errors
/// One runs, and does not hand them over.
pub fn receive(path: &Path) -> io::Result<Option<(Sockets, Previous)>> {
    let stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut sockets = Sockets::new();
    loop {
        let mut text = vec![0; TEXT];
        let mut space = cmsg_space!([RawFd; MOST]);
        let (length, files) = {
            let mut parts = [IoSliceMut::new(&mut text)];
            let message = recvmsg::<()>(
                stream.as_raw_fd(),
                &mut parts,
                Some(&mut space),
                MsgFlags::MSG_CMSG_CLOEXEC,
            )?;
            let mut files = Vec::new();
            for control in message.cmsgs()? {
                if let ControlMessageOwned::ScmRights(received) = control {
                    // SAFETY: the kernel has just made these descriptors for this process, and nothing else owns them.
                    let owned = received
                        .into_iter()
                        .map(|file| unsafe { OwnedFd::from_raw_fd(file) });
                    files.extend(owned);
                }
            }
            (message.bytes, files)
        };
        let malformed = || io::Error::other("the running proxy sent something else");
        let text = std::str::from_utf8(&text[..length]).map_err(|_| malformed())?;
        let mut lines = text.lines();
        let is_last = match lines.next() {
            Some("last") => true,
            Some("more") => false,
            _ => return Err(malformed()),
        };
        let addresses: Vec<SocketAddr> = lines
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map_err(|_| malformed())?;
        if addresses.len() != files.len() {
            return Err(malformed());
        }
        for (address, file) in addresses.into_iter().zip(files) {
            sockets.entry(address).or_default().push(file.into());
        }
        if is_last {
            return Ok(Some((sockets, Previous(stream))));
        }
        // Each message is confirmed, so that two do not run together.
        (&stream).write_all(b"+")?;
    }
}

/// The Unix socket of a running proxy. Its file is removed when this is dropped, unless the next proxy has replaced it.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    inode: u64,
}

impl Drop for Server {
    fn drop(&mut self) {
        if inode(&self.path).ok() == Some(self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    fs::symlink_metadata(path).map(|metadata| metadata.ino())
}

/// Listens on `path`, hands `held` over to whoever connects, and calls `replaced` when the next proxy is ready. The thread that
/// does so ends then, and not before.
///
/// # Errors
/// The socket cannot be made.
pub fn serve(
    path: &Path,
    held: Held,
    replaced: impl Fn() + Send + 'static,
) -> io::Result<(Server, JoinHandle<()>)> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // Under another name first: a client never finds none, and never one that everybody may use.
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let _ = fs::remove_file(&new);
    let listener = UnixListener::bind(&new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
    fs::rename(&new, path)?;
    let server = Server {
        path: path.to_owned(),
        inode: inode(path)?,
    };
    let thread = std::thread::Builder::new()
        .name("handover".to_owned())
        .spawn(move || {
            for stream in listener.incoming() {
                if stream.is_err() {
                    // The host lacks something, such as descriptors.
                    std::thread::sleep(BACKOFF);
                }
                let handed = stream.and_then(|stream| hand_over(stream, &held));
                match handed {
                    Ok(()) => {
                        replaced();
                        return;
                    }
                    Err(error) => {
                        tracing::warn!(
                            "handing the listening sockets over failed: {error}; this proxy goes on"
                        );
                    }
                }
            }
        })?;
    Ok((server, thread))
}

fn hand_over(mut stream: UnixStream, held: &Held) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let copies: Vec<(SocketAddr, TcpListener)> = {
        let held = held.lock().unwrap_or_else(PoisonError::into_inner);
        let all = held
            .iter()
            .flat_map(|(address, sockets)| sockets.iter().map(move |socket| (*address, socket)));
        all.map(|(address, socket)| Ok((address, socket.try_clone()?)))
            .collect::<io::Result<_>>()?
    };
    let mut parts: Vec<&[(SocketAddr, TcpListener)]> = copies.chunks(MOST).collect();
    if parts.is_empty() {
        parts.push(&[]);
    }
    let count = parts.len();
    for (position, part) in parts.into_iter().enumerate() {
        let is_last = position + 1 == count;
        let mut text = if is_last { "last\n" } else { "more\n" }.to_owned();
        for (address, _) in part {
            text.push_str(&format!("{address}\n"));
        }
        let files: Vec<RawFd> = part.iter().map(|(_, socket)| socket.as_raw_fd()).collect();
        let control = [ControlMessage::ScmRights(&files)];
        let control = if files.is_empty() { &[] } else { &control[..] };
        let sent = sendmsg::<()>(
            stream.as_raw_fd(),
            &[IoSlice::new(text.as_bytes())],
            control,
            MsgFlags::empty(),
            None,
        )?;
        if sent != text.len() {
            return Err(io::Error::other("the message did not fit"));
        }
        if !is_last {
            stream.read_exact(&mut [0])?;
        }
    }
    let mut ready = [0];
    stream.read_exact(&mut ready)?;
    match ready {
        [READY] => Ok(()),
        _ => Err(io::Error::other("the next proxy sent something else")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::listen::socket;

    #[test]
    fn sockets_are_handed_over_and_the_old_proxy_hears_when_to_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("handover.sock");
        assert!(receive(&path).unwrap().is_none());

        let sockets = socket::bind("127.0.0.1:0".parse().unwrap(), 300).unwrap();
        let address = sockets[0].local_addr().unwrap();
        let held: Held = Arc::new(Mutex::new([(address, sockets)].into()));
        let (ended, end) = mpsc::channel();
        let (server, _) = serve(&path, held, move || ended.send(()).unwrap()).unwrap();

        // One that ends before it is ready changes nothing.
        drop(receive(&path).unwrap().unwrap());
        let (received, previous) = receive(&path).unwrap().unwrap();
        assert_eq!(received[&address].len(), 300);
        assert_eq!(received[&address][299].local_addr().unwrap(), address);
        assert!(end.try_recv().is_err());
        previous.end().unwrap();
        end.recv_timeout(PATIENCE).unwrap();
        drop(server);
        assert!(!path.exists());
    }
}
