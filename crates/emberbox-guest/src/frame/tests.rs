use super::*;
use crate::{ExecSpec, FromAgent, Request, ToAgent, Token};
use proptest::prelude::*;

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn a_frame_round_trips() {
    block_on(async {
        let call = ToAgent::Call {
            token: Token::new([7; 32]),
            request: Request::Exec(ExecSpec {
                command: "true".into(),
                ..ExecSpec::default()
            }),
        };
        let mut wire = Vec::new();
        write(&mut wire, &call).await.unwrap();
        let back: ToAgent = read(&mut wire.as_slice(), &mut Vec::new()).await.unwrap();
        assert_eq!(back, call);
    });
}

#[test]
fn ends_are_told_apart() {
    block_on(async {
        let mut buffer = Vec::new();
        let closed = read::<ToAgent>(&mut [].as_slice(), &mut buffer).await;
        assert!(matches!(closed, Err(FrameError::Closed)));
        let half = read::<ToAgent>(&mut [0, 0, 0, 9, 1].as_slice(), &mut buffer).await;
        assert!(matches!(half, Err(FrameError::Io(_))));
        let long = read::<ToAgent>(&mut [255; 8].as_slice(), &mut buffer).await;
        assert!(matches!(long, Err(FrameError::TooLong(_))));
    });
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut wire = (bytes.len() as u32).to_be_bytes().to_vec();
        wire.extend(&bytes);
        block_on(async {
            let _ = read::<ToAgent>(&mut wire.as_slice(), &mut Vec::new()).await;
            let _ = read::<FromAgent>(&mut wire.as_slice(), &mut Vec::new()).await;
        });
    }
}
