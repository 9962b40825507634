use serde_json::json;

use super::*;

fn notes(imported: &Imported) -> Vec<usize> {
    imported.notes.iter().map(|note| note.line).collect()
}

#[test]
fn the_common_subset_becomes_a_spec() {
    let imported = import(
        r#"# syntax=docker/dockerfile:1
ARG VERSION=22
FROM node:${VERSION}-bookworm
ENV NODE_ENV=production GREETING="hello there"
RUN corepack enable && \
    # not for the shell
    pnpm --version
WORKDIR /workspace
WORKDIR app
RUN ["npm", "install", "a b"]
EXPOSE 3000/tcp
HEALTHCHECK --interval=5s CMD curl -f http://127.0.0.1:3000
CMD ["node", "server.js"]
"#,
    )
    .unwrap();
    assert_eq!(
        imported.spec,
        json!({
            "from": "node:22-bookworm",
            "steps": [
                {"env": {"NODE_ENV": "production"}},
                {"env": {"GREETING": "hello there"}},
                {"workdir": "/"},
                {"run": "corepack enable && \\\n    pnpm --version"},
                {"workdir": "/workspace"},
                {"workdir": "/workspace/app"},
                {"run": "npm install 'a b'"}
            ],
            "env": {"NODE_ENV": "production", "GREETING": "hello there"},
            "workdir": "/workspace/app",
            "startCmd": "node server.js",
            "readyCmd": "curl -f http://127.0.0.1:3000",
            "previewPort": 3000
        })
    );
    assert_eq!(imported.notes, []);
    let limits = emberbox_core::BuildLimits::default();
    emberbox_core::BuildSpec::parse(&imported.spec, &limits).unwrap();
}

#[test]
fn what_has_no_place_is_named_with_its_line() {
    let imported = import(
        "FROM golang:1.22 AS build\nRUN go build\nFROM debian:bookworm\nCOPY --from=build /a /a\n\
         RUN --mount=type=cache,target=/x apt-get update\nLABEL a=b\nVOLUME /data\n\
         EXPOSE 80 443\nUSER app\nWORKDIR $HOME/x\nENTRYPOINT [\"/a\"]\nCMD [\"--serve\"]\n",
    )
    .unwrap();
    assert_eq!(notes(&imported), [1, 4, 5, 6, 7, 8, 9, 10]);
    let spec = &imported.spec;
    assert_eq!(
        (&spec["from"], &spec["startCmd"]),
        (&json!("debian:bookworm"), &json!("/a --serve"))
    );
    assert_eq!(spec["previewPort"], 80);
    assert!(spec.get("user").is_none(), "{spec}");
    assert_eq!(spec["steps"][1], json!({"run": "apt-get update"}));
}

#[test]
fn one_user_from_the_beginning_is_the_specs() {
    let imported = import("FROM debian\nUSER app:staff\nRUN <<EOF\nset -e\nmake\nEOF\n").unwrap();
    assert_eq!(imported.notes, []);
    assert_eq!(imported.spec["user"], "app:staff");
    assert_eq!(imported.spec["workdir"], "/");
    assert_eq!(imported.spec["steps"][1]["run"], "set -e\nmake\n");
}

#[test]
fn variables_are_written_in_both_ways() {
    let of = |text| pairs(text);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        of("A=1 B='x y' C=\"q\\\"r\""),
        [pair("A", "1"), pair("B", "x y"), pair("C", "q\"r")]
    );
    assert_eq!(of("PATH /a:/b c"), [pair("PATH", "/a:/b c")]);
    assert_eq!(of("A=\\\n  B=2"), [pair("A", ""), pair("B", "2")]);
}

#[test]
fn what_is_no_dockerfile_is_refused() {
    assert!(import("").is_err());
    assert!(import("RUN make\n").is_err());
    assert!(import("FROM\n").is_err());
}
