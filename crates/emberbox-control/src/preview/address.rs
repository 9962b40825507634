//! Under which addresses previews are told.

use emberbox_core::TenantId;
use emberbox_store::SandboxRecord;

use super::host;
use crate::Failure;
use crate::control::Control;
use crate::settings::Scheme;

impl Control {
    /// The domain a tenant's previews are told under: its own, or the
    /// platform's.
    pub(crate) async fn preview_domain(&self, tenant: &TenantId) -> Result<String, Failure> {
        let own = self.store().preview_domain(tenant).await?;
        Ok(own.unwrap_or_else(|| self.settings().preview.domain.clone()))
    }

    /// The address of one port of a sandbox. Only the template's own port goes
    /// without a prefix: that one the bare name always means, whatever else
    /// the sandbox serves.
    pub(crate) async fn port_url(
        &self,
        sandbox: &SandboxRecord,
        port: u16,
    ) -> Result<String, Failure> {
        let domain = self.preview_domain(&sandbox.tenant).await?;
        let own = self.template_port(sandbox).await? == Some(port);
        Ok(self.preview_url(&sandbox.slug, (!own).then_some(port), &domain))
    }

    /// The address of a sandbox's preview, with or without a port.
    pub(crate) fn preview_url(&self, slug: &str, port: Option<u16>, domain: &str) -> String {
        self.outside_url(&host::name(slug, port, domain))
    }

    /// The address of a host name, as it is reached from outside.
    pub(crate) fn outside_url(&self, host: &str) -> String {
        let preview = &self.settings().preview;
        let scheme = preview.scheme;
        let public = preview.public_port.or_else(|| self.listening_port());
        match public {
            Some(public) if public != scheme.default_port() => {
                format!("{}://{host}:{public}", scheme.as_str())
            }
            Some(_) | None => format!("{}://{host}", scheme.as_str()),
        }
    }
}

impl Scheme {
    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}
