//! What a call sends others out for: clips and tools. What they bring comes back as events of the call.
//!
//! The work is done elsewhere ([`super::clips`], [`super::tools`]); here it is only waited for, in the driver's own loop, so
//! that a call which ends drops what is under way.

use std::future::ready;

use futures_util::FutureExt as _;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use crate::engine::call::event::ClipId;
use crate::engine::call::event::Event;
use crate::engine::call::event::ToolCall;
use crate::engine::call::event::ToolResult;
use crate::io::clips::Account;
use crate::io::clips::Clips;
use crate::io::tools::Tools;

/// Errands of one call at a time. An answer has a few clips and a tool; a thousand are an agent's mistake.
const MOST_UNDER_WAY: usize = 32;

/// Whom the calls of an agent send.
#[derive(Clone)]
pub struct Services {
    /// Fetches clips.
    pub clips: Clips,
    /// Runs the agent's tools.
    pub tools: Tools,
    /// Whose credentials are shown for clips in Google's storage.
    pub account: Account,
}

impl Services {
    /// Those of the call `call_id`.
    pub fn for_call(&self, call_id: String) -> Errands {
        Errands {
            services: self.clone(),
            call_id,
            under_way: FuturesUnordered::new(),
        }
    }
}

#[cfg(test)]
impl Services {
    /// For tests of calls that send nobody.
    pub(crate) fn unused() -> Self {
        Self {
            clips: Clips::unused(),
            tools: Tools::unused(),
            account: Account::unused(),
        }
    }
}

/// What one call has sent others out for. Dropping it calls them back.
pub struct Errands {
    services: Services,
    call_id: String,
    under_way: FuturesUnordered<BoxFuture<'static, Event>>,
}

impl Errands {
    /// Has a clip fetched; [`Event::Fetched`] follows.
    pub fn fetch(&mut self, clip: ClipId, uri: &str) {
        let fetched = if self.is_busy() {
            ready(Err(too_many())).boxed()
        } else {
            let Services { clips, account, .. } = &self.services;
            clips.fetch(uri, account).boxed()
        };
        self.under_way.push(
            fetched
                .map(move |outcome| Event::Fetched(clip, outcome))
                .boxed(),
        );
    }

    /// Has a tool run; [`Event::ToolEnded`] follows.
    pub fn run_tool(&mut self, call: ToolCall) {
        let ended = if self.is_busy() {
            let ToolCall { tool, action, .. } = call;
            let outcome = Err(too_many());
            ready(ToolResult {
                tool,
                action,
                outcome,
            })
            .boxed()
        } else {
            self.services.tools.run(call, &self.call_id).boxed()
        };
        self.under_way.push(ended.map(Event::ToolEnded).boxed());
    }

    /// Waits for what comes back next; `None` at once if nobody is out.
    pub async fn next(&mut self) -> Option<Event> {
        self.under_way.next().await
    }

    fn is_busy(&self) -> bool {
        self.under_way.len() >= MOST_UNDER_WAY
    }
}

fn too_many() -> String {
    "the call waits for too many others already".to_owned()
}
