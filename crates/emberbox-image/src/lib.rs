//! The files a guest boots from, and how they are made.
//!
//! Decides: where images live ([`Home`]), what is in them, and when one has to
//! be made again. Must not know: engines, sandboxes, the network of a VM.
//!
//! ```text
//! distribution's kernel package ─▶ kernels/ID/{bzImage,*.ko} ─┐
//! agent ──────────────────────────▶ initramfs/DIGEST.cpio ◀───┤
//! distribution's packages ────────▶ rootfs/DIGEST.erofs ──────┼▶ rootfs/NAME.json
//! registry's images ─▶ blobs ─────▶ rootfs/DIGEST.erofs ──────┤
//! what a step changed in a guest ─▶ rootfs/DIGEST.erofs ──────┘
//! ```
//!
//! Invariants: a file that has its final name is complete and never changes,
//! so running VMs and seeds may go on using it; whatever a failed or killed
//! build leaves carries a temporary name, and the next build removes it; an
//! image that is there already is found without network and without a build.
//!
//! Images go to an artifact source, and come from it, in pieces that are named
//! by their content (`artifact`); what is not as described is not booted.
//!
//! No byte of an image that somebody else made becomes a file of this machine:
//! it goes from the archive into the layer (`archive`, `tree`, `erofs`).
//!
//! All calls that are not `async` block; call them from a blocking thread.

mod apt;
mod archive;
mod artifact;
mod base;
mod build_dir;
mod built;
mod command;
mod digest;
mod erofs;
mod error;
mod home;
mod initramfs;
mod kernel;
mod layer;
mod module;
mod progress;
mod record;
mod registry;
mod requirement;
mod scratch;
mod sources;
mod template;
mod tree;

pub use archive::ArchiveError;
pub use artifact::{
    Artifact, ArtifactError, ArtifactSet, ArtifactSource, Artifacts, HeldImage, S3Access, Sent,
};
pub use base::NAME as BASE_TEMPLATE;
pub use build_dir::{BuildDir, sweep_builds};
pub use built::{
    PublishedImage, Stack, is_built, publish_image, remember, remembered, remove_image, step_key,
};
pub use error::ImageError;
pub use home::{Home, Lock};
pub use kernel::KernelChoice;
pub use layer::{Layer, layer_of_changes, layer_of_files};
pub use progress::{Progress, Silent};
pub use registry::{PullError, Registries, pull};
pub use requirement::{Requirement, missing, requirements};
pub use scratch::make as make_scratch;
pub use template::{EnsureRequest, GuestImages, TemplateApp, ensure, images, names};
