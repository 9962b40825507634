//! Usage and credits.

use super::{Client, ClientError, encoded};
use crate::{ChangeCredits, CreditEntry, Credits, SandboxUsage, UsageReport, UsageSummary};

impl Client {
    /// What this tenant used; `query` as the routes take it, names and values.
    pub async fn usage_summary(
        &self,
        query: &[(&str, String)],
    ) -> Result<UsageSummary, ClientError> {
        self.get_data(&format!("/usage/summary{}", search(query)))
            .await
    }

    /// The same by group.
    pub async fn usage(&self, query: &[(&str, String)]) -> Result<UsageReport, ClientError> {
        self.get_data(&format!("/usage{}", search(query))).await
    }

    /// What one sandbox used.
    pub async fn sandbox_usage(&self, id: &str) -> Result<SandboxUsage, ClientError> {
        self.get_data(&super::of_sandbox(id, "usage")).await
    }

    /// This tenant's account.
    pub async fn credits(&self) -> Result<Credits, ClientError> {
        self.get_data("/credits").await
    }

    /// Changes a tenant's account; for operators.
    pub async fn change_credits(
        &self,
        tenant: &str,
        change: &ChangeCredits,
    ) -> Result<CreditEntry, ClientError> {
        let tenant = encoded(tenant);
        self.post_data(&format!("/admin/tenants/{tenant}/credits"), change)
            .await
    }
}

fn search(query: &[(&str, String)]) -> String {
    let pairs: Vec<_> = query
        .iter()
        .map(|(name, value)| format!("{name}={}", encoded(value)))
        .collect();
    if pairs.is_empty() {
        String::new()
    } else {
        format!("?{}", pairs.join("&"))
    }
}
