//! A prepared VM that is kept for one create.

use std::fmt;

use emberbox_core::VmId;

/// A prepared VM that nobody else gets. Dropped, it goes back to where it came
/// from; [`Lease::take`] it once the sandbox that shall have it is recorded.
pub struct Lease {
    vm: VmId,
    give_back: Option<GiveBack>,
}

type GiveBack = Box<dyn FnOnce(&VmId) + Send>;

impl Lease {
    /// A lease of `vm`; `give_back` is called if it is not taken.
    pub fn new(vm: VmId, give_back: impl FnOnce(&VmId) + Send + 'static) -> Self {
        Self {
            vm,
            give_back: Some(Box::new(give_back)),
        }
    }

    /// The VM's id, which [`Host::create`](crate::Host::create) has to be
    /// called with.
    #[must_use]
    pub fn vm(&self) -> &VmId {
        &self.vm
    }

    /// The VM is the sandbox's now.
    pub fn take(mut self) {
        self.give_back = None;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(give_back) = self.give_back.take() {
            give_back(&self.vm);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("vm", &self.vm).finish()
    }
}
