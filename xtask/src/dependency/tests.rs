use super::*;

const TEXT: &str = "\
# Architecture

## Who may depend on whom

Text.

| crate | uses |
|---|---|
| `a` | nothing |
| `b` | `a` |
| `c` | `a`, `b` |

| `not` | `this` |
";

fn table(rows: &[(&str, &[&str])]) -> Table {
    rows.iter()
        .map(|(name, uses)| {
            let uses = uses.iter().map(|&name| name.to_owned()).collect();
            ((*name).to_owned(), uses)
        })
        .collect()
}

#[test]
fn the_table_under_the_heading_is_read() {
    let expected = table(&[("a", &[]), ("b", &["a"]), ("c", &["a", "b"])]);
    assert_eq!(parse(TEXT).unwrap(), expected);
}

#[test]
fn a_text_without_table_is_refused() {
    assert!(parse("# Architecture").is_err());
    assert!(parse("## Who may depend on whom\n\nNobody.").is_err());
}

#[test]
fn every_kind_of_difference_is_named() {
    let written = table(&[("a", &[]), ("b", &["a"]), ("gone", &[])]);
    let actual = table(&[("a", &["b"]), ("b", &[]), ("new", &[])]);
    assert_eq!(
        differences(&written, &actual),
        [
            "a uses b, which the table does not allow",
            "b does not use a, though the table says so",
            "new is not in the table",
            "the table names gone, which is no crate",
        ]
    );
    assert!(differences(&actual, &actual).is_empty());
}

#[test]
fn test_only_dependencies_are_free() {
    let metadata: Metadata = serde_json::from_str(
        r#"{"packages":[{"name":"a","dependencies":[
            {"name":"serde","kind":null},
            {"name":"b","kind":null,"path":"/b"},
            {"name":"c","kind":"dev","path":"/c"},
            {"name":"d","kind":"build","path":"/d"}]}]}"#,
    )
    .unwrap();
    assert_eq!(actual(&metadata), table(&[("a", &["b", "d"])]));
}
