use super::*;

fn now() -> Timestamp {
    "2026-03-15T12:30:00Z".parse().unwrap()
}

type Pair = (&'static str, &'static str);

fn query(pairs: &[Pair]) -> UsageQuery {
    let object = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).into()));
    serde_json::from_value(serde_json::Value::Object(object.collect())).unwrap()
}

#[test]
fn periods() {
    let end = "2026-03-10T00:00:00Z";
    let cases: [(&[Pair], &str, &str); 6] = [
        (&[], "2026-03-01T00:00:00Z", "2026-03-15T12:30:00Z"),
        (
            &[("period", "7d")],
            "2026-03-08T12:30:00Z",
            "2026-03-15T12:30:00Z",
        ),
        (
            &[("period", "24h"), ("end", end)],
            "2026-03-09T00:00:00Z",
            end,
        ),
        (
            &[("period", "month-to-date"), ("period_end", end)],
            "2026-03-01T00:00:00Z",
            end,
        ),
        (
            &[("start", "2026-01-01T00:00:00Z"), ("end", end)],
            "2026-01-01T00:00:00Z",
            end,
        ),
        (&[("period_start", end), ("period_end", end)], end, end),
    ];
    for (pairs, from, until) in cases {
        let filter = query(pairs).filter(&Bounds::default(), now()).unwrap();
        assert_eq!(
            (filter.from.to_string(), filter.until.to_string()),
            (from.to_owned(), until.to_owned()),
            "{pairs:?}"
        );
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (pairs, field) in [
        ([("start", "yesterday")], "start"),
        ([("period_end", "2026")], "period_end"),
        ([("period", "0d")], "period"),
        ([("period", "99999999999d")], "period"),
        ([("period", "-1d")], "period"),
        ([("start", "2027-01-01T00:00:00Z")], "start"),
        ([("workspace_id", "w")], "workspace_id"),
        ([("sandbox_id", "x")], "sandbox_id"),
    ] {
        let failure = query(&pairs).filter(&Bounds::default(), now()).unwrap_err();
        assert!(failure.message.starts_with(field), "{pairs:?}: {failure}");
    }
    assert!(query(&[("group_by", "colour")]).grouping().is_err());
    for bad in ["0", "1001", "-1", "x", ""] {
        assert!(query(&[("limit", bad)]).limit(1).is_err(), "{bad:?}");
    }
}

#[test]
fn sums_are_rounded_up_once() {
    assert_eq!(
        [0, 1, 999, 1000, 1001].map(|ms| round_up(ms, 1000)),
        [0, 1, 1, 1, 2]
    );
}
