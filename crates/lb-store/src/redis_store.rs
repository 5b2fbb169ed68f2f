//! A store in a Redis server, for one controller.
//!
//! Records have the same envelope as on disk. A commit is one script, which Redis runs whole or not at all, and which first
//! compares the store's revision with the one that this process knows: so neither another writer nor a server that has lost
//! its last writes goes unnoticed. Redis may lose acknowledged writes (its answer comes before its disk's); the owner of the
//! store holds all records in memory and puts them back ([`Store::rewrite`]).
//!
//! Keys, for a store named `main`, all in one slot of a cluster: `{lb:main}:meta` (a hash: schema, identity, revision,
//! tables) and `{lb:main}:table:NAME` (a hash: key to sealed record).

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use redis::{Client, Connection, ConnectionAddr, RedisError, Value};
use tokio::sync::watch;

use crate::{
    Change, Compacted, Entry, Records, Revision, Store, StoreError, Transaction, envelope,
    history::History, new_identity,
};

/// How long an answer may take. Redis answers in less than a millisecond; a machine that swaps takes longer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(3);
/// The part of a writer's number that counts its writes.
const WRITES: u64 = u32::MAX as u64;
/// The most bytes of a store's name.
const MAX_NAME: usize = 63;

/// KEYS: meta, then a table's hash for each table that is named. ARGV: identity, the revision that the writer knows, the new
/// one, the writer, then for each condition `c`, number of the table, key, the eight bytes of the revision or nothing, and for each write
/// `w` or `d`, number of the table, key, sealed value. Returns `{"ok"}` or what is not as the writer thinks.
const COMMIT: &str = r"
local meta = redis.call('HMGET', KEYS[1], 'identity', 'revision', 'writer')
if not meta[1] or not meta[2] then return {'empty'} end
if meta[1] ~= ARGV[1] then return {'other', meta[1]} end
if meta[2] ~= ARGV[2] then return {'moved', meta[2], meta[3] or ''} end
local at = 5
while ARGV[at] == 'c' do
  local record = redis.call('HGET', KEYS[tonumber(ARGV[at + 1]) + 1], ARGV[at + 2])
  local found = record and string.sub(record, 1, 8) or ''
  if found ~= ARGV[at + 3] then return {'conflict', ARGV[at + 1], ARGV[at + 2], found} end
  at = at + 4
end
while ARGV[at] do
  local hash = KEYS[tonumber(ARGV[at + 1]) + 1]
  if ARGV[at] == 'w' then redis.call('HSET', hash, ARGV[at + 2], ARGV[at + 3])
  else redis.call('HDEL', hash, ARGV[at + 2]) end
  at = at + 4
end
redis.call('HSET', KEYS[1], 'revision', ARGV[3], 'writer', ARGV[4])
return {'ok'}
";

/// KEYS: meta, then the hashes of all tables, those that go and those that come. ARGV: schema, identity, revision,
/// writer, then for each record the number of its table, key, sealed value.
const REWRITE: &str = r"
for at = 1, #KEYS do redis.call('DEL', KEYS[at]) end
redis.call('HSET', KEYS[1], 'schema', ARGV[1], 'identity', ARGV[2], 'revision', ARGV[3], 'writer', ARGV[4])
for at = 5, #ARGV, 3 do
  redis.call('HSET', KEYS[tonumber(ARGV[at]) + 1], ARGV[at + 1], ARGV[at + 2])
end
return {'ok'}
";

/// KEYS: meta. ARGV: schema, a new identity. Makes the store if there is none, and returns schema, identity, revision.
const OPEN: &str = r"
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'schema', ARGV[1], 'identity', ARGV[2], 'revision', '0')
end
return redis.call('HMGET', KEYS[1], 'schema', 'identity', 'revision')
";

/// A store in a Redis server.
pub struct RedisStore {
    client: Client,
    /// `None` after a failure.
    connection: Mutex<Option<Connection>>,
    name: String,
    location: String,
    schema: u64,
    /// The tables that there can be.
    tables: &'static [&'static str],
    identity: u64,
    /// Names this writer and, in the lower half, its writes. A server that hung may do much later what it was asked for, when
    /// the writer has given it up.
    writer: u64,
    history: History,
}

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The client has the password.
        f.debug_struct("RedisStore")
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}

impl RedisStore {
    /// Opens the store of this name, and makes it if the server has none: `url` is
    /// `redis://[USER:PASSWORD@]HOST[:PORT][/NUMBER]` or `redis+unix:///PATH`.
    ///
    /// # Errors
    /// [`StoreError`]: the URL is wrong, the server cannot be reached, or it holds another schema.
    pub fn open(
        url: &str,
        name: &str,
        schema: u64,
        tables: &'static [&'static str],
    ) -> Result<Self, StoreError> {
        let fits = (1..=MAX_NAME).contains(&name.len())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        let unusable = |cause: String| StoreError::Remote {
            operation: "opening",
            location: "the store in Redis".to_owned(),
            cause,
        };
        if !fits {
            return Err(unusable(format!(
                "{name:?} is no name of a store; give 1 to {MAX_NAME} letters, digits, -, _ and ."
            )));
        }
        // The library quotes a URL that it cannot read, with its password.
        let client = Client::open(url).map_err(|_| {
            unusable(
                "the URL is wrong; give redis://[USER:PASSWORD@]HOST[:PORT][/NUMBER], or redis+unix:///PATH"
                    .to_owned(),
            )
        })?;
        let mut store = RedisStore {
            location: location(&client, name),
            client,
            connection: Mutex::default(),
            name: name.to_owned(),
            schema,
            tables,
            identity: 0,
            writer: new_identity() & !WRITES,
            history: History::new(Revision::default()),
        };
        store.reopen("opening")?;
        Ok(store)
    }

    /// Reads what the server has of the store, or makes it.
    fn reopen(&mut self, operation: &'static str) -> Result<(), StoreError> {
        let found: Vec<Option<String>> = self.ask(
            operation,
            redis::cmd("EVAL")
                .arg(OPEN)
                .arg(1)
                .arg(self.meta())
                .arg(self.schema)
                .arg(new_identity()),
        )?;
        let number = |at: usize| found.get(at)?.as_deref()?.parse::<u64>().ok();
        let (Some(schema), Some(identity), Some(revision)) = (number(0), number(1), number(2))
        else {
            return Err(self.damaged("its meta record is incomplete"));
        };
        if schema != self.schema {
            return Err(StoreError::Schema {
                path: PathBuf::from(&self.location),
                found: schema.to_string(),
                known: self.schema,
            });
        }
        self.identity = identity;
        self.history = History::new(Revision(revision));
        Ok(())
    }

    fn meta(&self) -> String {
        format!("{{lb:{}}}:meta", self.name)
    }

    fn hash(&self, table: &str) -> String {
        format!("{{lb:{}}}:table:{table}", self.name)
    }

    fn damaged(&self, cause: impl Into<String>) -> StoreError {
        StoreError::Damaged {
            path: PathBuf::from(&self.location),
            cause: cause.into(),
        }
    }

    fn lost(&self, what: &'static str) -> StoreError {
        StoreError::Lost {
            path: PathBuf::from(&self.location),
            what,
        }
    }

    /// Sends a command, on a new connection if there is none.
    fn ask<T: redis::FromRedisValue>(
        &self,
        operation: &'static str,
        command: &redis::Cmd,
    ) -> Result<T, StoreError> {
        let mut slot = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let asked = (|| {
            let connection = match &mut *slot {
                Some(connection) => connection,
                None => {
                    let new = self.client.get_connection_with_timeout(CONNECT)?;
                    new.set_read_timeout(Some(ANSWER))?;
                    new.set_write_timeout(Some(ANSWER))?;
                    slot.insert(new)
                }
            };
            command.query::<T>(connection)
        })();
        asked.map_err(|error: RedisError| {
            // What comes next on this connection may be the answer to this command.
            *slot = None;
            StoreError::Remote {
                operation,
                location: self.location.clone(),
                cause: error.to_string(),
            }
        })
    }

    /// Sends a command that may be sent twice: if the connection of before was lost meanwhile, as when the server was started
    /// again, on a new one.
    fn read<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> Result<T, StoreError> {
        let was_connected = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some();
        match self.ask("reading", command) {
            Err(_) if was_connected => self.ask("reading", command),
            other => other,
        }
    }

    fn open_entry(&self, table: &str, key: &str, bytes: &[u8]) -> Result<Entry, StoreError> {
        let (revision, value) =
            envelope::open(table, key, bytes).map_err(|cause| StoreError::Record {
                location: self.location.clone(),
                table: table.to_owned(),
                key: key.to_owned(),
                cause,
            })?;
        Ok(Entry {
            key: key.to_owned(),
            value: value.to_owned(),
            revision,
        })
    }

    /// The revision of the store on the server, if it is this one, and who wrote it.
    fn found_revision(&self) -> Result<(Revision, Option<u64>), StoreError> {
        let found: (Option<u64>, Option<u64>, Option<u64>) = self.read(
            redis::cmd("HMGET")
                .arg(self.meta())
                .arg("identity")
                .arg("revision")
                .arg("writer"),
        )?;
        match found {
            (Some(identity), Some(revision), writer) if identity == self.identity => {
                Ok((Revision(revision), writer))
            }
            (Some(_), Some(_), _) => {
                Err(self.damaged("another controller has put its own in its place"))
            }
            _ => Err(self.lost("emptied")),
        }
    }

    /// Gives the next write a number of its own.
    const fn count_write(&mut self) {
        self.writer = (self.writer & !WRITES) | (self.writer.wrapping_add(1) & WRITES);
    }

    /// The store is further than this value knows.
    fn further(&self, writer: Option<u64>) -> StoreError {
        if writer.is_some_and(|writer| writer & !WRITES == self.writer & !WRITES) {
            self.lost("changed by a write that had been given up")
        } else {
            self.damaged("another process writes to it")
        }
    }

    /// What a script found instead of what the writer knows.
    fn refusal(&self, answer: &[Value], tables: &[&str]) -> StoreError {
        let bytes = |at: usize| match answer.get(at) {
            Some(Value::BulkString(bytes)) => bytes.as_slice(),
            _ => &[],
        };
        let text = |at: usize| String::from_utf8_lossy(bytes(at)).into_owned();
        match bytes(0) {
            b"empty" => self.lost("emptied"),
            b"other" => self.damaged("another controller has put its own in its place"),
            b"conflict" => {
                let table = text(1).parse::<usize>().ok();
                let table = table.and_then(|at| tables.get(at.checked_sub(1)?));
                let found = <[u8; 8]>::try_from(bytes(3)).ok();
                StoreError::Conflict {
                    table: table.map(|table| (*table).to_owned()).unwrap_or_default(),
                    key: text(2),
                    expected: None,
                    found: found.map(|bytes| Revision(u64::from_le_bytes(bytes))),
                }
            }
            b"moved" => match text(1).parse() {
                Ok(revision) if Revision(revision) < self.revision() => self.lost("set back"),
                _ => self.further(text(2).parse().ok()),
            },
            other => self.damaged(format!("it answered {:?}", String::from_utf8_lossy(other))),
        }
    }
}

/// Where it is, without the password.
fn location(client: &Client, name: &str) -> String {
    let info = client.get_connection_info();
    let place = match info.addr() {
        ConnectionAddr::Tcp(host, port) => format!("redis://{host}:{port}"),
        ConnectionAddr::Unix(path) => format!("redis+unix://{}", path.display()),
        _ => "redis".to_owned(),
    };
    format!("{place}/{} (store {name})", info.redis_settings().db())
}

fn status(answer: &[Value]) -> bool {
    matches!(answer.first(), Some(Value::BulkString(word)) if word == b"ok")
}

impl Store for RedisStore {
    fn location(&self) -> String {
        self.location.clone()
    }

    fn identity(&self) -> u64 {
        self.identity
    }

    fn revision(&self) -> Revision {
        self.history.last()
    }

    fn get(&self, table: &str, key: &str) -> Result<Option<Entry>, StoreError> {
        let found: Option<Vec<u8>> =
            self.read(redis::cmd("HGET").arg(self.hash(table)).arg(key))?;
        found
            .map(|bytes| self.open_entry(table, key, &bytes))
            .transpose()
    }

    fn list(&self, table: &str) -> Result<Vec<Entry>, StoreError> {
        let found: std::collections::BTreeMap<String, Vec<u8>> =
            self.read(redis::cmd("HGETALL").arg(self.hash(table)))?;
        found
            .iter()
            .map(|(key, bytes)| self.open_entry(table, key, bytes))
            .collect()
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<Revision, StoreError> {
        self.count_write();
        let known = self.revision();
        let revision = known.next();
        let mut tables: Vec<&str> = Vec::new();
        let mut number = |table: &str| {
            let known = self.tables.iter().find(|known| **known == table)?;
            let at = tables.iter().position(|one| one == known);
            Some(
                at.unwrap_or_else(|| {
                    tables.push(known);
                    tables.len() - 1
                }) + 1,
            )
        };
        let unknown = |table: &str| StoreError::Remote {
            operation: "writing",
            location: self.location.clone(),
            cause: format!("there is no table {table}"),
        };
        let mut arguments: Vec<Vec<u8>> = Vec::new();
        for condition in &transaction.conditions {
            let table = number(&condition.table).ok_or_else(|| unknown(&condition.table))?;
            let expected = condition.revision.map(|revision| revision.0.to_le_bytes());
            arguments.extend([
                b"c".to_vec(),
                table.to_string().into_bytes(),
                condition.key.clone().into_bytes(),
                expected.map(Vec::from).unwrap_or_default(),
            ]);
        }
        for write in &transaction.writes {
            let table = number(&write.table).ok_or_else(|| unknown(&write.table))?;
            let (word, value) = match &write.value {
                Some(value) => (
                    "w",
                    envelope::seal(&write.table, &write.key, revision, value),
                ),
                None => ("d", Vec::new()),
            };
            arguments.extend([
                word.as_bytes().to_vec(),
                table.to_string().into_bytes(),
                write.key.clone().into_bytes(),
                value,
            ]);
        }
        let mut command = redis::cmd("EVAL");
        command.arg(COMMIT).arg(1 + tables.len()).arg(self.meta());
        for table in &tables {
            command.arg(self.hash(table));
        }
        command
            .arg(self.identity)
            .arg(known.0)
            .arg(revision.0)
            .arg(self.writer)
            .arg(arguments);
        let answer: Vec<Value> = match self.ask("writing", &command) {
            Ok(answer) => answer,
            // The connection was lost, perhaps with the answer: was it written?
            Err(error) => match self.found_revision() {
                Ok((found, Some(writer))) if found == revision && writer == self.writer => {
                    self.history.note(revision, transaction);
                    return Ok(revision);
                }
                Ok((found, _)) if found == known => self.ask("writing", &command)?,
                Ok((found, _)) if found < known => return Err(self.lost("set back")),
                Err(lost @ StoreError::Lost { .. }) => return Err(lost),
                _ => return Err(error),
            },
        };
        if status(&answer) {
            self.history.note(revision, transaction);
            return Ok(revision);
        }
        let refusal = self.refusal(&answer, &tables);
        Err(match refusal {
            StoreError::Conflict {
                table, key, found, ..
            } => StoreError::Conflict {
                expected: transaction
                    .conditions
                    .iter()
                    .find(|condition| condition.table == table && condition.key == key)
                    .and_then(|condition| condition.revision),
                table,
                key,
                found,
            },
            other => other,
        })
    }

    fn check(&self) -> Result<(), StoreError> {
        let (found, writer) = self.found_revision()?;
        match found.cmp(&self.revision()) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Less => Err(self.lost("set back")),
            std::cmp::Ordering::Greater => Err(self.further(writer)),
        }
    }

    fn rewrite(&mut self, tables: &[(&str, Records)]) -> Result<Revision, StoreError> {
        self.count_write();
        let revision = self.revision().next();
        let mut command = redis::cmd("EVAL");
        command
            .arg(REWRITE)
            .arg(1 + self.tables.len())
            .arg(self.meta());
        for table in self.tables {
            command.arg(self.hash(table));
        }
        command
            .arg(self.schema)
            .arg(self.identity)
            .arg(revision.0)
            .arg(self.writer);
        for (table, records) in tables {
            let Some(number) = self.tables.iter().position(|known| known == table) else {
                return Err(StoreError::Remote {
                    operation: "writing",
                    location: self.location.clone(),
                    cause: format!("there is no table {table}"),
                });
            };
            for (key, value) in records {
                command
                    .arg(number + 1)
                    .arg(key)
                    .arg(envelope::seal(table, key, revision, value));
            }
        }
        let answer: Vec<Value> = self.ask("replacing", &command)?;
        if !status(&answer) {
            return Err(self.refusal(&answer, &[]));
        }
        self.history.restart(revision);
        Ok(revision)
    }

    fn changes_since(&self, revision: Revision) -> Result<Vec<Change>, Compacted> {
        self.history.since(revision)
    }

    fn subscribe(&self) -> watch::Receiver<Revision> {
        self.history.subscribe()
    }
}
