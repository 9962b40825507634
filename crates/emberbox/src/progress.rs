//! Showing what a long build is doing.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use emberbox_image::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// How often the spinner moves: smooth to the eye, and nothing to a CPU.
const TICK: Duration = Duration::from_millis(120);

/// Steps, one after the other: a spinner with the step's name and time on a
/// terminal, a line per step elsewhere (a log, CI).
pub(crate) struct Steps {
    terminal: bool,
    current: Mutex<Option<Step>>,
}

struct Step {
    name: String,
    started: Instant,
    bar: ProgressBar,
}

impl Steps {
    pub(crate) fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            current: Mutex::default(),
        }
    }

    /// A line beside the step.
    pub(crate) fn say(&self, line: &str) {
        let current = self
            .current
            .lock()
            .expect("nothing panics while it is held");
        match &*current {
            Some(step) if self.terminal => step.bar.println(line),
            Some(_) | None => eprintln!("{line}"),
        }
    }

    fn end(&self, step: Option<Step>) {
        let Some(step) = step else { return };
        step.bar.finish_and_clear();
        let elapsed = step.started.elapsed();
        eprintln!("{:>7.1} s  {}", elapsed.as_secs_f64(), step.name);
    }

    fn replace(&self, next: Option<Step>) {
        let mut current = self
            .current
            .lock()
            .expect("nothing panics while it is held");
        let last = std::mem::replace(&mut *current, next);
        self.end(last);
    }
}

impl Progress for Steps {
    fn step(&self, name: &str) {
        self.replace(None);
        let bar = if self.terminal {
            let style = ProgressStyle::with_template("{elapsed:>9}  {spinner} {msg}")
                .expect("the template is fixed and right");
            let bar = ProgressBar::new_spinner().with_style(style);
            bar.set_message(name.to_owned());
            bar.enable_steady_tick(TICK);
            bar
        } else {
            eprintln!("       …    {name}");
            ProgressBar::hidden()
        };
        self.replace(Some(Step {
            name: name.to_owned(),
            started: Instant::now(),
            bar,
        }));
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.replace(None);
    }
}
