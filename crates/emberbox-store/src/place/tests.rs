use super::slugify;

#[test]
fn names_become_labels() {
    assert_eq!(slugify("Dr. Smith Clinic"), "dr-smith-clinic");
    assert_eq!(slugify("  a  "), "a");
    assert_eq!(slugify(&"x".repeat(100)).len(), 63);
    assert_eq!(slugify("日本"), slugify("日本"));
    assert_ne!(slugify("日本"), slugify("中国"));
}
