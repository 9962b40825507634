//! What builds templates for the tests: it does as it is told.

use std::collections::BTreeSet;
use std::sync::Mutex;

use emberbox_core::{BuildErrorCode, BuildSpec, BuildState};
use emberbox_host::{BuildEvent, BuildFailure, BuildRequest, BuiltImage};

/// The phases of a build, in their order.
pub(crate) const PHASES: [BuildState; 4] = [
    BuildState::Building,
    BuildState::Snapshotting,
    BuildState::Certifying,
    BuildState::Distributing,
];

/// What a build comes to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Script {
    /// An image.
    #[default]
    Succeed,
    /// A failure in this phase.
    Fail(BuildState, BuildErrorCode),
    /// It does not end by itself once it is in this phase.
    Hang(BuildState),
    /// The same, and it takes no notice of being cancelled before it is done.
    Stubborn(BuildState),
}

/// Builds, and the images they left.
#[derive(Default)]
pub(crate) struct Builder {
    pub(crate) script: Mutex<Script>,
    /// Lines of output of each step.
    pub(crate) lines: Mutex<u32>,
    /// Whether images have their app running.
    pub(crate) app_running: Mutex<bool>,
    /// What was asked for, in order.
    pub(crate) asked: Mutex<Vec<BuildSpec>>,
    /// Lets stubborn builds end.
    pub(crate) release: tokio::sync::Notify,
    images: Mutex<BTreeSet<String>>,
}

impl Builder {
    pub(crate) fn has_image(&self, image: &str) -> bool {
        image == "miosa-sandbox" || self.images.lock().unwrap().contains(image)
    }

    pub(crate) fn images(&self) -> Vec<String> {
        self.images.lock().unwrap().iter().cloned().collect()
    }

    pub(crate) fn remove_image(&self, image: &str) {
        self.images.lock().unwrap().remove(image);
    }

    pub(crate) fn play(&self, script: Script) {
        *self.script.lock().unwrap() = script;
    }

    /// Builds, until the server has `crashed`.
    pub(crate) async fn build(
        &self,
        request: BuildRequest,
        crashed: impl Future<Output = ()> + Send,
    ) -> Result<BuiltImage, BuildFailure> {
        let cancel = request.cancel.clone();
        tokio::select! {
            built = self.as_told(request) => built,
            () = crashed => {
                cancel.cancelled().await;
                Err(cancelled())
            }
        }
    }

    async fn as_told(&self, request: BuildRequest) -> Result<BuiltImage, BuildFailure> {
        self.asked.lock().unwrap().push(request.spec.clone());
        let script = *self.script.lock().unwrap();
        let tell = async |event| request.events.send(event).await.unwrap();
        for phase in PHASES {
            tell(BuildEvent::Entered(phase)).await;
            if phase == BuildState::Building {
                for (index, step) in (0..).zip(&request.spec.steps) {
                    let command = step.run.clone().unwrap_or_default();
                    let cached = command.contains("cached");
                    tell(BuildEvent::Step {
                        index,
                        command,
                        cached,
                    })
                    .await;
                    let lines = *self.lines.lock().unwrap();
                    for number in 0..lines {
                        let line = format!("line {number} of step {index}");
                        let step = Some(index);
                        tell(BuildEvent::Output { step, line }).await;
                    }
                }
            }
            match script {
                Script::Fail(at, code) if at == phase => {
                    let message = format!("{code} while {phase}");
                    return Err(BuildFailure { code, message });
                }
                Script::Hang(at) if at == phase => {
                    request.cancel.cancelled().await;
                    return Err(cancelled());
                }
                Script::Stubborn(at) if at == phase => self.release.notified().await,
                Script::Succeed | Script::Fail(..) | Script::Hang(_) | Script::Stubborn(_) => {}
            }
        }
        let content = serde_json::to_vec(&request.spec).unwrap();
        let image = format!(
            "built-{}",
            content.iter().map(|b| u64::from(*b)).sum::<u64>()
        );
        self.images.lock().unwrap().insert(image.clone());
        Ok(BuiltImage {
            digest: format!("sha256:{image}"),
            image,
            size_bytes: 1 << 20,
            layers: 2,
            cached_steps: 0,
            app_running: *self.app_running.lock().unwrap(),
        })
    }
}

fn cancelled() -> BuildFailure {
    BuildFailure {
        code: BuildErrorCode::BuildCancelled,
        message: "cancelled".to_owned(),
    }
}
