use super::*;

fn found(slug: &str, port: impl Into<Option<u16>>, domain: &str) -> Meaning {
    preview(slug, port.into(), domain)
}

#[test]
fn names_are_read() {
    let long = "a".repeat(57);
    let longest = format!("65535-{long}.sandbox.localhost");
    let too_long = format!("65535-{long}b.sandbox.localhost");
    let endless = format!("{}.sandbox.localhost", "a.".repeat(200));
    let cases = [
        ("abc.sandbox.localhost", found("abc", None, "localhost")),
        (
            "abc.sandbox.localhost:8080",
            found("abc", None, "localhost"),
        ),
        ("abc.sandbox.localhost:", found("abc", None, "localhost")),
        ("abc.sandbox.localhost.", found("abc", None, "localhost")),
        ("abc.sandbox.localhost.:80", found("abc", None, "localhost")),
        (
            "3000-abc.sandbox.localhost",
            found("abc", 3000, "localhost"),
        ),
        (
            "3000-A-B2.SANDBOX.LocalHost",
            found("a-b2", 3000, "localhost"),
        ),
        ("1-a.sandbox.localhost", found("a", 1, "localhost")),
        ("65535-a.sandbox.localhost", found("a", 65535, "localhost")),
        (&longest, found(&long, 65535, "localhost")),
        (
            "abc.sandbox.apps.example.com",
            found("abc", None, "apps.example.com"),
        ),
        (
            "80-abc.sandbox.example.com:443",
            found("abc", 80, "example.com"),
        ),
        // A slug may hold what looks like a port further in.
        (
            "a3000-b.sandbox.localhost",
            found("a3000-b", None, "localhost"),
        ),
        (
            "3000-a-4000-b.sandbox.localhost",
            found("a-4000-b", 3000, "localhost"),
        ),
        (
            "sandbox.sandbox.localhost",
            found("sandbox", None, "localhost"),
        ),
        // A legal ASCII label, whatever it spells.
        (
            "xn--bcher-kva.sandbox.localhost",
            found("xn--bcher-kva", None, "localhost"),
        ),
    ];
    for (host, meaning) in cases {
        assert_eq!(read(host, "localhost"), meaning, "{host:?}");
    }
    for host in [
        "0-abc.sandbox.localhost",
        "65536-abc.sandbox.localhost",
        "0080-abc.sandbox.localhost",
        "99999999999999999999-abc.sandbox.localhost",
        "3000.sandbox.localhost",
        "3000-.sandbox.localhost",
        "3000-4000.sandbox.localhost",
        "3000--abc.sandbox.localhost",
        "30x-abc.sandbox.localhost",
        "-abc.sandbox.localhost",
        "abc-.sandbox.localhost",
        "a_b.sandbox.localhost",
        "a b.sandbox.localhost",
        "a/b.sandbox.localhost",
        "user@abc.sandbox.localhost",
        "nested.abc.sandbox.localhost",
        ".sandbox.localhost",
        "..sandbox.localhost",
        &too_long,
    ] {
        assert_eq!(read(host, "localhost"), Meaning::Malformed, "{host:?}");
    }
    for host in [
        "",
        ".",
        ":",
        ":80",
        "localhost",
        "localhost:8080",
        "127.0.0.1:8080",
        "[::1]:8080",
        "[::1]",
        "sandbox.localhost",
        "abc.sandbox",
        "abc.sandbox.",
        "abc.sandboxes.localhost",
        "abc.xsandbox.example.com",
        "abc.sandbox.localhost:80x",
        "abc.sandbox.localhost..",
        // Found by fuzzing: no domain ends with a dot.
        "ae1fh.sandbox.sh..",
        "nested.abc.sandbox.example.com",
        "3000.sandbox.example.com",
        "bücher.sandbox.localhost",
        "abc.sandbox.localhost\u{ff0e}com",
        &endless,
    ] {
        let meaning = read(host, "localhost");
        assert!(
            matches!(&meaning, Meaning::Elsewhere)
                || matches!(&meaning, Meaning::Preview(name)
                    if name.domain != "localhost" && is_domain(&name.domain)),
            "{host:?} is {meaning:?}"
        );
    }
}

#[test]
fn a_name_reads_back() {
    for (slug, port) in [("abc", None), ("a-1", Some(1)), ("z9", Some(65535))] {
        let host = name(slug, port, "dev.example.com");
        assert_eq!(
            read(&host, "dev.example.com"),
            found(slug, port, "dev.example.com")
        );
    }
}

#[test]
fn domains_are_checked() {
    for domain in ["localhost", "example.com", "a-b.c9", "127.0.0.1.nip.io"] {
        assert!(is_domain(domain), "{domain}");
    }
    let long = "a.".repeat(120) + "a";
    for domain in [
        "", ".", "a..b", ".a", "a.", "A.b", "a b", "-a.b", "a-.b", "a:80", "é", &long,
    ] {
        assert!(!is_domain(domain), "{domain}");
    }
}
