use super::*;
use crate::testing::{Guest, identity};

#[tokio::test]
async fn the_later_variable_wins_and_nothing_else_is_there() {
    let guest =
        Guest::with_template_env("# comment\nTEMPLATE=1\nHOME=/template\n=bad\nbad\n").await;
    let claim = emberbox_guest::Identity {
        env: vec![
            ("TEMPLATE".into(), "2".into()),
            ("OWN".into(), "a=b\nc".into()),
        ],
        ..identity()
    };
    guest.client.claim(claim).await.unwrap();
    let spec = emberbox_guest::ExecSpec {
        command: "env -0".into(),
        cwd: "/".into(),
        env: vec![("LANG".into(), "C".into())],
        timeout_ms: 20_000,
        stdin: false,
    };
    let output = guest.client.exec(spec).await.unwrap();
    let output = output.collect(1 << 20).await.unwrap();
    let text = String::from_utf8(output.stdout.to_vec()).unwrap();
    let mut variables: Vec<_> = text
        .split_terminator('\0')
        // The shell's own.
        .filter(|variable| {
            !["PWD=", "SHLVL=", "_="]
                .iter()
                .any(|own| variable.starts_with(own))
        })
        .collect();
    variables.sort_unstable();
    let expected = [
        "HOME=/template",
        "LANG=C",
        "LOGNAME=root",
        "OWN=a=b\nc",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "SHELL=/bin/bash",
        "TEMPLATE=2",
        "TERM=dumb",
        "USER=root",
    ];
    assert_eq!(variables, expected);
}

#[test]
fn impossible_variables_are_refused_without_their_value() {
    let environment = Environment(BTreeMap::new());
    let pair = |name: &str, value: &str| [(name.to_owned(), value.to_owned())];
    for name in ["", "=", "A=B", "A\0B"] {
        assert_eq!(
            environment.with(&pair(name, "v")),
            Err(EnvironmentError::Name)
        );
    }
    let error = environment.with(&pair("KEY", "secret\0")).unwrap_err();
    assert_eq!(error, EnvironmentError::Value("KEY".into()));
    assert!(!error.to_string().contains("secret"));
}

#[test]
fn a_built_templates_variables_win_and_may_have_lines() {
    let root = tempfile::TempDir::new().unwrap();
    let dir = root.path().join("etc/emberbox");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("env"), "A=base\nB=base\n").unwrap();
    std::fs::write(dir.join("template.env"), "A=two\nlines\0#C=kept\0").unwrap();
    let system = System::new(root.path(), crate::Machine::Shared).unwrap();
    let all = Environment::of_template(&system).with(&[]).unwrap();
    for variable in ["A=two\nlines", "B=base", "#C=kept"] {
        let variable = CString::new(variable).unwrap();
        assert!(all.contains(&variable), "{variable:?}");
    }
}
