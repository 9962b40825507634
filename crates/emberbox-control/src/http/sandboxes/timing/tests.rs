use super::*;

#[test]
fn every_step_is_told_in_its_order() {
    let timing = Timing {
        how: "prepared",
        steps: vec![
            ("intent", Duration::from_micros(512)),
            ("claim", Duration::from_millis(2)),
        ],
    };
    let (read, total) = (Duration::from_micros(90), Duration::from_millis(3));
    let [(name, value)] = header(read, Some(&timing), total);
    assert_eq!(name, "server-timing");
    assert_eq!(
        value,
        "read;dur=0.090, intent;dur=0.512, claim;dur=2.000, how;desc=\"prepared\", \
         total;dur=3.000"
    );
    let [(_, value)] = header(read, None, total);
    assert_eq!(value, "read;dur=0.090, total;dur=3.000");
}
