//! The smallest XDP program, which passes every frame: two instructions, loaded by a system call without a compiler.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::Context as _;

use crate::Namespace;

/// Numbers of the kernel's interface (include/uapi/linux/bpf.h).
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// `r0 = XDP_PASS; exit`.
static PASS: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];
static LICENSE: &[u8] = b"GPL\0";

/// The first fields of `union bpf_attr` for BPF_PROG_LOAD; the kernel assumes zero for the rest.
#[repr(C)]
struct Load {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
}

/// The fields of `union bpf_attr` for BPF_LINK_CREATE.
#[repr(C)]
struct LinkCreate {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

/// Attaches the program to an interface in native mode, for as long as the namespace exists.
///
/// A veth end receives the frames that its peer's program sends back (XDP_TX) only while it has a program of its own:
/// with GRO alone the kernel queues the frames but does not schedule the poller (observed on 6.18; `veth_xdp_flush`
/// checks for a program).
pub(crate) fn attach(namespace: &Namespace, interface: &str) -> anyhow::Result<()> {
    let link = namespace
        .enter(|| -> anyhow::Result<OwnedFd> {
            let index = nix::net::if_::if_nametoindex(interface)?;
            let load = Load {
                program_type: BPF_PROG_TYPE_XDP,
                instruction_count: PASS.len() as u32,
                instructions: PASS.as_ptr() as u64,
                license: LICENSE.as_ptr() as u64,
            };
            let program =
                bpf(BPF_PROG_LOAD, &load).context("loading a program of two instructions")?;
            let create = LinkCreate {
                program: u32::try_from(program.as_raw_fd())?,
                interface: index,
                attach_type: BPF_XDP,
                flags: XDP_FLAGS_DRV_MODE,
            };
            bpf(BPF_LINK_CREATE, &create).context("attaching it")
        })?
        .with_context(|| {
            format!(
                "in {}: attaching an XDP program that passes every frame to {interface}",
                namespace.label()
            )
        })?;
    namespace.keep(link);
    Ok(())
}

/// Runs a bpf(2) command that returns a file descriptor.
fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: `attributes` outlives the call and its size is passed; the pointers in it refer to statics.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(result).map_err(io::Error::other)?;
    // SAFETY: the kernel has just returned this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
