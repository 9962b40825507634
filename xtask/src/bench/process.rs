//! What the kernel says of processes: memory and processor time.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

/// The memory of one process, in KiB (proc_pid_smaps(5)).
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    pub(super) rss_kib: f64,
    /// What it shares counts by how many share it.
    pub(super) pss_kib: f64,
    /// What no other process has: its end would free it.
    pub(super) unique_kib: f64,
}

impl Memory {
    pub(super) fn of(pid: u32) -> Result<Self> {
        let file = format!("/proc/{pid}/smaps_rollup");
        let rollup = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
        let field = |key| number(&rollup, key).with_context(|| format!("no {key} in {file}"));
        Ok(Self {
            rss_kib: field("Rss:")?,
            pss_kib: field("Pss:")?,
            unique_kib: field("Private_Clean:")? + field("Private_Dirty:")?,
        })
    }
}

/// Forgets how much memory the process had at most (proc_pid_clear_refs(5)).
pub(super) fn forget_peak(pid: u32) -> Result<()> {
    const PEAK: &str = "5";
    fs::write(format!("/proc/{pid}/clear_refs"), PEAK).context("cannot reset the peak")
}

/// The most resident memory since [`forget_peak`], in KiB.
pub(super) fn peak_rss_kib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    number(&status, "VmHWM:").context("no VmHWM in a process's status")
}

fn number(text: &str, key: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Processor time that the process's threads have had, in milliseconds
/// (`schedstat`: nanoseconds on the processor, then waiting, then slices).
pub(super) fn processor_ms(pid: u32) -> Result<f64> {
    let mut nanoseconds = 0.0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end meanwhile.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else {
            continue;
        };
        let ran = text.split(' ').next().and_then(|text| text.parse().ok());
        nanoseconds += ran.unwrap_or(0.0);
    }
    Ok(nanoseconds / 1e6)
}

/// One VMM.
#[derive(Debug)]
pub(super) struct Vmm {
    pub(super) pid: u32,
    /// With its disk.
    pub(super) directory: PathBuf,
}

/// The VMMs of a server; one that is not started yet, or gone, is none.
pub(super) fn vmms(data_dir: &Path) -> Result<Vec<Vmm>> {
    let mut vmms = Vec::new();
    for entry in fs::read_dir(data_dir.join("vms")).context("no VM directory")? {
        let directory = entry?.path();
        let Ok(record) = fs::read(directory.join("vmm.pid")) else {
            continue;
        };
        let record: Value = serde_json::from_slice(&record).context("a VMM's record")?;
        let pid = record["pid"].as_u64().context("a VMM without a pid")?;
        let pid = u32::try_from(pid)?;
        vmms.push(Vmm { pid, directory });
    }
    Ok(vmms)
}
