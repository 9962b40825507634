//! Many sandboxes alive at once: whether all of them answer, and what they
//! take of the machine.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use super::process::{self, Memory, Vmm};
use super::report::{Bound, Findings, Target};
use super::{Measure, id_of, milliseconds, served};
use crate::demo::api::Api;
use crate::demo::server::Server;
use crate::setup::Product;

/// How long idle sandboxes are watched: what they take of the processors is
/// little, and comes in bursts.
const WATCHED: Duration = Duration::from_secs(5);

/// The targets are in decimal megabytes.
const MIB_TO_MB: f64 = 1.048_576;

/// Many default sandboxes at once.
#[derive(clap::Args)]
pub(crate) struct Density {
    /// Sandboxes.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    n: u32,
}

impl Measure for Density {
    fn measure(&self, product: &Product) -> Result<Findings> {
        let n = self.n;
        let settings = format!(
            "[limits]\nmax_sandboxes = {n}\nrequests_per_minute = 0\n[pool]\nmax_prepared = 0\n"
        );
        served(product, &settings, |server| measure(server, n as usize))
    }
}

fn measure(server: &Server, n: usize) -> Result<Findings> {
    let api = server.api()?;
    let mut found = Findings::of(format!("{n} default sandboxes alive"));

    let began = Instant::now();
    let (mut ids, mut creates) = (Vec::new(), Vec::new());
    for _ in 0..n {
        let began = Instant::now();
        match api.create(&json!({ "timeout_sec": 3600 })) {
            Ok(sandbox) => ids.push(id_of(&sandbox)?.to_owned()),
            // How many there is room for is what is measured.
            Err(error) => {
                found.notes.push(format!("After {}: {error:#}", ids.len()));
                break;
            }
        }
        creates.push(milliseconds(began));
    }
    let created = began.elapsed().as_secs_f64();
    let vmms = process::vmms(&server.data_dir())?;
    ensure!(
        vmms.len() == ids.len(),
        "{} VMs run for {} sandboxes",
        vmms.len(),
        ids.len()
    );
    let idle = Weights::of(&vmms)?;
    let processors = processors(&vmms)?;

    let mut execs = Vec::new();
    for id in &ids {
        let began = Instant::now();
        match api.exec_ok(id, "true") {
            Ok(_) => execs.push(milliseconds(began)),
            Err(error) => found.notes.push(format!("{error:#}")),
        }
    }
    let began = Instant::now();
    let errors = all_answer(server, &ids)?;
    let answered_ms = milliseconds(began);
    let alive = ids.len();
    let answered = alive - errors.len();
    let used = Weights::of(&vmms)?;
    let server_mib = Memory::of(server.pid()?)?.pss_kib / 1024.0;
    let in_all = used.pss_mib.iter().sum::<f64>() + server_mib;
    for id in &ids {
        api.destroy(id)?;
    }

    found.count("created", ids.len(), n);
    found.one("the same: until the last", "s", created);
    found.spread("create to ready, one after the other", "ms", creates)?;
    found.spread("`exec true`, one after the other", "ms", execs)?;
    found.count("`exec true` in all at once: answered", answered, n);
    found.one("the same: until the last", "ms", answered_ms);
    let unique = "unique memory of an idle sandbox (USS)";
    let unique = found.spread(unique, "MiB", idle.unique_mib)?;
    let share = "memory of an idle sandbox (PSS)";
    found.spread(share, "MiB", idle.pss_mib)?;
    let after = "unique memory after two commands (USS)";
    found.spread(after, "MiB", used.unique_mib)?;
    let all = format!("memory of {alive} sandboxes and the server (PSS)");
    found.one(&all, "MiB", in_all);
    found.one("of it: the server", "MiB", server_mib);
    let idle = format!("processors that {alive} idle sandboxes take");
    found.one(idle, "", processors);
    found.notes.extend(errors);
    found.targets = vec![
        Target::new(
            format!("{n} sandboxes alive, answering exec"),
            Bound::AtLeast(n as f64),
            "",
            answered as f64,
        ),
        Target::new(all, Bound::AtMost(3000.0), "MB", in_all * MIB_TO_MB),
        Target::new(
            "unique memory of an idle sandbox (USS), p50",
            Bound::AtMost(40.0),
            "MB",
            unique.spread.p50 * MIB_TO_MB,
        ),
    ];
    Ok(found)
}

/// Of each VMM, in MiB.
struct Weights {
    unique_mib: Vec<f64>,
    pss_mib: Vec<f64>,
}

impl Weights {
    fn of(vmms: &[Vmm]) -> Result<Self> {
        let memories = vmms.iter().map(|vmm| Memory::of(vmm.pid));
        let memories = memories.collect::<Result<Vec<_>>>()?;
        let all = |of: fn(&Memory) -> f64| memories.iter().map(|one| of(one) / 1024.0).collect();
        Ok(Self {
            unique_mib: all(|memory| memory.unique_kib),
            pss_mib: all(|memory| memory.pss_kib),
        })
    }
}

/// How many processors the VMMs keep busy while nobody uses them.
fn processors(vmms: &[Vmm]) -> Result<f64> {
    let all = || -> Result<f64> { vmms.iter().map(|vmm| process::processor_ms(vmm.pid)).sum() };
    let (began, before) = (Instant::now(), all()?);
    // Not a wait for anything: the stretch is what is measured.
    thread::sleep(WATCHED);
    Ok((all()? - before) / milliseconds(began))
}

/// Runs a command in all of them at the same time; what went wrong.
fn all_answer(server: &Server, ids: &[String]) -> Result<Vec<String>> {
    let apis: Vec<Api> = ids.iter().map(|_| server.api()).collect::<Result<_>>()?;
    Ok(thread::scope(|scope| {
        let asked = ids.iter().zip(&apis);
        let asked = asked.map(|(id, api)| scope.spawn(|| api.exec_ok(id, "true")));
        let asked: Vec<_> = asked.collect();
        let answers = asked.into_iter().map(|thread| match thread.join() {
            Ok(answer) => answer.err().map(|error| format!("{error:#}")),
            Err(_panic) => Some("a client panicked".to_owned()),
        });
        answers.flatten().collect()
    }))
}
