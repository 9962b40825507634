use emberbox_api::ErrorCode;

use super::{depth_or, file_name, path_of};

#[test]
fn urls_name_files_encoded_or_not() {
    for (url, path) in [
        (
            "/api/v1/sandboxes/x/files/workspace%2Foutput.json",
            "/workspace/output.json",
        ),
        (
            "/api/v1/sandboxes/x/files/workspace/output.json",
            "/workspace/output.json",
        ),
        ("/api/v1/sandboxes/x/files//etc/hosts", "/etc/hosts"),
        ("/api/v1/sandboxes/x/files/%2Fetc%2Fhosts", "/etc/hosts"),
        ("/api/v1/sandboxes/x/files/a/files/b", "/a/files/b"),
        ("/api/v1/sandboxes/x/files/a%20b%23%3Fc", "/a b#?c"),
        ("/api/v1/sandboxes/x/files/100%2525", "/100%25"),
        ("/api/v1/sandboxes/x/files/stat", "/stat"),
    ] {
        assert_eq!(path_of(url).unwrap(), path, "{url}");
    }
    for url in ["/s/files/a%00b", "/s/files/%ff"] {
        assert_eq!(
            path_of(url).unwrap_err().code,
            ErrorCode::InvalidPath,
            "{url}"
        );
    }
}

#[test]
fn names_of_paths() {
    assert_eq!(file_name("/a/b.txt"), "b.txt");
    assert_eq!(file_name("/a/"), "a");
    assert_eq!(file_name("/"), "/");
}

#[test]
fn depths() {
    assert_eq!(depth_or(None, 1).unwrap(), 1);
    assert_eq!(depth_or(Some("3"), 1).unwrap(), 3);
    for bad in ["0", "17", "-1", "x"] {
        assert_eq!(
            depth_or(Some(bad), 1).unwrap_err().code,
            ErrorCode::ValidationError
        );
    }
}
