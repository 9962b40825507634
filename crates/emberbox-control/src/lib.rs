//! The control plane: public HTTP, auth, operations and what repairs them.
//!
//! Decides: who may do what, in which order store and host are asked, what
//! becomes of what a crash left half done.
//! Must not know: engines, how a VM is made, what is inside a guest.
//!
//! ```text
//! handler ──▶ operation ──▶ store: intent ──▶ host ──▶ store: fact
//!                 ▲                                      │
//!              janitor (deadlines, unfinished destroys)  └──▶ waiters
//! ```
//!
//! Invariants: an operation that was begun does not depend on its client's
//! connection; a row is written before the host is asked; a fact is announced
//! only after it is stored.

mod catalogue;
mod compute;
mod control;
mod failure;
mod http;
mod metrics;
mod preview;
mod serve;
mod settings;
mod terminal_token;
mod text;
mod tls;

pub use compute::Compute;
pub use control::Control;
pub use failure::Failure;
pub use http::{openapi, router};
pub use serve::{serve, serve_tls};
pub use settings::{
    BillingSettings, BuildSettings, OnEmpty, PreviewSettings, RegistrySettings, Scheme, Settings,
};
pub use tls::{Tls, TlsError, TlsSource};
