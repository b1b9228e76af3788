//! Requests to our own server and to services that the configuration names.

use std::time::{Duration, Instant};

/// Answers are read up to this many bytes: the metrics of a whole machine are some hundred
/// kilobytes.
const LIMIT: u64 = 8 << 20;

/// An HTTP response.
#[derive(Debug, Clone)]
pub(in crate::operations) struct Answer {
    pub(in crate::operations) status: u16,
    pub(in crate::operations) body: String,
    /// Time until the whole answer was received.
    pub(in crate::operations) took: Duration,
}

/// What to send.
#[derive(Debug, Clone)]
pub(in crate::operations) enum Request {
    /// GET, with the value of `Authorization` if there is one.
    Get(Option<String>),
    /// POST of JSON, with the value of `Authorization` if there is one.
    Post(&'static str, Option<String>),
}

/// Sends one request to `url`. Redirects are not followed: a server must not choose another
/// address. Blocks.
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
        Request::Post(body, authorization) => {
            let mut post = agent.post(url).header("content-type", "application/json");
            if let Some(authorization) = authorization {
                post = post.header("authorization", authorization);
            }
            post.send(*body)
        }
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
