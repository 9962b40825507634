//! What is known of a sandbox that is looked at, kept between requests: a page
//! asks for dozens of files, and nothing of this changes in between.
//!
//! Invariants: nothing is kept that was read before the last change
//! ([`Control::previews_changed`]); tokens and expiry are never kept, only what
//! they are judged by.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use emberbox_core::{SandboxId, TenantId};
use emberbox_store::{PreviewRecord, SandboxRecord};
use tokio::time::Instant;

use crate::Failure;
use crate::control::Control;

/// How long it is kept at most: the second fence, should a change not be told.
const KEEP: Duration = Duration::from_secs(2);

/// Sandboxes kept at a time; more are read again.
const KEPT: usize = 1024;

/// A sandbox and what it shows.
pub(crate) struct Shown {
    pub(crate) sandbox: SandboxRecord,
    /// Every port that was ever exposed.
    pub(crate) previews: Vec<PreviewRecord>,
    /// The port its app or template has.
    pub(crate) own_port: Option<u16>,
}

/// What is kept.
#[derive(Default)]
pub(crate) struct ShownCache {
    /// Raised by every change.
    generation: AtomicU64,
    entries: Mutex<HashMap<Key, Entry>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Slug(String),
    Id(SandboxId),
}

struct Entry {
    generation: u64,
    read_at: Instant,
    shown: Arc<Shown>,
}

impl ShownCache {
    fn get(&self, key: &Key) -> Option<Arc<Shown>> {
        let generation = self.generation.load(Ordering::Acquire);
        let entries = self.lock();
        let entry = entries.get(key)?;
        let fresh = entry.generation == generation && entry.read_at.elapsed() < KEEP;
        fresh.then(|| Arc::clone(&entry.shown))
    }

    /// Keeps what was read when this was the generation.
    fn put(&self, key: Key, generation: u64, shown: &Arc<Shown>) {
        let mut entries = self.lock();
        if entries.len() >= KEPT {
            entries.clear();
        }
        entries.insert(
            key,
            Entry {
                generation,
                read_at: Instant::now(),
                shown: Arc::clone(shown),
            },
        );
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.entries.lock().expect("no panic while the map is held")
    }
}

impl Control {
    /// Something that previews are judged by was changed in the store.
    pub(crate) fn previews_changed(&self) {
        self.shown().generation.fetch_add(1, Ordering::AcqRel);
    }

    /// The sandbox of this slug.
    pub(crate) async fn shown_by_slug(&self, slug: &str) -> Result<Option<Arc<Shown>>, Failure> {
        let key = Key::Slug(slug.to_owned());
        if let Some(kept) = self.shown().get(&key) {
            return Ok(Some(kept));
        }
        let generation = self.shown().generation.load(Ordering::Acquire);
        let sandbox = self.store().sandbox_by_slug(slug).await?;
        self.read_shown(key, generation, sandbox).await
    }

    /// The sandbox behind a deployment.
    pub(crate) async fn shown_by_id(
        &self,
        tenant: &TenantId,
        id: &SandboxId,
    ) -> Result<Option<Arc<Shown>>, Failure> {
        let key = Key::Id(id.clone());
        if let Some(kept) = self.shown().get(&key) {
            return Ok(Some(kept));
        }
        let generation = self.shown().generation.load(Ordering::Acquire);
        let sandbox = self.store().sandbox(tenant, id).await?;
        self.read_shown(key, generation, sandbox).await
    }

    async fn read_shown(
        &self,
        key: Key,
        generation: u64,
        sandbox: Option<SandboxRecord>,
    ) -> Result<Option<Arc<Shown>>, Failure> {
        // What is not there is asked for by guessers, and not kept.
        let Some(sandbox) = sandbox else {
            return Ok(None);
        };
        let shown = Arc::new(Shown {
            previews: self.store().shown_ports(&sandbox.id).await?,
            own_port: self.app_port(&sandbox).await?,
            sandbox,
        });
        self.shown().put(key, generation, &shown);
        Ok(Some(shown))
    }
}
