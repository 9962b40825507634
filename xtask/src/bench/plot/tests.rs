use super::super::sample;
use super::*;

#[test]
fn what_has_a_median_is_plotted_by_unit_and_so_are_curves() {
    let report = sample::report();
    let plots = of(&report);
    let files: Vec<_> = plots.iter().map(|plot| plot.file.as_str()).collect();
    assert_eq!(files, ["create-ms.svg", "create-first-command.svg"]);
    let medians = plots[0].svg().expect("a plot");
    assert!(medians.starts_with("<svg"), "{medians}");
    assert!(
        medians.contains("restore by hand (floor): 210.0 ms"),
        "{medians}"
    );
    assert!(medians.contains("create: 231.0 ms"), "{medians}");
    let curves = plots[1].svg().expect("a plot");
    assert!(curves.contains("at once"), "{curves}");
    assert!(curves.contains("polyline"), "{curves}");
}

#[test]
fn units_and_titles_make_names_of_files() {
    assert_eq!(slug("MB/s"), "mb-per-s");
    assert_eq!(slug("/s"), "per-s");
    assert_eq!(
        slug("First command, 5 % trimmed"),
        "first-command-5-trimmed"
    );
}
