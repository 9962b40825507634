use super::*;

fn query(page: Option<&str>, page_size: Option<&str>) -> PageQuery {
    PageQuery {
        page: page.map(str::to_owned),
        page_size: page_size.map(str::to_owned),
    }
}

#[test]
fn who_asks_for_no_page_gets_everything() {
    let list: Vec<_> = (0..1000).collect();
    let all = query(None, None).of(list.clone()).unwrap();
    assert_eq!((all.data, all.page), (list, None));
}

#[test]
fn pages_follow_each_other() {
    let of = |page, page_size| query(page, page_size).of((0..45).collect::<Vec<_>>());
    let cases = [
        (None, Some("30"), 0..30),
        (Some("1"), None, 0..20),
        (Some("3"), None, 40..45),
        (Some("4"), None, 45..45),
        (Some("4294967295"), Some("100"), 45..45),
    ];
    for (page, page_size, expected) in cases {
        let found = of(page, page_size).unwrap();
        assert_eq!(
            found.data,
            expected.collect::<Vec<_>>(),
            "{page:?} {page_size:?}"
        );
        assert_eq!(found.page.unwrap().total, 45);
    }
    for (page, page_size) in [
        (Some("0"), None),
        (Some("-1"), None),
        (Some(""), None),
        (Some("4294967296"), None),
        (None, Some("101")),
        (None, Some("x")),
    ] {
        let failure = of(page, page_size).unwrap_err();
        assert_eq!(
            failure.code().as_str(),
            "VALIDATION_ERROR",
            "{page:?} {page_size:?}"
        );
    }
}
