//! From the handshake to `start`: whose call is it, is it admitted, and what is its leg.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Instant;

use axum::extract::ws::WebSocket;
use futures_util::Stream;
use tracing::info;

use super::Shared;
use super::ending::Ending;
use super::ending::next_text;
use super::messages::Incoming;
use super::messages::MediaFormat;
use super::messages::Message;
use super::messages::Start;
use super::refused::Refused;
use super::webhook::TOKEN_PARAMETER;
use crate::io::clock::now;
use crate::io::ingress::Admission;
use crate::io::leg::IngressKind;
use crate::io::leg::Leg;
use crate::io::leg::LegInfo;
use crate::io::leg::LegPort;
use crate::io::leg::leg;

/// The longest ids. Twilio's have 34 characters; ours repeat the stream's in every message.
const MAX_ID_BYTES: usize = 128;

/// A stream that has said `start` and whose call was admitted.
pub(super) struct Started {
    pub(super) call_sid: String,
    pub(super) stream_sid: String,
    pub(super) sequence: Option<u64>,
    pub(super) port: LegPort,
}

/// Reads up to `start` and begins the call.
pub(super) async fn begin(shared: &Shared, socket: &mut WebSocket) -> Result<Started, Ending> {
    let began = now();
    loop {
        let text = next_text(poll_fn(|cx| Pin::new(&mut *socket).poll_next(cx)).await)?;
        let Some(text) = text else { continue };
        let incoming = Incoming::parse(&text).map_err(Ending::Refused)?;
        match incoming.message {
            Message::Connected { version } if version.as_str().starts_with("1.") => {}
            Message::Connected { .. } => return Err(Ending::Refused(Refused::UnsupportedVersion)),
            Message::Start(start) => {
                let (leg, port, admission) =
                    admit(shared, &start, began).map_err(Ending::Refused)?;
                let started = Started {
                    call_sid: start.call_sid.0.into_owned(),
                    stream_sid: start.stream_sid.0.into_owned(),
                    sequence: incoming.sequence,
                    port,
                };
                admission.connect(leg);
                return Ok(started);
            }
            Message::Stop => return Err(Ending::Stopped),
            Message::Media(_) | Message::Dtmf { .. } | Message::Mark { .. } => {
                return Err(Ending::Refused(Refused::MediaBeforeStart));
            }
        }
    }
}

type Admitted = (Leg, LegPort, Box<dyn Admission>);

fn admit(shared: &Shared, start: &Start<'_>, began: Instant) -> Result<Admitted, Refused> {
    let ids = [start.stream_sid.as_str(), start.call_sid.as_str()];
    if ids
        .iter()
        .any(|id| id.is_empty() || id.len() > MAX_ID_BYTES)
    {
        return Err(Refused::BadStart);
    }
    // Some that speak this dialect leave the tracks out; `<Connect><Stream>` has no other than the caller's.
    if start.tracks.iter().any(|track| track.as_str() != "inbound") {
        info!("refused a <Start><Stream>: only <Connect><Stream> carries audio both ways");
        return Err(Refused::UnidirectionalStream);
    }
    let is_mulaw = |format: &MediaFormat<'_>| format.is_mulaw_8000();
    if !start.media_format.as_ref().is_some_and(is_mulaw) {
        return Err(Refused::UnsupportedMediaFormat);
    }
    let call_sid = start.call_sid.as_str();
    let token = parameter(start, TOKEN_PARAMETER).ok_or_else(|| {
        info!("refused a stream without our token: only the TwiML of /twilio/voice starts streams here");
        Refused::MissingToken
    })?;
    let parties = shared
        .tokens
        .redeem(call_sid, token, Instant::now())
        .map_err(|why| {
            info!(call_sid, ?why, "refused a stream whose token is not good");
            Refused::WrongToken
        })?;
    let names = &shared.ingress.config.parameters;
    let parameters: BTreeMap<String, String> = names
        .iter()
        .filter(|name| *name != TOKEN_PARAMETER)
        .filter_map(|name| Some((name.clone(), parameter(start, name)?.to_owned())))
        .collect();
    let info = LegInfo {
        ingress: IngressKind::Twilio,
        external_id: call_sid.to_owned(),
        began,
        from: parties.from,
        to: parties.to,
        domain: String::new(),
        headers: Vec::new(),
        parameters,
        traits: super::traits(),
    };
    let admission = shared.ingress.exchange.admit(&info)?;
    let (leg, port) = leg(info);
    Ok((leg, port, admission))
}

fn parameter<'a>(start: &'a Start<'_>, name: &str) -> Option<&'a str> {
    let mut parameters = start.custom_parameters.iter();
    let (_, value) = parameters.find(|(key, _)| key.as_str() == name)?;
    Some(value.as_str())
}
