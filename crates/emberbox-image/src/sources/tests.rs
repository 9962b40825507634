use std::fs;

use super::*;

fn bookworm() -> Distribution {
    Distribution {
        id: "debian".to_owned(),
        codename: "bookworm".to_owned(),
    }
}

#[test]
fn os_release_is_read_with_and_without_quotes() {
    let text = "NAME=\"Debian GNU/Linux\"\nID=debian\nVERSION_CODENAME=\"bookworm\"\n";
    assert_eq!(Distribution::parse(text).unwrap(), bookworm());
    let error = Distribution::parse("ID=arch\n").unwrap_err();
    assert!(error.to_string().contains("VERSION_CODENAME"), "{error}");
}

#[test]
fn only_the_release_and_its_updates_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let parts = dir.path().join("sources.list.d");
    fs::create_dir(&parts).unwrap();
    fs::write(
        dir.path().join("sources.list"),
        "# deb http://old.test/debian bookworm main\n\
         deb-src http://mirror.test/debian bookworm main\n\
         deb [arch=amd64 signed-by=/k.gpg] http://mirror.test/debian bookworm main contrib # x\n\
         deb http://mirror.test/debian bookworm-backports main\n",
    )
    .unwrap();
    fs::write(
        parts.join("security.sources"),
        "Types: deb deb-src\nURIs: http://mirror.test/security\n# a comment\n\
         Suites: bookworm-security trixie\nComponents: main\n\
         Signed-By:\n -----BEGIN-----\n .\n abc\n\n\
         Types: deb\nURIs: http://off.test/\nSuites: bookworm\nComponents: main\nEnabled: no\n",
    )
    .unwrap();
    fs::write(
        parts.join("node.sources"),
        "Types: deb\nURIs: https://node.test/\nSuites: nodistro\nComponents: main\n",
    )
    .unwrap();
    fs::write(
        parts.join("old.list.save"),
        "deb http://saved.test/ bookworm main\n",
    )
    .unwrap();

    let found = of_dir(dir.path(), &bookworm()).unwrap();
    assert_eq!(
        to_deb822(&found),
        "Types: deb\nURIs: http://mirror.test/debian\nSuites: bookworm\n\
         Components: main contrib\nArchitectures: amd64\nSigned-By: /k.gpg\n\n\
         Types: deb\nURIs: http://mirror.test/security\nSuites: bookworm-security\n\
         Components: main\nSigned-By: \n -----BEGIN-----\n .\n abc\n\n"
    );
}

#[test]
fn a_host_without_the_release_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("sources.list"),
        "deb http://mirror.test/debian bookworm-updates main\n",
    )
    .unwrap();
    let error = of_dir(dir.path(), &bookworm()).unwrap_err();
    assert!(error.to_string().contains("bookworm"), "{error}");
}
