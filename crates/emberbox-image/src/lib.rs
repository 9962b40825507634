//! The files a guest boots from, and how they are made.
//!
//! Decides: where images live ([`Home`]), what is in them, and when one has to
//! be made again. Must not know: engines, sandboxes, the network of a VM.
//!
//! ```text
//! distribution's kernel package ─▶ kernels/ID/{bzImage,*.ko} ─┐
//! agent ──────────────────────────▶ initramfs/DIGEST.cpio ◀───┤
//! distribution's packages ────────▶ rootfs/DIGEST.erofs ──────┴▶ rootfs/NAME.json
//! ```
//!
//! Invariants: a file that has its final name is complete and never changes,
//! so running VMs and seeds may go on using it; whatever a failed or killed
//! build leaves carries a temporary name, and the next build removes it; an
//! image that is there already is found without network and without a build.
//!
//! All calls block; call them from a blocking thread.

mod apt;
mod base;
mod command;
mod digest;
mod error;
mod home;
mod initramfs;
mod kernel;
mod module;
mod progress;
mod record;
mod requirement;
mod scratch;
mod sources;
mod template;

pub use base::NAME as BASE_TEMPLATE;
pub use error::ImageError;
pub use home::{Home, Lock};
pub use kernel::KernelChoice;
pub use progress::{Progress, Silent};
pub use requirement::{Requirement, missing, requirements};
pub use scratch::make as make_scratch;
pub use template::{EnsureRequest, GuestImages, ensure, images, names};
