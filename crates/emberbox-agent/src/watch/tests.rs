use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use emberbox_guest::client::WatchCall;
use emberbox_guest::watch::{WATCHED_DIRECTORIES, WATCHERS};
use emberbox_guest::{ChangeKind, FileChange, WriteSpec};
use tokio::time::timeout;

use super::*;
use crate::testing::{Guest, PATIENCE, refusal};

/// A guest, a directory of its own, and what happens in it.
struct Scene {
    guest: Guest,
    top: PathBuf,
}

impl Scene {
    async fn new() -> Self {
        let guest = Guest::claimed().await;
        let top = PathBuf::from(guest.path("watched"));
        fs::create_dir(&top).unwrap();
        Self { guest, top }
    }

    async fn watch(&self, recursive: bool) -> Seen {
        let spec = spec(&self.top, recursive);
        Seen {
            call: self.guest.client.watch(spec).await.unwrap(),
            top: self.top.clone(),
            waiting: Vec::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.top.join(name)
    }
}

fn spec(path: &Path, recursive: bool) -> WatchSpec {
    WatchSpec {
        path: path.to_str().unwrap().to_owned(),
        recursive,
    }
}

/// What is told, with paths below the top as text.
struct Seen {
    call: WatchCall,
    top: PathBuf,
    waiting: Vec<WatchEvent>,
}

impl Seen {
    async fn event(&mut self) -> Option<WatchEvent> {
        while self.waiting.is_empty() {
            let next = timeout(PATIENCE, self.call.next());
            self.waiting = next.await.expect("news in time").unwrap()?;
        }
        Some(self.waiting.remove(0))
    }

    async fn change(&mut self) -> FileChange {
        match self.event().await {
            Some(WatchEvent::Changed(change)) => change,
            other => panic!("expected a change, got {other:?}"),
        }
    }

    async fn next(&mut self) -> String {
        let change = self.change().await;
        self.text(&change)
    }

    fn text(&self, change: &FileChange) -> String {
        let below = |path: &str| {
            let path = Path::new(path).strip_prefix(&self.top).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let path = below(&change.path);
        match &change.kind {
            ChangeKind::Created => format!("+{path}"),
            ChangeKind::Modified => format!("~{path}"),
            ChangeKind::Deleted => format!("-{path}"),
            ChangeKind::Renamed { from } => format!("{}>{path}", below(from)),
        }
    }

    /// Everything up to the creation of a file named `end`, which the caller
    /// has made last.
    async fn until(&mut self, end: &str) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            let next = self.next().await;
            if next == format!("+{end}") {
                return seen;
            }
            seen.push(next);
        }
    }
}

#[tokio::test]
async fn a_files_life_is_told_in_order() {
    let scene = Scene::new().await;
    let mut seen = scene.watch(true).await;
    let file = scene.path("file");
    let mut open = File::create(&file).unwrap();
    assert_eq!(seen.next().await, "+file");
    open.write_all(b"12345").unwrap();
    let modified = seen.change().await;
    assert_eq!(seen.text(&modified), "~file");
    assert_eq!((modified.size, modified.is_dir), (Some(5), false));
    fs::rename(&file, scene.path("moved")).unwrap();
    assert_eq!(seen.next().await, "file>moved");
    fs::remove_file(scene.path("moved")).unwrap();
    let deleted = seen.change().await;
    assert_eq!(seen.text(&deleted), "-moved");
    assert_eq!(deleted.size, None);
}

#[tokio::test]
async fn what_is_below_counts_only_if_it_was_asked_for() {
    let scene = Scene::new().await;
    fs::create_dir_all(scene.path("old/deep")).unwrap();
    let mut all = scene.watch(true).await;
    let mut top = scene.watch(false).await;
    File::create(scene.path("old/deep/file")).unwrap();
    fs::create_dir(scene.path("new")).unwrap();
    assert_eq!(top.next().await, "+new");
    assert_eq!(all.next().await, "+old/deep/file");
    let new = all.change().await;
    assert_eq!((all.text(&new), new.is_dir), ("+new".to_owned(), true));
    // Directories made later are watched as well.
    File::create(scene.path("new/file")).unwrap();
    assert_eq!(all.next().await, "+new/file");
    File::create(scene.path("end")).unwrap();
    assert!(top.until("end").await.is_empty());
}

#[tokio::test]
async fn a_tree_made_at_once_is_told_whole_and_once() {
    let scene = Scene::new().await;
    let mut seen = scene.watch(true).await;
    let mut expected = BTreeSet::new();
    for directory in ["a", "a/b", "a/b/c", "a/b/c/d"] {
        fs::create_dir(scene.path(directory)).unwrap();
        expected.insert(format!("+{directory}"));
        for number in 0..20 {
            let file = format!("{directory}/{number}");
            File::create(scene.path(&file)).unwrap();
            expected.insert(format!("+{file}"));
        }
    }
    File::create(scene.path("end")).unwrap();
    let told = seen.until("end").await;
    let unique: BTreeSet<_> = told.iter().cloned().collect();
    assert_eq!(unique, expected);
    assert_eq!(told.len(), expected.len(), "told twice");
}

#[tokio::test]
async fn directories_are_moved_within_in_and_out() {
    let scene = Scene::new().await;
    let outside = PathBuf::from(scene.guest.path("outside"));
    fs::create_dir_all(scene.path("from/deep")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("inside"), "x").unwrap();
    let mut seen = scene.watch(true).await;

    fs::rename(scene.path("from"), scene.path("to")).unwrap();
    assert_eq!(seen.next().await, "from>to");
    // What is below has its new path from now on.
    File::create(scene.path("to/deep/file")).unwrap();
    assert_eq!(seen.next().await, "+to/deep/file");

    fs::rename(&outside, scene.path("came")).unwrap();
    assert_eq!(seen.next().await, "+came");
    assert_eq!(seen.next().await, "+came/inside");
    File::create(scene.path("came/later")).unwrap();
    assert_eq!(seen.next().await, "+came/later");

    fs::rename(scene.path("to"), &outside).unwrap();
    let left = seen.change().await;
    assert_eq!((seen.text(&left), left.is_dir), ("-to".to_owned(), true));
    // And is watched no more, whatever happens there.
    File::create(outside.join("deep/unseen")).unwrap();
    File::create(scene.path("end")).unwrap();
    assert!(seen.until("end").await.is_empty());
}

#[tokio::test]
async fn an_upload_is_told_once_it_stands() {
    let scene = Scene::new().await;
    let mut seen = scene.watch(true).await;
    let write = WriteSpec {
        path: scene.path("file").to_str().unwrap().to_owned(),
        mode: None,
        limit: 100,
    };
    let mut writer = scene.guest.client.write_file(write).await.unwrap();
    writer.write(b"content".to_vec().into()).await.unwrap();
    writer.finish().await.unwrap();
    let created = seen.change().await;
    assert_eq!(
        (seen.text(&created), created.size),
        ("+file".to_owned(), Some(7))
    );
    File::create(scene.path("end")).unwrap();
    assert!(seen.until("end").await.is_empty());
}

#[tokio::test]
async fn links_are_told_and_not_followed() {
    let scene = Scene::new().await;
    let outside = PathBuf::from(scene.guest.path("outside"));
    fs::create_dir(&outside).unwrap();
    let mut seen = scene.watch(true).await;
    std::os::unix::fs::symlink(&outside, scene.path("link")).unwrap();
    let link = seen.change().await;
    assert_eq!((seen.text(&link), link.is_dir), ("+link".to_owned(), false));
    File::create(outside.join("unseen")).unwrap();
    File::create(scene.path("end")).unwrap();
    assert!(seen.until("end").await.is_empty());
}

#[tokio::test]
async fn the_end_of_the_directory_is_the_end() {
    for end in ["removed", "moved"] {
        let scene = Scene::new().await;
        let mut seen = scene.watch(true).await;
        match end {
            "removed" => fs::remove_dir(&scene.top).unwrap(),
            _ => fs::rename(&scene.top, scene.guest.path("elsewhere")).unwrap(),
        }
        assert_eq!(seen.next().await, "-", "{end}");
        assert_eq!(seen.event().await, None, "{end}");
        // The connection is free for the next call.
        scene.guest.client.ping().await.unwrap();
    }
}

#[tokio::test]
async fn what_cannot_be_told_is_told_as_missing() {
    let scene = Scene::new().await;
    let queued = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let queued: usize = queued.trim().parse().unwrap();
    let mut seen = scene.watch(true).await;
    // The test has the only thread: nobody reads meanwhile. Two files, as
    // repeated events of one are one event.
    let open = |name: &str| {
        let path = scene.path(name);
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .unwrap()
    };
    let mut files = [open("a"), open("b")];
    for number in 0..queued + 100 {
        files[number % 2].write_all(b"x").unwrap();
    }
    fs::create_dir(scene.path("unseen")).unwrap();
    while seen.event().await != Some(WatchEvent::Overflow) {}
    // From here on everything is seen again, also in what nobody told of.
    File::create(scene.path("unseen/file")).unwrap();
    while seen.next().await != "+unseen/file" {}
}

#[tokio::test]
async fn what_cannot_be_watched_is_refused() {
    let scene = Scene::new().await;
    File::create(scene.path("file")).unwrap();
    for (path, code) in [
        ("relative", GuestErrorCode::InvalidPath),
        ("", GuestErrorCode::InvalidPath),
        (
            scene.path("nothing").to_str().unwrap(),
            GuestErrorCode::NotFound,
        ),
        (
            scene.path("file").to_str().unwrap(),
            GuestErrorCode::NotADirectory,
        ),
    ] {
        let spec = WatchSpec {
            path: path.to_owned(),
            recursive: true,
        };
        let refused = scene.guest.client.watch(spec).await.map(drop);
        assert_eq!(refusal(refused), code, "{path:?}");
    }
    let mut held = Vec::new();
    for _ in 0..WATCHERS {
        held.push(scene.watch(true).await);
    }
    let one_more = || async {
        let spec = spec(&scene.top, true);
        scene.guest.client.watch(spec).await
    };
    let refused = one_more().await.map(drop);
    assert_eq!(refusal(refused), GuestErrorCode::LimitReached);
    // Whoever goes away makes room.
    held.pop();
    crate::testing::eventually("a free place", || async { one_more().await.is_ok() }).await;
}

#[tokio::test]
async fn a_tree_with_too_many_directories_is_refused_whole_and_taken_flat() {
    let scene = Scene::new().await;
    for number in 0..=WATCHED_DIRECTORIES {
        fs::create_dir(scene.path(&number.to_string())).unwrap();
    }
    let refused = scene.guest.client.watch(spec(&scene.top, true)).await;
    assert_eq!(refusal(refused.map(drop)), GuestErrorCode::LimitReached);
    let mut seen = scene.watch(false).await;
    File::create(scene.path("file")).unwrap();
    assert_eq!(seen.next().await, "+file");
}
