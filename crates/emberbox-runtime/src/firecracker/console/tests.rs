use std::io::Write;
use std::time::Duration;

use emberbox_core::VmId;

use super::*;

fn place(dir: &tempfile::TempDir) -> VmPlace {
    VmPlace {
        id: VmId::generate(),
        dir: dir.path().to_owned(),
    }
}

#[tokio::test]
async fn a_guest_that_is_down_is_heard_also_in_pieces_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let place = place(&dir);
    let first = Console::open(&place).unwrap();
    let mut vmm = Console::writer(&place).unwrap();
    drop(first);
    vmm.write_all(b"[    1.0] reboot: Pow").unwrap();
    let mut again = Console::open(&place).unwrap();
    let early = tokio::time::timeout(Duration::from_millis(20), again.down()).await;
    assert!(early.is_err());
    vmm.write_all(b"er down\n").unwrap();
    tokio::time::timeout(Duration::from_secs(10), again.down())
        .await
        .unwrap();
    assert_eq!(again.text(), "[    1.0] reboot: Power down\n");
}

#[tokio::test]
async fn nobody_waits_and_nothing_grows_however_much_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let place = place(&dir);
    let mut console = Console::open(&place).unwrap();
    let mut vmm = Console::writer(&place).unwrap();
    let line = [b'x'; CHUNK];
    let full = (0..1000).find_map(|_| vmm.write(&line).err());
    assert_eq!(full.unwrap().kind(), ErrorKind::WouldBlock);
    for _ in 0..4 {
        assert!(console.text().len() <= KEPT);
        while vmm.write(&line).is_ok() {}
    }
    console.text();
    vmm.write_all(b"Firecracker exiting successfully. exit_code=0\n")
        .unwrap();
    assert!(console.ended_well());
    assert!(console.text().len() <= KEPT);
}
