//! The files of the audit log: lines of JSON that are only appended. `audit.jsonl` is written; when it is full it becomes
//! `audit.1.jsonl`, that one `audit.2.jsonl`, and so on; the oldest is removed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::entry::{Entry, Wanted};

/// The log's files.
#[derive(Debug)]
pub struct Files {
    folder: PathBuf,
    file: File,
    length: u64,
    /// The most bytes of a file, and the most files.
    size: u64,
    count: u32,
}

impl Files {
    /// Opens the log in a folder, which is made if it is not there. What a crash has cut off is ended, so that the next line
    /// stands alone.
    ///
    /// # Errors
    /// The folder or the file cannot be made or opened.
    pub fn open(folder: &Path, size: u64, count: u32) -> io::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let (file, length) = Self::open_file(folder)?;
        let mut files = Files {
            folder: folder.to_owned(),
            file,
            length,
            size,
            count: count.max(1),
        };
        files.end_line()?;
        Ok(files)
    }

    fn open_file(folder: &Path) -> io::Result<(File, u64)> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        let file = options.open(path(folder, 0))?;
        let length = file.metadata()?.len();
        Ok((file, length))
    }

    fn end_line(&mut self) -> io::Result<()> {
        if self.length == 0 {
            return Ok(());
        }
        let mut last = [0];
        self.file.seek(SeekFrom::End(-1))?;
        self.file.read_exact(&mut last)?;
        if last != *b"\n" {
            self.write(b"\n")?;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.file.write_all(bytes) {
            Ok(()) => {
                self.length += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                // A part may be written: without it the line can be written again as a whole.
                let _ = self.file.set_len(self.length);
                Err(error)
            }
        }
    }

    /// Appends an entry.
    ///
    /// # Errors
    /// It was not written: the disk is full, for example.
    pub fn append(&mut self, entry: &Entry) -> io::Result<()> {
        if !path(&self.folder, 0).exists() {
            // Somebody has removed it, or moved it away.
            (self.file, self.length) = Self::open_file(&self.folder)?;
        }
        let mut line = serde_json::to_vec(entry).map_err(io::Error::other)?;
        line.push(b'\n');
        if self.length > 0 && self.length + line.len() as u64 > self.size {
            self.rotate()?;
        }
        self.write(&line)
    }

    fn rotate(&mut self) -> io::Result<()> {
        let last = self.count - 1;
        match fs::remove_file(path(&self.folder, last)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        for number in (0..last).rev() {
            match fs::rename(path(&self.folder, number), path(&self.folder, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        (self.file, self.length) = Self::open_file(&self.folder)?;
        Ok(())
    }

    /// Returns when everything is on disk.
    ///
    /// # Errors
    /// It may not be.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Entries, the newest first. Lines that cannot be read are left out.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn read(&self, wanted: &Wanted) -> io::Result<Vec<Entry>> {
        let mut found = Vec::new();
        for number in 0..self.count {
            let text = match fs::read(path(&self.folder, number)) {
                Ok(text) => text,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for line in text.rsplit(|byte| *byte == b'\n') {
                let Ok(entry) = serde_json::from_slice::<Entry>(line) else {
                    continue;
                };
                if wanted.has(&entry) {
                    found.push(entry);
                    if found.len() >= wanted.most {
                        return Ok(found);
                    }
                }
            }
        }
        Ok(found)
    }
}

fn path(folder: &Path, number: u32) -> PathBuf {
    match number {
        0 => folder.join("audit.jsonl"),
        number => folder.join(format!("audit.{number}.jsonl")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::audit::entry::Outcome;

    fn entry(number: u64) -> Entry {
        Entry {
            time: jiff::Timestamp::from_second(1_000 + number as i64).unwrap(),
            who: "user:alice".to_owned(),
            from: "10.0.0.1:5".to_owned(),
            via: "http".to_owned(),
            verb: "balancer.update".to_owned(),
            project: Some(number % 2),
            object: "project=shop balancer=web".to_owned(),
            outcome: Outcome::Done,
            status: "200".to_owned(),
            before: Some(number),
            after: Some(number + 1),
            request: "r-1".to_owned(),
        }
    }

    fn all(most: usize) -> Wanted {
        Wanted {
            most,
            ..Wanted::default()
        }
    }

    #[test]
    fn what_is_written_is_read_the_newest_first_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let line = serde_json::to_vec(&entry(0)).unwrap().len() as u64 + 1;
        let size = line * 4 + line / 2;
        let mut files = Files::open(folder.path(), size, 3).unwrap();
        for number in 0..100 {
            files.append(&entry(number)).unwrap();
            let bytes: u64 = fs::read_dir(folder.path())
                .unwrap()
                .map(|one| one.unwrap().metadata().unwrap().len())
                .sum();
            assert!(bytes <= 3 * size, "{bytes}");
        }
        let numbers = |files: &Files, wanted: &Wanted| -> Vec<u64> {
            let entries = files.read(wanted).unwrap().into_iter();
            entries.map(|one| one.before.unwrap()).collect()
        };
        let newest = numbers(&files, &all(1_000));
        assert!(newest.len() >= 8 && newest.len() <= 12, "{newest:?}");
        assert_eq!(newest[..3], [99, 98, 97]);
        assert!(newest.is_sorted_by(|one, other| one > other));
        assert_eq!(numbers(&files, &all(2)), [99, 98]);
        let of = Wanted {
            projects: Some(vec![1]),
            since: Some(entry(96).time),
            most: 10,
        };
        assert_eq!(numbers(&files, &of), [99, 97]);
        // Another run goes on.
        let files = Files::open(folder.path(), size, 3).unwrap();
        assert_eq!(numbers(&files, &all(1_000)), newest);
    }

    #[test]
    fn a_line_that_was_cut_off_is_lost_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = Files::open(folder.path(), 1 << 20, 3).unwrap();
        files.append(&entry(1)).unwrap();
        files.append(&entry(2)).unwrap();
        drop(files);
        let file = path(folder.path(), 0);
        let whole = fs::read(&file).unwrap();
        let second = whole.len() / 2;
        for cut in second + 1..whole.len() {
            fs::write(&file, &whole[..cut]).unwrap();
            let mut files = Files::open(folder.path(), 1 << 20, 3).unwrap();
            files.append(&entry(3)).unwrap();
            let read = files.read(&all(10)).unwrap();
            // Without its end alone, the line is whole.
            let expected = if cut == whole.len() - 1 {
                vec![entry(3), entry(2), entry(1)]
            } else {
                vec![entry(3), entry(1)]
            };
            assert_eq!(read, expected, "{cut}");
        }
    }

    #[test]
    fn a_log_that_is_removed_is_begun_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = Files::open(folder.path(), 1 << 20, 3).unwrap();
        files.append(&entry(1)).unwrap();
        fs::remove_file(path(folder.path(), 0)).unwrap();
        files.append(&entry(2)).unwrap();
        assert_eq!(files.read(&all(10)).unwrap(), [entry(2)]);
    }
}
