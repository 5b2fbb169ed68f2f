//! The folder of an instance: what it was made from, its process, how it ended, and what it printed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::chown,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use lb_model::pool::{InstanceName, Launch};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The output of an instance that is kept at most; then it begins anew.
const MAX_LOG: u64 = 16 << 20;
/// What of it stays then.
const KEPT_LOG: usize = 4 << 20;
/// What an instance was made from, its first process, and how it ended.
const LAUNCH: &str = "launch.json";
const RUN: &str = "run.json";
const ENDING: &str = "ending.json";
/// The folder of the instance's own files.
const FILES: &str = "files";
/// Folders that are being made or removed begin so.
const HIDDEN: char = '.';

/// The first process of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its number.
    pub pid: u32,
    /// When it started, in ticks since boot.
    pub started: u64,
    /// The boot.
    pub boot: String,
}

/// How an instance ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// Exit status; negative is a signal.
    pub status: Option<i64>,
    /// In words.
    pub reason: String,
}

/// The folders of a driver's instances.
#[derive(Clone, Debug)]
pub struct Folders(PathBuf);

impl Folders {
    /// Opens the driver's folder, and removes what a killed process was making or removing.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&path).map_err(|error| at(&path, &error))?;
        for entry in fs::read_dir(&path)? {
            let entry = entry?;
            let is_hidden = entry.file_name().to_string_lossy().starts_with(HIDDEN);
            if is_hidden && entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path()).map_err(|error| at(&entry.path(), &error))?;
            }
        }
        Ok(Folders(path))
    }

    /// Makes the driver's folder again if it is gone. Returns whether it was.
    pub fn make_again(&self) -> io::Result<bool> {
        if self.0.is_dir() {
            return Ok(false);
        }
        fs::create_dir_all(&self.0).map_err(|error| at(&self.0, &error))?;
        Ok(true)
    }

    /// Where the driver keeps its lock.
    pub fn lock_path(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// The instances that have a folder.
    pub fn names(&self) -> io::Result<Vec<InstanceName>> {
        let entries = fs::read_dir(&self.0).map_err(|error| at(&self.0, &error))?;
        let mut names = Vec::new();
        for entry in entries {
            if let Ok(name) = entry?.file_name().to_string_lossy().parse() {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// The folder of an instance.
    pub fn of(&self, name: &InstanceName) -> Folder {
        Folder(self.0.join(name.to_string()))
    }

    /// Makes an instance's folder, whole or not at all.
    pub fn create(&self, launch: &Launch) -> io::Result<()> {
        self.create_with(launch, |_| Ok(()))
    }

    /// Makes an instance's folder with what `fill` puts into it, whole or not at all.
    pub fn create_with(
        &self,
        launch: &Launch,
        fill: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        let folder = self.of(&launch.name);
        if folder.0.exists() {
            return Ok(());
        }
        let new = self.0.join(format!("{HIDDEN}new-{}", launch.name));
        match fs::remove_dir_all(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(at(&new, &error)),
            _ => {}
        }
        fs::create_dir(&new).map_err(|error| at(&new, &error))?;
        write_files(&Folder(new.clone()).files(), launch)?;
        Folder(new.clone()).set_launch(launch)?;
        fill(&new)?;
        fs::rename(&new, &folder.0).map_err(|error| at(&folder.0, &error))
    }

    /// Removes an instance's folder: from one moment to the next the instance does not exist.
    pub fn remove(&self, name: &InstanceName) -> io::Result<()> {
        let gone = self.0.join(format!("{HIDDEN}gone-{name}"));
        match fs::rename(self.of(name).0, &gone) {
            Ok(()) => fs::remove_dir_all(&gone).map_err(|error| at(&gone, &error)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(at(&gone, &error)),
        }
    }
}

/// The folder of one instance.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The folder of the files that the instance was made with.
    pub fn files(&self) -> PathBuf {
        self.0.join(FILES)
    }

    /// Whether it exists.
    pub fn exists(&self) -> bool {
        self.0.is_dir()
    }

    /// What the instance was made from; `None` if it has no folder.
    pub fn launch(&self) -> io::Result<Option<Launch>> {
        self.read(LAUNCH)
    }

    /// Notes what it was made from.
    pub fn set_launch(&self, launch: &Launch) -> io::Result<()> {
        self.write(LAUNCH, launch)
    }

    /// Whether it is noted that the instance was made from this.
    pub fn is_of(&self, launch: &Launch) -> bool {
        let noted = fs::read(self.0.join(LAUNCH)).ok();
        noted.is_some() && noted == serde_json::to_vec(launch).ok()
    }

    /// Its first process, if it was started. A note that cannot be read is none: the control group knows the process, too.
    pub fn run(&self) -> io::Result<Option<Run>> {
        self.read_if_good(RUN)
    }

    /// Whether it was started, as far as is noted.
    pub fn was_started(&self) -> bool {
        self.0.join(RUN).exists()
    }

    /// Notes its first process.
    pub fn set_run(&self, run: &Run) -> io::Result<()> {
        self.write(RUN, run)
    }

    /// How it ended, if somebody saw it. A note that cannot be read is none.
    pub fn ending(&self) -> io::Result<Option<Ending>> {
        self.read_if_good(ENDING)
    }

    /// Notes how it ended; nothing if the instance has been removed.
    pub fn set_ending(&self, ending: &Ending) -> io::Result<()> {
        match self.write(ENDING, ending) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Forgets how it ended: it is started again.
    pub fn clear_ending(&self) -> io::Result<()> {
        for name in [ENDING, RUN] {
            match fs::remove_file(self.0.join(name)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// The file that the instance prints to.
    pub fn open_log(&self) -> io::Result<File> {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())
            .map_err(|error| at(&self.log_path(), &error))
    }

    /// The end of what it printed.
    pub fn log(&self, most: usize) -> io::Result<Vec<u8>> {
        let mut file = match File::open(self.log_path()) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(most as u64)))?;
        let mut text = Vec::new();
        file.take(most as u64).read_to_end(&mut text)?;
        Ok(text)
    }

    /// Begins the file anew if it has grown too large. The process goes on writing at its end, wherever that is.
    pub fn shorten_log(&self) -> io::Result<()> {
        match fs::metadata(self.log_path()) {
            Ok(metadata) if metadata.len() > MAX_LOG => {
                fs::write(self.0.join("log.1"), self.log(KEPT_LOG)?)?;
                OpenOptions::new()
                    .write(true)
                    .open(self.log_path())?
                    .set_len(0)
            }
            _ => Ok(()),
        }
    }

    fn log_path(&self) -> PathBuf {
        self.0.join("log")
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        let path = self.0.join(name);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
                let why = format!("{} cannot be read: {error}", path.display());
                io::Error::new(ErrorKind::InvalidData, why)
            }),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(error) => Err(at(&path, &error)),
        }
    }

    fn read_if_good<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        match self.read(name) {
            Err(error) if error.kind() == ErrorKind::InvalidData => Ok(None),
            other => other,
        }
    }

    /// Writes a file whole or not at all. A list may write what a start writes at the same time: each has a name of its own
    /// for the new file.
    fn write(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let path = self.0.join(name);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let new = self.0.join(format!("{name}.{number}.new"));
        let bytes = serde_json::to_vec(value).map_err(io::Error::other)?;
        let mut file = File::create(&new).map_err(|error| at(&new, &error))?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&new, &path).map_err(|error| at(&path, &error))
    }
}

/// Writes the files that an instance has of its own, if it has some, for the user that it runs as.
pub(crate) fn write_files(folder: &Path, launch: &Launch) -> io::Result<()> {
    if launch.files.is_empty() {
        return Ok(());
    }
    let own = |path: &Path| match launch.user {
        Some((user, group)) => {
            let group = group.unwrap_or(user);
            chown(path, Some(user), Some(group)).map_err(|error| at(path, &error))
        }
        None => Ok(()),
    };
    fs::create_dir_all(folder).map_err(|error| at(folder, &error))?;
    own(folder)?;
    for (name, text) in &launch.files {
        let is_plain = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
        if !is_plain {
            let why = format!("{name:?} is no name of a file");
            return Err(io::Error::new(ErrorKind::InvalidInput, why));
        }
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| at(&path, &error))?;
        own(&path)?;
    }
    Ok(())
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(name: &str) -> Launch {
        Launch {
            name: name.parse().unwrap(),
            image: None,
            vm: None,
            program: Some("/bin/true".into()),
            arguments: Vec::new(),
            environment: Default::default(),
            user: None,
            cpu: None,
            memory: None,
            processes: None,
            labels: Default::default(),
            volume: None,
            files: Default::default(),
            endpoint: "127.0.0.1:80".parse().unwrap(),
            network: lb_model::pool::Network::Host { inner_port: None },
        }
    }

    #[test]
    fn a_folder_is_there_whole_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("process");
        let folders = Folders::open(path.clone()).unwrap();
        folders.create(&launch("web-1-1")).unwrap();
        folders.create(&launch("web-1-1")).unwrap();
        // A process was killed while it made one and removed another.
        fs::create_dir(path.join(".new-web-2-1")).unwrap();
        fs::create_dir(path.join(".gone-web-3-1")).unwrap();
        let folders = Folders::open(path.clone()).unwrap();
        assert_eq!(folders.names().unwrap(), ["web-1-1".parse().unwrap()]);
        assert!(!path.join(".new-web-2-1").exists() && !path.join(".gone-web-3-1").exists());
        let name = "web-1-1".parse().unwrap();
        let folder = folders.of(&name);
        assert_eq!(folder.launch().unwrap(), Some(launch("web-1-1")));
        assert_eq!(folder.run().unwrap(), None);
        folders.remove(&name).unwrap();
        folders.remove(&name).unwrap();
        assert_eq!(folder.launch().unwrap(), None);
        folder.set_ending(&Ending::default()).unwrap();
        assert!(!folder.exists());
    }

    #[test]
    fn an_instance_has_its_files_as_long_as_it_exists() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::open(root.path().to_owned()).unwrap();
        let mut launch = launch("web-1-1");
        launch.files = [("a.toml".to_owned(), "x = 1".to_owned())].into();
        folders.create(&launch).unwrap();
        let folder = folders.of(&launch.name);
        let file = folder.files().join("a.toml");
        assert_eq!(fs::read_to_string(&file).unwrap(), "x = 1");
        assert_eq!(folder.launch().unwrap(), Some(launch.clone()));
        folders.remove(&launch.name).unwrap();
        assert!(!file.exists());
        for bad in ["", "..", "a/b", "/etc/passwd"] {
            launch.files = [(bad.to_owned(), String::new())].into();
            folders.create(&launch).expect_err(bad);
            assert!(!folders.of(&launch.name).exists());
        }
    }

    #[test]
    fn notes_that_cannot_be_read_are_none_save_for_what_it_was_made_from() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::open(root.path().to_owned()).unwrap();
        folders.create(&launch("web-1-1")).unwrap();
        let folder = folders.of(&"web-1-1".parse().unwrap());
        assert!(folder.is_of(&launch("web-1-1")) && !folder.was_started());
        for name in [LAUNCH, RUN, ENDING] {
            fs::write(folder.path().join(name), "{\"pid\":").unwrap();
        }
        assert_eq!(folder.run().unwrap(), None);
        assert_eq!(folder.ending().unwrap(), None);
        assert!(folder.was_started() && !folder.is_of(&launch("web-1-1")));
        let error = folder.launch().unwrap_err().to_string();
        assert!(error.contains("launch.json cannot be read"), "{error}");
        folder.set_launch(&launch("web-1-1")).unwrap();
        assert_eq!(folder.launch().unwrap(), Some(launch("web-1-1")));
    }

    #[test]
    fn two_may_note_the_same_at_the_same_time() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::open(root.path().to_owned()).unwrap();
        folders.create(&launch("web-1-1")).unwrap();
        let folder = folders.of(&"web-1-1".parse().unwrap());
        let run = Run {
            pid: 1,
            started: 2,
            boot: "3".to_owned(),
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..50).for_each(|_| folder.set_run(&run).unwrap()));
            }
        });
        assert_eq!(folder.run().unwrap(), Some(run));
    }

    #[test]
    fn the_end_of_the_output_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::open(root.path().to_owned()).unwrap();
        folders.create(&launch("web-1-1")).unwrap();
        let folder = folders.of(&"web-1-1".parse().unwrap());
        assert_eq!(folder.log(10).unwrap(), b"");
        let mut log = folder.open_log().unwrap();
        log.write_all(b"0123456789").unwrap();
        assert_eq!(folder.log(4).unwrap(), b"6789");
        log.write_all(&vec![b'x'; usize::try_from(MAX_LOG).unwrap()])
            .unwrap();
        folder.shorten_log().unwrap();
        assert_eq!(folder.log(4).unwrap(), b"");
        log.write_all(b"new").unwrap();
        assert_eq!(folder.log(4).unwrap(), b"new");
    }
}
