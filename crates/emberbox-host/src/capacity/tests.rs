use std::io::Write;
use std::process::{Command, Stdio};

use super::*;

const GIB: u64 = 1 << 30;

#[test]
fn what_is_reserved_stays_free() {
    let free = |memory, disk| Free { memory, disk };
    let vm = Needs::of_vm(Shape::DEFAULT, 0, 0);
    let snapshot = Needs {
        memory: 0,
        disk: GIB,
    };
    let endless = Needs {
        memory: u64::MAX,
        disk: 0,
    };
    for (needs, free, promised, fits) in [
        (vm, free(GIB, GIB), 0, true),
        (vm, free(GIB / 2, GIB), 0, false),
        (vm, free(GIB, GIB - 1), 0, false),
        (vm, free(GIB, GIB), GIB / 2, false),
        (vm, free(2 * GIB, GIB), GIB, true),
        (vm, free(2 * GIB, GIB), u64::MAX, false),
        (snapshot, free(0, 2 * GIB), u64::MAX, true),
        (snapshot, free(GIB, 2 * GIB - 1), 0, false),
        (endless, free(GIB, GIB), 0, false),
    ] {
        assert_eq!(
            needs.fits(free, promised),
            fits,
            "{needs:?} in {free:?}, {promised} promised"
        );
    }
}

#[test]
fn a_promise_shrinks_with_what_is_touched_and_never_below_the_first_steps() {
    let small = Shape {
        memory_mib: 256,
        ..Shape::DEFAULT
    };
    let large = Shape {
        memory_mib: 8192,
        ..Shape::DEFAULT
    };
    for (shape, touched_mib, promised_mib) in [
        (Shape::DEFAULT, 0, (1024 + 90) / 8),
        (Shape::DEFAULT, 90, 1024 / 8),
        (Shape::DEFAULT, 1024 + 90, 0),
        (Shape::DEFAULT, 4096, 0),
        (small, 0, 128),
        (small, 100, 30),
        (large, 0, (8192 + 90) / 8),
    ] {
        let promised = promise(shape, touched_mib * MIB) / MIB;
        assert_eq!(promised, promised_mib, "{shape}, {touched_mib} MiB touched");
    }
}

#[test]
fn a_machine_full_of_promises_takes_no_more() {
    let mut vms = 0;
    let free = Free {
        memory: 24 * GIB,
        disk: 2 * GIB,
    };
    while Needs::of_vm(Shape::DEFAULT, 0, 0).fits(free, vms * promise(Shape::DEFAULT, 0)) {
        vms += 1;
    }
    assert_eq!(vms, (24 * 1024 - 512) * 8 / (1024 + 90));
}

/// Of a process of its own: what other tests give back at the same moment is
/// this one's memory, too.
#[test]
fn a_process_has_touched_what_it_holds() {
    let held = vec![1_u8; 64 << 20];
    // It keeps everything until it sees the end.
    let mut holder = Command::new("tail")
        .arg(format!("--bytes={}", held.len()))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = i32::try_from(holder.id()).unwrap();
    let mut input = holder.stdin.take().unwrap();
    input.write_all(&held).unwrap();
    assert!(touched(pid) >= 60 << 20);
    drop(input);
    assert!(holder.wait().unwrap().success());
    assert_eq!(touched(i32::MAX), 0);
}
