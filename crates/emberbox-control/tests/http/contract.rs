//! That answers are what the published document says.

use std::collections::HashMap;
use std::sync::LazyLock;

use emberbox_api::BASE_PATH;
use emberbox_control::openapi;
use jsonschema::{Draft, Registry, Validator};
use serde_json::{Value, json};

/// How the document is named by the schemas that point into it.
const DOCUMENT: &str = "https://emberbox.invalid/openapi.json";

static CONTRACT: LazyLock<Contract> = LazyLock::new(Contract::read);

struct Contract {
    operations: Vec<Operation>,
}

struct Operation {
    method: String,
    /// Segments of the path; those in braces match anything.
    path: Vec<String>,
    /// By status; none for what is no JSON.
    answers: HashMap<String, Option<Validator>>,
}

/// Fails unless an answer of this route may look like this. What no operation
/// of the document stands for must be an error.
#[track_caller]
pub(crate) fn check(method: &str, path: &str, status: u16, body: &Value) {
    let Some(path) = path.strip_prefix(BASE_PATH) else {
        return;
    };
    let Some(operation) = CONTRACT.operation(method, path) else {
        assert!(status >= 400, "{method} {path} is not documented: {body}");
        return;
    };
    let status = status.to_string();
    let answer = operation.answers.get(&status);
    let answer = answer.or_else(|| operation.answers.get("default"));
    let answer = answer.expect("every operation has a default answer");
    let Some(schema) = answer else {
        panic!("{method} {path} {status} is documented to be no JSON: {body}");
    };
    let errors: Vec<_> = schema
        .iter_errors(body)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(
        errors.is_empty(),
        "{method} {path} {status} is not as documented: {errors:#?}\n{body:#}"
    );
}

impl Contract {
    fn read() -> Self {
        let document = serde_json::to_value(openapi()).unwrap();
        let registry = Registry::new()
            .draft(Draft::Draft202012)
            .add(DOCUMENT, document.clone())
            .unwrap()
            .prepare()
            .unwrap();
        let mut operations = Vec::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let answers = operation["responses"].as_object().unwrap();
                let answers = answers.iter().map(|(status, answer)| {
                    let media = &answer["content"]["application/json"];
                    let schema = media.get("schema").map(|schema| {
                        let schema = absolute(schema.clone());
                        jsonschema::options()
                            .with_draft(Draft::Draft202012)
                            .with_registry(&registry)
                            .build(&schema)
                            .unwrap()
                    });
                    (status.clone(), schema)
                });
                operations.push(Operation {
                    method: method.to_uppercase(),
                    path: segments(path).map(str::to_owned).collect(),
                    answers: answers.collect(),
                });
            }
        }
        Self { operations }
    }

    /// The most exact operation: one with fewer braces wins.
    fn operation(&self, method: &str, path: &str) -> Option<&Operation> {
        let asked: Vec<_> = segments(path).collect();
        let matching = self
            .operations
            .iter()
            .filter(|operation| operation.method == method && operation.matches(&asked));
        matching.min_by_key(|operation| operation.path.iter().filter(|s| is_parameter(s)).count())
    }
}

impl Operation {
    fn matches(&self, asked: &[&str]) -> bool {
        // The last parameter of a file's path takes the rest of it.
        let rest = self.path.last().is_some_and(|last| last == "{path}");
        let fits = if rest {
            asked.len() >= self.path.len()
        } else {
            asked.len() == self.path.len()
        };
        let same = |(own, asked): (&String, &&str)| is_parameter(own) || own == asked;
        fits && self.path.iter().zip(asked).all(same)
    }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

fn is_parameter(segment: &str) -> bool {
    segment.starts_with('{')
}

/// A schema whose references name the document they point into.
fn absolute(schema: Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| match value {
                Value::String(to) if name == "$ref" => (name, json!(format!("{DOCUMENT}{to}"))),
                value => (name, absolute(value)),
            });
            Value::Object(fields.collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(absolute).collect()),
        other => other,
    }
}
