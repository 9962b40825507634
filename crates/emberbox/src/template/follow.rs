//! Following a build to its end, over a server that ends in the middle.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use emberbox_api::client::{Client, ClientError};
use emberbox_api::{BuildEvent, TemplateBuild};
use emberbox_image::Progress;
use tokio::time::sleep;

use crate::interrupt::or_interrupted;
use crate::output;
use crate::progress::Steps;

/// How often a server that does not answer is asked again, and how long after
/// each time: long enough for a restart.
const TRIES: u32 = 60;
const PAUSE: Duration = Duration::from_secs(1);

/// Characters of a step's command that are shown: one may write whole files.
const COMMAND_SHOWN: usize = 100;

/// Shows what happens in a build until it is over; fails if it did not become
/// ready. Ctrl-C leaves it to go on.
pub(super) async fn to_the_end(client: &Client, id: &str) -> Result<ExitCode> {
    or_interrupted(async {
        watch(client, id).await?;
        let build = client.get_build(id).await?;
        show(&build)?;
        Ok(if build.image_id.is_some() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    })
    .await
}

async fn watch(client: &Client, id: &str) -> Result<()> {
    let steps = Steps::new();
    let (mut seen, mut tries) = (None, 0);
    loop {
        match follow(client, id, &mut seen, &steps).await {
            Ok(true) => return Ok(()),
            Err(error) if error.code().is_some() || tries == TRIES => return Err(error.into()),
            Ok(false) | Err(_) => tries += 1,
        }
        sleep(PAUSE).await;
    }
}

/// Whether the build is over; `seen` is the last event there was.
async fn follow(
    client: &Client,
    id: &str,
    seen: &mut Option<i64>,
    steps: &Steps,
) -> Result<bool, ClientError> {
    let mut events = client.follow_build(id, *seen).await?;
    let mut over = false;
    while let Some(event) = events.next().await? {
        *seen = Some(event.id);
        over = matches!(event.event.as_str(), "ready" | "failed" | "cancelled");
        match event.event.as_str() {
            "log" | "log_cut" => steps.say(&shown(&event)),
            _ if over => {}
            _ => steps.step(&shown(&event)),
        }
    }
    Ok(over)
}

/// An event on a line.
pub(super) fn shown(event: &BuildEvent) -> String {
    let step = event
        .step
        .map_or(String::new(), |step| format!("[{}] ", step + 1));
    let text = match event.event.as_str() {
        "log" => event.line.clone().unwrap_or_default(),
        "step" => {
            let cached = if event.cached == Some(true) {
                " (cached)"
            } else {
                ""
            };
            let command = event.command.as_deref().unwrap_or_default();
            format!("{}{cached}", beginning(command))
        }
        state => match (&event.error_code, &event.message) {
            (Some(code), Some(message)) => format!("{state}: {message} ({code})"),
            (None, Some(message)) => format!("{state}: {message}"),
            (_, None) => state.to_owned(),
        },
    };
    output::on_one_line(&format!("{step}{text}"))
}

/// As much of a command as fits on a line of a terminal.
fn beginning(command: &str) -> String {
    let shown: String = command.chars().take(COMMAND_SHOWN).collect();
    let more = if shown.len() < command.len() {
        "…"
    } else {
        ""
    };
    shown + more
}

fn show(build: &TemplateBuild) -> Result<()> {
    let took = build.duration_ms.map(|ms| {
        let seconds = Duration::from_millis(ms.unsigned_abs()).as_secs_f64();
        format!("{seconds:.1} s")
    });
    let error = build.error_message.as_ref().map(|message| {
        let code = build.error_code.as_deref().unwrap_or_default();
        output::on_one_line(&format!("{message} ({code})"))
    });
    output::fields(&[
        ("build", Some(build.id.as_str())),
        ("state", Some(&build.state)),
        ("image", build.image_id.as_deref()),
        ("error", error.as_deref()),
        ("took", took.as_deref()),
    ])
}
