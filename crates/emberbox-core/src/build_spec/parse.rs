//! From JSON of any form to a spec.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    ARTIFACT_PATHS_MAX, BaseImage, BuildLimits, BuildSpec, BuildStep, COMMAND_MAX, DEFAULT_USER,
    DEFAULT_WORKDIR, ENV_MAX, FROM_MAX, InvalidBaseImage, PATH_MAX, STEPS_MAX, SpecError,
    SpecErrorCode, USER_MAX,
};
use crate::shape::Shape;

/// See [`BuildSpec::parse`].
pub(super) fn parse(value: &Value, limits: &BuildLimits) -> Result<BuildSpec, Vec<SpecError>> {
    let mut errors = Errors::default();
    let Value::Object(fields) = value else {
        errors.add(SpecErrorCode::Required, "build_spec", "must be an object");
        return Err(errors.0);
    };
    // `null` says as much as nothing.
    let get = |name: &str| fields.get(name).filter(|value| !value.is_null());
    let default = Shape::DEFAULT;
    let spec = BuildSpec {
        from: errors.from(get("from")),
        vcpu: errors.number(("vcpu", get("vcpu")), default.vcpus, (1, limits.max_vcpus)),
        memory_mib: errors.number(
            ("memoryMib", get("memoryMib")),
            default.memory_mib,
            (Shape::MIN_MEMORY_MIB, limits.max_memory_mib),
        ),
        disk_mib: errors.number(
            ("diskMib", get("diskMib")),
            default.disk_mib,
            (Shape::MIN_DISK_MIB, limits.max_disk_mib),
        ),
        steps: errors.steps(get("steps")),
        env: match get("env") {
            Some(env) => errors.env("env", env, SpecErrorCode::Required),
            None => BTreeMap::new(),
        },
        workdir: match get("workdir") {
            Some(path) => errors.path("workdir", path),
            None => DEFAULT_WORKDIR.to_owned(),
        },
        user: errors.user(get("user")),
        start_cmd: errors.command("startCmd", get("startCmd")),
        ready_cmd: errors.command("readyCmd", get("readyCmd")),
        preview_port: errors.port(get("previewPort")),
        artifact_paths: errors.artifact_paths(get("artifactPaths")),
    };
    if errors.0.is_empty() {
        Ok(spec)
    } else {
        Err(errors.0)
    }
}

/// Collects what is wrong. Each call answers with what stands for the field in
/// a spec that is thrown away when there is an error.
#[derive(Default)]
struct Errors(Vec<SpecError>);

impl Errors {
    fn add(&mut self, code: SpecErrorCode, field: &str, message: impl Into<String>) {
        self.0.push(SpecError {
            code,
            field: field.to_owned(),
            message: message.into(),
        });
    }

    fn from(&mut self, value: Option<&Value>) -> String {
        let text = value.and_then(Value::as_str).unwrap_or_default();
        if text.is_empty() {
            self.add(
                SpecErrorCode::Required,
                "from",
                "is required: the base image, for example debian:bookworm",
            );
        } else if text.len() > FROM_MAX {
            self.too_long("from", FROM_MAX);
        } else if let Err(error) = text.parse::<BaseImage>() {
            let error: InvalidBaseImage = error;
            self.add(
                SpecErrorCode::UnsupportedBaseImage,
                "from",
                error.to_string(),
            );
        }
        text.to_owned()
    }

    fn number(
        &mut self,
        (field, value): (&str, Option<&Value>),
        default: u32,
        (min, max): (u32, u32),
    ) -> u32 {
        let Some(value) = value else {
            return default;
        };
        let Some(number) = whole(value) else {
            self.add(SpecErrorCode::InvalidInteger, field, "must be an integer");
            return default;
        };
        match u32::try_from(number) {
            Ok(number) if (min..=max).contains(&number) => number,
            Ok(_) | Err(_) => {
                let message = format!("must be between {min} and {max}");
                self.add(SpecErrorCode::OutOfRange, field, message);
                default
            }
        }
    }

    fn port(&mut self, value: Option<&Value>) -> Option<u16> {
        let value = value?;
        let Some(number) = whole(value) else {
            let message = "must be an integer";
            self.add(SpecErrorCode::InvalidInteger, "previewPort", message);
            return None;
        };
        let port = u16::try_from(number).ok().filter(|port| *port != 0);
        if port.is_none() {
            let message = "must be between 1 and 65535";
            self.add(SpecErrorCode::InvalidPort, "previewPort", message);
        }
        port
    }

    fn steps(&mut self, value: Option<&Value>) -> Vec<BuildStep> {
        let steps = match value {
            None => return Vec::new(),
            Some(Value::Array(steps)) => steps,
            Some(_) => {
                let message = "must be a list of steps";
                self.add(SpecErrorCode::InvalidStep, "steps", message);
                return Vec::new();
            }
        };
        if steps.len() > STEPS_MAX {
            let message = format!("must be at most {STEPS_MAX} steps");
            self.add(SpecErrorCode::OutOfRange, "steps", message);
            return Vec::new();
        }
        let steps = steps.iter().enumerate();
        steps
            .map(|(index, step)| self.step(&format!("steps.{index}"), step))
            .collect()
    }

    fn step(&mut self, field: &str, value: &Value) -> BuildStep {
        const KNOWN: [&str; 3] = ["run", "workdir", "env"];
        const MESSAGE: &str = "must be an object with run, workdir or env, and nothing else";
        let get = |fields: &Map<String, Value>, name: &str| {
            (fields.get(name).filter(|value| !value.is_null())).cloned()
        };
        let known = |fields: &Map<String, Value>| {
            fields.keys().all(|name| KNOWN.contains(&name.as_str()))
                && KNOWN.iter().any(|name| get(fields, name).is_some())
        };
        let fields = match value {
            Value::Object(fields) if known(fields) => fields,
            _ => {
                self.add(SpecErrorCode::InvalidStep, field, MESSAGE);
                return BuildStep::default();
            }
        };
        BuildStep {
            run: get(fields, "run").map(|run| {
                let (field, invalid) = (format!("{field}.run"), SpecErrorCode::InvalidStep);
                self.text(&field, &run, COMMAND_MAX, invalid)
            }),
            workdir: get(fields, "workdir")
                .map(|path| self.path(&format!("{field}.workdir"), &path)),
            env: get(fields, "env")
                .map(|env| self.env(&format!("{field}.env"), &env, SpecErrorCode::InvalidStep)),
        }
    }

    fn env(
        &mut self,
        field: &str,
        value: &Value,
        invalid: SpecErrorCode,
    ) -> BTreeMap<String, String> {
        let Value::Object(variables) = value else {
            self.add(invalid, field, "must be an object of text values");
            return BTreeMap::new();
        };
        let mut env = BTreeMap::new();
        let mut size = 0;
        for (name, value) in variables {
            let wrong = match value {
                _ if name.is_empty() || name.contains(['=', '\0']) => {
                    Some("is not a name of a variable")
                }
                Value::String(text) if text.contains('\0') => Some("must not contain NUL"),
                Value::String(text) => {
                    size += name.len() + text.len();
                    env.insert(name.clone(), text.clone());
                    None
                }
                _ => Some("must be text"),
            };
            if let Some(message) = wrong {
                // The name is the caller's, and may be as long as the body.
                let shown: String = name.chars().take(64).collect();
                self.add(invalid, &format!("{field}.{shown}"), message);
            }
        }
        if size > ENV_MAX {
            self.too_long(field, ENV_MAX);
        }
        env
    }

    fn path(&mut self, field: &str, value: &Value) -> String {
        let path = value.as_str().unwrap_or_default();
        if !path.starts_with('/') || path.contains('\0') {
            let message = "must be an absolute path";
            self.add(SpecErrorCode::InvalidPath, field, message);
        } else if path.len() > PATH_MAX {
            let message = format!("must be at most {PATH_MAX} bytes");
            self.add(SpecErrorCode::InvalidPath, field, message);
        }
        path.to_owned()
    }

    fn artifact_paths(&mut self, value: Option<&Value>) -> Vec<String> {
        let paths = match value {
            None => return vec![DEFAULT_WORKDIR.to_owned()],
            Some(Value::Array(paths)) => paths,
            Some(_) => {
                let message = "must be a list of absolute paths";
                self.add(SpecErrorCode::InvalidPath, "artifactPaths", message);
                return Vec::new();
            }
        };
        if paths.len() > ARTIFACT_PATHS_MAX {
            let message = format!("must be at most {ARTIFACT_PATHS_MAX} paths");
            self.add(SpecErrorCode::OutOfRange, "artifactPaths", message);
            return Vec::new();
        }
        let paths = paths.iter().enumerate();
        paths
            .map(|(index, path)| self.path(&format!("artifactPaths.{index}"), path))
            .collect()
    }

    fn user(&mut self, value: Option<&Value>) -> String {
        let Some(value) = value else {
            return DEFAULT_USER.to_owned();
        };
        let user = self.text("user", value, USER_MAX, SpecErrorCode::Required);
        let is_name = |name: &str| {
            let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
            !name.is_empty() && !name.starts_with('-') && name.bytes().all(legal)
        };
        let (name, group) = match user.split_once(':') {
            Some((name, group)) => (name, Some(group)),
            None => (user.as_str(), None),
        };
        let legal = is_name(name) && group.is_none_or(is_name);
        // What is empty was named already.
        if !legal && !user.is_empty() {
            let message = "must be a user's name or number, and a group behind a colon";
            self.add(SpecErrorCode::Required, "user", message);
        }
        user
    }

    /// A command that may be missing; an empty one is.
    fn command(&mut self, field: &str, value: Option<&Value>) -> Option<String> {
        let value = value.filter(|value| value.as_str().is_none_or(|text| !text.is_empty()))?;
        Some(self.text(field, value, COMMAND_MAX, SpecErrorCode::Required))
    }

    fn text(&mut self, field: &str, value: &Value, max: usize, invalid: SpecErrorCode) -> String {
        let text = value.as_str().unwrap_or_default();
        if text.trim().is_empty() || text.contains('\0') {
            self.add(invalid, field, "must be text, not empty, without NUL");
        } else if text.len() > max {
            self.too_long(field, max);
        }
        text.to_owned()
    }

    fn too_long(&mut self, field: &str, max: usize) {
        let message = format!("must be at most {max} bytes");
        self.add(SpecErrorCode::OutOfRange, field, message);
    }
}

/// The integer a number is, held within `i64`: what is beyond it is beyond
/// every limit here too.
fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| {
        let number = value.as_f64().filter(|number| number.fract() == 0.0)?;
        // Saturates, so it stays out of range.
        Some(number as i64)
    })
}
