use emberbox_guest::{ExecSpec, Token};
use tokio::io::AsyncWriteExt;

use super::*;
use crate::testing::{Guest, identity, refusal, token};

fn call(token: Token, request: Request) -> ToAgent {
    ToAgent::Call { token, request }
}

fn true_with_stdin() -> Request {
    Request::Exec(ExecSpec {
        command: "true".into(),
        cwd: "/".into(),
        timeout_ms: 20_000,
        stdin: true,
        ..ExecSpec::default()
    })
}

#[tokio::test]
async fn an_unclaimed_guest_only_answers_what_it_may() {
    let guest = Guest::unclaimed().await;
    let pong = guest.client.ping().await.unwrap();
    assert!(!pong.claimed && pong.ready_after_ns > 0);
    assert_eq!(
        refusal(guest.client.stat("/").await),
        GuestErrorCode::Unclaimed
    );
    assert_eq!(
        refusal(guest.client.sync().await),
        GuestErrorCode::Unclaimed
    );
    guest.client.claim(identity()).await.unwrap();
    assert!(guest.client.ping().await.unwrap().claimed);
    guest.client.stat("/").await.unwrap();
}

#[tokio::test]
async fn a_guest_is_claimed_once() {
    let guest = Guest::claimed().await;
    let again = guest.client.claim(identity()).await;
    assert_eq!(refusal(again), GuestErrorCode::AlreadyClaimed);
    let mut wire = guest.wire().await;
    wire.send(&call(token(), Request::PrepareSeed(None))).await;
    let Some(FromAgent::Failed(error)) = wire.answer().await else {
        panic!("a claimed guest made a seed");
    };
    assert_eq!(error.code, GuestErrorCode::AlreadyClaimed);
}

#[tokio::test]
async fn a_wrong_token_is_refused_and_hung_up_on() {
    let guest = Guest::claimed().await;
    for wrong in [Token::UNCLAIMED, Token::new([8; 32])] {
        let stranger = guest.client_with(wrong.clone());
        assert_eq!(
            refusal(stranger.stat("/").await),
            GuestErrorCode::Unauthorized
        );
        let mut wire = guest.wire().await;
        wire.send(&call(wrong, Request::Ping)).await;
        assert!(matches!(wire.answer().await, Some(FromAgent::Failed(_))));
        assert_eq!(wire.answer().await, None);
    }
}

#[tokio::test]
async fn other_variables_replace_the_old_ones() {
    let guest = Guest::claimed().await;
    let said = async |command: &str| {
        let spec = ExecSpec {
            command: command.into(),
            cwd: "/".into(),
            timeout_ms: 20_000,
            ..ExecSpec::default()
        };
        let output = guest.client.exec(spec).await.unwrap().collect(100).await;
        String::from_utf8(output.unwrap().stdout.to_vec()).unwrap()
    };
    let set = async |env: &[(&str, &str)]| {
        let env = env
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        guest.client.set_environment(env.collect()).await
    };
    set(&[("A", "1"), ("B", "2")]).await.unwrap();
    assert_eq!(said("echo $A$B").await, "12\n");
    set(&[("B", "3")]).await.unwrap();
    assert_eq!(said("echo $A$B:$HOME").await, "3:/root\n");
    assert_eq!(refusal(set(&[("B=", "4")]).await), GuestErrorCode::Protocol);
    assert_eq!(said("echo $B").await, "3\n");
    let unclaimed = Guest::unclaimed().await;
    let refused = unclaimed.client.set_environment(Vec::new()).await;
    assert_eq!(refusal(refused), GuestErrorCode::Unclaimed);
}

#[tokio::test]
async fn what_is_no_call_ends_the_connection() {
    let guest = Guest::claimed().await;
    let mut wire = guest.wire().await;
    wire.send(&ToAgent::Data("stray".into())).await;
    let Some(FromAgent::Failed(error)) = wire.answer().await else {
        panic!("stray input was taken");
    };
    assert_eq!(error.code, GuestErrorCode::Protocol);
    assert_eq!(wire.answer().await, None);
    for bytes in [&[255; 8][..], &[0, 0, 0, 1, 99], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut wire = guest.wire().await;
        wire.0.write_all(bytes).await.unwrap();
        assert_eq!(wire.answer().await, None);
    }
    guest.client.ping().await.unwrap();
}

#[tokio::test]
async fn input_that_comes_after_the_end_of_its_command_is_dropped() {
    let guest = Guest::claimed().await;
    let mut wire = guest.wire().await;
    wire.send(&call(token(), true_with_stdin())).await;
    while !matches!(wire.answer().await.unwrap(), FromAgent::Exited(_)) {}
    wire.send(&ToAgent::Data("late".into())).await;
    wire.send(&ToAgent::End).await;
    wire.send(&call(token(), Request::Ping)).await;
    assert!(matches!(wire.answer().await, Some(FromAgent::Pong(_))));
}

#[tokio::test]
async fn a_frame_in_two_halves_survives_other_events() {
    let guest = Guest::claimed().await;
    let mut wire = guest.wire().await;
    wire.send(&call(token(), true_with_stdin())).await;
    let mut ping = Vec::new();
    frame::write(&mut ping, &call(token(), Request::Ping))
        .await
        .unwrap();
    let (first, second) = ping.split_at(7);
    // While the command runs the agent reads on, and its end interrupts that.
    wire.0.write_all(first).await.unwrap();
    while !matches!(wire.answer().await.unwrap(), FromAgent::Exited(_)) {}
    wire.0.write_all(second).await.unwrap();
    assert!(matches!(wire.answer().await, Some(FromAgent::Pong(_))));
}

#[tokio::test]
async fn connections_are_bounded_but_come_back() {
    let guest = Guest::claimed().await;
    let mut held = Vec::new();
    for _ in 0..550 {
        held.push(guest.wire().await);
    }
    drop(held);
    guest.client.ping().await.unwrap();
}
