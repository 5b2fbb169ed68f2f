//! What this controller has made and nothing refers to any more: instances, bridges, pools, folders, names. Each task that looks for some says
//! each time which it sees. They are left alone for a grace period, since whatever refers to them may only be late, and in a dry run
//! for ever.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

lb_model::settings! {
    /// How what nothing refers to any more is removed.
    pub struct CollectorSettings {
        /// How long it is left alone.
        grace: Duration = Duration::from_secs(30), Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);
        /// Whether it is shown only (`lbctl orphans`), and not removed.
        dry_run: bool = false;
    }
}

impl Default for CollectorSettings {
    fn default() -> Self {
        lb_model::settings::defaults()
    }
}

/// What it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OrphanKind {
    /// An instance that no record of a pool knows.
    Instance,
    /// A bridge whose subnet is not there.
    Bridge,
    /// A pool whose load balancer or environment is not there.
    Pool,
    /// A folder whose load balancer is not there.
    Folder,
    /// A name at another DNS server whose load balancer is not there.
    Name,
}

impl OrphanKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [
        Self::Instance,
        Self::Bridge,
        Self::Pool,
        Self::Folder,
        Self::Name,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            OrphanKind::Instance => "instance",
            OrphanKind::Bridge => "bridge",
            OrphanKind::Pool => "pool",
            OrphanKind::Folder => "folder",
            OrphanKind::Name => "name",
        }
    }
}

/// One of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Orphan {
    /// What it is.
    pub kind: OrphanKind,
    /// Its name.
    pub name: String,
    /// The host that has it.
    pub host: String,
    /// How long it has been known.
    pub age: Duration,
    /// When it is removed; `None`: never.
    pub left: Option<Duration>,
}

#[derive(Debug)]
struct Found {
    host: String,
    since: Instant,
    is_kept: bool,
}

#[derive(Debug, Default)]
struct State {
    /// By who has found them.
    found: BTreeMap<String, BTreeMap<(OrphanKind, String), Found>>,
    removed: BTreeMap<OrphanKind, u64>,
}

/// All of them; all clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Orphans(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    settings: CollectorSettings,
    state: Mutex<State>,
}

impl Orphans {
    /// None yet.
    #[must_use]
    pub fn new(settings: CollectorSettings) -> Self {
        Orphans(Arc::new(Inner {
            settings,
            state: Mutex::default(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long they are left alone; `None`: for ever.
    #[must_use]
    pub fn grace(&self) -> Option<Duration> {
        let settings = &self.0.settings;
        (!settings.dry_run).then_some(settings.grace)
    }

    /// Who looks for a kind has found these, by name with their hosts, and no others any more. Returns the names of those whose
    /// grace period is over.
    pub fn see(
        &self,
        finder: &str,
        kind: OrphanKind,
        seen: impl IntoIterator<Item = (String, String)>,
    ) -> Vec<String> {
        self.note(finder, kind, seen, false)
    }

    /// As [`see`](Self::see), of those that are to be left alone in any case.
    pub fn see_kept(
        &self,
        finder: &str,
        kind: OrphanKind,
        seen: impl IntoIterator<Item = (String, String)>,
    ) {
        self.note(finder, kind, seen, true);
    }

    fn note(
        &self,
        finder: &str,
        kind: OrphanKind,
        seen: impl IntoIterator<Item = (String, String)>,
        is_kept: bool,
    ) -> Vec<String> {
        let mut state = self.state();
        let mut before = state.found.remove(finder).unwrap_or_default();
        let mut due = Vec::new();
        let mut found: BTreeMap<_, _> = before.extract_if(.., |key, _| key.0 != kind).collect();
        for (name, host) in seen {
            let key = (kind, name.clone());
            let since = before.get(&key).map_or_else(Instant::now, |one| one.since);
            let is_over = self.grace().is_some_and(|grace| since.elapsed() >= grace);
            if is_over && !is_kept {
                due.push(name);
            }
            let one = Found {
                host,
                since,
                is_kept,
            };
            found.insert(key, one);
        }
        if !found.is_empty() {
            state.found.insert(finder.to_owned(), found);
        }
        due
    }

    /// One was removed.
    pub fn removed(&self, kind: OrphanKind) {
        *self.state().removed.entry(kind).or_default() += 1;
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<Orphan> {
        let grace = self.grace();
        let state = self.state();
        let found = state.found.values().flatten();
        let view = |((kind, name), found): (&(OrphanKind, String), &Found)| {
            let age = found.since.elapsed();
            Orphan {
                kind: *kind,
                name: name.clone(),
                host: found.host.clone(),
                age,
                left: grace
                    .filter(|_| !found.is_kept)
                    .map(|grace| grace.saturating_sub(age)),
            }
        };
        let mut all: Vec<Orphan> = found.map(view).collect();
        all.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        all
    }

    /// How many there are of each kind, and how many were removed.
    #[must_use]
    pub fn counts(&self) -> Vec<(OrphanKind, usize, u64)> {
        let state = self.state();
        let count = |kind: OrphanKind| {
            let found = state.found.values().flat_map(BTreeMap::keys);
            let removed = state.removed.get(&kind).copied().unwrap_or_default();
            (kind, found.filter(|(of, _)| *of == kind).count(), removed)
        };
        OrphanKind::ALL.map(count).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(30);

    fn one(name: &str) -> [(String, String); 1] {
        [(name.to_owned(), "local".to_owned())]
    }

    #[tokio::test(start_paused = true)]
    async fn what_nothing_refers_to_is_removed_after_its_grace_period() {
        let orphans = Orphans::default();
        let see = |name: &str| orphans.see("a", OrphanKind::Bridge, one(name));
        assert_eq!(see("x"), [""; 0]);
        tokio::time::advance(GRACE / 2).await;
        // Another finder's is another one; who looks for another kind says nothing about this one.
        assert_eq!(orphans.see("b", OrphanKind::Bridge, one("x")), [""; 0]);
        assert_eq!(orphans.see("a", OrphanKind::Pool, one("p")), [""; 0]);
        assert_eq!(see("x"), [""; 0]);
        let left: Vec<_> = orphans.all().iter().map(|one| one.left).collect();
        assert_eq!(left, [Some(GRACE / 2), Some(GRACE), Some(GRACE)]);
        tokio::time::advance(GRACE / 2).await;
        assert_eq!(see("x"), ["x"]);
        orphans.removed(OrphanKind::Bridge);
        assert_eq!(orphans.see("a", OrphanKind::Bridge, []), [""; 0]);
        // One that is seen again later is a new one.
        assert_eq!(see("x"), [""; 0]);
        assert_eq!(
            orphans.counts(),
            [
                (OrphanKind::Instance, 0, 0),
                (OrphanKind::Bridge, 2, 1),
                (OrphanKind::Pool, 1, 0),
                (OrphanKind::Folder, 0, 0),
                (OrphanKind::Name, 0, 0),
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_dry_run_and_who_has_lost_its_store_remove_nothing() {
        let dry = Orphans::new(CollectorSettings {
            dry_run: true,
            ..CollectorSettings::default()
        });
        let kept = Orphans::default();
        for _ in 0..2 {
            assert_eq!(dry.see("a", OrphanKind::Instance, one("x")), [""; 0]);
            kept.see_kept("a", OrphanKind::Instance, one("x"));
            tokio::time::advance(GRACE * 2).await;
        }
        for orphans in [dry, kept] {
            let all = orphans.all();
            assert_eq!((all.len(), all[0].left), (1, None));
            assert_eq!(all[0].age, GRACE * 4);
        }
    }
}
