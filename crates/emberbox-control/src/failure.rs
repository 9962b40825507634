//! Why a request could not be done: public text and private cause apart.

use std::time::Duration;

use emberbox_api::{ErrorBody, ErrorCode, ErrorResponse, FieldError};
use emberbox_core::SandboxState;
use emberbox_guest::client::ClientError;
use emberbox_guest::{GuestError, GuestErrorCode};
use emberbox_host::HostError;
use emberbox_store::{Answer, SandboxRecord, StoreError};
use serde_json::Value;

/// How soon a client may ask again after a passing failure: long enough not to
/// add to the load that caused it.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How soon a client may ask again while a sandbox is coming up; a restore
/// takes about this long.
const STARTING_RETRY_AFTER: Duration = Duration::from_millis(250);

/// Most characters taken over from a guest's message: its longest path and a
/// few words. A hostile guest says anything.
const GUEST_TEXT_MAX: usize = 4200;

/// A request that failed. `Display` is its public text; the source never
/// leaves the process.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
    pub(crate) details: Option<Value>,
    pub(crate) retry_after: Option<Duration>,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    /// A failure with a message of its own.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: None,
            retry_after: code.retryable().then_some(RETRY_AFTER),
            source: None,
        }
    }

    pub(crate) fn because(
        code: ErrorCode,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            source: Some(source.into()),
            ..Self::new(code, message)
        }
    }

    pub(crate) fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::because(ErrorCode::Internal, "internal error", source)
    }

    /// Fields that are wrong, all of them.
    pub(crate) fn invalid(errors: &[FieldError]) -> Self {
        let text: Vec<_> = errors
            .iter()
            .map(|error| format!("{} {}", error.field, error.message))
            .collect();
        Self {
            details: serde_json::to_value(errors).ok(),
            ..Self::new(ErrorCode::ValidationError, text.join("; "))
        }
    }

    pub(crate) fn invalid_field(field: &str, message: impl Into<String>) -> Self {
        Self::invalid(&[FieldError::new(field, message)])
    }

    /// The same with more about it.
    pub(crate) fn with_details(self, details: Value) -> Self {
        Self {
            details: Some(details),
            ..self
        }
    }

    /// The same; it may be tried again after this long.
    pub(crate) fn after(self, wait: Duration) -> Self {
        Self {
            retry_after: Some(wait),
            ..self
        }
    }

    pub(crate) fn sandbox_not_found() -> Self {
        Self::new(ErrorCode::NotFound, "sandbox not found")
    }

    pub(crate) fn deployment_not_found() -> Self {
        Self::new(ErrorCode::NotFound, "deployment not found")
    }

    pub(crate) fn not_running(record: &SandboxRecord) -> Self {
        let starting = record.state == SandboxState::Provisioning;
        let message = if record.destroy_requested_at.is_some() && record.state.is_live() {
            "sandbox is being destroyed".to_owned()
        } else {
            format!("sandbox is not running (state: {})", record.state)
        };
        Self {
            retry_after: starting.then_some(STARTING_RETRY_AFTER),
            ..Self::new(ErrorCode::SandboxNotRunning, message)
        }
    }

    /// The same as [`Failure::not_running`], for the routes whose clients wait
    /// for a sandbox that is coming up.
    pub(crate) fn not_running_yet(record: &SandboxRecord) -> Self {
        let failure = Self::not_running(record);
        if record.state == SandboxState::Provisioning && record.destroy_requested_at.is_none() {
            return Self {
                code: ErrorCode::SandboxStarting,
                ..failure
            };
        }
        failure
    }

    /// The code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// As it is kept for a repeat of its request.
    pub(crate) fn as_answer(&self) -> Answer {
        let body = ErrorResponse {
            error: ErrorBody {
                code: self.code.as_str().to_owned(),
                message: self.message.clone(),
                details: self.details.clone(),
                request_id: None,
                retryable: None,
                retry_after_ms: None,
                retry_after: None,
            },
        };
        Answer {
            status: self.code.status(),
            body: serde_json::to_vec(&body).ok(),
        }
    }

    /// What [`Failure::as_answer`] kept.
    pub(crate) fn of_answer(body: &[u8]) -> Self {
        let read = serde_json::from_slice::<ErrorResponse>(body);
        let Ok(ErrorResponse { error }) = read else {
            return Self::internal("a failure that was kept cannot be read");
        };
        let known = ErrorCode::ALL.iter();
        let code = known.copied().find(|code| code.as_str() == error.code);
        Self {
            details: error.details,
            // A repeat is told the same for a day.
            retry_after: None,
            ..Self::new(code.unwrap_or(ErrorCode::Internal), error.message)
        }
    }

    /// Whether the sandbox itself is what failed, and not this one operation.
    pub(crate) fn is_about_the_sandbox(&self) -> bool {
        matches!(
            self.code,
            ErrorCode::SandboxNotRunning | ErrorCode::SandboxUnreachable
        )
    }

    /// The whole chain of causes, for the log.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        if error.is_disk_full() {
            let message = "the disk of the server is full";
            return Self::because(ErrorCode::NoCapacity, message, error);
        }
        Self::internal(error)
    }
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        let code = match &error {
            HostError::UnknownImage(_)
            | HostError::NoSeed
            | HostError::PreparedLost
            | HostError::Start(_)
            | HostError::NoEngine
            | HostError::NoFirecracker(_)
            | HostError::NoKvm(_)
            | HostError::Setting(_) => ErrorCode::Internal,
            HostError::Image(_) => ErrorCode::ImageUnavailable,
            HostError::NotRunning => ErrorCode::SandboxNotRunning,
            HostError::UnknownSnapshot(_) => ErrorCode::NotFound,
            HostError::DamagedSnapshot(_) => ErrorCode::SnapshotDamaged,
            HostError::IncompatibleSnapshot(_) => ErrorCode::SnapshotIncompatible,
            HostError::Snapshot(_) => ErrorCode::SnapshotFailed,
            HostError::NoCapacity => ErrorCode::NoCapacity,
            HostError::ShuttingDown => ErrorCode::ShuttingDown,
        };
        Self::because(code, error.to_string(), error)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Guest(error) => error.into(),
            error @ ClientError::Ended => Self::because(
                ErrorCode::SandboxNotRunning,
                "the sandbox ended during the call",
                error,
            ),
            error @ (ClientError::Unreachable(_)
            | ClientError::Broken(_)
            | ClientError::TimedOut
            | ClientError::Unexpected
            | ClientError::Generation(_)) => Self::because(
                ErrorCode::SandboxUnreachable,
                "the sandbox did not answer",
                error,
            ),
        }
    }
}

impl From<GuestError> for Failure {
    fn from(error: GuestError) -> Self {
        let code = match error.code {
            GuestErrorCode::NotFound => ErrorCode::FileNotFound,
            GuestErrorCode::InvalidPath => ErrorCode::InvalidPath,
            GuestErrorCode::IsADirectory => ErrorCode::IsADirectory,
            GuestErrorCode::NotADirectory => ErrorCode::NotADirectory,
            GuestErrorCode::Unsupported => ErrorCode::NotAFile,
            GuestErrorCode::PermissionDenied => ErrorCode::PermissionDenied,
            GuestErrorCode::NoSpace => ErrorCode::DiskFull,
            GuestErrorCode::TooLarge => ErrorCode::FileTooLarge,
            GuestErrorCode::NoSuchCwd => {
                return Self::invalid_field("working_dir", "is not a directory in the sandbox");
            }
            GuestErrorCode::Spawn => ErrorCode::ExecFailed,
            GuestErrorCode::Io => ErrorCode::FileIoError,
            GuestErrorCode::ConnectionRefused => ErrorCode::PortNotServed,
            GuestErrorCode::LimitReached => ErrorCode::GuestLimitExceeded,
            GuestErrorCode::NoSuchProcess => ErrorCode::ProcessNotFound,
            GuestErrorCode::ProcessEnded => ErrorCode::ProcessNotRunning,
            GuestErrorCode::NoSuchTerminal => ErrorCode::TerminalNotFound,
            GuestErrorCode::Unauthorized
            | GuestErrorCode::Unclaimed
            | GuestErrorCode::AlreadyClaimed
            | GuestErrorCode::Protocol => {
                return Self::because(
                    ErrorCode::SandboxUnreachable,
                    "the sandbox did not answer",
                    error,
                );
            }
        };
        let message: String = error.message.chars().take(GUEST_TEXT_MAX).collect();
        Self::new(code, message)
    }
}
