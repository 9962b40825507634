//! What happens to a sandbox, its app, its log and its ports.

use reqwest::Method;

use super::{Client, ClientError, EventStream, SandboxEvent, of_sandbox, stream};
use crate::{
    Artifacts, CreateTicket, ExposeRequest, Exposed, LogLine, Logs, StartTemplate, StartedTemplate,
    StreamTicket,
};

impl Client {
    /// What happens to a sandbox from now on, its present state first; ends
    /// with it.
    pub async fn events(&self, id: &str) -> Result<EventStream<SandboxEvent>, ClientError> {
        let request = self.request(Method::GET, &of_sandbox(id, "events"));
        EventStream::open(request, stream::sandbox).await
    }

    /// The last lines of its log.
    pub async fn logs(&self, id: &str, lines: Option<u32>) -> Result<Logs, ClientError> {
        self.get_data(&log_address(id, "logs", lines)).await
    }

    /// The last lines of its log and those that come; ends with the sandbox.
    pub async fn follow_logs(
        &self,
        id: &str,
        lines: Option<u32>,
    ) -> Result<EventStream<LogLine>, ClientError> {
        let request = self.request(Method::GET, &log_address(id, "logs/stream", lines));
        EventStream::open(request, stream::log).await
    }

    /// Starts the template's app and waits for it.
    pub async fn start_template(
        &self,
        id: &str,
        request: &StartTemplate,
    ) -> Result<StartedTemplate, ClientError> {
        self.post_data(&of_sandbox(id, "template/start"), request)
            .await
    }

    /// What the app has made, and where it is seen.
    pub async fn artifacts(&self, id: &str) -> Result<Artifacts, ClientError> {
        self.get_data(&of_sandbox(id, "artifacts")).await
    }

    /// The address of a port on the outside; of the template's when absent.
    pub async fn expose(&self, id: &str, port: Option<u16>) -> Result<Exposed, ClientError> {
        let request = ExposeRequest {
            port: port.map(Into::into),
        };
        self.post(&of_sandbox(id, "expose"), &request).await
    }

    /// Something that opens one stream, once, without the key.
    pub async fn create_ticket(&self, path: Option<&str>) -> Result<StreamTicket, ClientError> {
        let path = path.map(str::to_owned);
        self.post("/auth/sse-ticket", &CreateTicket { path }).await
    }
}

fn log_address(id: &str, rest: &str, lines: Option<u32>) -> String {
    let query = lines.map_or(String::new(), |lines| format!("?lines={lines}"));
    format!("{}{query}", of_sandbox(id, rest))
}
