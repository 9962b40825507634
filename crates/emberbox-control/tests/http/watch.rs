//! Watching a directory, on real files.

use std::fs;

use emberbox_api::client::{DirectoryEvent, EventStream, Reach};
use emberbox_api::{FileEvent, FileEventKind};
use serde_json::json;
use tokio::time::timeout;

use crate::rig::{PATIENCE, Rig, answer};
use crate::streams::Events;

/// A rig, a sandbox, and a directory that is there.
async fn scene() -> (Rig, String) {
    let rig = Rig::new().await;
    let id = rig.sandbox().await.id.to_string();
    fs::create_dir(rig.path("top")).unwrap();
    (rig, id)
}

async fn change(events: &mut EventStream<DirectoryEvent>) -> FileEvent {
    let next = timeout(PATIENCE, events.next()).await.unwrap().unwrap();
    match next.expect("the stream goes on") {
        DirectoryEvent::Change(change) => change,
        DirectoryEvent::Error(error) => panic!("{error:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_come_as_they_happen() {
    let (rig, id) = scene().await;
    let top = rig.path("top");
    let mut events = rig.client.watch(&id, &top, Reach::Below).await.unwrap();
    // What the API itself writes is seen as well, and only once it stands.
    let content = b"12345".to_vec();
    let file = format!("{top}/sub/file");
    rig.client.upload(&id, &file, content, None).await.unwrap();
    let directory = change(&mut events).await;
    assert_eq!(directory.event, FileEventKind::Created);
    assert_eq!(
        (&directory.path, directory.is_dir),
        (&format!("{top}/sub"), true)
    );
    let created = change(&mut events).await;
    let expected = FileEvent {
        event: FileEventKind::Created,
        kind: FileEventKind::Created,
        path: file.clone(),
        is_dir: false,
        old_path: None,
        size_bytes: Some(5),
    };
    assert_eq!(created, expected);

    fs::rename(&file, format!("{top}/moved")).unwrap();
    let renamed = change(&mut events).await;
    assert_eq!(renamed.event, FileEventKind::Renamed);
    assert_eq!(renamed.path, format!("{top}/moved"));
    assert_eq!(renamed.old_path, Some(file));

    fs::remove_dir_all(&top).unwrap();
    loop {
        let last = change(&mut events).await;
        assert_eq!(last.event, FileEventKind::Deleted);
        if last.path == top {
            break;
        }
    }
    // The directory itself is gone: so is the stream.
    let end = timeout(PATIENCE, events.next()).await.unwrap().unwrap();
    assert_eq!(end, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_has_every_clients_names() {
    let (rig, id) = scene().await;
    let top = rig.path("top");
    let ticket = rig.client.create_ticket(None).await.unwrap().ticket;
    let url = format!(
        "{}/sandboxes/{id}/files/watch?path={top}&recursive=false&ticket={ticket}",
        rig.url
    );
    let mut events = Events::of(rig.http.get(url).send().await.unwrap());
    fs::create_dir(format!("{top}/sub")).unwrap();
    let created = events.next().await.unwrap();
    assert_eq!(created.name, "created");
    assert_eq!(
        created.data,
        json!({ "event": "created", "type": "created", "path": format!("{top}/sub"),
            "is_dir": true, "old_path": null, "size_bytes": null })
    );
    // Not recursive: what is below is not told.
    fs::write(format!("{top}/sub/unseen"), "").unwrap();
    fs::write(format!("{top}/seen"), "").unwrap();
    let seen = events.next().await.unwrap();
    assert_eq!(seen.data["path"], format!("{top}/seen"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_watched_is_refused_and_the_end_of_the_sandbox_is_told() {
    let (rig, id) = scene().await;
    let top = rig.path("top");
    fs::write(rig.path("file"), "").unwrap();
    let watch = |query: &str| {
        let path = format!("/sandboxes/{id}/files/watch{query}");
        answer(rig.request("GET", &path))
    };
    // Without a path it is the clients' default, which is not there.
    let (status, code, body) = watch("").await;
    assert_eq!((status, code.as_str()), (404, "FILE_NOT_FOUND"));
    assert!(
        body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("/workspace")
    );
    for (query, expected) in [
        (
            format!("?path={}", rig.path("none")),
            (404, "FILE_NOT_FOUND"),
        ),
        (
            format!("?path={}", rig.path("file")),
            (400, "NOT_A_DIRECTORY"),
        ),
        ("?path=relative".to_owned(), (422, "INVALID_PATH")),
        ("?path=%00".to_owned(), (422, "INVALID_PATH")),
        (
            format!("?path={top}&recursive=maybe"),
            (422, "VALIDATION_ERROR"),
        ),
    ] {
        let (status, code, _) = watch(&query).await;
        assert_eq!((status, code.as_str()), expected, "{query}");
    }
    let path = format!("/sandboxes/{id}/files/watch?path={top}");
    let mut events = Events::of(rig.request("GET", &path).send().await.unwrap());
    rig.client.destroy_sandbox(&id).await.unwrap();
    assert_eq!(events.next().await.unwrap().name, "error");
    assert!(events.next().await.is_none());
    let (status, code, _) = watch("").await;
    assert_eq!((status, code.as_str()), (409, "SANDBOX_NOT_RUNNING"));
}
