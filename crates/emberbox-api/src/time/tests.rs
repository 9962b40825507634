use jiff::Timestamp;

use super::Time;

#[test]
fn always_six_digits_and_z() {
    for (nanoseconds, text) in [
        (0, "\"2026-04-25T10:00:00.000000Z\""),
        (7_000, "\"2026-04-25T10:00:00.000007Z\""),
        (123_456_789, "\"2026-04-25T10:00:00.123456Z\""),
    ] {
        let timestamp = Timestamp::new(1_777_111_200, nanoseconds).unwrap();
        assert_eq!(serde_json::to_string(&Time(timestamp)).unwrap(), text);
    }
}
