use super::*;

const QUERY: [u8; 17] = [
    0xab, 0xcd, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1,
];

#[test]
fn only_queries_are_relayed() {
    assert!(is_query(&QUERY));
    assert!(!is_query(&QUERY[..11]));
    assert!(!is_query(&server_failure(&QUERY)));
}

#[test]
fn an_answer_must_carry_the_query_s_id() {
    let answer = server_failure(&QUERY);
    assert!(is_answer_to(&answer, &QUERY));
    assert!(!is_answer_to(&QUERY, &QUERY));
    let mut other = answer.clone();
    other[0] ^= 1;
    assert!(!is_answer_to(&other, &QUERY));
    assert!(!is_answer_to(&[], &QUERY));
}

#[test]
fn a_failure_keeps_the_question_and_says_servfail() {
    let answer = server_failure(&QUERY);
    assert_eq!(answer[3] & 0x0f, 2);
    assert_eq!(answer[4..], QUERY[4..]);
}

#[test]
fn resolv_conf_gives_up_to_three_resolvers() {
    let text = "# nameserver 9.9.9.9\nsearch a b\nnameserver 10.0.0.1\nnameserver fd00::1\n\
                nameserver nonsense\nnameserver 10.0.0.2 # x\nnameserver 10.0.0.3\n";
    let found = upstream::parse(text);
    let found: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found, ["10.0.0.1:53", "[fd00::1]:53", "10.0.0.2:53"]);
}

#[test]
fn without_resolvers_the_host_itself_is_asked() {
    let found = upstream::parse("search example.com\n");
    assert_eq!(
        found.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["127.0.0.1:53"]
    );
}
