//! Background processes of a sandbox.

use reqwest::Method;

use super::{Client, ClientError, CommandEvent, EventStream, of_sandbox, send, stream};
use crate::{Process, SignalProcess, StartProcess, WriteProcess};

impl Client {
    /// Starts a background process.
    pub async fn start_process(
        &self,
        id: &str,
        request: &StartProcess,
    ) -> Result<Process, ClientError> {
        self.post_data(&of_sandbox(id, "processes"), request).await
    }

    /// Its background processes, in the order of their start.
    pub async fn list_processes(&self, id: &str) -> Result<Vec<Process>, ClientError> {
        self.get_data(&of_sandbox(id, "processes")).await
    }

    /// One of them.
    pub async fn get_process(&self, id: &str, pid: u32) -> Result<Process, ClientError> {
        self.get_data(&of_process(id, pid, "")).await
    }

    /// Ends one and its group; done when it has ended, also when it had before.
    pub async fn stop_process(&self, id: &str, pid: u32) -> Result<(), ClientError> {
        let path = of_process(id, pid, "");
        send(self.request(Method::DELETE, &path)).await.map(drop)
    }

    /// Sends a signal, a name or a number, to one and its group.
    pub async fn signal_process(
        &self,
        id: &str,
        pid: u32,
        signal: &str,
    ) -> Result<Process, ClientError> {
        let request = SignalProcess {
            signal: match signal.parse::<u8>() {
                Ok(number) => number.into(),
                Err(_name) => signal.into(),
            },
        };
        self.post_data(&of_process(id, pid, "/signal"), &request)
            .await
    }

    /// Writes to the standard input of one.
    pub async fn write_process(
        &self,
        id: &str,
        pid: u32,
        request: &WriteProcess,
    ) -> Result<(), ClientError> {
        let path = of_process(id, pid, "/stdin");
        let request = self.request(Method::POST, &path).json(request);
        send(request).await.map(drop)
    }

    /// The last lines of what one wrote.
    pub async fn process_logs(
        &self,
        id: &str,
        pid: u32,
        lines: Option<u32>,
    ) -> Result<String, ClientError> {
        let query = lines.map_or(String::new(), |lines| format!("?tail={lines}"));
        self.get_data(&format!("{}{query}", of_process(id, pid, "/logs")))
            .await
    }

    /// What one wrote from `offset` on and will write, until it ends. Dropping
    /// the stream leaves the process alone.
    pub async fn follow_process(
        &self,
        id: &str,
        pid: u32,
        offset: u64,
    ) -> Result<EventStream<CommandEvent>, ClientError> {
        let path = format!("{}?offset={offset}", of_process(id, pid, "/stream"));
        EventStream::open(self.request(Method::GET, &path), stream::command).await
    }
}

fn of_process(id: &str, pid: u32, rest: &str) -> String {
    of_sandbox(id, &format!("processes/{pid}{rest}"))
}
