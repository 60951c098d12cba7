//! How a websocket ends, and who is told what about it.

use axum::extract::ws::CloseFrame;
use axum::extract::ws::Message as Frame;
use axum::extract::ws::Utf8Bytes;

use super::refused::Refused;
use crate::engine::call::event::LegEnd;

/// Going on is not possible for a reason of our own (RFC 6455 §7.4.1).
const INTERNAL_ERROR: u16 = 1011;
/// Everything was said.
const NORMAL: u16 = 1000;

/// How a websocket ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Twilio said `stop`: the caller hung up, or the call went elsewhere.
    Stopped,
    /// The peer closed the websocket in order.
    Closed,
    /// The connection broke, or the peer does not read or answer any more.
    Lost(&'static str),
    /// The call asked for it: Twilio goes on with the `action`.
    HungUp,
    /// The call is gone without having asked for anything.
    CallGone,
    /// We turn the peer away.
    Refused(Refused),
}

impl Ending {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Closed => "closed",
            Self::Lost(how) => how,
            Self::HungUp => "hung_up",
            Self::CallGone => "call_gone",
            Self::Refused(reason) => reason.label(),
        }
    }

    /// What the call is told.
    pub(super) const fn leg_end(self) -> LegEnd {
        match self {
            Self::Stopped | Self::Closed | Self::HungUp | Self::CallGone => LegEnd::HungUp,
            Self::Lost(_) => LegEnd::Lost,
            Self::Refused(reason) => LegEnd::ProtocolError(reason.label()),
        }
    }

    /// What the peer is told; nothing if it cannot or need not hear.
    pub(super) fn close_frame(self) -> Option<CloseFrame> {
        let code = match self {
            Self::Closed | Self::Lost(_) => return None,
            Self::Stopped | Self::HungUp => NORMAL,
            Self::CallGone => INTERNAL_ERROR,
            Self::Refused(reason) => reason.close_code(),
        };
        let reason = Utf8Bytes::from_static(self.label());
        Some(CloseFrame { code, reason })
    }
}

/// The text of what the websocket received; `None` for what needs no answer of ours (a ping has had one already).
pub(super) fn next_text(
    received: Option<Result<Frame, axum::Error>>,
) -> Result<Option<Utf8Bytes>, Ending> {
    match received {
        Some(Ok(Frame::Text(text))) => Ok(Some(text)),
        Some(Ok(Frame::Binary(_))) => Err(Ending::Refused(Refused::BinaryMessage)),
        Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => Ok(None),
        Some(Ok(Frame::Close(_))) => Err(Ending::Closed),
        Some(Err(error)) => Err(of_error(error)),
        None => Err(Ending::Lost("lost")),
    }
}

fn of_error(error: axum::Error) -> Ending {
    use tungstenite::Error as Fault;
    use tungstenite::error::ProtocolError;

    let inner = error.into_inner();
    match inner.downcast_ref::<Fault>() {
        Some(Fault::Capacity(_)) => Ending::Refused(Refused::MessageTooLarge),
        Some(Fault::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => Ending::Lost("lost"),
        Some(Fault::Protocol(_) | Fault::Utf8(_)) => Ending::Refused(Refused::BadFrame),
        _ => Ending::Lost("lost"),
    }
}
