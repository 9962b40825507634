//! BuildSpecs as tenants send them.

#![no_main]

use emberbox_core::{BuildLimits, BuildSpec};
use libfuzzer_sys::{Corpus, fuzz_target};
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
        return Corpus::Reject;
    };
    let limits = BuildLimits::default();
    match BuildSpec::parse(&value, &limits) {
        Ok(spec) => {
            // What is shown of a spec is the same spec.
            let shown = serde_json::to_value(&spec).expect("a map with text as keys");
            assert_eq!(BuildSpec::parse(&shown, &limits), Ok(spec));
        }
        Err(errors) => assert!(!errors.is_empty()),
    }
    Corpus::Keep
});
