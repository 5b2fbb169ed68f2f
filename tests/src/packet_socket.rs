//! Packet sockets: whole frames, past the host's stack.

use std::{
    io,
    mem::size_of_val,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use nix::net::if_::if_nametoindex;

/// A socket that sends frames out of an interface, and receives those that come in or go out.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Opens one on an interface of this thread's namespace. It receives all frames from now on; a receive that waits for
    /// 100 ms returns without one.
    ///
    /// # Errors
    /// Fails without root, or if there is no such interface.
    pub fn open(interface: &str) -> io::Result<Self> {
        let socket = Self::with_protocol(interface, (libc::ETH_P_ALL as u16).to_be())?;
        let timeout = libc::timeval {
            tv_sec: 0,
            tv_usec: 100_000,
        };
        // SAFETY: the value is ours, of the length that is said, and only read.
        let set = unsafe {
            libc::setsockopt(
                socket.0.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const timeout).cast(),
                size_of_val(&timeout) as libc::socklen_t,
            )
        };
        checked(set as isize)?;
        Ok(socket)
    }

    /// Opens one that receives nothing.
    ///
    /// # Errors
    /// As [`PacketSocket::open`].
    pub fn open_for_sending(interface: &str) -> io::Result<Self> {
        Self::with_protocol(interface, 0)
    }

    fn with_protocol(interface: &str, protocol: u16) -> io::Result<Self> {
        let index = if_nametoindex(interface)?;
        // SAFETY: a system call without pointers.
        let socket = unsafe {
            libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                i32::from(protocol),
            )
        };
        checked(socket as isize)?;
        // SAFETY: the descriptor was opened just now and is nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        // SAFETY: all zeros is a valid address; the fields that matter are set.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = index as i32;
        // SAFETY: the address is ours, of the length that is said, and only read.
        let bound = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of_val(&address) as libc::socklen_t,
            )
        };
        checked(bound as isize)?;
        Ok(Self(socket))
    }

    /// Sends a frame. It waits while the queue is full.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.send_with(frame, 0)
    }

    /// Sends a frame. Where the queue is full it is lost, as on any wire.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn send_or_lose(&self, frame: &[u8]) -> io::Result<()> {
        match self.send_with(frame, libc::MSG_DONTWAIT) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::EAGAIN)) => {
                Ok(())
            }
            result => result,
        }
    }

    fn send_with(&self, frame: &[u8], flags: i32) -> io::Result<()> {
        // SAFETY: the frame is ours and only read.
        let sent = unsafe {
            libc::send(
                self.0.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                flags,
            )
        };
        // A packet socket sends a frame whole.
        checked(sent).map(drop)
    }

    /// Receives a frame and returns its length; `None` if none came within 100 ms.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        // SAFETY: the buffer is ours and has the length that is said.
        let length = unsafe {
            libc::recv(
                self.0.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                0,
            )
        };
        match checked(length) {
            Ok(length) => Ok(Some(length as usize)),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// The result of a system call, or its error.
fn checked(result: isize) -> io::Result<isize> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}
