//! Server-sent events, and when they came.

use std::io::{BufRead, BufReader};
use std::time::Instant;

use serde_json::Value;
use ureq::http::Response;

use super::api::Api;

/// A stream that is open; closed when dropped.
pub(crate) struct Events {
    lines: BufReader<ureq::BodyReader<'static>>,
}

/// One event.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) id: Option<String>,
    pub(crate) name: String,
    pub(crate) data: Value,
    pub(crate) at: Instant,
}

impl Api {
    /// Follows a stream, from an event on if one is named.
    #[track_caller]
    pub(crate) fn follow(&self, path: &str, last: Option<&str>) -> Events {
        let request = self.agent.get(self.at(path));
        let mut request = request.header("authorization", self.bearer());
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        Events::of(request.call().unwrap())
    }

    /// Follows a stream with nothing but what stands in its address.
    #[track_caller]
    pub(crate) fn follow_without_key(&self, path: &str) -> Events {
        Events::of(self.agent.get(self.at(path)).call().unwrap())
    }

    /// Runs a command and follows it.
    #[track_caller]
    pub(crate) fn exec_stream(&self, sandbox: &str, body: &Value) -> Events {
        let request = self
            .agent
            .post(self.at(&format!("/sandboxes/{sandbox}/exec/stream")));
        let request = request.header("authorization", self.bearer());
        Events::of(request.send_json(body).unwrap())
    }
}

impl Events {
    #[track_caller]
    fn of(mut response: Response<ureq::Body>) -> Self {
        let status = response.status().as_u16();
        if status != 200 {
            panic!("{status}: {:?}", response.body_mut().read_to_string());
        }
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert!(response.headers().contains_key("x-request-id"));
        Self {
            lines: BufReader::new(response.into_body().into_reader()),
        }
    }

    /// The next event; none at the end of the stream, in whatever way it ends.
    pub(crate) fn try_next(&mut self) -> Option<Event> {
        let (mut id, mut name, mut data) = (None, None, None);
        loop {
            let mut line = String::new();
            match self.lines.read_line(&mut line) {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
            let line = line.trim_end_matches(['\r', '\n']);
            if line.is_empty() {
                // What has no data is a heartbeat.
                if let Some(data) = data {
                    return Some(Event {
                        id,
                        name: name.unwrap_or_default(),
                        data,
                        at: Instant::now(),
                    });
                }
                continue;
            }
            match line.split_once(": ") {
                Some(("id", text)) => id = Some(text.to_owned()),
                Some(("event", text)) => name = Some(text.to_owned()),
                Some(("data", text)) => data = Some(serde_json::from_str(text).unwrap()),
                _ => assert!(line.starts_with(':'), "{line:?} is no event stream"),
            }
        }
    }

    /// The next event, which has to come.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Event {
        self.try_next().expect("the stream has not ended")
    }

    /// The first event from here on that is looked for.
    #[track_caller]
    pub(crate) fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        let mut passed = Vec::new();
        while let Some(event) = self.try_next() {
            if wanted(&event) {
                return event;
            }
            passed.push(event);
        }
        panic!("the stream ended after {passed:?}");
    }

    /// Everything to the end of the stream.
    pub(crate) fn rest(mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.try_next()).collect()
    }
}

impl Event {
    /// The text in a field of the data.
    #[track_caller]
    pub(crate) fn text(&self, field: &str) -> &str {
        let text = self.data[field].as_str();
        text.unwrap_or_else(|| panic!("no {field} in {self:?}"))
    }

    #[track_caller]
    pub(crate) fn id(&self) -> &str {
        self.id.as_deref().expect("it has an id")
    }
}
