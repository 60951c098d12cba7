//! Tools that an agent wants run on our side: each is a server's URL in `[agents.NAME.tools]`.
//!
//! The server is sent `{"tool", "action", "parameters"}` and answers with a JSON object, which goes back to the agent. The
//! header [`CALL_HEADER`] tells it which call it is for. It has [`TIMEOUT`] for it, since a caller waits; nothing is sent
//! twice, since a tool may have acted on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http::HeaderMap;
use http::HeaderValue;
use serde_json::Value;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use crate::engine::call::event::ToolCall;
use crate::engine::call::event::ToolResult;
use crate::io::web::Url;
use crate::io::web::Web;

/// The header that names the call, as `/v1/calls` does.
pub const CALL_HEADER: &str = "x-tandem-call-id";
/// How long a tool may take. The agent, and the caller, wait for it.
pub const TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer: what goes into one turn is limited by the service to about as much.
pub const LARGEST_ANSWER: usize = 256 * 1024;
/// Tools of an agent that run at a time, of all its calls; more wait within their time.
const MOST_UNDER_WAY: usize = 64;

/// The tools of one agent. Clones share them.
#[derive(Clone)]
pub struct Tools(Arc<Inner>);

struct Inner {
    web: Arc<Web>,
    urls: BTreeMap<String, Url>,
    slots: Semaphore,
    timeout: Duration,
}

#[cfg(test)]
impl Tools {
    pub(crate) fn unused() -> Self {
        let web = Web::new(&crate::io::web::WebSettings::new(false));
        Self::new(Arc::new(web), &BTreeMap::new()).expect("no tools")
    }
}

impl Tools {
    /// The tools by their resource names, each with its server's URL.
    ///
    /// # Errors
    /// If a URL is none.
    pub fn new(web: Arc<Web>, tools: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        Self::with_timeout(web, tools, TIMEOUT)
    }

    /// The same with another time in the place of [`TIMEOUT`].
    ///
    /// # Errors
    /// If a URL is none.
    pub fn with_timeout(
        web: Arc<Web>,
        tools: &BTreeMap<String, String>,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let urls = tools.iter().map(|(name, url)| {
            let url = Url::parse(url).with_context(|| format!("tools.{name:?}"))?;
            Ok((name.clone(), url))
        });
        Ok(Self(Arc::new(Inner {
            web,
            urls: urls.collect::<anyhow::Result<_>>()?,
            slots: Semaphore::new(MOST_UNDER_WAY),
            timeout,
        })))
    }

    /// The resource names of the tools that can be run.
    pub fn names(&self) -> Vec<String> {
        self.0.urls.keys().cloned().collect()
    }

    /// Runs a tool for the call `call_id`. Dropping what is returned gives it up.
    pub fn run(
        &self,
        call: ToolCall,
        call_id: &str,
    ) -> impl Future<Output = ToolResult> + Send + use<> {
        let tools = self.clone();
        let headers: HeaderMap = HeaderValue::from_str(call_id)
            .map(|id| (http::HeaderName::from_static(CALL_HEADER), id))
            .into_iter()
            .collect();
        let ToolCall {
            tool,
            action,
            parameters,
        } = call;
        let body = json!({ "tool": tool, "action": action, "parameters": parameters });
        let name = tool.clone();
        // Apart, so that no handshake keeps the call's audio waiting.
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let timeout = tools.0.timeout;
            let answered = tokio::time::timeout(timeout, tools.ask(&name, headers, &body)).await;
            answered.unwrap_or_else(|_| {
                let timeout = humantime::format_duration(timeout);
                Err(format!("the tool did not answer within {timeout}"))
            })
        }));
        async move {
            let outcome = task.await;
            ToolResult {
                tool,
                action,
                outcome: outcome.unwrap_or_else(|_| Err("running the tool broke".to_owned())),
            }
        }
    }

    async fn ask(&self, tool: &str, headers: HeaderMap, body: &Value) -> Result<Value, String> {
        let inner = &*self.0;
        let url = inner.urls.get(tool);
        let url = url.ok_or_else(|| "no such tool is configured".to_owned())?;
        // Never closed, so there is always a permit in the end.
        let _slot = inner.slots.acquire().await;
        let reply = inner.web.post(url, headers, body, LARGEST_ANSWER).await;
        let reply = reply.map_err(|error| error.to_string())?;
        match serde_json::from_slice(&reply.body) {
            Ok(answer @ Value::Object(_)) => Ok(answer),
            Ok(_) => Err("the tool answered with JSON that is no object".to_owned()),
            Err(_) => Err("the tool answered with what is not JSON".to_owned()),
        }
    }
}
