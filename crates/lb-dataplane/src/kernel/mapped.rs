//! Tables in shared memory: an array map with `BPF_F_MMAPABLE` (Linux 5.5), seen as a slice of records.
//!
//! The kernel reads these bytes while they are written, so no reference to them is held: whole records are
//! copied in and out, and single words are atomics.

use std::{
    marker::PhantomData,
    mem::{align_of, size_of},
    os::fd::{AsFd, AsRawFd as _},
    sync::atomic::{AtomicU32, AtomicU64},
};

use aya::maps::MapData;

use crate::error::{DataplaneError, system};

/// Records whose every bit pattern is valid, without padding that matters.
///
/// # Safety
/// `repr(C)`, only integers, a size that is a multiple of 8 (the stride of an array map).
pub unsafe trait Record: Copy + Send + 'static {}

macro_rules! records {
    ($($name:path),* $(,)?) => {
        $(
            const _: () = assert!(size_of::<$name>() % 8 == 0 && align_of::<$name>() <= 4_096);
            // SAFETY: a table record of lb-common: `repr(C)`, integers only; size asserted above.
            unsafe impl Record for $name {}
        )*
    };
}
records!(
    lb_common::tables::config::Config,
    lb_common::tables::meta::Meta,
    lb_common::tables::service::Service,
    lb_common::tables::ring::Chunk,
    lb_common::tables::nat::NatSettings,
    lb_common::tables::real::Real,
    lb_common::tables::real::Budget,
    lb_common::tables::v2::Real,
    lb_common::tables::next_hop::NextHop,
    lb_common::tables::flow::Bucket,
    lb_common::tables::signs::Signs,
    lb_common::tables::signs::Sample,
    lb_common::tables::vip::Vip4Bucket,
    lb_common::tables::vip::Vip6Bucket,
    lb_common::tables::wide::PortSet,
);

/// A record as words that programs change at the same time.
///
/// # Safety
/// It has the size and alignment of [`Shared::Record`] and consists of atomics.
pub unsafe trait Shared {
    /// The same bytes, as a record.
    type Record: Record;
}

macro_rules! shared {
    ($($name:path => $record:path),* $(,)?) => {
        $(
            const _: () = assert!(
                size_of::<$name>() == size_of::<$record>() && align_of::<$name>() == align_of::<$record>()
            );
            // SAFETY: words of lb-common, which are atomics; size and alignment asserted above.
            unsafe impl Shared for $name {
                type Record = $record;
            }
        )*
    };
}
shared!(
    lb_common::tables::signs::SharedSigns => lb_common::tables::signs::Signs,
    lb_common::tables::signs::SharedSample => lb_common::tables::signs::Sample,
    lb_common::vip_table::SharedVip4Bucket => lb_common::tables::vip::Vip4Bucket,
    lb_common::vip_table::SharedVip6Bucket => lb_common::tables::vip::Vip6Bucket,
);

/// A mapped array of `T`. The mapping keeps the map alive.
pub struct Mapped<T> {
    memory: memmap2::MmapRaw,
    records: usize,
    marker: PhantomData<T>,
}

impl<T: Record> Mapped<T> {
    /// Maps an array of `records` records.
    ///
    /// # Errors
    /// [`DataplaneError::System`] if `mmap` fails.
    pub fn new(name: &str, map: &MapData, records: u32) -> Result<Mapped<T>, DataplaneError> {
        let memory = memmap2::MmapOptions::new()
            .len(records as usize * size_of::<T>())
            .map_raw(map.fd().as_fd().as_raw_fd())
            .map_err(system(format!("mapping the table {name} into memory")))?;
        Ok(Mapped {
            memory,
            records: records as usize,
            marker: PhantomData,
        })
    }

    /// Records in anonymous memory, all zero, for tests without a kernel table.
    #[cfg(test)]
    pub fn anonymous(records: u32) -> Mapped<T> {
        let memory = memmap2::MmapMut::map_anon(records as usize * size_of::<T>())
            .expect("there is some memory");
        Mapped {
            memory: memory.into(),
            records: records as usize,
            marker: PhantomData,
        }
    }

    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records
    }

    fn at(&self, index: usize) -> *mut T {
        assert!(
            index < self.records,
            "index {index} of a table of {}",
            self.records
        );
        // SAFETY: the mapping has `records` records of this size and the index was checked.
        unsafe { self.memory.as_mut_ptr().cast::<T>().add(index) }
    }

    /// The records as words that programs read and may write at the same time.
    #[must_use]
    pub fn shared<S: Shared<Record = T>>(&self) -> &[S] {
        // SAFETY: the mapping has this many records of this size and alignment, and lives as long as the
        // borrow; atomics may be shared with every other user of the memory (`Shared`). This process writes
        // tables of this kind only by these words.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast(), self.records) }
    }

    /// Copies a record out. Words that the kernel writes may be of different moments.
    #[must_use]
    pub fn read(&self, index: usize) -> T {
        // SAFETY: in bounds (`at`); mappings are page-aligned and the stride is the size, so aligned;
        // every bit pattern is a `T` (`Record`).
        unsafe { self.at(index).read_volatile() }
    }

    /// Copies a record in. It is not one store, so no packet may read the record yet.
    pub fn write(&mut self, index: usize, record: T) {
        // SAFETY: as in `read`; the memory is writable.
        unsafe { self.at(index).write_volatile(record) }
    }

    /// A word of a record, `offset` bytes into it.
    #[must_use]
    pub fn word32(&self, index: usize, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= size_of::<T>());
        // SAFETY: in bounds and aligned (asserted); lives as long as the mapping.
        unsafe { AtomicU32::from_ptr(self.at(index).cast::<u8>().add(offset).cast()) }
    }

    /// A double word of a record, `offset` bytes into it.
    #[must_use]
    pub fn word64(&self, index: usize, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= size_of::<T>());
        // SAFETY: in bounds and aligned (asserted); lives as long as the mapping.
        unsafe { AtomicU64::from_ptr(self.at(index).cast::<u8>().add(offset).cast()) }
    }
}
