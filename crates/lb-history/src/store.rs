//! The files of all series, and their limit.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt, fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    quantity::Gathered,
    query::{Point, Query},
    series::{BYTES, Series},
};

/// How long the series of an object that is gone is kept, while the store is written.
pub const GRACE: Duration = Duration::from_secs(3_600);

/// What a series is of. When there is no room for all, those that come first here have theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A load balancer, by id.
    Balancer,
    /// A pool, by name.
    Pool,
    /// An instance, by its place in its pool: `POOL-NUMBER`.
    Instance,
}

impl Kind {
    /// The beginning of the names of its files.
    const fn prefix(self) -> &'static str {
        match self {
            Kind::Balancer => "balancer",
            Kind::Pool => "pool",
            Kind::Instance => "instance",
        }
    }
}

/// Names a series.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// What it is of.
    pub kind: Kind,
    /// Its name: letters, digits and `-`.
    name: String,
}

impl Key {
    /// A key; `None` if the name has other characters than letters, digits and `-`, or is too long.
    #[must_use]
    pub fn new(kind: Kind, name: &str) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let is_name = (1..=200).contains(&name.len()) && name.bytes().all(is_plain);
        is_name.then(|| Key {
            kind,
            name: name.to_owned(),
        })
    }

    fn of_file(name: &str) -> Option<Self> {
        let name = name.strip_suffix(SUFFIX)?;
        let (prefix, name) = name.split_once('.')?;
        let kinds = [Kind::Balancer, Kind::Pool, Kind::Instance];
        let kind = kinds.into_iter().find(|kind| kind.prefix() == prefix)?;
        Key::new(kind, name)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.prefix(), self.name)
    }
}

/// The end of the names of files.
const SUFFIX: &str = ".history";

/// What became of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Series that were written.
    pub series: usize,
    /// Series for which there is no room.
    pub refused: usize,
    /// Why some could not be written.
    pub error: Option<String>,
    /// Series of objects that are gone that were removed.
    pub removed: usize,
}

/// All series.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    /// The most series.
    most: usize,
    known: BTreeSet<Key>,
    /// Since when objects are gone.
    gone: HashMap<Key, Duration>,
}

impl Store {
    /// Opens the store in a folder, which is made if it is not there, with room for so many bytes.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub fn open(folder: &Path, bytes: u64) -> io::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let mut known = BTreeSet::new();
        for entry in fs::read_dir(folder)? {
            if let Some(name) = entry?.file_name().to_str() {
                known.extend(Key::of_file(name));
            }
        }
        Ok(Store {
            folder: folder.to_owned(),
            most: usize::try_from(bytes / BYTES).unwrap_or(usize::MAX),
            known,
            gone: HashMap::new(),
        })
    }

    fn path(&self, key: &Key) -> PathBuf {
        let Key { kind, name } = key;
        self.folder
            .join(format!("{}.{name}{SUFFIX}", kind.prefix()))
    }

    /// How many series there are, and can be.
    #[must_use]
    pub fn room(&self) -> (usize, usize) {
        (self.known.len(), self.most)
    }

    /// Writes the step that began at `time`, in seconds since 1970: what was gathered of all objects that there are. Series of others
    /// are removed after [`GRACE`]. `now` counts from a start of the caller's choice.
    pub fn write(
        &mut self,
        time: u64,
        objects: &BTreeMap<Key, Gathered>,
        now: Duration,
    ) -> Written {
        let mut written = Written::default();
        self.collect(objects, now, &mut written);
        for (key, gathered) in objects {
            if !self.known.contains(key) {
                if self.known.len() >= self.most && !self.displace(key, &mut written) {
                    written.refused += 1;
                    continue;
                }
                self.known.insert(key.clone());
            }
            let path = self.path(key);
            let done = Series::open(&path).and_then(|series| series.write(time, gathered));
            match done {
                Ok(()) => written.series += 1,
                Err(error) => {
                    written
                        .error
                        .get_or_insert_with(|| format!("{}: {error}", path.display()));
                }
            }
        }
        written
    }

    /// Makes room for a series by removing the one that matters least, if that one matters less: of an object that is gone, or
    /// of a later kind.
    fn displace(&mut self, key: &Key, written: &mut Written) -> bool {
        let gone = self.gone.iter().min_by_key(|(_, since)| **since);
        let victim = match gone {
            Some((gone, _)) => Some(gone.clone()),
            None => self
                .known
                .last()
                .filter(|last| last.kind > key.kind)
                .cloned(),
        };
        match victim {
            Some(victim) => {
                self.remove(&victim, written);
                true
            }
            None => false,
        }
    }

    fn collect(&mut self, objects: &BTreeMap<Key, Gathered>, now: Duration, written: &mut Written) {
        self.gone.retain(|key, _| !objects.contains_key(key));
        let gone: Vec<Key> = self
            .known
            .iter()
            .filter(|key| !objects.contains_key(*key))
            .cloned()
            .collect();
        for key in gone {
            let since = *self.gone.entry(key.clone()).or_insert(now);
            if now.saturating_sub(since) >= GRACE {
                self.remove(&key, written);
            }
        }
    }

    fn remove(&mut self, key: &Key, written: &mut Written) {
        let path = self.path(key);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                written
                    .error
                    .get_or_insert_with(|| format!("{}: {error}", path.display()));
            }
            _ => written.removed += 1,
        }
        self.known.remove(key);
        self.gone.remove(key);
    }

    /// Answers a question about a series; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self, key: &Key, query: &Query) -> io::Result<Option<Vec<Point>>> {
        match Series::look(&self.path(key))? {
            Some(series) => query.answer(&series).map(Some),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::{Quantity, Sample};

    const START: u64 = 1_700_000_400;

    fn key(kind: Kind, name: &str) -> Key {
        Key::new(kind, name).unwrap()
    }

    fn gathered() -> Gathered {
        let mut gathered = Gathered::default();
        gathered.add(&Sample::default().with(Quantity::Cpu, Some(0.5)));
        gathered
    }

    fn objects(keys: &[Key]) -> BTreeMap<Key, Gathered> {
        keys.iter().map(|key| (key.clone(), gathered())).collect()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_store_has_its_limit_and_what_matters_more_has_room() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path(), 3 * BYTES + 1).unwrap();
        let instances = ["web-1", "web-2", "web-3", "web-4"].map(|name| key(Kind::Instance, name));
        let written = store.write(START, &objects(&instances), seconds(0));
        assert_eq!((written.series, written.refused), (3, 1));
        let mut keys = instances.to_vec();
        keys.push(key(Kind::Pool, "web"));
        keys.push(key(Kind::Balancer, "7"));
        let written = store.write(START + 10, &objects(&keys), seconds(10));
        assert_eq!((written.removed, written.refused), (2, 3), "{written:?}");
        let files = fs::read_dir(folder.path()).unwrap();
        let sizes: Vec<u64> = files
            .map(|file| file.unwrap().metadata().unwrap().len())
            .collect();
        assert_eq!(sizes.len(), 3);
        assert!(sizes.iter().sum::<u64>() <= 3 * BYTES);
        let query = Query::new(None, None, None, START + 20).unwrap();
        let read = |name, kind| store.read(&key(kind, name), &query).unwrap();
        assert_eq!(read("web", Kind::Pool).unwrap().len(), 1);
        assert_eq!(read("web-4", Kind::Instance), None);
    }

    #[test]
    fn series_of_objects_that_are_gone_are_removed_after_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path(), 1 << 30).unwrap();
        let (web, shop) = (key(Kind::Pool, "web"), key(Kind::Pool, "shop"));
        store.write(START, &objects(&[web.clone(), shop.clone()]), seconds(0));
        let only = objects(std::slice::from_ref(&web));
        assert_eq!(store.write(START, &only, seconds(10)).removed, 0);
        // Another run counts anew.
        let mut store = Store::open(folder.path(), 1 << 30).unwrap();
        assert_eq!(store.room().0, 2);
        assert_eq!(store.write(START, &only, seconds(0)).removed, 0);
        assert_eq!(store.write(START, &only, seconds(3_599)).removed, 0);
        assert_eq!(store.write(START, &only, seconds(3_600)).removed, 1);
        let query = Query::new(None, None, None, START + 20).unwrap();
        assert_eq!(store.read(&shop, &query).unwrap(), None);
        assert!(store.read(&web, &query).unwrap().is_some());
        // One that is back is not gone.
        store.write(START, &BTreeMap::new(), seconds(4_000));
        store.write(START, &only, seconds(4_010));
        assert_eq!(
            store.write(START, &BTreeMap::new(), seconds(7_700)).removed,
            0
        );
    }

    #[test]
    fn names_are_names_of_files() {
        for wrong in ["", "a/b", "..", "a b", "a.b", &"a".repeat(201)] {
            assert_eq!(Key::new(Kind::Pool, wrong), None, "{wrong}");
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("pool.web.history"), "").unwrap();
        fs::write(folder.path().join("notes.txt"), "").unwrap();
        let store = Store::open(folder.path(), 1 << 30).unwrap();
        assert_eq!(store.room().0, 1);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history");
        let mut store = Store::open(&path, 1 << 30).unwrap();
        fs::remove_dir(&path).unwrap();
        let written = store.write(START, &objects(&[key(Kind::Pool, "web")]), seconds(0));
        assert_eq!(written.series, 0);
        assert!(written.error.unwrap().contains("pool.web.history"));
        fs::create_dir(&path).unwrap();
        let written = store.write(START, &objects(&[key(Kind::Pool, "web")]), seconds(0));
        assert_eq!(written.error, None);
    }
}
