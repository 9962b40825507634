//! Firecracker's API document as a judge of requests.

use std::collections::BTreeMap;

use jsonschema::{Draft, Validator};
use serde_json::{Value, json};

use super::fake::Request;

const DOCUMENT: &str = include_str!("../fixtures/firecracker-api.yaml");

pub(crate) struct Document {
    paths: BTreeMap<String, Value>,
    definitions: Value,
}

impl Document {
    pub(crate) fn open() -> Self {
        let mut document: Value = serde_norway::from_str(DOCUMENT).expect("a YAML document");
        close(&mut document["definitions"]);
        let paths = document["paths"].as_object().expect("paths");
        Self {
            paths: paths
                .iter()
                .map(|(path, item)| (path.clone(), item.clone()))
                .collect(),
            definitions: document["definitions"].clone(),
        }
    }

    /// `Err` says what is wrong with a request.
    pub(crate) fn check(&self, request: &Request) -> Result<(), String> {
        let Request {
            method,
            path,
            content_type,
            body,
        } = request;
        let (operation, parameters) = self
            .operation(method, path)
            .ok_or_else(|| format!("{method} {path} is not in the document"))?;
        let of_body = operation["parameters"].as_array().into_iter().flatten();
        let of_body = of_body.clone().find(|parameter| parameter["in"] == "body");
        let Some(parameter) = of_body else {
            return if body.is_null() {
                Ok(())
            } else {
                Err(format!("{method} {path} takes no body"))
            };
        };
        if content_type.as_deref() != Some("application/json") {
            return Err(format!("{method} {path} has the type {content_type:?}"));
        }
        let mut schema = parameter["schema"].clone();
        schema["definitions"] = self.definitions.clone();
        let validator: Validator = jsonschema::options()
            .with_draft(Draft::Draft4)
            .build(&schema)
            .map_err(|error| error.to_string())?;
        let errors: Vec<_> = validator
            .iter_errors(body)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        if !errors.is_empty() {
            return Err(format!("{method} {path}: {}", errors.join("; ")));
        }
        // An id stands in the path and in the body.
        for (name, value) in parameters {
            if body[&name] != value.as_str() {
                return Err(format!("{method} {path}: {name} is {}", body[&name]));
            }
        }
        Ok(())
    }

    /// The operation, and what its path's parameters are.
    fn operation(&self, method: &str, path: &str) -> Option<(&Value, Vec<(String, String)>)> {
        self.paths.iter().find_map(|(template, item)| {
            let (mut parts, mut given) = (template.split('/'), path.split('/'));
            let mut parameters = Vec::new();
            loop {
                match (parts.next(), given.next()) {
                    (None, None) => break,
                    (Some(part), Some(value)) if part == value => {}
                    (Some(part), Some(value)) => {
                        let name = part.strip_prefix('{')?.strip_suffix('}')?;
                        parameters.push((name.to_owned(), value.to_owned()));
                    }
                    (None, Some(_)) | (Some(_), None) => return None,
                }
            }
            let operation = item.get(method.to_ascii_lowercase())?;
            Some((operation, parameters))
        })
    }
}

/// Firecracker refuses fields that it does not know; the document does not say
/// so.
fn close(definitions: &mut Value) {
    for definition in definitions
        .as_object_mut()
        .into_iter()
        .flat_map(|all| all.values_mut())
    {
        if definition.get("properties").is_some() {
            definition["additionalProperties"] = json!(false);
        }
    }
}
