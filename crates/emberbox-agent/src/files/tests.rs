use std::os::unix::fs::symlink;

use emberbox_guest::client::ClientError;
use nix::sys::stat::Mode;

use super::*;
use crate::testing::{Guest, eventually, refusal};

async fn write(guest: &Guest, spec: WriteSpec, content: &[u8]) -> Result<u64, ClientError> {
    let mut writer = guest.client.write_file(spec).await?;
    writer.write(content.to_vec().into()).await?;
    writer.finish().await
}

fn spec(path: &str) -> WriteSpec {
    WriteSpec {
        path: path.into(),
        mode: None,
        limit: 1 << 30,
    }
}

async fn read(guest: &Guest, path: &str) -> Result<Vec<u8>, ClientError> {
    let mut reader = guest.client.read_file(path).await?;
    let mut all = Vec::new();
    while let Some(data) = reader.next().await? {
        all.extend_from_slice(&data);
    }
    Ok(all)
}

fn names(path: &str) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn bytes_come_back_as_they_went() {
    let guest = Guest::claimed().await;
    for size in [0, 1, FILE_CHUNK - 1, FILE_CHUNK, FILE_CHUNK + 1, 3_000_000] {
        let content: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        let path = guest.path(&format!("made/for/{size}"));
        assert_eq!(
            write(&guest, spec(&path), &content).await.unwrap(),
            size as u64
        );
        assert!(
            read(&guest, &path).await.unwrap() == content,
            "{size} bytes differ"
        );
        let stat = guest.client.stat(&path).await.unwrap();
        assert_eq!(
            (stat.kind, stat.size, stat.mode),
            (FileKind::File, size as u64, 0o644)
        );
    }
    let parent = guest.client.stat(&guest.path("made/for")).await.unwrap();
    assert_eq!((parent.kind, parent.mode), (FileKind::Directory, 0o755));
}

#[tokio::test]
async fn an_existing_file_keeps_its_mode_and_its_links() {
    let guest = Guest::claimed().await;
    let (file, link, dangling) = (
        guest.path("file"),
        guest.path("link"),
        guest.path("dangling"),
    );
    fs::write(&file, "old").unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o750)).unwrap();
    symlink("file", &link).unwrap();
    symlink("new", &dangling).unwrap();
    write(&guest, spec(&link), b"new content").await.unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read(&file).unwrap(), b"new content");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o750);
    write(&guest, spec(&dangling), b"x").await.unwrap();
    assert_eq!(fs::read(guest.path("new")).unwrap(), b"x");
    let executable = WriteSpec {
        mode: Some(0o755),
        ..spec(&file)
    };
    write(&guest, executable, b"#!").await.unwrap();
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o755);
}

#[tokio::test]
async fn a_file_over_its_limit_leaves_nothing_and_the_connection_in_step() {
    let guest = Guest::claimed().await;
    let directory = guest.path("kept");
    fs::create_dir(&directory).unwrap();
    fs::write(format!("{directory}/file"), "old").unwrap();
    for path in [format!("{directory}/file"), format!("{directory}/a/b/file")] {
        let limited = WriteSpec {
            limit: 100_000,
            ..spec(&path)
        };
        let result = write(&guest, limited, &vec![0; 100_001]).await;
        assert_eq!(refusal(result), GuestErrorCode::TooLarge);
    }
    assert_eq!(names(&directory), ["file"]);
    assert_eq!(fs::read(format!("{directory}/file")).unwrap(), b"old");
    let exact = WriteSpec {
        limit: 3,
        ..spec(&format!("{directory}/file"))
    };
    assert_eq!(write(&guest, exact, b"new").await.unwrap(), 3);
}

#[tokio::test]
async fn a_file_that_stops_half_way_leaves_nothing() {
    let guest = Guest::claimed().await;
    let directory = guest.path("half");
    let mut writer = guest
        .client
        .write_file(spec(&format!("{directory}/a/file")))
        .await
        .unwrap();
    writer.write(vec![1; 200_000].into()).await.unwrap();
    assert_eq!(names(&format!("{directory}/a")).len(), 1);
    drop(writer);
    eventually("nothing is left", || async {
        !Path::new(&directory).exists()
    })
    .await;
}

#[tokio::test]
async fn bad_paths_are_refused_by_their_reason() {
    use GuestErrorCode::{InvalidPath, IsADirectory, NotADirectory, NotFound, Unsupported};
    let guest = Guest::claimed().await;
    let (file, directory) = (guest.path("file"), guest.path("directory"));
    let (fifo, dangling, looped) = (
        guest.path("fifo"),
        guest.path("dangling"),
        guest.path("loop"),
    );
    fs::write(&file, "x").unwrap();
    fs::create_dir(&directory).unwrap();
    nix::unistd::mkfifo(fifo.as_str(), Mode::S_IRWXU).unwrap();
    symlink("nowhere", &dangling).unwrap();
    symlink(&looped, &looped).unwrap();
    let long_name = format!("/{}", "x".repeat(300));
    let long_path = "/x".repeat(3000);
    let (below, slash) = (format!("{file}/below"), format!("{directory}/"));
    let missing = guest.path("missing");
    // path, read, write, list, stat
    let table = [
        (
            "",
            Some(InvalidPath),
            Some(InvalidPath),
            Some(InvalidPath),
            Some(InvalidPath),
        ),
        (
            "relative",
            Some(InvalidPath),
            Some(InvalidPath),
            Some(InvalidPath),
            Some(InvalidPath),
        ),
        (
            "/a\0b",
            Some(InvalidPath),
            Some(InvalidPath),
            Some(InvalidPath),
            Some(InvalidPath),
        ),
        (
            &*long_name,
            Some(InvalidPath),
            Some(InvalidPath),
            Some(InvalidPath),
            Some(InvalidPath),
        ),
        (
            &*long_path,
            Some(InvalidPath),
            Some(InvalidPath),
            Some(InvalidPath),
            Some(InvalidPath),
        ),
        (
            &*looped,
            Some(InvalidPath),
            Some(InvalidPath),
            Some(InvalidPath),
            Some(InvalidPath),
        ),
        (
            &*below,
            Some(NotADirectory),
            Some(NotADirectory),
            Some(NotADirectory),
            Some(NotADirectory),
        ),
        (
            &*directory,
            Some(IsADirectory),
            Some(IsADirectory),
            None,
            None,
        ),
        (&*slash, Some(IsADirectory), Some(IsADirectory), None, None),
        ("/", Some(IsADirectory), Some(IsADirectory), None, None),
        (
            &*fifo,
            Some(Unsupported),
            Some(Unsupported),
            Some(NotADirectory),
            None,
        ),
        (
            "/dev/zero",
            Some(Unsupported),
            Some(Unsupported),
            Some(NotADirectory),
            None,
        ),
        (
            &*dangling,
            Some(NotFound),
            None,
            Some(NotFound),
            Some(NotFound),
        ),
        (
            &*missing,
            Some(NotFound),
            None,
            Some(NotFound),
            Some(NotFound),
        ),
        (&*file, None, None, Some(NotADirectory), None),
    ];
    for (path, on_read, on_write, on_list, on_stat) in table {
        let listing = ListSpec {
            path: path.into(),
            depth: 1,
            limit: 5,
        };
        expect(path, "stat", guest.client.stat(path).await, on_stat);
        expect(path, "list", guest.client.list(listing).await, on_list);
        expect(path, "read", read(&guest, path).await, on_read);
        expect(
            path,
            "write",
            write(&guest, spec(path), b"x").await,
            on_write,
        );
        if matches!(path, p if p == dangling || p == missing) {
            let made = if path == dangling {
                guest.path("nowhere")
            } else {
                missing.clone()
            };
            fs::remove_file(made).unwrap();
        }
    }
    let left = names(guest.root.path().to_str().unwrap());
    assert_eq!(
        left,
        ["dangling", "directory", "etc", "fifo", "file", "loop"]
    );
}

fn expect<T: std::fmt::Debug>(
    path: &str,
    call: &str,
    result: Result<T, ClientError>,
    expected: Option<GuestErrorCode>,
) {
    match (result, expected) {
        (Ok(_), None) => {}
        (Err(ClientError::Guest(error)), Some(code)) => {
            assert_eq!(error.code, code, "{call} {path:?}: {error}");
        }
        (other, expected) => panic!("{call} {path:?}: {other:?}, expected {expected:?}"),
    }
}

#[test]
fn overlapping_drafts_share_the_directories_they_made() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name).to_str().unwrap().to_owned();
    let draft = |name: &str| draft::Draft::create(&spec(&path(name))).unwrap();

    let (maker, other) = (draft("new/deep/one"), draft("new/deep/two"));
    drop(maker);
    assert_eq!(names(&path("")), ["new"]);
    drop(other);
    assert!(names(&path("")).is_empty(), "the last to fail left them");

    let (maker, other) = (draft("new/deep/one"), draft("new/deep/two"));
    other.commit().unwrap();
    drop(maker);
    assert_eq!(names(&path("new/deep")), ["two"]);
    fs::remove_file(path("new/deep/two")).unwrap();
    drop(draft("new/deep/three"));
    assert_eq!(names(&path("new")), ["deep"], "a kept directory was taken");
}

#[tokio::test]
async fn files_without_a_size_are_read_whole() {
    let guest = Guest::claimed().await;
    let content = read(&guest, "/proc/self/status").await.unwrap();
    assert!(content.starts_with(b"Name:"));
    let big = read(&guest, "/proc/self/smaps").await.unwrap();
    assert!(
        big.ends_with(b"\n") && big.len() > 16 * 1024,
        "{} bytes",
        big.len()
    );
}

#[tokio::test]
async fn a_listing_is_sorted_bounded_and_follows_no_link() {
    let guest = Guest::claimed().await;
    let top = guest.path("top");
    fs::create_dir_all(format!("{top}/b/deep/deeper")).unwrap();
    for file in ["c", "a", "b/one"] {
        fs::write(format!("{top}/{file}"), "x").unwrap();
    }
    symlink("/", format!("{top}/root")).unwrap();
    let list = async |depth, limit| {
        let spec = ListSpec {
            path: top.clone(),
            depth,
            limit,
        };
        let (entries, truncated) = guest.client.list(spec).await.unwrap();
        let names: Vec<_> = entries
            .iter()
            .map(|entry| {
                entry
                    .stat
                    .path
                    .strip_prefix(&format!("{top}/"))
                    .unwrap()
                    .to_owned()
            })
            .collect();
        (names.join(" "), truncated)
    };
    assert_eq!(list(1, 100).await, ("a b c root".into(), false));
    assert_eq!(
        list(2, 100).await,
        ("a b b/deep b/one c root".into(), false)
    );
    assert_eq!(
        list(u32::MAX, u32::MAX).await,
        ("a b b/deep b/deep/deeper b/one c root".into(), false)
    );
    assert_eq!(list(1, 4).await, ("a b c root".into(), false));
    assert_eq!(list(1, 2).await, ("a b".into(), true));
    assert_eq!(list(2, 3).await, ("a b b/deep".into(), true));
    assert_eq!(list(1, 0).await, (String::new(), true));
    let spec = ListSpec {
        path: top.clone(),
        depth: 1,
        limit: 10,
    };
    let (entries, _) = guest.client.list(spec).await.unwrap();
    assert_eq!(entries[3].stat.kind, FileKind::Symlink);
    assert_eq!(entries[1].stat.kind, FileKind::Directory);
}

#[tokio::test]
async fn a_large_directory_comes_in_many_frames() {
    let guest = Guest::claimed().await;
    let directory = guest.path("large");
    fs::create_dir(&directory).unwrap();
    for n in 0..1000 {
        fs::write(format!("{directory}/{n:04}"), "").unwrap();
    }
    let spec = ListSpec {
        path: directory,
        depth: 1,
        limit: 1000,
    };
    let (entries, truncated) = guest.client.list(spec).await.unwrap();
    assert!(!truncated);
    let expected: Vec<_> = (0..1000).map(|n| format!("{n:04}")).collect();
    assert_eq!(
        entries
            .into_iter()
            .map(|entry| entry.name)
            .collect::<Vec<_>>(),
        expected
    );
}

#[tokio::test]
async fn sync_is_done() {
    Guest::claimed().await.client.sync().await.unwrap();
}
