//! The HTTP of a call (RFC 9725): the offer is posted, the session that this makes is deleted at the end.

use std::time::Duration;

use reqwest::RequestBuilder;
use reqwest::Response;
use reqwest::StatusCode;
use reqwest::Url;
use reqwest::header;
use serde_json::Value;

use crate::line::SetupError;
use crate::line::causes;

/// The gateway answers from what it knows: longer than this it should never take.
const TIMEOUT: Duration = Duration::from_secs(10);
const SDP: &str = "application/sdp";

/// A session that the gateway made for us.
#[derive(Debug, Clone)]
pub(super) struct Session {
    http: reqwest::Client,
    url: Url,
    token: Option<String>,
}

impl Session {
    /// Posts the offer: the session, and the answer.
    pub(super) async fn begin(
        http: &reqwest::Client,
        endpoint: &Url,
        token: Option<String>,
        offer: String,
    ) -> Result<(Self, String), SetupError> {
        let request = http
            .post(endpoint.clone())
            .header(header::CONTENT_TYPE, SDP)
            .body(offer);
        let unreachable = |error: reqwest::Error| SetupError::Unreachable {
            what: "offer",
            why: causes(&error),
        };
        let response = with_token(request, token.as_deref())
            .timeout(TIMEOUT)
            .send()
            .await
            .map_err(unreachable)?;
        let status = response.status();
        if status != StatusCode::CREATED {
            return Err(SetupError::Refused {
                what: "offer",
                status,
                body: words(response).await,
            });
        }
        let value = |name| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let useless = |why: &str| SetupError::NoMedia(why.to_owned());
        let kind = value(header::CONTENT_TYPE).unwrap_or_default();
        if !kind.starts_with(SDP) {
            return Err(useless("it is not application/sdp"));
        }
        // Relative to the endpoint (RFC 9110 §10.2.2), whose query is not the session's.
        let url = value(header::LOCATION)
            .and_then(|location| endpoint.join(location).ok())
            .ok_or_else(|| useless("it names no session (Location)"))?;
        let session = Self {
            http: http.clone(),
            url,
            token,
        };
        let answer = response.text().await.map_err(unreachable)?;
        Ok((session, answer))
    }

    /// Ends the session: the status, or why there was none.
    pub(super) async fn delete(&self) -> Result<StatusCode, String> {
        let request = self.http.delete(self.url.clone());
        let response = with_token(request, self.token.as_deref())
            .timeout(TIMEOUT)
            .send()
            .await;
        response
            .map(|response| response.status())
            .map_err(|error| causes(&error))
    }
}

fn with_token(request: RequestBuilder, token: Option<&str>) -> RequestBuilder {
    match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    }
}

/// A refusal in words: the detail of a problem (RFC 9457) or the body, and when to try again.
async fn words(response: Response) -> String {
    let after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .map(|after| format!("try again after {after} s"));
    let body = response.text().await.unwrap_or_default();
    let problem: Option<Value> = serde_json::from_str(&body).ok();
    let field = |name| problem.as_ref()?.get(name)?.as_str().map(str::to_owned);
    let detail = field("detail").unwrap_or(if problem.is_none() {
        body
    } else {
        String::new()
    });
    let reason = field("reason").map(|reason| format!("({reason})"));
    let told: Vec<String> = [Some(detail).filter(|detail| !detail.is_empty()), reason]
        .into_iter()
        .flatten()
        .collect();
    let told = Some(told.join(" ")).filter(|told| !told.is_empty());
    told.into_iter().chain(after).collect::<Vec<_>>().join("; ")
}
