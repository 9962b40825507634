use super::*;

#[test]
fn the_default_is_within_the_default_caps() {
    assert_eq!(Shape::DEFAULT.check(&Limits::default()), Ok(Shape::DEFAULT));
}

#[test]
fn every_field_out_of_range_is_named() {
    let shape = Shape {
        vcpus: 5,
        memory_mib: 8193,
        disk_mib: 63,
    };
    let errors = shape.check(&Limits::default()).unwrap_err();
    let fields: Vec<_> = errors.iter().map(|e| e.field).collect();
    assert_eq!(fields, ["cpu_count", "memory_mb", "disk_mb"]);
    assert_eq!(
        errors[0].to_string(),
        "cpu_count must be between 1 and 4, not 5"
    );
}

#[test]
fn tiers_are_known_by_name() {
    assert_eq!(
        SizeTier::from_name("small")
            .map(SizeTier::shape)
            .map(|s| s.vcpus),
        Some(2)
    );
    assert_eq!(SizeTier::from_name("Small"), None);
}
