//! Commands of a sandbox.

use reqwest::Method;

use super::{Client, ClientError, CommandEvent, EventStream, of_sandbox, stream};
use crate::{ExecRequest, ExecResult};

impl Client {
    /// Runs a command to its end.
    pub async fn exec(&self, id: &str, request: &ExecRequest) -> Result<ExecResult, ClientError> {
        self.post_data(&of_sandbox(id, "exec"), request).await
    }

    /// Runs a command and tells what it writes. Dropping the stream ends the
    /// command.
    pub async fn exec_stream(
        &self,
        id: &str,
        request: &ExecRequest,
    ) -> Result<EventStream<CommandEvent>, ClientError> {
        let request = self
            .request(Method::POST, &of_sandbox(id, "exec/stream"))
            .json(request);
        EventStream::open(request, stream::command).await
    }
}
