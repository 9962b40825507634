//! Snapshots, and what changes a sandbox as a whole.

use reqwest::Method;
use serde_json::json;

use super::{Client, ClientError, encoded, of_sandbox, send};
use crate::{CreateSnapshot, ExtendSandbox, ForkSandbox, Sandbox, Snapshot};

impl Client {
    /// Puts a sandbox on disk.
    pub async fn pause_sandbox(&self, id: &str) -> Result<Sandbox, ClientError> {
        self.post(&of_sandbox(id, "pause"), &json!({})).await
    }

    /// Brings a paused sandbox back.
    pub async fn resume_sandbox(&self, id: &str) -> Result<Sandbox, ClientError> {
        self.post(&of_sandbox(id, "resume"), &json!({})).await
    }

    /// Moves a sandbox's end.
    pub async fn extend_sandbox(
        &self,
        id: &str,
        request: &ExtendSandbox,
    ) -> Result<Sandbox, ClientError> {
        self.post(&of_sandbox(id, "extend"), request).await
    }

    /// Makes a sandbox that goes on from where this one is, or was.
    pub async fn fork_sandbox(
        &self,
        id: &str,
        request: &ForkSandbox,
    ) -> Result<Sandbox, ClientError> {
        self.post(&of_sandbox(id, "fork"), request).await
    }

    /// Takes a snapshot of a running sandbox.
    pub async fn take_snapshot(
        &self,
        id: &str,
        request: &CreateSnapshot,
    ) -> Result<Snapshot, ClientError> {
        self.post_data(&of_sandbox(id, "snapshots"), request).await
    }

    /// A sandbox's snapshots, newest first.
    pub async fn list_snapshots(&self, id: &str) -> Result<Vec<Snapshot>, ClientError> {
        self.get_data(&of_sandbox(id, "snapshots")).await
    }

    /// Brings a sandbox back to a snapshot.
    pub async fn restore_snapshot(&self, id: &str, snapshot: &str) -> Result<Sandbox, ClientError> {
        let path = of_sandbox(id, &format!("restore/{}", encoded(snapshot)));
        self.post(&path, &json!({})).await
    }

    /// Deletes a snapshot.
    pub async fn delete_snapshot(&self, id: &str, snapshot: &str) -> Result<(), ClientError> {
        let path = of_sandbox(id, &format!("snapshots/{}", encoded(snapshot)));
        send(self.request(Method::DELETE, &path)).await.map(drop)
    }
}
