//! The published schema of a BuildSpec: a JSON Schema, and the same as a table
//! for clients that show it to people.

use emberbox_core::build_spec::{
    ARTIFACT_PATHS_MAX, COMMAND_MAX, DEFAULT_USER, DEFAULT_WORKDIR, FROM_MAX, PATH_MAX, STEPS_MAX,
    USER_MAX, VERSION,
};
use emberbox_core::{BuildLimits, Shape, SpecErrorCode};
use serde_json::{Map, Value, json};

/// The schema within these limits.
pub(super) fn build_spec(limits: &BuildLimits) -> Value {
    let properties = properties(limits);
    let fields = properties.as_object().into_iter().flatten();
    let fields: Map<_, _> = fields
        .map(|(name, schema)| {
            let field = json!({
                "type": schema["type"],
                "required": name == "from",
                "default": schema["default"],
                "description": schema["description"],
            });
            (name.clone(), field)
        })
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "BuildSpec",
        "version": VERSION,
        "type": "object",
        "required": ["from"],
        "properties": properties,
        "fields": fields,
        "error_codes": SpecErrorCode::ALL.map(SpecErrorCode::as_str),
    })
}

fn properties(limits: &BuildLimits) -> Value {
    let variables = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    let path = json!({ "type": "string", "pattern": "^/", "maxLength": PATH_MAX });
    let command = json!({ "type": "string", "minLength": 1, "maxLength": COMMAND_MAX });
    let with = |base: &Value, more: Value| {
        let mut schema = base.clone();
        if let (Some(schema), Value::Object(more)) = (schema.as_object_mut(), more) {
            schema.extend(more);
        }
        schema
    };
    let integer = |(min, max): (u32, u32), default: u32, description: &str| {
        json!({
            "type": "integer", "minimum": min, "maximum": max, "default": default,
            "description": description,
        })
    };
    let shape = Shape::DEFAULT;
    json!({
        "from": {
            "type": "string", "minLength": 1, "maxLength": FROM_MAX,
            "description": "OCI base image, or another template of yours. Debian and Ubuntu \
                            bases are recommended; Alpine, distroless, BusyBox and scratch are \
                            refused.",
        },
        "vcpu": integer((1, limits.max_vcpus), shape.vcpus, "vCPUs of its sandboxes."),
        "memoryMib": integer(
            (Shape::MIN_MEMORY_MIB, limits.max_memory_mib),
            shape.memory_mib,
            "Memory of its sandboxes in MiB.",
        ),
        "diskMib": integer(
            (Shape::MIN_DISK_MIB, limits.max_disk_mib),
            shape.disk_mib,
            "Root disk of its sandboxes in MiB.",
        ),
        "steps": {
            "type": "array", "maxItems": STEPS_MAX, "default": [],
            "description": "Ordered build steps. Each may define run, workdir or env; workdir \
                            and env hold for its own run and for later steps.",
            "items": {
                "type": "object", "minProperties": 1, "additionalProperties": false,
                "properties": { "run": command, "workdir": path, "env": variables },
            },
        },
        "env": with(&variables, json!({
            "default": {}, "description": "Variables of the steps and of its sandboxes.",
        })),
        "workdir": with(&path, json!({
            "default": DEFAULT_WORKDIR,
            "description": "Where the steps begin and the app runs.",
        })),
        "user": {
            "type": "string", "minLength": 1, "maxLength": USER_MAX, "default": DEFAULT_USER,
            "description": "Who runs the steps and the app.",
        },
        "startCmd": with(&command, json!({
            "description": "Long-running command used by template/start.",
        })),
        "readyCmd": with(&command, json!({
            "description": "Exits with 0 when the started app is ready.",
        })),
        "previewPort": {
            "type": "integer", "minimum": 1, "maximum": 65535,
            "description": "Where the app listens: the port of expose and template/start.",
        },
        "artifactPaths": {
            "type": "array", "maxItems": ARTIFACT_PATHS_MAX, "default": [DEFAULT_WORKDIR],
            "items": path, "description": "Paths that the artifact manifest names.",
        },
    })
}
