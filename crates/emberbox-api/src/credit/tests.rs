use super::{decimal, micro};

#[test]
fn amounts_are_written_and_read_exactly() {
    for (amount, text) in [
        (0, "0"),
        (1, "0.000001"),
        (12_500_000, "12.5"),
        (-1_250_000, "-1.25"),
        (-1, "-0.000001"),
        (i64::MAX, "9223372036854.775807"),
    ] {
        assert_eq!(decimal(amount), text);
        assert_eq!(micro(text), Some(amount));
    }
    for bad in [
        "",
        "-",
        ".5",
        "1.",
        "1.0000001",
        "1e3",
        "+1",
        "1,5",
        "--1",
        "9223372036855",
    ] {
        assert_eq!(micro(bad), None, "{bad:?}");
    }
}
