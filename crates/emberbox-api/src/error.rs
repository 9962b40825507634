//! Every public error: one code, one status, one meaning.
//!
//! The OpenAPI document, `GET /api/v1/errors` and `docs/errors.md` are made
//! from [`ErrorCode`] alone.

use serde::{Deserialize, Serialize};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

macro_rules! codes {
    ($($(#[$attr:meta])* $variant:ident = $code:literal, $status:literal, $meaning:literal, $fix:literal;)*) => {
        /// A stable public error code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ErrorCode {
            $(
                #[doc = $meaning]
                #[serde(rename = $code)]
                $variant,
            )*
        }

        impl ErrorCode {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The code as it stands on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code),* }
            }

            /// The HTTP status it comes with.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $(Self::$variant => $status),* }
            }

            /// What it means.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),* }
            }

            /// What the caller can do about it.
            #[must_use]
            pub fn fix(self) -> &'static str {
                match self { $(Self::$variant => $fix),* }
            }
        }
    };
}

codes! {
    Unauthorized = "UNAUTHORIZED", 401,
        "The API key is missing, unknown, expired or revoked.",
        "Send `Authorization: Bearer <key>` with a valid key.";
    Forbidden = "FORBIDDEN", 403,
        "The API key is valid, but it may not do this.",
        "Use a key that may, for example the operator's.";
    InsufficientScope = "INSUFFICIENT_SCOPE", 403,
        "The API key is valid, but it lacks the scope this needs; `details.scope` names it.",
        "Use a key with the scope, or have it given to this one.";
    TenantSuspended = "TENANT_SUSPENDED", 403,
        "The operator suspended the tenant; nothing of its is lost.",
        "Ask the operator.";
    RateLimited = "RATE_LIMITED", 429,
        "The workspace sent as many requests as it may in a minute.",
        "Wait as long as `Retry-After` says.";
    NotFound = "NOT_FOUND", 404,
        "The resource does not exist or belongs to another tenant.",
        "Check the identifier.";
    RouteNotFound = "ROUTE_NOT_FOUND", 404,
        "No such route, or not with this method.",
        "Check the path and the method against `/api/v1/openapi.json`.";
    InvalidJson = "INVALID_JSON", 400,
        "The request body is not JSON.",
        "Send a JSON object.";
    InvalidRequest = "INVALID_REQUEST", 400,
        "The HTTP request itself is wrong, for example in its host or its framing.",
        "Send one `Host`, and either `Content-Length` or `Transfer-Encoding`.";
    MissingParam = "MISSING_PARAM", 400,
        "A parameter that has no default here is missing.",
        "Send the parameter that the message names.";
    InvalidPort = "INVALID_PORT", 422,
        "The port is no number from 1 to 65535, or it is the platform's own.",
        "Send the port your server listens on.";
    InvalidMultipart = "INVALID_MULTIPART", 400,
        "The request body is not the multipart/form-data it says it is.",
        "Send the parts `path` and `file`.";
    ValidationError = "VALIDATION_ERROR", 422,
        "One or more fields are invalid; `details` names each.",
        "Correct the fields that `details` names.";
    IdempotencyKeyReused = "IDEMPOTENCY_KEY_REUSED", 422,
        "The `Idempotency-Key` came to this path with another body within the last 24 hours; nothing was done.",
        "Take a new key for a new request, and repeat an old one unchanged.";
    IdempotencyAnswerLost = "IDEMPOTENCY_ANSWER_LOST", 409,
        "The first request with this `Idempotency-Key` has happened, or may have, and its answer is not kept: the server ended over it, or it is too large. `details.made` names what it made.",
        "Look at what it made; take a new key to do it again.";
    InvalidTemplate = "INVALID_TEMPLATE", 400,
        "`template_id` is not a known template.",
        "Take an id from `GET /api/v1/sandbox-templates`.";
    TemplateNotReady = "TEMPLATE_NOT_READY", 409,
        "The template exists, but no build of it is ready.",
        "Build it with `POST …/{id}/builds` and wait until the build is ready.";
    TemplateLimitExceeded = "TEMPLATE_LIMIT_EXCEEDED", 409,
        "The tenant has as many templates as it may have at a time.",
        "Delete a template, or have the limit raised.";
    BuildLimitExceeded = "BUILD_LIMIT_EXCEEDED", 409,
        "The tenant has as many builds that are not over as it may have at a time.",
        "Wait until one is over, or cancel it.";
    InvalidPath = "INVALID_PATH", 422,
        "The path is empty, not absolute, too long or contains a NUL byte.",
        "Send an absolute path inside the sandbox.";
    FileNotFound = "FILE_NOT_FOUND", 404,
        "The path does not exist inside the sandbox.",
        "Check the path with `GET …/files?path=`.";
    IsADirectory = "IS_A_DIRECTORY", 400,
        "The path is a directory where a file is needed.",
        "Name a file, or list the directory.";
    NotADirectory = "NOT_A_DIRECTORY", 400,
        "The path, or a part of it, is a file where a directory is needed.",
        "Name a directory.";
    NotAFile = "NOT_A_FILE", 400,
        "The path is neither a regular file nor a directory.",
        "Use exec for devices, sockets and pipes.";
    PermissionDenied = "PERMISSION_DENIED", 403,
        "The sandbox's own kernel refused the operation.",
        "Write elsewhere, for example below /workspace.";
    FileTooLarge = "FILE_TOO_LARGE", 413,
        "The file is over the upload limit; nothing was written.",
        "Split the file, or fetch it from inside the sandbox.";
    BodyTooLarge = "BODY_TOO_LARGE", 413,
        "The request body is over the limit of this route.",
        "Send less.";
    BodyTimeout = "BODY_TIMEOUT", 408,
        "The request body stopped arriving.",
        "Send the request again.";
    DiskFull = "DISK_FULL", 507,
        "The sandbox's disk is full.",
        "Delete files, or create a sandbox with a larger `disk_mb`.";
    FileIoError = "FILE_IO_ERROR", 500,
        "The sandbox's kernel could not carry out the file operation.",
        "See the message; the sandbox's file system may be damaged.";
    SandboxNotRunning = "SANDBOX_NOT_RUNNING", 409,
        "The sandbox is not in the running state.",
        "Wait until it is ready, or create another one.";
    SandboxStarting = "SANDBOX_STARTING", 409,
        "The sandbox is coming up.",
        "Send the command again after `Retry-After`.";
    SandboxLimitExceeded = "SANDBOX_LIMIT_EXCEEDED", 409,
        "The tenant has as many sandboxes as it may have at a time.",
        "Destroy a sandbox, or have the limit raised.";
    InsufficientCredits = "INSUFFICIENT_CREDITS", 402,
        "The tenant's account cannot pay for a sandbox; nothing was made.",
        "See `GET /api/v1/credits`, and have credit granted.";
    SandboxRuntimeUnavailable = "SANDBOX_RUNTIME_UNAVAILABLE", 409,
        "The sandbox is marked running but its VM cannot be reached yet.",
        "Try again shortly.";
    SandboxWaking = "SANDBOX_WAKING", 503,
        "The sandbox was paused and is being woken by this visit.",
        "Look again after `Retry-After`.";
    DeploymentStopped = "DEPLOYMENT_STOPPED", 503,
        "The sandbox behind this deployment is not running.",
        "Deploy again from a running sandbox.";
    ResourceState = "RESOURCE_STATE", 409,
        "The resource is in a state that does not allow this now.",
        "See the message.";
    TemplateStartFailed = "TEMPLATE_START_FAILED", 422,
        "The template's app could not be installed or started; `details` has the last lines of its log.",
        "Correct the app or its commands.";
    NameTaken = "NAME_TAKEN", 409,
        "The name, slug or domain is in use by another resource of this kind.",
        "Choose another one, or leave it out.";
    WorkspaceNameExists = "WORKSPACE_NAME_EXISTS", 409,
        "Another workspace of the tenant has this name or slug.",
        "Choose another one, or use that workspace.";
    ResourceInUse = "RESOURCE_IN_USE", 409,
        "What is a default, or still holds sandboxes, is not deleted; nothing was changed.",
        "Destroy the sandboxes first; see the message.";
    PreviewLimitExceeded = "PREVIEW_LIMIT_EXCEEDED", 409,
        "The sandbox has as many previews as it may have at a time.",
        "Delete a preview.";
    PreviewTokenRequired = "PREVIEW_TOKEN_REQUIRED", 401,
        "The preview is private, and the token is missing, unknown or expired.",
        "Open the link you were given, or send the token as `x-preview-token`.";
    PreviewUnreachable = "PREVIEW_UNREACHABLE", 502,
        "The server in the sandbox cannot be reached, or what it answers is not HTTP.",
        "Look at the server's log; on this port it must speak HTTP/1.1.";
    PreviewTimeout = "PREVIEW_TIMEOUT", 504,
        "The server in the sandbox did not answer in time.",
        "Look at the server's log.";
    PreviewBusy = "PREVIEW_BUSY", 503,
        "The sandbox has as many preview connections as it may have at a time.",
        "Try again shortly.";
    ExecTimeout = "EXEC_TIMEOUT", 504,
        "The command ran over its timeout and was killed with all it started.",
        "Raise `timeout` (at most 300 s) or run it in the background.";
    ExecFailed = "EXEC_FAILED", 422,
        "The command could not be started.",
        "See the message.";
    ProcessNotFound = "PROCESS_NOT_FOUND", 404,
        "No background process of this pid is known.",
        "List them with `GET …/processes`; ended ones are forgotten after a while.";
    ProcessNotRunning = "PROCESS_NOT_RUNNING", 409,
        "The background process has ended, or its standard input is closed.",
        "See its `status` and `exit_code`.";
    TerminalNotFound = "TERMINAL_NOT_FOUND", 404,
        "The terminal has ended or never was.",
        "Open another one with `POST …/terminal`.";
    PortNotServed = "PORT_NOT_SERVED", 502,
        "Nothing inside the sandbox accepts connections on the port.",
        "Start the server, bind it to 0.0.0.0, and check its port.";
    GuestLimitExceeded = "GUEST_LIMIT_EXCEEDED", 409,
        "The sandbox has as many processes, terminals or connections as it may have at a time.",
        "End one of them first; see the message.";
    SandboxUnreachable = "SANDBOX_UNREACHABLE", 502,
        "The sandbox did not answer as it should; the outcome is unknown.",
        "Look at the sandbox's state, then try again.";
    SnapshotDamaged = "SNAPSHOT_DAMAGED", 409,
        "The snapshot's files are not what was written; nothing was changed.",
        "Restore another snapshot, or delete this one.";
    SnapshotIncompatible = "SNAPSHOT_INCOMPATIBLE", 409,
        "The snapshot was taken with another engine or version than this host runs; nothing was changed.",
        "Take files out of it on a host like the one it was taken on, or delete it.";
    SnapshotFailed = "SNAPSHOT_FAILED", 500,
        "The snapshot could not be written; the sandbox goes on and nothing of the snapshot is left.",
        "Try again; the operator finds the reason in the server's log.";
    SnapshotLimitExceeded = "SNAPSHOT_LIMIT_EXCEEDED", 409,
        "The sandbox has as many snapshots as it may have at a time.",
        "Delete a snapshot, or have the limit raised.";
    TenantLimitExceeded = "TENANT_LIMIT_EXCEEDED", 409,
        "The tenant has as many workspaces, projects, users or keys as it may have.",
        "Remove some, or have the limit raised; `details.limit` names it.";
    SnapshotInUse = "SNAPSHOT_IN_USE", 409,
        "A name keeps the snapshot, or a sandbox comes up from it; nothing was deleted.",
        "Remove the name, or wait until the sandbox is up.";
    SnapshotAlreadyNamed = "SNAPSHOT_ALREADY_NAMED", 409,
        "The snapshot has a name.",
        "Use that name, or remove it first.";
    RestoreTransient = "RESTORE_TRANSIENT", 503,
        "The VM could not be brought up from its snapshot; nothing was changed.",
        "Try again; look at the server's log when it stays.";
    ImageUnavailable = "IMAGE_UNAVAILABLE", 503,
        "The template's image is not whole on its host and cannot be fetched again now.",
        "Try again later, or build the template again; the server's log says what is wrong.";
    NoCapacity = "NO_CAPACITY", 503,
        "No host has room for this now.",
        "Try again later.";
    ShuttingDown = "SHUTTING_DOWN", 503,
        "The server is shutting down.",
        "Try again shortly.";
    Internal = "INTERNAL", 500,
        "Something failed inside the server.",
        "Try again; quote the request id when it stays.";
}

impl ErrorCode {
    /// Whether the same request may succeed later without a change.
    #[must_use]
    pub fn retryable(self) -> bool {
        match self {
            Self::BodyTimeout
            | Self::PortNotServed
            | Self::SandboxUnreachable
            | Self::SandboxStarting
            | Self::ImageUnavailable
            | Self::NoCapacity
            | Self::RateLimited
            | Self::SandboxWaking
            | Self::PreviewUnreachable
            | Self::PreviewBusy
            | Self::SnapshotFailed
            | Self::RestoreTransient
            | Self::ShuttingDown
            | Self::Internal => true,
            Self::Unauthorized
            | Self::Forbidden
            | Self::InsufficientScope
            | Self::TenantSuspended
            | Self::WorkspaceNameExists
            | Self::ResourceInUse
            | Self::InsufficientCredits
            | Self::NotFound
            | Self::RouteNotFound
            | Self::InvalidJson
            | Self::InvalidRequest
            | Self::MissingParam
            | Self::IdempotencyKeyReused
            | Self::IdempotencyAnswerLost
            | Self::InvalidPort
            | Self::InvalidMultipart
            | Self::ValidationError
            | Self::InvalidTemplate
            | Self::TemplateNotReady
            | Self::TemplateLimitExceeded
            | Self::BuildLimitExceeded
            | Self::InvalidPath
            | Self::FileNotFound
            | Self::IsADirectory
            | Self::NotADirectory
            | Self::NotAFile
            | Self::PermissionDenied
            | Self::FileTooLarge
            | Self::BodyTooLarge
            | Self::DiskFull
            | Self::FileIoError
            | Self::SandboxNotRunning
            | Self::SandboxLimitExceeded
            | Self::SandboxRuntimeUnavailable
            | Self::DeploymentStopped
            | Self::ResourceState
            | Self::TemplateStartFailed
            | Self::NameTaken
            | Self::PreviewLimitExceeded
            | Self::PreviewTokenRequired
            | Self::PreviewTimeout
            | Self::ExecTimeout
            | Self::ExecFailed
            | Self::ProcessNotFound
            | Self::ProcessNotRunning
            | Self::TerminalNotFound
            | Self::GuestLimitExceeded
            | Self::SnapshotLimitExceeded
            | Self::TenantLimitExceeded
            | Self::SnapshotInUse
            | Self::SnapshotAlreadyNamed
            | Self::SnapshotDamaged
            | Self::SnapshotIncompatible => false,
        }
    }
}

// By hand: what the macro above hands to a derive hides the codes from it.
impl PartialSchema for ErrorCode {
    fn schema() -> RefOr<Schema> {
        let codes = Self::ALL.iter().map(|code| code.as_str());
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("A stable public error code."))
            .enum_values(Some(codes))
            .into()
    }
}

impl ToSchema for ErrorCode {}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The body of every error answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ErrorResponse {
    /// What went wrong.
    pub error: ErrorBody,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// A stable code from the catalogue. A string here, so that a client
    /// understands a server that knows more codes.
    pub code: String,
    /// For people.
    pub message: String,
    /// More about it, for example the list of invalid fields.
    pub details: Option<serde_json::Value>,
    /// The `x-request-id` of the response.
    pub request_id: Option<String>,
    /// Present and true when the same request may succeed later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
    /// How long to wait before that, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The same in whole seconds, as `Retry-After` has it; with 429 only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

/// One invalid field in the `details` of a `VALIDATION_ERROR`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// Where: a field name or a path such as `env.PATH`.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

impl FieldError {
    /// An error of this field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }
}

/// One line of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CatalogueEntry {
    /// The code.
    pub code: ErrorCode,
    /// Its HTTP status.
    pub status: u16,
    /// What it means.
    pub meaning: String,
    /// What to do about it.
    pub fix: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
}

/// Every code with its meaning.
#[must_use]
pub fn catalogue() -> Vec<CatalogueEntry> {
    ErrorCode::ALL
        .iter()
        .map(|&code| CatalogueEntry {
            code,
            status: code.status(),
            meaning: code.meaning().to_owned(),
            fix: code.fix().to_owned(),
            retryable: code.retryable(),
        })
        .collect()
}

/// `docs/errors.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "# Error codes\n\n\
         Generated from `crates/emberbox-api/src/error.rs`; also served at `GET /api/v1/errors`.\n\n\
         Every error answer is `{\"error\": {\"code\", \"message\", \"details\", \"request_id\"}}`, with\n\
         `retryable` and `retry_after_ms` when the same request may succeed later. The\n\
         `details` of a `VALIDATION_ERROR` are a list of `{\"field\", \"message\"}`.\n\n\
         | Status | Code | Meaning | What to do | Retry |\n|---|---|---|---|---|\n",
    );
    for entry in catalogue() {
        text.push_str(&format!(
            "| {} | `{}` | {} | {} | {} |\n",
            entry.status,
            entry.code,
            entry.meaning,
            entry.fix,
            if entry.retryable { "yes" } else { "no" },
        ));
    }
    text
}

#[cfg(test)]
mod tests;
