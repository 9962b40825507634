//! Which core does what.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Keeps this thread and all it starts on the first core there is. Whether
/// there is another one.
pub(crate) fn split() -> bool {
    let cores = cores();
    stay_on(cores[0]);
    cores.len() > 1
}

/// Moves this thread and all it starts to the last core.
pub(crate) fn move_away() {
    let count = CpuSet::count();
    let mut all = CpuSet::new();
    for core in 0..count {
        all.set(core).unwrap();
    }
    // What is not there is left out.
    sched_setaffinity(Pid::from_raw(0), &all).unwrap();
    stay_on(*cores().last().unwrap());
}

fn cores() -> Vec<usize> {
    let own = sched_getaffinity(Pid::from_raw(0)).unwrap();
    (0..CpuSet::count())
        .filter(|&core| own.is_set(core).unwrap())
        .collect()
}

fn stay_on(core: usize) {
    let mut one = CpuSet::new();
    one.set(core).unwrap();
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
}
