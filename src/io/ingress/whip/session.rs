//! Sessions as HTTP knows them: an offer becomes one, and a URL finds it again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;
use tracing::Instrument as _;

use super::Shared;
use super::leg;
use super::leg::Parts;
use super::mux::LegId;
use super::refused::Refused;
use crate::engine::rtp::session::Beginning;
use crate::engine::sdp::agreement::Refusal;
use crate::engine::sdp::description::Description;
use crate::engine::sdp::description::ParseError;
use crate::engine::webrtc::description;
use crate::engine::webrtc::description::Ours;
use crate::engine::webrtc::description::Unusable;
use crate::engine::webrtc::ice::Credentials;
use crate::engine::webrtc::peer::Peer;
use crate::engine::webrtc::peer::Terms;
use crate::io::clock::now;
use crate::io::leg::IngressKind;
use crate::io::leg::LegInfo;

/// Orders that may wait for one leg: restarts, of which who has asked for so many has not waited for any, and the end of the
/// call, for which the last place is kept.
const ORDERS: usize = 4;
/// Session ids in `o=` stay below 2^62, for peers that read them into signed integers.
const SESSION_ID_MASK: u64 = (1 << 62) - 1;

/// Who wants to call whom.
pub(super) struct CallRequest {
    /// The last part of the path.
    pub(super) route: String,
    /// What may reach the agent.
    pub(super) parameters: BTreeMap<String, String>,
}

/// A session that has been made.
pub(super) struct Begun {
    /// Finds it again; nobody can guess it.
    pub(super) id: String,
    /// The SDP answer.
    pub(super) answer: String,
    /// Names its ICE session, with its quotes.
    pub(super) etag: String,
}

/// An ICE session that has been made anew.
pub(super) struct Restarted {
    /// What the client's checks must be signed with.
    pub(super) credentials: Credentials,
    /// Where we are: `candidate:…`.
    pub(super) candidates: Vec<String>,
    /// Names the new ICE session, with its quotes.
    pub(super) etag: String,
}

/// What HTTP asks of a leg.
pub(super) enum Order {
    /// End the call.
    HangUp,
    /// Expect checks with these from now on.
    Restart(Credentials),
}

/// The sessions that there are.
#[derive(Clone, Default)]
pub(super) struct Sessions(Arc<Mutex<BTreeMap<String, Session>>>);

/// A session. Clones are the same one.
#[derive(Clone)]
pub(super) struct Session {
    id: Arc<str>,
    route: Arc<str>,
    ice: Arc<Mutex<IceSession>>,
    orders: mpsc::Sender<Order>,
    candidates: Arc<[SocketAddr]>,
}

/// What HTTP knows of an ICE session.
struct IceSession {
    /// Its name, with quotes.
    etag: String,
    /// The client's side.
    theirs: Credentials,
}

/// A session's place among the others; dropped when its leg is over.
pub(super) struct Entry {
    id: String,
    sessions: Sessions,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.sessions.table().remove(&self.id);
    }
}

impl Sessions {
    fn table(&self) -> MutexGuard<'_, BTreeMap<String, Session>> {
        // No statement leaves the table half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, id: &str, session: Session) -> Entry {
        self.table().insert(id.to_owned(), session);
        Entry {
            id: id.to_owned(),
            sessions: self.clone(),
        }
    }
}

impl Shared {
    /// Takes an offer: finds a place for the call, answers, and waits for the caller.
    ///
    /// # Errors
    /// Why the offer or the call cannot be taken.
    pub(super) fn begin(
        self: &Arc<Self>,
        offer: &[u8],
        request: CallRequest,
    ) -> Result<Begun, Refused> {
        let offer = Description::parse(offer).map_err(Refused::from)?;
        let ours = Ours {
            codecs: self.config.codecs.clone(),
            fingerprint: self.identity.fingerprint(),
            credentials: new_credentials(),
            candidates: self.candidates.to_vec(),
            session_id: rand::random::<u64>() & SESSION_ID_MASK,
            ssrc: rand::random(),
            cname: self.cname.clone(),
        };
        let answer = description::answer(&ours, &offer).map_err(|reason| {
            tracing::debug!(%reason, "an offer cannot be answered");
            Refused::from(reason)
        })?;
        let id = format!("{:032x}", rand::random::<u128>());
        let info = LegInfo {
            ingress: IngressKind::Whip,
            external_id: id.clone(),
            began: now(),
            from: String::new(),
            to: request.route.clone(),
            domain: String::new(),
            headers: Vec::new(),
            parameters: request.parameters,
            traits: super::traits(answer.agreement.codec.sample_rate()),
        };
        let admission = self.exchange.admit(&info).map_err(Refused::from)?;
        let (orders, received) = mpsc::channel(ORDERS);
        let session = Session {
            id: id.as_str().into(),
            route: request.route.into(),
            ice: Arc::new(Mutex::new(IceSession {
                etag: new_etag(),
                theirs: answer.theirs,
            })),
            orders,
            candidates: self.candidates.clone(),
        };
        let etag = session.etag();
        let leg = LegId(self.next_leg.fetch_add(1, Ordering::Relaxed));
        let datagrams = self.mux.admit(leg, &ours.credentials.ufrag);
        let terms = Terms {
            agreement: answer.agreement,
            has_channels: answer.has_channels,
            credentials: ours.credentials,
            identity: self.identity.clone(),
            cname: ours.cname,
            opus_complexity: self.config.opus_complexity,
            beginning: Beginning {
                ssrc: ours.ssrc,
                sequence: rand::random(),
                timestamp: rand::random(),
                seed: rand::random(),
            },
        };
        let parts = Parts {
            shared: self.clone(),
            entry: self.sessions.add(&id, session),
            id: leg,
            peer: Peer::new(terms, now()),
            has_channels: answer.has_channels,
            datagrams,
            orders: received,
            admission,
            info,
        };
        let span = tracing::info_span!("whip", session = id);
        tokio::spawn(leg::run(parts).instrument(span));
        Ok(Begun {
            id,
            answer: answer.description.to_string(),
            etag,
        })
    }

    /// The session with this id, while it lives.
    pub(super) fn find(&self, id: &str) -> Option<Session> {
        self.sessions.table().get(id).cloned()
    }

    /// Ends a session's call, if nobody else has. It cannot be found any more, whatever its leg still has to say.
    pub(super) fn hang_up(&self, session: &Session) {
        self.sessions.table().remove(&*session.id);
        // It is ending, or has ended: restarts leave it a place.
        let _ = session.orders.try_send(Order::HangUp);
    }
}

impl Session {
    /// The route by which it came.
    pub(super) fn route(&self) -> &str {
        &self.route
    }

    /// Names its ICE session, with its quotes.
    pub(super) fn etag(&self) -> String {
        self.ice().etag.clone()
    }

    /// Whether these are the client's credentials in its present ICE session, so that no other is asked for.
    pub(super) fn is_current(&self, theirs: &Credentials) -> bool {
        self.ice().theirs == *theirs
    }

    /// Whether both differ from the client's present credentials, as those of a restart do (RFC 8445 §9).
    pub(super) fn is_updated_by(&self, theirs: &Credentials) -> bool {
        let present = &self.ice().theirs;
        theirs.ufrag != present.ufrag && theirs.pwd != present.pwd
    }

    /// Makes the ICE session anew.
    ///
    /// # Errors
    /// If the session is over, or several restarts are already waiting.
    pub(super) fn restart(&self, theirs: Credentials) -> Result<Restarted, Refused> {
        let mut ice = self.ice();
        // The last place is the hang-up's.
        if self.orders.capacity() <= 1 {
            return Err(Refused::RestartUnderWay);
        }
        let credentials = new_credentials();
        let order = Order::Restart(credentials.clone());
        self.orders.try_send(order).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refused::RestartUnderWay,
            mpsc::error::TrySendError::Closed(_) => Refused::NoSession,
        })?;
        *ice = IceSession {
            etag: new_etag(),
            theirs,
        };
        let candidates = description::candidates(&self.candidates);
        Ok(Restarted {
            credentials,
            candidates: candidates.map(|it| format!("candidate:{it}")).collect(),
            etag: ice.etag.clone(),
        })
    }

    fn ice(&self) -> MutexGuard<'_, IceSession> {
        self.ice.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<ParseError> for Refused {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::NotSdp | ParseError::MediaLine => Self::BadOffer,
            ParseError::TooLong
            | ParseError::TooManyMedia
            | ParseError::TooManyFormats
            | ParseError::TooManyAttributes => Self::TooManyLines,
        }
    }
}

impl From<Unusable> for Refused {
    fn from(reason: Unusable) -> Self {
        match reason {
            Unusable::SeveralAudioLines => Self::SeveralAudioLines,
            Unusable::NoIce => Self::NoIceCredentials,
            Unusable::NoRtcpMux => Self::NoRtcpMux,
            Unusable::Sdp(refusal) => match refusal {
                Refusal::NoAudio => Self::NoAudio,
                Refusal::UnknownTransport => Self::UnknownTransport,
                Refusal::NoCommonCodec => Self::NoCommonCodec,
                Refusal::SecurityRequired
                | Refusal::SecurityOff
                | Refusal::NoCommonKeying
                | Refusal::NoUsableAddress
                | Refusal::OtherAddressFamily => Self::NoFingerprint,
            },
        }
    }
}

fn new_credentials() -> Credentials {
    Credentials::new(&rand::random())
}

fn new_etag() -> String {
    format!("\"{:016x}\"", rand::random::<u64>())
}
