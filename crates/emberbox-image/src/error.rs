//! Why an image could not be made or found.

use std::path::Path;
use std::process::ExitStatus;

use crate::archive::ArchiveError;

/// Why an image could not be made or found.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Something on this machine's file system failed.
    #[error("cannot {doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A program that has to be there is not.
    #[error("{program} is not installed; `apt-get install {package}` brings it")]
    NoProgram {
        /// The program.
        program: String,
        /// The Debian package it is in.
        package: &'static str,
    },
    /// A program failed.
    #[error("{program} failed ({status}): {stderr}")]
    Child {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines it wrote to its standard error.
        stderr: String,
    },
    /// Only root can do this.
    #[error("only root can {doing}")]
    NotRoot {
        /// What was asked for.
        doing: &'static str,
    },
    /// The host is not a distribution that guest images can be taken from.
    #[error("guest images cannot be made from this host's distribution: {detail}")]
    Distribution {
        /// What is missing.
        detail: String,
    },
    /// The guest kernel cannot be used.
    #[error("the guest kernel cannot be used: {detail}")]
    Kernel {
        /// What is wrong with it.
        detail: String,
    },
    /// There is no recipe for this template.
    #[error("there is no recipe for a template named {0:?}")]
    UnknownTemplate(String),
    /// An archive that is no part of an image.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// An image that sandboxes cannot be made of.
    #[error("{0}")]
    Unsupported(&'static str),
    /// A file of the home does not say what it should.
    #[error("{path} is damaged; remove it and set up again")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

impl ImageError {
    /// An IO failure while trying to `verb` the file at `path`.
    pub(crate) fn io(verb: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let doing = format!("{verb} {}", path.display());
        move |source| Self::Io { doing, source }
    }
}
