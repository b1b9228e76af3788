//! Requests to our own server and to services that the configuration names.

use std::time::{Duration, Instant};

/// Longest answer that is read, bytes: the metrics of a whole machine are some hundred kilobytes.
const LIMIT: u64 = 8 << 20;

/// An answer.
#[derive(Debug, Clone)]
pub(in crate::operations) struct Answer {
    pub(in crate::operations) status: u16,
    pub(in crate::operations) body: String,
    /// Until the answer was there as a whole.
    pub(in crate::operations) took: Duration,
}

/// What is sent.
#[derive(Debug, Clone)]
pub(in crate::operations) enum Request {
    /// GET, with the value of `Authorization` if there is one.
    Get(Option<String>),
    /// POST of JSON, without a token.
    Post(&'static str),
}

/// Asks `url`, once. Redirects are not followed: where an address points to must not be able to change it. Blocks.
pub(in crate::operations) fn ask(
    url: &str,
    request: &Request,
    deadline: Duration,
) -> Result<Answer, ureq::Error> {
    let begun = Instant::now();
    let agent = ureq::Agent::config_builder()
        .timeout_global(Some(deadline))
        .max_redirects(0)
        .http_status_as_error(false)
        .build()
        .new_agent();
    let answer = match request {
        Request::Get(authorization) => {
            let mut get = agent.get(url);
            if let Some(authorization) = authorization {
                get = get.header("authorization", authorization);
            }
            get.call()
        }
        Request::Post(body) => agent
            .post(url)
            .header("content-type", "application/json")
            .send(*body),
    };
    let mut answer = answer?;
    let body = answer.body_mut().with_config().limit(LIMIT);
    let body = body.read_to_string()?;
    Ok(Answer {
        status: answer.status().as_u16(),
        body,
        took: begun.elapsed(),
    })
}
