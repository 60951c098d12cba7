//! The seam between a call and the protocol that carries it: a [`Line`] takes frames and digits and gives what the gateway sends.
//!
//! A Twilio line is a stream that plays what it is sent; SIP and WHIP lines give packets, which have their moments and no marks or clears.
//! A WHIP line also brings what the gateway tells of the call, for which the others ask its admin listener.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;

use crate::bad_network::Faults;
use crate::gateway_event::GatewayEvent;
use crate::mulaw;
use crate::playout::Packet;
use crate::sip::Phones;
use crate::sip::SipLine;
use crate::target::Target;
use crate::twilio::CallIds;
use crate::twilio::TwilioLine;
use crate::twilio::twiml::Verb;
use crate::whip::Codec;
use crate::whip::Identity;
use crate::whip::WhipLine;

/// Who calls whom, and how the call is placed.
#[derive(Debug, Clone)]
pub(crate) struct Placing {
    /// The caller's number.
    pub(crate) from: String,
    /// The dialled number.
    pub(crate) to: String,
    /// Signs webhook and handshake, if there is one.
    pub(crate) auth_token: Option<String>,
    /// Connect to the target's host whatever host the TwiML names.
    pub(crate) direct: bool,
    /// What the gateway believes its own URL to be, which is the one that is signed; else the target's.
    pub(crate) public_url: Option<reqwest::Url>,
    /// Name and password that answer a SIP gateway's challenge.
    pub(crate) credentials: Option<(String, String)>,
    /// The token that a WHIP gateway asks for.
    pub(crate) token: Option<String>,
    /// What is spoken by WHIP.
    pub(crate) codec: Codec,
    /// What the network does to our RTP.
    pub(crate) faults: Faults,
}

/// What the calls of a process share.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) http: reqwest::Client,
    pub(crate) phones: Arc<Phones>,
    pub(crate) identity: Arc<Identity>,
}

/// To the gateway.
#[derive(Debug)]
pub(crate) enum ToGateway {
    /// 20 ms of mu-law.
    Frame([u8; mulaw::FRAME]),
    /// A key was pressed.
    Digit(char),
    /// The audio before this mark has been played, or cleared.
    Mark(String),
}

/// From the gateway.
#[derive(Debug)]
pub(crate) enum FromGateway {
    /// Mu-law to play after what is already waiting.
    Audio(Vec<u8>),
    /// Mu-law to play at its moment.
    Packet(Packet),
    /// Something for the timeline.
    Note(String),
    /// What the gateway tells of the call.
    Event(GatewayEvent),
    /// To be returned when the audio before it has been played.
    Mark(String),
    /// Throw away what has not been played.
    Clear,
    /// Something that the real far end would refuse.
    Improper(String),
    /// The gateway ended the call in an orderly way, or said why it could not go on.
    Closed { code: Option<u16>, reason: String },
    /// The gateway hung up.
    HungUp,
    /// The connection broke.
    Lost(String),
}

/// A call that did not come about.
#[derive(Debug)]
pub(crate) enum SetupError {
    /// The gateway answered, with a refusal.
    Refused {
        what: &'static str,
        status: StatusCode,
        body: String,
    },
    /// The gateway answered the INVITE with a refusal.
    Declined {
        status: u16,
        reason: String,
        retry_after: Option<String>,
    },
    /// The gateway took the call, with an answer that is of no use.
    NoMedia(String),
    /// We cancelled the call before it was answered.
    Cancelled,
    /// We cancelled the call, and it did not end as it should.
    NotCancelled(String),
    /// The gateway's instructions hold no stream to connect to.
    NoStream(String),
    /// There was no answer.
    Unreachable { what: &'static str, why: String },
}

impl SetupError {
    /// The kind of failure, for counting many.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Refused { what, status, .. } => {
                format!("{what} refused with {}", status.as_u16())
            }
            Self::Declined { status, reason, .. } => format!("refused with {status} {reason}"),
            Self::NoMedia(why) => format!("no audio in the answer: {why}"),
            Self::Cancelled => "cancelled before the answer".to_owned(),
            Self::NotCancelled(why) => format!("cancelled, but {why}"),
            Self::NoStream(_) => "no stream in the TwiML".to_owned(),
            Self::Unreachable { what, .. } => format!("{what} not reached"),
        }
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { what, status, body } if body.is_empty() => {
                write!(formatter, "the gateway refused the {what} with {status}")
            }
            Self::Refused { what, status, body } => write!(
                formatter,
                "the gateway refused the {what} with {status}: {body}"
            ),
            Self::Declined {
                status,
                reason,
                retry_after,
            } => {
                write!(formatter, "the gateway refused the call: {status} {reason}")?;
                match retry_after {
                    Some(after) => write!(formatter, "; try again after {after} s"),
                    None => Ok(()),
                }
            }
            Self::NoMedia(why) => write!(
                formatter,
                "the gateway's answer is of no use to a caller: {why}"
            ),
            Self::Cancelled => write!(formatter, "the call was cancelled before it was answered"),
            Self::NotCancelled(why) => write!(formatter, "the call was cancelled, but {why}"),
            Self::NoStream(twiml) => {
                write!(formatter, "the gateway's TwiML connects no stream: {twiml}")
            }
            Self::Unreachable { what, why } => {
                write!(formatter, "the {what} did not reach the gateway: {why}")
            }
        }
    }
}

impl std::error::Error for SetupError {}

/// A call in progress.
pub(crate) enum Line {
    /// A Twilio media stream.
    Twilio(Box<TwilioLine>),
    /// A SIP call with RTP.
    Sip(Box<SipLine>),
    /// A WebRTC call by WHIP.
    Whip(Box<WhipLine>),
}

impl Line {
    /// Places the call; when this returns, the gateway is listening. With `interruptible`, Ctrl-C ends a call that is still ringing.
    pub(crate) async fn place(
        target: &Target,
        placing: &Placing,
        ids: CallIds,
        network: &Network,
        interruptible: bool,
    ) -> Result<Self, SetupError> {
        match target {
            Target::Twilio(url) => TwilioLine::place(url, placing, ids, &network.http)
                .await
                .map(|line| Self::Twilio(Box::new(line))),
            Target::Sip(uri) => {
                SipLine::place(uri, placing, ids.call, &network.phones, interruptible)
                    .await
                    .map(|line| Self::Sip(Box::new(line)))
            }
            Target::Whip(url) => WhipLine::place(url, placing, network, interruptible)
                .await
                .map(|line| Self::Whip(Box::new(line))),
        }
    }

    /// Whether the gateway's audio comes in packets.
    pub(crate) fn has_packets(&self) -> bool {
        matches!(self, Self::Sip(_) | Self::Whip(_))
    }

    /// Sends these in order. An error is a broken connection, in words.
    pub(crate) async fn send(&mut self, messages: Vec<ToGateway>) -> Result<(), String> {
        match self {
            Self::Twilio(line) => line.send(messages).await,
            Self::Sip(line) => line.send(messages).await,
            Self::Whip(line) => {
                line.send(messages).await;
                Ok(())
            }
        }
    }

    /// Waits for the gateway. Cancel safe.
    pub(crate) async fn receive(&mut self) -> FromGateway {
        match self {
            Self::Twilio(line) => line.receive().await,
            Self::Sip(line) => line.receive().await,
            Self::Whip(line) => line.receive().await,
        }
    }

    /// What has come and can be had without waiting; a stream plays on by itself and has no need of it.
    pub(crate) fn received(&mut self) -> Option<FromGateway> {
        match self {
            Self::Twilio(_) => None,
            Self::Sip(line) => line.received(),
            Self::Whip(line) => line.received(),
        }
    }

    /// The caller hangs up: says so and waits a moment for the gateway to let go. Why it did not, where that is a fault.
    pub(crate) async fn hang_up(&mut self) -> Result<(), String> {
        match self {
            Self::Twilio(line) => {
                line.hang_up().await;
                Ok(())
            }
            Self::Sip(line) => line.hang_up().await,
            Self::Whip(line) => line.hang_up().await,
        }
    }

    /// The caller is gone without a word. Of a websocket the system says a word: there is no other way to leave one.
    pub(crate) fn vanish(&mut self) {
        match self {
            Self::Twilio(_) => {}
            Self::Sip(line) => line.vanish(),
            Self::Whip(line) => line.vanish(),
        }
    }

    /// What the gateway told on the line while we hung up.
    pub(crate) fn last_events(&mut self) -> Vec<GatewayEvent> {
        match self {
            Self::Twilio(_) | Self::Sip(_) => Vec::new(),
            Self::Whip(line) => line.last_events(),
        }
    }

    /// What becomes of the call after the gateway's part in it: the verbs it answers when asked.
    pub(crate) async fn after_call(
        &mut self,
        http: &reqwest::Client,
        lasted: Duration,
    ) -> Result<Vec<Verb>, SetupError> {
        match self {
            Self::Twilio(line) => line.after_call(http, lasted).await,
            Self::Sip(line) => Ok(line.after_call().await),
            Self::Whip(line) => {
                line.after_call().await;
                Ok(Vec::new())
            }
        }
    }
}

/// An error with what caused it, in one line.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
