//! What goes over the public wire: types, error codes and their meaning.
//!
//! Decides: the names and shapes clients see. Must not know: how anything is
//! done, the store, the host.
//!
//! Invariants: every public error is an [`ErrorCode`]; every timestamp is a
//! [`Time`]; a single sandbox is a bare object, everything else stands in
//! `{"data": …}` ([`Data`]), which is what the official clients unwrap.

pub mod app;
pub mod batch;
pub mod build;
pub mod bulk;
#[cfg(feature = "client")]
pub mod client;
pub mod code;
pub mod command;
pub mod credit;
pub mod deployment;
pub mod env;
pub mod error;
pub mod exec;
pub mod export;
pub mod file;
pub mod key;
pub mod metrics;
pub mod page;
mod patch;
pub mod preview;
pub mod process;
pub mod readiness;
pub mod run;
pub mod sandbox;
pub mod snapshot;
pub mod stream;
pub mod system;
pub mod template;
pub mod tenancy;
pub mod terminal;
pub mod ticket;
mod time;
pub mod usage;

pub use app::{
    AppLifecycle, ArtifactPaths, ArtifactPreview, Artifacts, Logs, StartTemplate, StartedTemplate,
};
pub use batch::{Batch, BatchItem, BatchItemError, BatchSize, BatchStatus, CreateBatch};
pub use build::{BuildEvent, BuiltImage, CreateBuild, TemplateBuild};
pub use bulk::{BulkFailure, BulkFilter, BulkOutcome, BulkSandboxes};
pub use code::{CodeContexts, CodeResult, RunCode};
pub use command::{CommandResult, RunCommand};
pub use credit::{ChangeCredits, CreditEntry, Credits, PriceList};
pub use deployment::{Deploy, Deployment, DeploymentState};
pub use env::{EnvVar, NewEnvVar, SetEnv};
pub use error::{ErrorBody, ErrorCode, ErrorResponse, FieldError};
pub use exec::{ExecRequest, ExecResult};
pub use export::{CreateExport, Export, ExportedFile};
pub use file::{
    FailedFile, FileEntry, FileInfo, FileToWrite, FileType, Listing, StatRequest, Tree, TreeKind,
    TreeNode, UploadRequest, Uploaded, WriteMany, WrittenFile, WrittenMany,
};
pub use key::{
    ApiKey, CreateApiKey, CreateScopedToken, CreatedApiKey, CreatedScopedToken, RotateApiKey,
    ScopedToken, UpdateApiKey,
};
pub use metrics::{
    CurrentMetrics, MaxShape, MetricsSample, ResourceCapabilities, Resources, Runtime,
    RuntimeCapabilities, SandboxMetrics, SandboxResources,
};
pub use page::{Page, PageInfo};
pub use preview::{
    CreatePreview, CreateShare, ExposeRequest, Exposed, Preview, PreviewDomain, PreviewToken,
    Share, SharePreview, SharedPreview,
};
pub use process::{Process, ProcessStatus, SignalProcess, StartProcess, WriteProcess};
pub use readiness::{Component, Components, Readiness, ReadinessDetail, ReadinessStatus};
pub use run::{FirstCommand, RanSandbox, RunSandbox};
pub use sandbox::{
    CreateSandbox, DestroyedSandbox, ExtendSandbox, Sandbox, SandboxList, SetTags, UpdateSandbox,
};
pub use snapshot::{
    CreateSnapshot, DeleteSnapshots, DeletedSnapshot, Dependent, ForkSandbox, HistorySnapshot,
    NameSnapshot, NamedSnapshot, NamedSnapshotDetail, Part, RemovedName, Snapshot, SnapshotDetail,
    SnapshotGroup, SnapshotGroupPage, SnapshotPage, SnapshotResource,
};
pub use stream::{
    ExecOutput, ExitData, FileEvent, FileEventKind, Gap, LogLine, OutputLine, OutputName,
    SandboxError, StateChanged, StreamError,
};
pub use system::{Health, Ready};
pub use template::{
    BuildSpecError, CatalogueTemplate, CreateTemplate, ReadinessProbe, Template, TemplateCatalogue,
    TemplateList, TemplateSize, ValidateBuildSpec, ValidatedBuildSpec,
};
pub use tenancy::{
    Allowances, CreateProject, CreateTenant, CreateUser, CreateWorkspace, OwnLimits, Project,
    Reusable, Tenant, UpdateProject, UpdateTenant, UpdateWorkspace, User, Whoami, Workspace,
};
pub use terminal::{OpenTerminal, Terminal};
pub use ticket::{CreateTicket, StreamTicket};
pub use time::Time;
pub use usage::{
    Measurement, MeasurementStatus, SandboxUsage, UsageGroup, UsageReport, UsageSession,
    UsageSummary, UsageTotals,
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The path every versioned route starts with.
pub const BASE_PATH: &str = "/api/v1";

/// The envelope of everything but a single sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Data<T> {
    /// What was asked for.
    pub data: T,
}
