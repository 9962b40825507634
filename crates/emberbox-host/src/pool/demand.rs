//! How many VMs of which kind are to be prepared. Pure: what time it is comes
//! from the caller.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use emberbox_core::Shape;
use tokio::time::Instant;

/// As many as were asked for within this time are prepared: about how long
/// preparing some of them takes in software emulation.
const RECENT: Duration = Duration::from_secs(10);

/// As many as were asked for within this time are kept if they are there:
/// making and removing them with every rush would cost more than they do.
const KEPT: Duration = Duration::from_secs(120);

/// Kinds that are remembered; the one that was not asked for longest is
/// forgotten. More than a machine has room to prepare.
const MAX_KINDS: usize = 64;

/// What VMs of one kind have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Kind {
    pub(crate) image: String,
    pub(crate) shape: Shape,
}

/// What a pool may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Of each kind that is in use.
    pub(super) keep: usize,
    /// Of all kinds.
    pub(super) max: usize,
    /// How long a kind that nobody asks for stays in use.
    pub(super) idle: Duration,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// There is as much as there shall be.
    Nothing,
    /// Prepare one more of these.
    Prepare(Kind),
    /// Give up one of these.
    GiveUp(Kind),
}

/// What was asked for lately.
#[derive(Debug, Default)]
pub(super) struct Demand(BTreeMap<Kind, Asked>);

#[derive(Debug)]
struct Asked {
    last: Instant,
    /// Within [`RECENT`], oldest first; no more than can be of use.
    recent: VecDeque<Instant>,
    /// Not before this: it could not be prepared.
    not_before: Option<Instant>,
}

impl Demand {
    /// One more was asked for.
    pub(super) fn asked(&mut self, kind: &Kind, bounds: Bounds, now: Instant) {
        let asked = self.0.entry(kind.clone()).or_insert_with(|| Asked {
            last: now,
            recent: VecDeque::new(),
            not_before: None,
        });
        asked.last = now;
        asked.recent.push_back(now);
        while asked.recent.len() > bounds.max {
            asked.recent.pop_front();
        }
        if self.0.len() > MAX_KINDS {
            let oldest = self.0.iter().min_by_key(|(_, asked)| asked.last);
            if let Some(oldest) = oldest.map(|(kind, _)| kind.clone()) {
                self.0.remove(&oldest);
            }
        }
    }

    /// It cannot be prepared before then.
    pub(super) fn rest(&mut self, kind: &Kind, until: Instant) {
        if let Some(asked) = self.0.get_mut(kind) {
            asked.not_before = Some(until);
        }
    }

    /// What has to be done, given what there is (what is being prepared
    /// included). The kind asked for last goes first.
    pub(super) fn next(&self, have: &BTreeMap<Kind, usize>, bounds: Bounds, now: Instant) -> Next {
        let mut kinds: Vec<_> = self.0.iter().collect();
        kinds.sort_by_key(|(_, asked)| std::cmp::Reverse(asked.last));
        let there = |kind: &Kind| have.get(kind).copied().unwrap_or(0);
        let mut room = bounds.max;
        let mut missing = None;
        let mut targets = Vec::with_capacity(kinds.len());
        for &(kind, asked) in &kinds {
            let target = asked.wanted(RECENT, bounds, now).min(room);
            room -= target;
            targets.push(target);
            let ready = asked.not_before.is_none_or(|until| until <= now);
            if there(kind) < target && ready && missing.is_none() {
                missing = Some(kind);
            }
        }
        // Of a kind that is not even remembered, none is wanted.
        let mut surplus = have
            .iter()
            .find(|(kind, count)| **count > 0 && !self.0.contains_key(kind))
            .map(|(kind, _)| kind);
        for ((kind, asked), target) in kinds.into_iter().zip(targets) {
            let over = there(kind).saturating_sub(target);
            let kept = asked.wanted(KEPT, bounds, now).saturating_sub(target);
            let kept = over.min(kept).min(room);
            room -= kept;
            if over > kept {
                surplus = surplus.or(Some(kind));
            }
        }
        match (surplus, missing) {
            (Some(kind), _) => Next::GiveUp(kind.clone()),
            (None, Some(kind)) => Next::Prepare(kind.clone()),
            (None, None) => Next::Nothing,
        }
    }
}

impl Asked {
    /// How many would have been of use within the last `time`.
    fn wanted(&self, time: Duration, bounds: Bounds, now: Instant) -> usize {
        if now.saturating_duration_since(self.last) > bounds.idle {
            return 0;
        }
        let recent = self.recent.iter().rev();
        let recent = recent.take_while(|at| now.saturating_duration_since(**at) <= time);
        recent.count().max(bounds.keep)
    }
}

#[cfg(test)]
mod tests;
