use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

struct Place {
    directory: tempfile::TempDir,
    store: Store,
}

impl Place {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("db")).await.unwrap();
        Self { directory, store }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("key")
    }

    async fn start(&self, start: Start) -> Result<()> {
        KeyFile::prepare(&self.file(), start)?
            .fill(&self.store)
            .await
    }

    /// Whether what the file holds opens the door.
    async fn key_works(&self) -> bool {
        let secret = fs::read_to_string(self.file()).unwrap();
        self.store
            .authenticate(secret.trim())
            .await
            .unwrap()
            .is_some()
    }
}

#[tokio::test]
async fn the_first_start_writes_a_key_that_works_and_only_root_reads() {
    let place = Place::new().await;
    place.start(Start::First).await.unwrap();
    assert!(place.key_works().await);
    let mode = fs::metadata(place.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn later_starts_leave_the_file_alone() {
    let place = Place::new().await;
    place.start(Start::First).await.unwrap();
    let key = fs::read(place.file()).unwrap();
    place.start(Start::Later).await.unwrap();
    assert_eq!(fs::read(place.file()).unwrap(), key);

    fs::remove_file(place.file()).unwrap();
    place.start(Start::Later).await.unwrap();
    assert!(!place.file().exists());
}

#[tokio::test]
async fn somebody_elses_file_is_not_overwritten() {
    let place = Place::new().await;
    fs::write(place.file(), "mine").unwrap();
    let error = place.start(Start::First).await.unwrap_err();
    assert!(error.to_string().contains("not overwritten"), "{error}");
    assert_eq!(fs::read(place.file()).unwrap(), b"mine");
}

#[tokio::test]
async fn a_key_that_a_crash_lost_is_replaced() {
    let place = Place::new().await;
    fs::write(place.file(), "").unwrap();
    let lost = place.store.bootstrap().await.unwrap().secret.unwrap();

    place.start(Start::Later).await.unwrap();
    assert!(place.key_works().await);
    let found = place
        .store
        .authenticate(lost.expose_secret())
        .await
        .unwrap();
    assert!(found.is_none(), "the lost key still works");
}

#[tokio::test]
async fn a_crash_before_the_database_changes_nothing() {
    let place = Place::new().await;
    fs::write(place.file(), "").unwrap();
    place.start(Start::First).await.unwrap();
    assert!(place.key_works().await);
}
