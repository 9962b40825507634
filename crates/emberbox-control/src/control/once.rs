//! Requests that happen once, however often they are sent.
//!
//! ```text
//! key ─▶ waits for who sent it before ─▶ answered? told the same
//!                                     └▶ no: done, its answer kept
//! ```
//!
//! What a crash leaves: a request that made something names it (its
//! transaction wrote that), and its repeat goes on from there; one that made
//! nothing happens again.

use std::sync::Arc;

use emberbox_api::ErrorCode;
use emberbox_store::{Answer, OnceRequest, Recalled};
use serde_json::json;

use super::Control;
use crate::Failure;

/// Largest answer that is kept. What is larger is output of a command, which
/// is a stream's or a file's business.
const ANSWER_MAX: usize = 1024 * 1024;

impl Control {
    /// Answers a request: with `work`, which is told what the request made
    /// before, if the server ended over it; or with what was answered before.
    /// A refusal of which nothing is left is not kept. Once begun it goes on
    /// without the caller.
    pub(crate) async fn answer_once<W>(
        self: &Arc<Self>,
        request: OnceRequest,
        work: impl FnOnce(Option<String>) -> W + Send + 'static,
    ) -> Result<Answer, Failure>
    where
        W: Future<Output = Result<Answer, Failure>> + Send,
    {
        let turn = self.answering.begin_next(&request.key).await;
        let control = Arc::clone(self);
        self.finish(async move {
            let _until_it_is_kept = turn;
            let made = match control.store.recall(&request).await? {
                Recalled::Nothing => None,
                Recalled::OtherBody => return Err(key_reused()),
                Recalled::Made(id) => Some(id),
                Recalled::Answered { made, answer } => {
                    return if answer.body.is_some() {
                        Ok(answer)
                    } else {
                        Err(answer_lost(made.as_deref()))
                    };
                }
            };
            let done = work(made).await;
            control.keep(&request, &done).await;
            done
        })
        .await
    }

    /// Keeps what came of a request.
    async fn keep(&self, request: &OnceRequest, done: &Result<Answer, Failure>) {
        let keeping = async {
            let answer = match done {
                Ok(answer) => answer.clone(),
                // It left something: a repeat must not make another.
                Err(failure) if self.made_something(request).await? => failure.as_answer(),
                Err(_refusal) => return Ok(()),
            };
            let answer = Answer {
                body: answer.body.filter(|body| body.len() <= ANSWER_MAX),
                ..answer
            };
            Ok::<_, Failure>(self.store.keep_answer(request, &answer).await?)
        };
        if let Err(failure) = keeping.await {
            let error = failure.chain();
            tracing::error!(
                error,
                "an answer could not be kept; a repeat may happen again"
            );
        }
    }

    async fn made_something(&self, request: &OnceRequest) -> Result<bool, Failure> {
        let recalled = self.store.recall(request).await?;
        Ok(matches!(recalled, Recalled::Made(_)))
    }
}

/// The key came with another body before.
pub(super) fn key_reused() -> Failure {
    Failure::new(
        ErrorCode::IdempotencyKeyReused,
        "the Idempotency-Key came with another body before",
    )
}

/// The request was carried out, or may have been.
pub(crate) fn answer_lost(made: Option<&str>) -> Failure {
    let failure = Failure::new(
        ErrorCode::IdempotencyAnswerLost,
        "the first request with this Idempotency-Key has happened, and its answer is not kept",
    );
    match made {
        Some(id) => failure.with_details(json!({ "made": id })),
        None => failure,
    }
}
