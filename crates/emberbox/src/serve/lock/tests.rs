use super::*;

#[test]
fn a_directory_is_made_private_and_taken_once() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("a/b");
    let first = DataDir::open(&path).unwrap();
    assert_eq!(first.path(), path);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);

    let second = DataDir::open(&path).unwrap_err();
    assert!(matches!(second, DataDirError::InUse(_)), "{second}");
    assert!(second.to_string().contains("a/b"), "{second}");

    drop(first);
    DataDir::open(&path).unwrap();
}

#[test]
fn a_file_in_its_place_is_an_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = DataDir::open(file.path()).unwrap_err();
    assert!(matches!(error, DataDirError::Open { .. }), "{error}");
}
