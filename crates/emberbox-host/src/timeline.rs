//! Where the time of one piece of work went.

use std::time::Duration;

use tokio::time::Instant;

/// A step and how long it took.
pub type Step = (&'static str, Duration);

/// Steps in the order they were done. Steps done side by side are one.
#[derive(Debug, Clone)]
pub struct Timeline {
    since: Instant,
    steps: Vec<Step>,
}

impl Timeline {
    /// The first step begins now.
    #[must_use]
    pub fn begin() -> Self {
        Self {
            since: Instant::now(),
            steps: Vec::new(),
        }
    }

    /// The step under way was `name` and is done; the next begins.
    pub fn step(&mut self, name: &'static str) {
        let now = Instant::now();
        self.steps.push((name, now - self.since));
        self.since = now;
    }

    /// The step under way was these, measured by whoever did it.
    pub fn include(&mut self, steps: &[Step]) {
        self.steps.extend_from_slice(steps);
        self.since = Instant::now();
    }

    /// All of them.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}
