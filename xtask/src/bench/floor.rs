//! The program that restores by hand: the same engine, seed and VM without
//! jail, cgroup, HTTP, database and claim.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::build;
use crate::setup::Product;

/// It, waiting to be asked.
pub(super) struct Floor {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Floor {
    /// Starts it with a directory that is made for it.
    pub(super) fn start(product: &Product, data_dir: &Path) -> Result<Self> {
        let program = build::example("emberbox-host", "floor")?;
        fs::create_dir(data_dir).context("cannot make a directory")?;
        let mut child = Command::new(program)
            .arg(data_dir)
            .args(product.engine.arguments())
            .env("EMBERBOX_HOME", &product.home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the floor's program")?;
        let ask = child.stdin.take();
        let answers = child.stdout.take();
        Ok(Self {
            child,
            ask: ask.context("no pipe to the floor's program")?,
            answers: BufReader::new(answers.context("no pipe from the floor's program")?),
        })
    }

    /// One restore to the guest's first answer, in milliseconds.
    pub(super) fn once(&mut self) -> Result<f64> {
        writeln!(self.ask).context("the floor's program is gone")?;
        let mut line = String::new();
        self.answers
            .read_line(&mut line)
            .context("the floor's program is gone")?;
        let microseconds: f64 = line.trim().parse().context("the floor's program failed")?;
        Ok(microseconds / 1000.0)
    }

    /// Ends it.
    pub(super) fn stop(mut self) -> Result<()> {
        drop(self.ask);
        let status = self
            .child
            .wait()
            .context("cannot wait for the floor's program")?;
        ensure!(status.success(), "the floor's program ended with {status}");
        Ok(())
    }
}
