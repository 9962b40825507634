use super::*;

fn record() -> Record {
    Record {
        vm: VmId::generate(),
        sandbox: Some(SandboxId::generate()),
        shape: Shape::DEFAULT,
        images: BootImages {
            kernel: "/k".into(),
            initramfs: "/i".into(),
            layers: vec!["/l".into()],
        },
        slot: SlotIndex(3),
        claimed: false,
    }
}

#[test]
fn a_record_is_found_again_until_it_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(dir.path()).unwrap();
    let mut record = record();
    ledger.put(&record).unwrap();
    record.claimed = true;
    ledger.put(&record).unwrap();
    assert_eq!(ledger.records().unwrap(), [record.clone()]);

    fs::create_dir(ledger.dir(&record.vm).join("jail")).unwrap();
    fs::write(ledger.dir(&record.vm).join("scratch.ext4"), "x").unwrap();
    ledger.remove(&record.vm).unwrap();
    ledger.remove(&record.vm).unwrap();
    assert_eq!(ledger.records().unwrap(), []);
    assert!(!ledger.dir(&record.vm).exists());
}

#[test]
fn a_directory_without_a_record_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(dir.path()).unwrap();
    let stray = ledger.dir(&VmId::generate());
    fs::create_dir(&stray).unwrap();
    fs::write(stray.join("record.tmp"), "{").unwrap();
    assert_eq!(ledger.records().unwrap(), []);
    assert!(!stray.exists());
}
