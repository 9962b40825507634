//! How a long build tells what it is doing.

/// Told of each step of a build. Nothing is told when nothing has to be built.
pub trait Progress: Send + Sync {
    /// A step begins; the one before it has ended.
    fn step(&self, name: &str);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn step(&self, _name: &str) {}
}
