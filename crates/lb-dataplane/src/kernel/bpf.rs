//! The `bpf(2)` calls that aya does not have (the interface of a pinned link, its end, reading a whole per-CPU
//! table with one call), and waiting for running programs.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    path::Path,
    time::Duration,
};

const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_LINK_DETACH: libc::c_long = 34;

/// Runs a command with its attributes. `T` is the command's part of `union bpf_attr`.
fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<libc::c_long> {
    let pointer = std::ptr::from_mut(attributes);
    // SAFETY: the attributes have the given size. The callers below pass pointers to buffers that outlive
    // this call and are at least as long as the command reads and writes.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, pointer, size_of::<T>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Longer than a program runs.
const PROGRAM_TIME: Duration = Duration::from_millis(100);

/// Returns when every program that runs now has ended.
pub(crate) fn wait_for_programs() {
    const MEMBARRIER_CMD_GLOBAL: libc::c_long = 1;
    // SAFETY: a call without pointers. It calls RCU's `synchronize` (kernel/sched/membarrier.c), and programs
    // run as RCU readers.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result != 0 {
        // The kernel has `nohz_full`, or a filter of system calls forbids it.
        std::thread::sleep(PROGRAM_TIME);
    }
}

/// The first fields of `bpf_link_info`, as Linux 5.9 has them for XDP.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct LinkInfo {
    kind: u32,
    /// The id of the link.
    pub id: u32,
    /// The id of the program.
    pub program: u32,
    pad: u32,
    /// Index of the interface; 0 if it is gone.
    pub interface: u32,
    rest: [u32; 3],
}

/// Opens a pinned object.
fn open(path: &Path) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Get {
        path: u64,
        fd: u32,
        flags: u32,
    }
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())?;
    let fd = bpf(
        BPF_OBJ_GET,
        &mut Get {
            path: path.as_ptr() as u64,
            fd: 0,
            flags: 0,
        },
    )?;
    // SAFETY: the kernel has just made this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Detaches a pinned link from its interface even if another process holds it (Linux 5.9). Packets no longer
/// meet the program when this returns; the kernel defers that for a link whose pin is merely removed.
pub(crate) fn detach_pinned_link(path: &Path) -> io::Result<()> {
    let link = open(path)?;
    bpf(BPF_LINK_DETACH, &mut (link.as_raw_fd() as u32))?;
    Ok(())
}

/// `bpf_link_info` of a pinned link.
pub(crate) fn pinned_link_info(path: &Path) -> io::Result<LinkInfo> {
    #[repr(C)]
    struct Info {
        fd: u32,
        length: u32,
        info: u64,
    }
    let fd = open(path)?;
    let mut info = LinkInfo::default();
    let mut attributes = Info {
        fd: fd.as_raw_fd() as u32,
        length: size_of::<LinkInfo>() as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes)?;
    Ok(info)
}

/// Every value of a per-CPU array: entry by entry, and CPU by CPU in each (Linux 5.13).
pub(crate) fn read_per_cpu(
    map: BorrowedFd<'_>,
    entries: u32,
    words: usize,
    cpus: usize,
) -> io::Result<Vec<u64>> {
    #[repr(C)]
    struct Batch {
        in_batch: u64,
        out_batch: u64,
        keys: u64,
        values: u64,
        count: u32,
        map: u32,
        element_flags: u64,
        flags: u64,
    }
    let mut keys = vec![0_u32; entries as usize];
    let mut values = vec![0_u64; entries as usize * words * cpus];
    let mut next = 0_u32;
    let mut attributes = Batch {
        in_batch: 0,
        out_batch: std::ptr::from_mut(&mut next) as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: entries,
        map: map.as_raw_fd() as u32,
        element_flags: 0,
        flags: 0,
    };
    match bpf(BPF_MAP_LOOKUP_BATCH, &mut attributes) {
        Ok(_) => Ok(values),
        // The end of the table.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(values),
        Err(error) => Err(error),
    }
}
