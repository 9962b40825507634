//! What the tests use besides the product: the official Python client in a
//! virtual environment, a browser, and the commands of the documents.

use std::process::Command;

use crate::package::Requirement;

/// Those of them that are not installed.
pub(super) fn missing() -> Vec<Requirement> {
    let has = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        output.is_ok_and(|output| output.status.success())
    };
    let needed = [
        (
            has("python3", &["-c", "import ensurepip, venv"]),
            "python3 -m venv",
            "python3-venv",
            "tests run Python clients in a virtual environment",
        ),
        (
            has("chromium", &["--version"]),
            "chromium",
            "chromium",
            "a test opens a preview in a real browser",
        ),
        (
            has("chromedriver", &["--version"]),
            "chromedriver",
            "chromium-driver",
            "a test opens a preview in a real browser",
        ),
        (
            has("docker-registry", &["--version"]),
            "docker-registry",
            "docker-registry",
            "tests pull base images from a real registry",
        ),
        (
            has("valgrind", &["--version"]),
            "valgrind",
            "valgrind",
            "a test counts the instructions of a create",
        ),
        (
            has("jq", &["--version"]),
            "jq",
            "jq",
            "tests run the commands of the documents",
        ),
        (
            has("curl", &["--version"]),
            "curl",
            "curl",
            "tests run the commands of the documents",
        ),
    ];
    let missing = needed.into_iter().filter(|(there, ..)| !there);
    missing
        .map(|(_, program, package, why)| Requirement {
            program: program.to_owned(),
            package: package.to_owned(),
            why: why.to_owned(),
        })
        .collect()
}
