//! The retries of a request: what is repeated, and after how long.

use std::time::{Duration, SystemTime};

use backoff::Backoff;
use http::{HeaderMap, Method, StatusCode, header::RETRY_AFTER};
use tokio::time::Instant;

use super::{Answer, Repeat};
use crate::{Error, content_range::decimal};

/// The wait that a `Retry-After` header asks for (RFC 9110, 10.2.3): seconds, or a date, of which
/// `now` is subtracted. `None` when it is absent or malformed; zero when the date has passed.
#[must_use]
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Some(seconds) = decimal(value) {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// Runs `attempt` until its outcome is final or the policy's time is used up.
///
/// The attempt is a closure that returns a future, not an asynchronous closure, because the
/// compiler cannot see of the latter that a caller's future may move between threads.
pub(crate) async fn run<F>(
    policy: Repeat,
    method: &Method,
    peer: &str,
    mut attempt: impl FnMut() -> F,
) -> Result<Answer, Error>
where
    F: Future<Output = Result<Answer, Error>>,
{
    let Some(budget) = policy.budget() else {
        return attempt().await;
    };
    let retries_500 = matches!(policy, Repeat::Idempotent(_));
    let is_idempotent = retries_500 || !matches!(*method, Method::POST | Method::PATCH);
    let start = Instant::now();
    let mut random = fastrand::Rng::new();
    let mut failures = 0;
    loop {
        let outcome = attempt().await;
        if !may_retry(&outcome, is_idempotent, retries_500) {
            return outcome;
        }
        let asked = outcome
            .as_ref()
            .ok()
            .and_then(|answer| retry_after(&answer.headers, SystemTime::now()))
            .unwrap_or_default();
        failures += 1;
        let delay = Backoff::default().delay(failures, &mut random).max(asked);
        if start.elapsed().saturating_add(delay) > budget {
            return outcome;
        }
        match &outcome {
            Ok(answer) => tracing::info!(
                peer,
                status = answer.status.as_u16(),
                ?delay,
                "the server is busy; retrying"
            ),
            Err(error) => tracing::info!(peer, %error, ?delay, "no answer; retrying"),
        }
        tokio::time::sleep(delay).await;
    }
}

fn may_retry(outcome: &Result<Answer, Error>, is_idempotent: bool, retries_500: bool) -> bool {
    match outcome {
        Ok(answer) => match answer.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => true,
            StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => is_idempotent,
            StatusCode::INTERNAL_SERVER_ERROR => retries_500,
            _ => false,
        },
        Err(error) => error.kind().is_transient() && (is_idempotent || !error.was_sent()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use url::Url;

    use super::*;
    use crate::Kind;

    #[allow(clippy::unnecessary_wraps, reason = "an outcome like `failure`'s")]
    fn answer(status: u16, after: Option<&str>) -> Result<Answer, Error> {
        let mut headers = HeaderMap::new();
        if let Some(after) = after {
            headers.insert(RETRY_AFTER, after.parse().unwrap());
        }
        Ok(Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body: Bytes::new(),
            url: Url::parse("http://a.example/").unwrap(),
        })
    }

    fn failure(kind: Kind) -> Result<Answer, Error> {
        Err(Error::new(kind, "test"))
    }

    /// Plays `outcomes` (the last one for ever) and returns how many tries were made in what time.
    async fn play(
        policy: Repeat,
        method: Method,
        outcomes: &[fn() -> Result<Answer, Error>],
    ) -> (usize, Duration) {
        let mut tries = 0;
        let start = Instant::now();
        let _ = run(policy, &method, "peer", || {
            let outcome = outcomes[tries.min(outcomes.len() - 1)]();
            tries += 1;
            std::future::ready(outcome)
        })
        .await;
        (tries, start.elapsed())
    }

    const MINUTE: Repeat = Repeat::Safe(Duration::from_mins(1));

    #[tokio::test(start_paused = true)]
    async fn repeats_until_an_answer_comes() {
        let outcomes: [fn() -> _; 4] = [
            || failure(Kind::Connect),
            || answer(503, None),
            || failure(Kind::Closed),
            || answer(200, None),
        ];
        let (tries, time) = play(MINUTE, Method::GET, &outcomes).await;
        assert_eq!(tries, 4);
        // Parts of 0.5, 1 and 2 s.
        assert!(
            time > Duration::ZERO && time <= Duration::from_millis(3500),
            "{time:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn time_is_bounded() {
        let (tries, time) = play(MINUTE, Method::GET, &[|| answer(503, None)]).await;
        assert!(tries >= 4, "{tries}");
        assert!(time <= Duration::from_mins(1), "{time:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_waited_for_and_bounded() {
        let outcomes: [fn() -> _; 2] = [|| answer(429, Some("30")), || answer(200, None)];
        let (tries, time) = play(MINUTE, Method::GET, &outcomes).await;
        assert_eq!((tries, time.as_secs()), (2, 30));
        let (tries, time) = play(MINUTE, Method::GET, &[|| answer(503, Some("61"))]).await;
        assert_eq!((tries, time.as_secs()), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_final_is_not_repeated() {
        let finals: [fn() -> _; 6] = [
            || answer(200, None),
            || answer(401, None),
            || answer(500, None),
            || failure(Kind::Certificate),
            || failure(Kind::Tls),
            || failure(Kind::TooLarge),
        ];
        for outcome in finals {
            assert_eq!(play(MINUTE, Method::GET, &[outcome]).await.0, 1);
        }
        assert_eq!(
            play(Repeat::Never, Method::GET, &[|| answer(503, None)])
                .await
                .0,
            1
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_post_that_may_have_arrived_is_not_repeated() {
        let repeatable = Repeat::Idempotent(Duration::from_mins(1));
        let table: [(fn() -> _, bool); 6] = [
            (|| failure(Kind::Connect), true),
            (|| answer(503, None), true),
            (|| failure(Kind::Closed), false),
            (|| failure(Kind::Stalled), false),
            (|| answer(502, None), false),
            (|| answer(500, None), false),
        ];
        for (outcome, repeated) in table {
            let done = |tries: usize| tries > 1;
            assert_eq!(
                done(play(MINUTE, Method::POST, &[outcome]).await.0),
                repeated
            );
            assert!(done(play(repeatable, Method::POST, &[outcome]).await.0));
            let deleted = done(play(MINUTE, Method::DELETE, &[outcome]).await.0);
            let is_500 = outcome().is_ok_and(|answer| answer.status.as_u16() == 500);
            assert_eq!(deleted, !is_500);
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let parse = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            retry_after(&headers, now).map(|wait| wait.as_secs())
        };
        assert_eq!(parse("120"), Some(120));
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:47 GMT"), Some(10));
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:27 GMT"), Some(0));
        for rubbish in ["-1", "+5", "1.5", "soon", ""] {
            assert_eq!(parse(rubbish), None, "{rubbish}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
