use super::*;

#[test]
fn every_bench_runs_without_arguments() {
    let names: Vec<_> = Bench::every()
        .expect("their own arguments suffice")
        .iter()
        .map(Bench::name)
        .collect();
    assert_eq!(names.first(), Some(&"create"));
    assert!(names.contains(&"peers"), "{names:?}");
}

#[test]
fn server_timing_is_read() {
    let timing = "parse;dur=0.1, store;dur=1.25, total;dur=2.5, how;desc=\"prepared\"";
    assert_eq!(how(timing), "prepared");
    assert_eq!(steps(timing)[1], ("store".to_owned(), 1.25));
    assert_eq!(total_of(timing).ok(), Some(2.5));
    assert!(total_of("how;desc=\"cold\"").is_err());
}

#[test]
fn what_was_written_is_read_in_the_order_of_the_benches() {
    let directory = tempfile::tempdir().expect("a directory");
    assert!(read(directory.path()).is_err());
    for bench in ["peers", "create"] {
        let mut report = sample::report();
        report.bench = bench.to_owned();
        let text = serde_json::to_string(&report).expect("JSON");
        fs::write(file(directory.path(), bench), text).expect("written");
    }
    let reports = read(directory.path()).expect("reports");
    let names: Vec<_> = reports.iter().map(|report| &report.bench).collect();
    assert_eq!(names, ["create", "peers"]);
}
