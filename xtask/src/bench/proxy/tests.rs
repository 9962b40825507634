use super::super::report::Reached;
use super::*;

#[test]
fn what_nginx_adds_is_the_measure_unless_it_is_noise() {
    assert!(added_latency(0.08, 0.16).met());
    assert!(!added_latency(0.08, 0.17).met());
    let noise = added_latency(-0.5, -1.2);
    assert!(!noise.met());
    assert!(matches!(noise.reached, Reached::Missing(_)), "{noise:?}");
}

#[test]
fn durations_of_wrk_are_read() {
    for (text, ms) in [("812.00us", 0.812), ("1.23ms", 1.23), ("1.02s", 1020.0)] {
        let read = duration_ms(text).expect(text);
        assert!((read - ms).abs() < 1e-9, "{text} is {read}");
    }
    assert!(duration_ms("soon").is_err());
}
