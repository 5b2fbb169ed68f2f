//! The file of one object: a head, and the rows of the rings.
//!
//! A row has the number of its slot, which is its time divided by the ring's step, so that a row of an earlier turn of the ring
//! is not taken for one of this turn; a checksum, by which a torn one is known; and mean and highest of each quantity.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
};

use crate::{
    cell::{decode, encode},
    quantity::{COUNT, Gathered, Quantity},
    ring::{RINGS, ROWS, STEP, row_of},
};

/// The first bytes of a file, with the version of its layout.
const MAGIC: &[u8; 8] = b"lbhist1\n";
/// Bytes of the head: the magic, and the sizes that the layout has.
const HEAD: u64 = 64;
/// Bytes of a row: slot, checksum, and two cells for each quantity.
pub const ROW: usize = 4 + 4 + COUNT * 4;
/// The most bytes of a series.
pub const BYTES: u64 = HEAD + ROWS * ROW as u64;

/// A row as it was read: mean and highest of each quantity, if that is known.
pub type Row = [Option<(f64, f64)>; COUNT];

/// A series that is open.
#[derive(Debug)]
pub struct Series(File);

impl Series {
    /// Opens the file of a series; makes it if it is not there, or is none of this layout.
    ///
    /// # Errors
    /// It cannot be opened or written.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let expected = head();
        let mut found = [0; HEAD as usize];
        if file.read_exact_at(&mut found, 0).is_err() || found != expected {
            file.set_len(0)?;
            file.write_all_at(&expected, 0)?;
        }
        Ok(Series(file))
    }

    /// Opens the file of a series for reading, if it is there.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn look(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut found = [0; HEAD as usize];
        let is_one = file.read_exact_at(&mut found, 0).is_ok() && found == head();
        Ok(is_one.then_some(Series(file)))
    }

    /// Writes what was gathered in the step that began at this time, in seconds since 1970, and the rows of longer rings that
    /// have ended with it or before.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, time: u64, gathered: &Gathered) -> io::Result<()> {
        self.write_row(0, time / STEP, |quantity| gathered.get(quantity))?;
        for ring in 1..RINGS.len() {
            self.close(ring, time)?;
        }
        Ok(())
    }

    /// Makes the rows of a longer ring that have ended before the end of the step at this time, as far as the first ring goes
    /// back and they are not there yet.
    fn close(&self, ring: usize, time: u64) -> io::Result<()> {
        let step = RINGS[ring].step;
        let end = time + STEP;
        // The rows of the first ring that are surely not overwritten.
        let oldest = end.saturating_sub(RINGS[0].span()).div_ceil(step);
        let mut slot = end / step;
        while slot > oldest {
            slot -= 1;
            if self.read_row(ring, slot)?.is_some() {
                // Those before were made when this one was, or before.
                return Ok(());
            }
            let gathered = self.gather(0, slot * step, step)?;
            if !gathered.is_empty() {
                self.write_row(ring, slot, |quantity| gathered.get(quantity))?;
            }
        }
        Ok(())
    }

    /// Means and highest of the rows of a ring in a time. Each row counts the same.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn gather(&self, ring: usize, from: u64, length: u64) -> io::Result<Gathered> {
        let step = RINGS[ring].step;
        let mut gathered = Gathered::default();
        for slot in from / step..(from + length).div_ceil(step) {
            let Some(row) = self.read_row(ring, slot)? else {
                continue;
            };
            for (quantity, figures) in Quantity::ALL.into_iter().zip(row) {
                if let Some((mean, highest)) = figures {
                    gathered.add_figure(quantity, mean, highest);
                }
            }
        }
        Ok(gathered)
    }

    fn write_row(
        &self,
        ring: usize,
        slot: u64,
        figures: impl Fn(Quantity) -> Option<(f64, f64)>,
    ) -> io::Result<()> {
        let mut bytes = [0; ROW];
        let (head, cells) = bytes.split_at_mut(8);
        for (quantity, cell) in Quantity::ALL.into_iter().zip(cells.chunks_exact_mut(4)) {
            let (mean, highest) = figures(quantity).unzip();
            cell[..2].copy_from_slice(&encode(mean).to_le_bytes());
            cell[2..].copy_from_slice(&encode(highest).to_le_bytes());
        }
        head[..4].copy_from_slice(&number(slot).to_le_bytes());
        head[4..].copy_from_slice(&checksum(ring, number(slot), cells).to_le_bytes());
        self.0.write_all_at(&bytes, offset(ring, slot))
    }

    /// The row of a slot, if it is there and whole.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read_row(&self, ring: usize, slot: u64) -> io::Result<Option<Row>> {
        let mut bytes = [0; ROW];
        match self.0.read_exact_at(&mut bytes, offset(ring, slot)) {
            Ok(()) => {}
            // The file has not come so far yet.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let (head, cells) = bytes.split_at(8);
        let found =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        if found(0) != number(slot) || found(4) != checksum(ring, number(slot), cells) {
            return Ok(None);
        }
        let mut row: Row = [None; COUNT];
        for (figures, cell) in row.iter_mut().zip(cells.chunks_exact(4)) {
            let mean = decode(u16::from_le_bytes([cell[0], cell[1]]));
            let highest = decode(u16::from_le_bytes([cell[2], cell[3]]));
            *figures = mean.zip(highest);
        }
        Ok(Some(row))
    }
}

/// The number of a slot in a row. It is enough for steps of ten seconds until the year 3331.
const fn number(slot: u64) -> u32 {
    slot as u32
}

fn offset(ring: usize, slot: u64) -> u64 {
    HEAD + row_of(ring, slot) * ROW as u64
}

/// A row that is all zeros has another checksum, so that a hole in the file is no row.
fn checksum(ring: usize, number: u32, cells: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(MAGIC);
    hasher.update(&[u8::try_from(ring).unwrap_or(u8::MAX)]);
    hasher.update(&number.to_le_bytes());
    hasher.update(cells);
    hasher.finalize()
}

fn head() -> [u8; HEAD as usize] {
    let mut head = [0; HEAD as usize];
    head[..8].copy_from_slice(MAGIC);
    let mut at = 8;
    for ring in RINGS {
        for number in [ring.step, ring.rows] {
            head[at..at + 8].copy_from_slice(&number.to_le_bytes());
            at += 8;
        }
    }
    head[at..at + 4].copy_from_slice(&(COUNT as u32).to_le_bytes());
    head
}

const _: () = assert!(8 + RINGS.len() * 16 + 4 <= HEAD as usize);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::Sample;

    /// A time at which a row of each ring begins.
    const START: u64 = 1_700_000_400;

    fn gathered(rate: f64) -> Gathered {
        let mut gathered = Gathered::default();
        gathered.add(&Sample::default().with(Quantity::Rate, Some(rate)));
        gathered
    }

    fn rate(row: Option<Row>) -> Option<(f64, f64)> {
        row?[Quantity::Rate as usize]
    }

    #[test]
    fn rings_wrap_and_the_file_does_not_grow() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("series");
        let series = Series::open(&path).unwrap();
        let steps = 100 * 360;
        for step in 0..steps {
            series
                .write(START + step * STEP, &gathered(step as f64))
                .unwrap();
        }
        assert!(std::fs::metadata(&path).unwrap().len() <= BYTES);
        let last = (START + (steps - 1) * STEP) / STEP;
        for back in [0, 1, 359] {
            let (mean, highest) = rate(series.read_row(0, last - back).unwrap()).unwrap();
            let expected = (steps - 1 - back) as f64;
            assert!((mean / expected - 1.0).abs() < 1e-3 && mean == highest);
        }
        assert_eq!(series.read_row(0, last - 360).unwrap(), None);
        assert_eq!(series.read_row(0, last + 1).unwrap(), None);
        // 100 hours: the ring of a day has wrapped, that of ninety days has not.
        let end = START + steps * STEP;
        assert!(series.read_row(1, end / 60 - 1_440).unwrap().is_some());
        assert!(series.read_row(1, end / 60 - 1_441).unwrap().is_none());
        assert!(series.read_row(2, START / 600).unwrap().is_some());
        assert!(series.read_row(2, START / 600 - 1).unwrap().is_none());
    }

    #[test]
    fn longer_rows_are_the_means_and_the_highest_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let series = Series::open(&folder.path().join("series")).unwrap();
        // Ten minutes, in which a step of each minute is unknown.
        let mut random = fastrand::Rng::with_seed(7);
        let (mut all, mut minute) = (Vec::new(), Vec::new());
        for step in 0..60 {
            let time = START + step * STEP;
            if step % 6 != 3 {
                let figure = f64::from(random.u32(0..100_000));
                series.write(time, &gathered(figure)).unwrap();
                all.push(figure);
                minute.push(figure);
            } else {
                series.write(time, &Gathered::default()).unwrap();
            }
            if step % 6 == 5 {
                let row = series.read_row(1, time / 60).unwrap();
                check(rate(row), &minute);
                minute.clear();
            } else {
                assert_eq!(series.read_row(1, time / 60).unwrap(), None);
            }
        }
        check(rate(series.read_row(2, START / 600).unwrap()), &all);
    }

    fn check(found: Option<(f64, f64)>, figures: &[f64]) {
        let (mean, highest) = found.unwrap();
        let expected = figures.iter().sum::<f64>() / figures.len() as f64;
        assert!((mean / expected - 1.0).abs() < 1e-3, "{mean} {expected}");
        let most = figures.iter().copied().fold(0.0, f64::max);
        assert!((highest / most - 1.0).abs() < 1e-3, "{highest} {most}");
    }

    #[test]
    fn what_a_killed_process_did_not_close_is_closed_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("series");
        // It is killed within a minute, and within ten.
        for step in 0..57 {
            let series = Series::open(&path).unwrap();
            series.write(START + step * STEP, &gathered(7.0)).unwrap();
        }
        let later = START + 57 * STEP + 1_800;
        let series = Series::open(&path).unwrap();
        series.write(later, &gathered(9.0)).unwrap();
        let minutes = (0..10).map(|minute| rate(series.read_row(1, START / 60 + minute).unwrap()));
        assert_eq!(minutes.collect::<Vec<_>>(), vec![Some((7.0, 7.0)); 10]);
        let ten = rate(series.read_row(2, START / 600).unwrap());
        assert_eq!(ten, Some((7.0, 7.0)));
        // Nothing is made up for the time between.
        assert_eq!(series.read_row(1, START / 60 + 15).unwrap(), None);
    }

    #[test]
    fn a_torn_row_is_lost_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("series");
        let series = Series::open(&path).unwrap();
        for step in 0..3 {
            series.write(START + step * STEP, &gathered(7.0)).unwrap();
        }
        let slot = START / STEP + 1;
        let whole = std::fs::read(&path).unwrap();
        let at = usize::try_from(offset(0, slot)).unwrap();
        for torn in 0..ROW {
            let mut bytes = whole.clone();
            bytes[at + torn] ^= 0x55;
            std::fs::write(&path, &bytes).unwrap();
            let series = Series::open(&path).unwrap();
            assert_eq!(series.read_row(0, slot).unwrap(), None, "{torn}");
            assert!(series.read_row(0, slot - 1).unwrap().is_some());
            assert!(series.read_row(0, slot + 1).unwrap().is_some());
        }
    }

    #[test]
    fn a_file_of_another_layout_is_begun_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("series");
        std::fs::write(
            &path,
            "something else, which is long enough to have been a head of a file",
        )
        .unwrap();
        assert!(Series::look(&path).unwrap().is_none());
        let series = Series::open(&path).unwrap();
        series.write(START, &gathered(1.0)).unwrap();
        assert!(Series::look(&path).unwrap().is_some());
        assert!(Series::look(&folder.path().join("none")).unwrap().is_none());
    }
}
