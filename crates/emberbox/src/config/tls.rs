//! Whether TLS is served, and with whose certificate.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use emberbox_control::TlsSource;
use serde::Deserialize;

use super::{Config, ConfigError};

/// Whose certificate `server.listen_https` shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TlsConfig {
    /// A PEM file with the certificate and those that vouch for it.
    cert: Option<PathBuf>,
    /// A PEM file with its key.
    key: Option<PathBuf>,
    /// An authority of this server's own instead, for development.
    development_ca: bool,
}

impl Config {
    /// Where to listen for TLS, and with whose certificate.
    pub(crate) fn https(&self, data_dir: &Path) -> Option<(SocketAddr, TlsSource)> {
        let address = self.server.listen_https?;
        let source = match (&self.tls.cert, &self.tls.key) {
            (Some(cert), Some(key)) => TlsSource::Files {
                cert: cert.clone(),
                key: key.clone(),
            },
            _ => TlsSource::DevelopmentCa {
                dir: data_dir.join("tls"),
                domain: self.preview.domain.clone(),
            },
        };
        Some((address, source))
    }

    pub(super) fn check_tls(&self) -> Result<(), ConfigError> {
        let wrong = |key, problem: &str| {
            Err(ConfigError::Value {
                key,
                problem: problem.to_owned(),
            })
        };
        let tls = &self.tls;
        match (&tls.cert, &tls.key, tls.development_ca) {
            (Some(_), None, _) => return wrong("tls.cert", "needs tls.key"),
            (None, Some(_), _) => return wrong("tls.key", "needs tls.cert"),
            (Some(_), Some(_), true) => {
                return wrong("tls.development_ca", "contradicts tls.cert");
            }
            (None, None, false) if self.server.listen_https.is_some() => {
                return wrong(
                    "server.listen_https",
                    "needs tls.cert or tls.development_ca",
                );
            }
            (None, None, false) => return Ok(()),
            (Some(_), Some(_), false) | (None, None, true) => {}
        }
        if self.server.listen_https.is_none() {
            return wrong("tls", "needs server.listen_https");
        }
        Ok(())
    }
}
