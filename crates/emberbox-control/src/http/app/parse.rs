//! From a request to a plan, with the template's values where it has none.

use std::time::Duration;

use emberbox_api::{ErrorCode, FieldError, ReadinessProbe, StartTemplate, Template};

use crate::control::app::{AppPlan, INSTALL_TIMEOUT, Probe, Running, START_TIMEOUT};
use crate::http::files::is_legal_path;
use crate::http::port;
use crate::{Failure, catalogue};

/// Longest install, for a slow machine or a large project.
const INSTALL_MAX: Duration = Duration::from_secs(1800);

/// Longest wait for an app to answer.
const START_MAX: Duration = Duration::from_secs(600);

/// Longest command: with its wrapping well under what Linux takes as one
/// argument (`MAX_ARG_STRLEN`, 128 KiB).
const COMMAND_MAX: usize = 64 * 1024;

/// How the template's app is to be started.
pub(super) fn plan(template: &Template, body: StartTemplate) -> Result<AppPlan, Failure> {
    let port = match body.port {
        Some(asked) => Some(port::check(asked)?),
        None => template.preview_port,
    };
    let as_it_is = body.install_command.is_none()
        && body.start_command.is_none()
        && body.port.is_none()
        && body.workdir.is_none();
    let mut errors = Vec::new();
    let install = match body.install {
        Some(false) => None,
        Some(true) | None => body
            .install_command
            .or_else(|| template.install_command.clone()),
    };
    let start = body
        .start_command
        .or_else(|| catalogue::start_command(&template.id, port))
        .or_else(|| template.start_command.clone());
    let start = start.ok_or_else(|| {
        Failure::new(
            ErrorCode::MissingParam,
            format!(
                "start_command is required: the template {} has none",
                template.id
            ),
        )
    })?;
    for (field, command) in [
        ("install_command", install.as_deref()),
        ("start_command", Some(start.as_str())),
    ] {
        errors.extend(command.and_then(|text| check_command(field, text)));
    }
    let workdir = body.workdir.unwrap_or_else(|| template.workdir.clone());
    if !is_legal_path(&workdir) {
        errors.push(FieldError::new("workdir", "must be an absolute path"));
    }
    let mut seconds = |field: &str, asked: Option<i64>, default: Duration, max: Duration| {
        let asked = asked.map_or(default, |asked| {
            Duration::from_secs(u64::try_from(asked).unwrap_or(0))
        });
        if asked.is_zero() || asked > max {
            let message = format!("must be between 1 and {}", max.as_secs());
            errors.push(FieldError::new(field, message));
        }
        asked
    };
    let install_timeout = seconds(
        "install_timeout_sec",
        body.install_timeout_sec,
        INSTALL_TIMEOUT,
        INSTALL_MAX,
    );
    let start_timeout = seconds(
        "start_timeout_sec",
        body.start_timeout_sec,
        START_TIMEOUT,
        START_MAX,
    );
    let probe = match body.readiness_probe {
        Some(asked) => match probe(asked) {
            Ok(probe) => Some(probe),
            Err(error) => {
                errors.push(error);
                None
            }
        },
        None => Probe::of_template(template, port),
    };
    if !errors.is_empty() {
        return Err(Failure::invalid(&errors));
    }
    Ok(AppPlan {
        install,
        start,
        workdir,
        port,
        probe,
        install_timeout,
        start_timeout,
        user: template.user.clone(),
        running: match body.restart {
            Some(true) => Running::IsEnded,
            // Who uses one of the platform's brings files for it.
            Some(false) | None if catalogue::find(&template.id).is_some() => Running::IsStarter,
            Some(false) | None if as_it_is => Running::IsEnough,
            Some(false) | None => Running::Stays,
        },
    })
}

fn check_command(field: &str, text: &str) -> Option<FieldError> {
    let legal = !text.trim().is_empty() && text.len() <= COMMAND_MAX && !text.contains('\0');
    let message = format!("must be a command of at most {COMMAND_MAX} bytes without NUL");
    (!legal).then(|| FieldError::new(field, message))
}

fn probe(asked: ReadinessProbe) -> Result<Probe, FieldError> {
    match (asked.kind.as_str(), asked.url, asked.port, asked.command) {
        ("http", Some(url), _, _) => {
            let legal = url.starts_with("http://") || url.starts_with("https://");
            let text = legal && !url.contains(char::is_whitespace) && !url.contains('\0');
            text.then_some(Probe::Http(url)).ok_or_else(|| {
                FieldError::new(
                    "readiness_probe.url",
                    "must be an http:// or https:// address",
                )
            })
        }
        ("tcp", _, Some(port), _) => match u16::try_from(port) {
            Ok(port @ 1..) => Ok(Probe::Tcp(port)),
            Ok(0) | Err(_) => Err(FieldError::new(
                "readiness_probe.port",
                "must be between 1 and 65535",
            )),
        },
        ("command", _, _, Some(command)) => {
            match check_command("readiness_probe.command", &command) {
                None => Ok(Probe::Command(command)),
                Some(error) => Err(error),
            }
        }
        ("http" | "tcp" | "command", ..) => {
            let needed = match asked.kind.as_str() {
                "http" => "url",
                "tcp" => "port",
                _ => "command",
            };
            Err(FieldError::new(
                format!("readiness_probe.{needed}"),
                "is required",
            ))
        }
        _ => Err(FieldError::new(
            "readiness_probe.type",
            "must be http, tcp or command",
        )),
    }
}
