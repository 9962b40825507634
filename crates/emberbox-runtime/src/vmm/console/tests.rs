use super::*;

#[test]
fn a_console_tells_why_its_guest_ended() {
    let shutdown = "[    9.1] reboot: Power down\n";
    let panic = "[    3.0] Kernel panic - not syncing: sysrq triggered crash\n";
    let fatal = "emberbox-agent: FATAL: no disk\n[ 1.2] reboot: Restarting system\n";
    assert_eq!(reason(shutdown), ExitReason::GuestShutdown);
    assert_eq!(reason(""), ExitReason::GuestShutdown);
    assert_eq!(reason(panic), ExitReason::GuestPanic);
    assert_eq!(
        reason(fatal),
        ExitReason::VmmDied {
            detail: "emberbox-agent: FATAL: no disk".to_owned()
        }
    );
}

#[test]
fn only_a_kernel_that_said_its_last_is_down() {
    assert!(is_down("[    9.1] reboot: Power down\n"));
    assert!(is_down("[    9.1] reboot: System halted"));
    // These machines end by themselves.
    assert!(!is_down("[    9.1] reboot: Restarting system\n"));
    assert!(!is_down("Kernel panic - not syncing"));
}
