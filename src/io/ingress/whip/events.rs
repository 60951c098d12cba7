//! What happens in a call, told to its caller's screen: the journal, written into the peer's data channels.
//!
//! One JSON object a message, as `/v1/calls/{id}/events` has them for operators, without what is none of a caller's business
//! ([`Entry::for_caller`](crate::io::journal::Entry::for_caller)). A channel that is opened late gets everything from the
//! beginning. A peer that reads too slowly misses some, and is told how many: nothing waits for it.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Instant;

use futures_util::Stream as _;
use serde_json::json;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use crate::engine::webrtc::channels::ChannelId;
use crate::engine::webrtc::peer::Peer;
use crate::io::journal::Journal;
use crate::io::journal::Line;

/// What the peer is told, and how far.
pub(super) struct Events {
    /// Whether channels were agreed on, so that one is sure to be opened, and none has been yet.
    is_reader_awaited: bool,
    journal: Option<Journal>,
    readers: Vec<Reader>,
}

/// One channel, which the peer has opened.
struct Reader {
    channel: ChannelId,
    /// To be told: what was written before the channel was opened, and then what has just come; the oldest last.
    lines: Vec<Line>,
    live: BroadcastStream<Line>,
    missed: u64,
    has_last: bool,
}

impl Events {
    /// Nothing to tell yet; `is_reader_awaited` if the peer may open channels.
    pub(super) const fn new(is_reader_awaited: bool) -> Self {
        Self {
            is_reader_awaited,
            journal: None,
            readers: Vec::new(),
        }
    }

    /// The call has begun.
    pub(super) fn follow(&mut self, journal: Journal) {
        self.journal = Some(journal);
    }

    /// The peer has opened a channel.
    pub(super) fn open(&mut self, channel: ChannelId) {
        let Some(journal) = &self.journal else {
            return;
        };
        self.is_reader_awaited = false;
        let (mut lines, live) = journal.read();
        lines.reverse();
        self.readers.push(Reader {
            channel,
            lines,
            live: BroadcastStream::new(live),
            missed: 0,
            has_last: false,
        });
    }

    /// Waits until there is something to tell; `None` if nobody would hear it.
    pub(super) async fn ready(&mut self) -> Option<()> {
        if self.readers.is_empty() {
            return None;
        }
        poll_fn(|cx| {
            let mut is_ready = false;
            for reader in &mut self.readers {
                while let Poll::Ready(Some(news)) = Pin::new(&mut reader.live).poll_next(cx) {
                    is_ready = true;
                    match news {
                        Ok(line) => reader.lines.insert(0, line),
                        Err(BroadcastStreamRecvError::Lagged(missed)) => reader.missed += missed,
                    }
                }
            }
            if is_ready {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        Some(())
    }

    /// Tells what there is.
    pub(super) fn tell(&mut self, peer: &mut Peer, now: Instant) {
        self.forget_all_but(|channel| peer.has_open(channel));
        for reader in &mut self.readers {
            reader.tell(peer, now);
        }
    }

    /// A channel that is closed is not told any more; a peer may open and close many.
    fn forget_all_but(&mut self, is_open: impl Fn(ChannelId) -> bool) {
        self.readers.retain(|reader| is_open(reader.channel));
    }

    /// Whether the peer has yet to open its first channel.
    pub(super) const fn are_awaited(&self) -> bool {
        self.is_reader_awaited
    }

    /// Whether every channel has been told the end.
    pub(super) fn are_told(&self) -> bool {
        !self.is_reader_awaited && self.readers.iter().all(|reader| reader.has_last)
    }
}

impl Reader {
    fn tell(&mut self, peer: &mut Peer, now: Instant) {
        while let Some(line) = self.lines.pop() {
            self.has_last |= line.is_last();
            if self.missed > 0 {
                let words = json!({ "type": "missed", "lines": self.missed }).to_string();
                if peer.tell(self.channel, &words, now) {
                    self.missed = 0;
                }
            }
            if let Some(words) = line.for_caller()
                && !peer.tell(self.channel, &words, now)
            {
                self.missed += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::call::end::EndReason;

    #[test]
    fn channels_that_are_closed_are_neither_kept_nor_waited_for() {
        let mut events = Events::new(true);
        let journal = Journal::new();
        events.follow(journal.clone());
        assert!(events.are_awaited() && !events.are_told());
        for stream in 0..3 {
            events.open(ChannelId::of_stream(stream));
        }
        journal.end(EndReason::AgentEnded);
        events.forget_all_but(|channel| channel == ChannelId::of_stream(1));
        assert_eq!(events.readers.len(), 1);
        assert!(!events.are_awaited() && !events.are_told());
        events.forget_all_but(|_| false);
        assert!(events.readers.is_empty());
        assert!(!events.are_awaited() && events.are_told());
    }
}
