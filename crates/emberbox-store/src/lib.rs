//! What Emberbox remembers: tenants, keys, sandboxes, previews, and the ledger
//! of what ran, in SQLite.
//!
//! Decides: the schema, which change is allowed (by `emberbox_core::step`,
//! inside the transaction that makes it) and what one transaction is.
//! Must not know: HTTP, hosts, VMs.
//!
//! Invariants: a key's secret is stored only as its SHA-256; every read on
//! behalf of a caller is bound to a tenant; a state changes only through
//! `step`; nothing leaves `destroyed`; ledgers are only ever appended to.

mod app;
mod batch;
mod build;
mod credit;
mod deployment;
mod error;
mod event;
mod fresh;
mod key;
mod place;
mod preview;
mod request;
mod sandbox;
mod snapshot;
mod store;
mod template;
mod tenant;
mod ticket;
mod time;
mod usage;
mod user;

pub use app::{AppRecord, AppStatus};
pub use batch::{BatchItem, BatchItemState, BatchRecord, BatchWork, NewBatch};
pub use build::{
    BuildError, BuildEventKind, BuildEventRecord, BuildImage, BuildLine, BuildOutcome, BuildRecord,
    NewBuild,
};
pub use credit::{CannotPay, CreditChange, CreditEntry, CreditError, CreditKind};
pub use deployment::{DeployError, DeploymentRecord, NewDeployment, label};
pub use error::StoreError;
pub use event::{EventKind, EventRecord};
pub use key::{ApiKeyRecord, Bounds, Caller, KeyEdit, KeyError, KeyKind, NewKey, NewSecret};
pub use place::{
    NewPlace, PlaceEdit, PlaceError, PlaceRequest, Placed, ProjectRecord, ProjectSpot,
    WorkspaceRecord,
};
pub use preview::{
    Exposed, NewPreview, NewShare, NewToken, PREVIEWS_MAX, PreviewRecord, ShareRecord, TokenKind,
    Visibility,
};
pub use request::{Answer, OnceRequest, Recalled, RequestKey};
pub use sandbox::{
    Boot, DestroyIntent, Edit, ExternalIds, InsertError, Inserted, NewSandbox, SandboxFilter,
    SandboxRecord, Transition,
};
pub use snapshot::{
    HistoryFilter, HistoryRecord, NameError, NamedRecord, SnapshotError, SnapshotGroup,
    SnapshotKind, SnapshotRecord, Taken,
};
pub use store::{Bootstrap, Store};
pub use template::{NewTemplate, ReadyBuild, TemplateError, TemplateRecord};
pub use tenant::{
    NewTenant, RESERVED_SLUG, Standing, TenantEdit, TenantError, TenantRecord, TooMany,
};
pub use ticket::NewTicket;
pub use usage::{
    BillingTerms, OpenSegment, Readings, SandboxUse, SegmentKind, UsageFilter, UsageGroup,
    UsageGrouping, UsageSession, UsageTotals,
};
pub use user::{UserError, UserRecord, UserRemoval};
