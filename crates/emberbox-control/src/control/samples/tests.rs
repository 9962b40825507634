use std::time::Duration;

use super::*;

fn sample(vm: &VmId, ago_sec: i64, cpu_ms: u64) -> Sample {
    Sample {
        at: Timestamp::now() - SignedDuration::from_secs(ago_sec),
        vm: vm.clone(),
        resources: ResourceUse {
            cpu_time: Duration::from_millis(cpu_ms),
            ..ResourceUse::default()
        },
        network: NetworkUse::default(),
    }
}

#[test]
fn the_newest_are_kept_and_the_window_is_kept_to() {
    let (samples, sandbox, vm) = (Samples::default(), SandboxId::generate(), VmId::generate());
    for ago_sec in (0..300).rev() {
        samples.keep(&sandbox, sample(&vm, ago_sec, 0));
    }
    let hour = SignedDuration::from_hours(1);
    assert_eq!(samples.since(&sandbox, hour).len(), KEPT);
    let short = samples.since(&sandbox, SignedDuration::from_secs(10));
    assert!((9..=11).contains(&short.len()) && short.is_sorted_by_key(|sample| sample.at));
    samples.keep_only(&[sandbox.clone()].into());
    assert_eq!(samples.since(&sandbox, hour).len(), KEPT);
    samples.keep_only(&HashSet::new());
    assert!(samples.since(&sandbox, hour).is_empty());
}

#[test]
fn processor_time_is_compared_within_one_life_only() {
    let vm = VmId::generate();
    let before = sample(&vm, 10, 1000);
    let percent = sample(&vm, 0, 6000).cpu_percent_since(&before).unwrap();
    assert!((49.0..51.0).contains(&percent), "{percent}");
    assert_eq!(
        sample(&VmId::generate(), 0, 0).cpu_percent_since(&before),
        None
    );
    assert_eq!(before.cpu_percent_since(&before), None);
}
