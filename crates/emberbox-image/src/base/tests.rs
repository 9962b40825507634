use super::*;

#[test]
fn certificates_are_taken_in_a_fixed_order() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["z.crt", "a.crt", "readme.txt"] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    let found = certificates(dir.path()).unwrap();
    let files: Vec<_> = found.iter().map(|found| found.file.as_str()).collect();
    assert_eq!(files, ["a.crt", "z.crt"]);
    assert_eq!(certificates(&dir.path().join("none")).unwrap(), []);
}

#[test]
fn another_source_or_authority_is_another_layer() {
    let certificate = Certificate {
        file: "a.crt".to_owned(),
        pem: b"pem".to_vec(),
    };
    let plain = recipe("Suites: bookworm", &[]);
    assert_eq!(plain, recipe("Suites: bookworm", &[]));
    assert_ne!(plain, recipe("Suites: trixie", &[]));
    assert_ne!(plain, recipe("Suites: bookworm", &[certificate]));
}
