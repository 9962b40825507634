use std::cell::Cell;

use super::*;

const TENANT: &str = "tnt_00000000000000000000000000";

fn domains(kept: &mut Kept) -> &mut HashMap<TenantId, Option<String>> {
    &mut kept.preview_domains
}

fn callers(kept: &mut Kept) -> &mut HashMap<Vec<u8>, Caller> {
    &mut kept.callers
}

/// Reads what a counter says under a key of its own.
async fn read(fresh: &Fresh, reads: &Cell<u32>) -> u32 {
    let read = async {
        reads.set(reads.get() + 1);
        Ok(Some(Some(reads.get().to_string())))
    };
    let key = TENANT.parse().unwrap();
    let known = fresh.or_read(domains, key, read).await.unwrap();
    known.unwrap().unwrap().parse().unwrap()
}

#[tokio::test]
async fn what_was_read_is_told_until_a_write_begins() {
    let (fresh, reads) = (Fresh::default(), Cell::new(0));
    assert_eq!(read(&fresh, &reads).await, 1);
    assert_eq!(read(&fresh, &reads).await, 1);
    fresh.write_begins();
    // Beside a write everything is read, and nothing is kept.
    assert_eq!(read(&fresh, &reads).await, 2);
    assert_eq!(read(&fresh, &reads).await, 3);
    fresh.writes_are_over();
    assert_eq!(read(&fresh, &reads).await, 4);
    assert_eq!(read(&fresh, &reads).await, 4);
    fresh.writes_are_over();
    assert_eq!(read(&fresh, &reads).await, 4);
}

#[tokio::test]
async fn what_a_write_overtook_is_not_kept() {
    let fresh = Fresh::default();
    let key: TenantId = TENANT.parse().unwrap();
    let overtaken = async {
        fresh.write_begins();
        fresh.writes_are_over();
        Ok(Some(Some("old".to_owned())))
    };
    let told = fresh
        .or_read(domains, key.clone(), overtaken)
        .await
        .unwrap();
    assert_eq!(told, Some(Some("old".to_owned())));
    let now = async { Ok(Some(Some("new".to_owned()))) };
    let told = fresh.or_read(domains, key, now).await.unwrap();
    assert_eq!(told, Some(Some("new".to_owned())));
}

#[tokio::test]
async fn nothing_is_told_for_long() {
    let (fresh, reads) = (Fresh::default(), Cell::new(0));
    assert_eq!(read(&fresh, &reads).await, 1);
    fresh.kept.lock().unwrap().as_mut().unwrap().since -= AGE;
    assert_eq!(read(&fresh, &reads).await, 2);
}

#[tokio::test]
async fn what_is_not_there_is_looked_for_again() {
    let fresh = Fresh::default();
    for _twice in 0..2 {
        let looked = Cell::new(false);
        let nothing = async {
            looked.set(true);
            Ok(None)
        };
        assert_eq!(
            fresh.or_read(callers, vec![1], nothing).await.unwrap(),
            None
        );
        assert!(looked.get());
    }
}
