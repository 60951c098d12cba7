//! What the agent's service sees.

use std::collections::BTreeMap;
use std::time::Duration;

use tandem::engine::call::event::StreamId;
use tandem::engine::call::notice::TurnKind;

use super::Verdict;
use crate::history::At;
use crate::history::Entry;
use crate::history::History;
use crate::history::What;

/// How far audio may be ahead of twice its pace.
const AHEAD: Duration = Duration::from_millis(200);
/// How far the rest of an utterance that we cut off may be: it ends the stream, so no endpointer waits behind it.
const REST_AHEAD: Duration = Duration::from_secs(3);

/// A stream opens when the one before it is over, cancelled or answered for good.
pub(crate) fn one_stream_at_a_time(history: &History) -> Verdict {
    let mut open: Option<StreamId> = None;
    let mut last: Option<StreamId> = None;
    for Entry { at, what } in &history.entries {
        match what {
            What::Opened { stream, .. } => {
                if let Some(open) = open {
                    return Err(format!("{stream:?} at {at:?}, while {open:?} is open"));
                }
                if last >= Some(*stream) {
                    return Err(format!("{stream:?} at {at:?} is not new"));
                }
                open = Some(*stream);
                last = open;
            }
            What::Cancelled(stream)
            | What::Closed(stream, _)
            | What::AnswerCame {
                stream, last: true, ..
            } if open == Some(*stream) => open = None,
            // A final answer that comes before the utterance is over ends it: the stream is half-closed after all.
            What::HalfClosed(stream) if open.is_none() && last == Some(*stream) => {}
            What::Cancelled(stream) | What::HalfClosed(stream) if open != Some(*stream) => {
                return Err(format!(
                    "{what:?} of {stream:?} at {at:?}, which is not open"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A stream that takes audio.
struct Feed {
    opened: At,
    samples: u64,
    takes: bool,
}

/// Audio goes to speech streams that are open and not half-closed, not too fast, and never so slowly that they starve.
pub(crate) fn audio_goes_where_it_is_awaited(history: &History) -> Verdict {
    let mut feeds: BTreeMap<StreamId, Feed> = BTreeMap::new();
    for Entry { at, what } in &history.entries {
        match what {
            What::Opened { stream, kind, .. } => {
                let takes = *kind == TurnKind::Speech;
                let feed = Feed {
                    opened: *at,
                    samples: 0,
                    takes,
                };
                feeds.insert(*stream, feed);
            }
            What::HalfClosed(stream)
            | What::Cancelled(stream)
            | What::Closed(stream, _)
            | What::AnswerCame {
                stream, last: true, ..
            } => {
                if let Some(feed) = feeds.get_mut(stream) {
                    feed.takes = false;
                }
            }
            What::Sent {
                stream,
                samples,
                rest,
            } => {
                let Some(feed) = feeds.get_mut(stream).filter(|feed| feed.takes) else {
                    return Err(format!("audio on {stream:?} at {at:?}, which takes none"));
                };
                feed.samples += samples;
                let audio = history.rate.duration_of(feed.samples);
                let ahead = if *rest {
                    REST_AHEAD
                } else {
                    AHEAD.max(2 * history.chunk)
                };
                if audio > 2 * (*at - feed.opened) + ahead {
                    let since = *at - feed.opened;
                    return Err(format!(
                        "{audio:?} on {stream:?} at {at:?}, open for {since:?}"
                    ));
                }
            }
            What::Starved(stream) => {
                return Err(format!("{stream:?} has starved at {at:?}"));
            }
            _ => {}
        }
    }
    Ok(())
}
