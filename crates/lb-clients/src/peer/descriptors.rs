//! File descriptors that are kept for probes and readers.
//!
//! Whatever else this process has open, clients of its API for example, must not keep it from asking the reals. So some
//! descriptors are held in reserve. If the limit of open files is reached, one is given up for each that is needed, and
//! taken again once the exchange is over.

use std::{
    fs::File,
    io,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use nix::{errno::Errno, sys::resource::Resource};

/// Descriptors in reserve at most.
const MOST_RESERVED: u64 = 256;
/// One in so many of the files that may be open is in reserve.
const SHARE_RESERVED: u64 = 8;

static RESERVE: Mutex<Vec<File>> = Mutex::new(Vec::new());
/// Descriptors that the reserve lacks.
static LACKING: AtomicUsize = AtomicUsize::new(0);

/// Raises the limit of open files as far as the system allows, and returns it.
///
/// # Errors
/// The limit cannot be read.
pub fn raise_limit() -> io::Result<u64> {
    let (soft, hard) = nix::sys::resource::getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(
        match nix::sys::resource::setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
            Ok(()) => hard,
            Err(_) => soft,
        },
    )
}

/// Holds descriptors in reserve, as many as are fitting where `limit` files may be open.
pub fn reserve(limit: u64) {
    // At most 256.
    let wanted = usize::try_from((limit / SHARE_RESERVED).min(MOST_RESERVED)).unwrap_or(0);
    let reserved = lock().len();
    LACKING.store(wanted.saturating_sub(reserved), Ordering::Relaxed);
    refill();
}

/// Takes descriptors again that were given up, as far as there are any.
pub fn refill() {
    if LACKING.load(Ordering::Relaxed) == 0 {
        return;
    }
    let mut reserve = lock();
    while LACKING.load(Ordering::Relaxed) > 0 {
        let taken = match reserve.first() {
            Some(file) => file.try_clone(),
            None => File::open("/dev/null"),
        };
        // Without one left it is tried again after the next exchange.
        let Ok(file) = taken else { return };
        reserve.push(file);
        LACKING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Opens something; if the limit of open files is reached, descriptors of the reserve are given up for it.
///
/// # Errors
/// The error of `open`.
pub fn open<T>(mut open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match open() {
            Err(error) if is_limit(&error) && give_up_one() => {}
            result => return result,
        }
    }
}

/// Gives up a descriptor of the reserve; returns false if it is empty.
fn give_up_one() -> bool {
    let mut reserve = lock();
    let given = reserve.pop().is_some();
    if given {
        LACKING.fetch_add(1, Ordering::Relaxed);
    }
    given
}

fn is_limit(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EMFILE as i32)
}

fn lock() -> MutexGuard<'static, Vec<File>> {
    RESERVE.lock().unwrap_or_else(PoisonError::into_inner)
}
