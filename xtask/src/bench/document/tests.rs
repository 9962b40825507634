use super::super::sample;
use super::*;

const BEFORE: &str = "\
# Performance

<!-- begin bench targets -->
<!-- end bench targets -->

Prose before.

<!-- begin bench create -->
old figures
<!-- end bench create -->

Prose after.
";

#[test]
fn figures_are_replaced_and_prose_stays() {
    let report = sample::report();
    let after = with_figures(BEFORE, std::slice::from_ref(&report)).expect("a document");
    assert!(!after.contains("old figures"), "{after}");
    let (head, rest) = after
        .split_once("Prose before.")
        .expect("prose before the figures");
    assert!(head.contains("| answered | ≥ 50 | 49, missed |"), "{head}");
    let (figures, _) = rest.split_once("Prose after.").expect("prose after them");
    assert!(figures.contains(&markdown::report(&report)), "{figures}");
    assert!(figures.contains("](img/create-ms.svg)"), "{figures}");
    let again = with_figures(&after, &[report]).expect("a document");
    assert_eq!(again, after, "writing twice changes something");
}

#[test]
fn a_bench_without_a_place_gets_one_at_the_end() {
    let mut report = sample::report();
    report.bench = "files".to_owned();
    let after = with_figures(BEFORE, std::slice::from_ref(&report)).expect("a document");
    let (_, section) = after
        .split_once("Prose after.\n\n## `cargo xtask bench files`\n")
        .expect("a section at the end");
    assert!(section.contains(&markdown::report(&report)), "{section}");
    let again = with_figures(&after, &[report]).expect("a document");
    assert_eq!(again, after, "writing twice changes something");
}

#[test]
fn half_a_place_is_refused() {
    let report = [sample::report()];
    for (cut, complaint) in [
        ("<!-- end bench create -->\n", "without its end"),
        ("<!-- begin bench create -->\n", "without its begin"),
    ] {
        let error = with_figures(&BEFORE.replace(cut, ""), &report).expect_err(cut);
        assert!(error.to_string().contains(complaint), "{error}");
    }
}
