use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;

use super::*;

#[tokio::test]
async fn a_full_disk_is_told_from_other_failures() {
    let mut database = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    let filled = "PRAGMA max_page_count = 1; CREATE TABLE t (a)";
    let full = sqlx::raw_sql(filled).execute(&mut database).await;
    assert!(StoreError::from(full.unwrap_err()).is_disk_full());
    let wrong = sqlx::raw_sql("SELECT nothing").execute(&mut database).await;
    assert!(!StoreError::from(wrong.unwrap_err()).is_disk_full());
    assert!(!StoreError::NotBootstrapped.is_disk_full());
}
