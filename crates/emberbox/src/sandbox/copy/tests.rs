use super::*;

fn remote(id: &str, path: &str) -> Place {
    Place::Remote {
        id: id.to_owned(),
        path: path.to_owned(),
    }
}

#[test]
fn places_are_told_apart() {
    assert_eq!("-".parse(), Ok(Place::Standard));
    assert_eq!("sbx_1:/a b".parse(), Ok(remote("sbx_1", "/a b")));
    assert_eq!("sbx_1:/a:b".parse(), Ok(remote("sbx_1", "/a:b")));
    assert_eq!("a/b".parse(), Ok(Place::Local("a/b".into())));
    assert_eq!("./sbx_1:/a".parse(), Ok(Place::Local("./sbx_1:/a".into())));
    assert_eq!(":/a".parse(), Ok(Place::Local(":/a".into())));
    assert!("sbx_1:a".parse::<Place>().is_err());
    assert!("sbx_1:".parse::<Place>().is_err());
    assert!("".parse::<Place>().is_err());
}

#[test]
fn ls_looks_in_the_workspace_unless_told() {
    let of = |text: &str| Place::directory(text).unwrap();
    assert_eq!(of("sbx_1"), ("sbx_1".to_owned(), "/workspace".to_owned()));
    assert_eq!(of("sbx_1:/tmp"), ("sbx_1".to_owned(), "/tmp".to_owned()));
    assert!(Place::directory("sbx_1:tmp").is_err());
    assert!(Place::directory("./sbx_1:/tmp").is_err());
}

#[test]
fn a_directory_as_target_keeps_the_name() {
    let named = |path: &str, name| named_after(path.to_owned(), name).ok();
    let name = Some(OsStr::new("x.py"));
    assert_eq!(named("/workspace/", name).unwrap(), "/workspace/x.py");
    assert_eq!(named("/workspace/y.py", name).unwrap(), "/workspace/y.py");
    assert_eq!(named("/workspace/", None), None);
}

#[test]
fn a_download_into_a_directory_never_leaves_it() {
    assert_eq!(base_name("/a/b").unwrap(), "b");
    for path in ["/", "/a/", "/a/..", "/a/."] {
        assert!(base_name(path).is_err(), "{path}");
    }
}
