//! The gateway's admin listener: which calls there are, what happens in one, and the metrics.

use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use futures_util::StreamExt;
use reqwest::Url;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::gateway_event;
use crate::gateway_event::EventReader;
use crate::gateway_event::GatewayEvent;
use crate::scrape::Scrape;

/// How often and how long we look for our call in the list: set-up is a matter of milliseconds, and a list costs the gateway little.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
const LOOKS: u32 = 200;
/// The admin side should answer at once, even under load.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Events waiting to be printed; far more than a call makes in the time of a tick.
const BACKLOG: usize = 1024;

/// The admin listener.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    base: Url,
    http: reqwest::Client,
}

/// News of one call.
#[derive(Debug)]
pub(crate) enum News {
    /// The gateway lists the call under this id.
    Found(String),
    /// Something happened.
    Event(GatewayEvent),
    /// There will be no events, and why.
    Silent(String),
}

#[derive(Deserialize)]
struct Calls {
    calls: Vec<ListedCall>,
}

#[derive(Deserialize)]
struct ListedCall {
    id: String,
    external_id: Option<String>,
}

impl Admin {
    /// The admin listener at this URL, `http://127.0.0.1:9090` for example.
    pub(crate) fn new(base: Url, http: reqwest::Client) -> Self {
        Self { base, http }
    }

    /// Reads the metrics.
    pub(crate) async fn scrape(&self) -> Result<Scrape> {
        Ok(Scrape::parse(&self.get("/metrics").await?.text().await?))
    }

    /// Follows the call with this CallSid until the gateway ends the stream of events. Dropping the receiver ends it too.
    pub(crate) fn follow(&self, call_sid: String) -> mpsc::Receiver<News> {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let admin = self.clone();
        tokio::spawn(async move {
            if let Err(error) = admin.tell(&call_sid, &sender).await {
                // Nobody is left to be told when the call is over.
                let _ = sender.send(News::Silent(format!("{error:#}"))).await;
            }
        });
        receiver
    }

    async fn tell(&self, call_sid: &str, sender: &mpsc::Sender<News>) -> Result<()> {
        let id = self.find(call_sid, sender).await?;
        sender.send(News::Found(id.clone())).await?;
        let path = format!("/v1/calls/{id}/events");
        // No time limit: the events last as long as the call.
        let response = self
            .http
            .get(self.base.join(&path)?)
            .send()
            .await?
            .error_for_status()?;
        let mut pieces = response.bytes_stream();
        let mut reader = EventReader::default();
        while let Some(piece) = pieces.next().await {
            for event in reader
                .read(&piece?)
                .iter()
                .filter_map(|data| gateway_event::parse(data))
            {
                sender.send(News::Event(event)).await?;
            }
        }
        Ok(())
    }

    async fn find(&self, call_sid: &str, sender: &mpsc::Sender<News>) -> Result<String> {
        for _ in 0..LOOKS {
            let list: Calls = self
                .get("/v1/calls")
                .await?
                .json()
                .await
                .context("/v1/calls is not the list we know")?;
            let ours = list
                .calls
                .into_iter()
                .find(|call| call.external_id.as_deref() == Some(call_sid));
            if let Some(call) = ours {
                return Ok(call.id);
            }
            anyhow::ensure!(!sender.is_closed(), "the call is over");
            sleep(LOOK_INTERVAL).await;
        }
        anyhow::bail!("/v1/calls does not list {call_sid}")
    }

    async fn get(&self, path: &str) -> Result<reqwest::Response> {
        let url = self.base.join(path)?;
        let response = self.http.get(url.clone()).timeout(TIMEOUT).send().await;
        response
            .and_then(reqwest::Response::error_for_status)
            .with_context(|| format!("{url} gives no answer"))
    }
}
