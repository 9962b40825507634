//! Where figures were taken.

use std::fmt;
use std::fs;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::setup::{self, Product};

/// The machine and the engine on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Machine {
    engine: Engine,
    processor: String,
    cpus: usize,
    memory_bytes: u64,
    kernel: String,
}

/// What is read of the doctor's word on the engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Engine {
    #[serde(default)]
    name: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    accelerator: String,
}

impl Machine {
    /// This one.
    pub(super) fn here(product: &Product) -> Result<Self> {
        let doctor = setup::doctor_json(&product.binary, &product.engine)?;
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").context("cannot read /proc/cpuinfo")?;
        let processor = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name"));
        Ok(Self {
            engine: Engine::deserialize(&doctor["engine"])
                .context("the doctor does not say which engine")?,
            processor: processor
                .unwrap_or("unknown")
                .trim_start_matches([' ', '\t', ':'])
                .to_owned(),
            cpus: std::thread::available_parallelism()?.get(),
            memory_bytes: doctor["memory"]["total_bytes"].as_u64().unwrap_or(0),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?
                .trim()
                .to_owned(),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            engine,
            processor,
            cpus,
            memory_bytes,
            kernel,
        } = self;
        let Engine {
            name,
            version,
            accelerator,
        } = engine;
        let gib = *memory_bytes as f64 / f64::from(1 << 30);
        write!(
            f,
            "{name} {version} ({accelerator}), {cpus} CPUs of {processor}, {gib:.0} GiB, Linux {kernel}"
        )
    }
}

#[cfg(test)]
impl Machine {
    /// One that no figure was taken on.
    pub(super) fn sample() -> Self {
        Self {
            engine: Engine {
                name: "qemu".to_owned(),
                version: "7.2.22".to_owned(),
                accelerator: "tcg".to_owned(),
            },
            processor: "AMD EPYC".to_owned(),
            cpus: 2,
            memory_bytes: 24 << 30,
            kernel: "6.18.0".to_owned(),
        }
    }
}
