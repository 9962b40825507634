//! What was read since the last write. Clients that wait for something read it
//! again and again, and every read of the database costs two switches of
//! threads.
//!
//! Decides: whether something that was read may be told again. Invariants:
//! nothing is told once a write has begun after it was read, however that one
//! ended; nothing is kept that was read beside a write; nothing is older than
//! [`AGE`].

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use emberbox_core::{SandboxId, TenantId};

use crate::{Caller, SandboxRecord, StoreError};

/// How long something is told again: an operator's own hand in the database
/// begins no write here.
const AGE: Duration = Duration::from_secs(1);

/// Most things of a kind that are kept: some megabytes.
const KEPT_MAX: usize = 4096;

/// See the module.
#[derive(Default)]
pub(crate) struct Fresh {
    /// Writes that have begun, and that were over when the writer's connection
    /// was last given back.
    begun: AtomicU64,
    over: AtomicU64,
    kept: Mutex<Option<Kept>>,
}

/// Everything that was read after the same write.
pub(crate) struct Kept {
    after: u64,
    since: Instant,
    /// By the hash of their secret.
    pub(crate) callers: HashMap<Vec<u8>, Caller>,
    pub(crate) sandboxes: HashMap<SandboxId, SandboxRecord>,
    pub(crate) preview_domains: HashMap<TenantId, Option<String>>,
}

impl Fresh {
    /// A write has its connection and did nothing yet.
    pub(crate) fn write_begins(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
    }

    /// The writer's only connection is given back: no write is at work.
    pub(crate) fn writes_are_over(&self) {
        let begun = self.begun.load(Ordering::SeqCst);
        self.over.store(begun, Ordering::SeqCst);
    }

    /// What `of` keeps under this key, or else what `read` reads.
    pub(crate) async fn or_read<K, V>(
        &self,
        of: fn(&mut Kept) -> &mut HashMap<K, V>,
        key: K,
        read: impl Future<Output = Result<Option<V>, StoreError>>,
    ) -> Result<Option<V>, StoreError>
    where
        K: Eq + Hash,
        V: Clone,
    {
        let Some(after) = self.last_write() else {
            return read.await;
        };
        if let Some(known) = self.with(after, |kept| of(kept).get(&key).cloned()) {
            return Ok(Some(known));
        }
        let found = read.await?;
        if let Some(found) = &found
            && self.last_write() == Some(after)
        {
            self.with(after, |kept| {
                let kept = of(kept);
                if kept.len() >= KEPT_MAX {
                    kept.clear();
                }
                kept.insert(key, found.clone());
            });
        }
        Ok(found)
    }

    /// How many writes there were; `None` while there is one.
    fn last_write(&self) -> Option<u64> {
        let over = self.over.load(Ordering::SeqCst);
        let begun = self.begun.load(Ordering::SeqCst);
        (over == begun).then_some(begun)
    }

    /// Looks at what was read after the write of this number.
    fn with<T>(&self, after: u64, look: impl FnOnce(&mut Kept) -> T) -> T {
        // Nothing in here is half done after a panic.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let current = kept.take();
        let current = current.filter(|kept| kept.after == after && kept.since.elapsed() < AGE);
        look(kept.insert(current.unwrap_or_else(|| Kept::new(after))))
    }
}

impl Kept {
    fn new(after: u64) -> Self {
        Self {
            after,
            since: Instant::now(),
            callers: HashMap::new(),
            sandboxes: HashMap::new(),
            preview_domains: HashMap::new(),
        }
    }
}

#[cfg(test)]
mod tests;
