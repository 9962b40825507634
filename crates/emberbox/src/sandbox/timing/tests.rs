use super::*;

#[test]
fn a_step_is_a_line() {
    let header = "read;dur=0.090, claim;dur=12.000, how;desc=\"prepared\", total;dur=13.250";
    assert_eq!(
        text(Some(header), 14.0),
        "read            0.090 ms\n\
         claim          12.000 ms\n\
         how          prepared\n\
         total          13.250 ms\n\
         round trip     14.000 ms\n"
    );
}

#[test]
fn a_server_that_says_nothing_or_nonsense_is_no_problem() {
    for header in [None, Some(""), Some("x"), Some("x;y"), Some(", ,")] {
        assert_eq!(
            text(header, 1.5),
            "round trip      1.500 ms\n",
            "{header:?}"
        );
    }
}
