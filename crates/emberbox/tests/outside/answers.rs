//! What came back, and what it has to be.

use serde_json::Value;

/// A whole answer of the server.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) request_id: String,
    pub(crate) content_type: Option<String>,
    /// Where the time went, of a create.
    pub(crate) server_timing: Option<String>,
    pub(crate) bytes: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The JSON of an answer that has this status.
    #[track_caller]
    pub(crate) fn ok(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        serde_json::from_slice(&self.bytes).unwrap()
    }

    /// The error of an answer that is one, in the one shape all have.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.content_type.as_deref(), Some("application/json"));
        let body: Value = serde_json::from_slice(&self.bytes).unwrap();
        let error = &body["error"];
        assert_eq!(error["code"], code, "{body}");
        let message = error["message"].as_str().unwrap();
        assert!(!message.is_empty(), "{body}");
        assert!(error.as_object().unwrap().contains_key("details"), "{body}");
        assert_eq!(error["request_id"], self.request_id, "{body}");
        error.clone()
    }

    /// A 422 that names this field.
    #[track_caller]
    pub(crate) fn names(&self, field: &str) {
        let error = self.refused(422, "VALIDATION_ERROR");
        let details = error["details"].as_array().unwrap();
        let named = details.iter().any(|detail| {
            detail["field"] == field && !detail["message"].as_str().unwrap().is_empty()
        });
        assert!(named, "{field} is not named in {error}");
    }
}
