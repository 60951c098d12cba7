//! A stand-in for sessions, so that the HTTP side can be built and tested: it takes a place, remembers entity tags and
//! knows nothing of media.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;

use uuid::Uuid;

use super::Shared;
use super::refused::Refused;
use crate::engine::call::settings::LegTraits;
use crate::engine::media::frame::SampleRate;
use crate::io::ingress::Admission;
use crate::io::leg::IngressKind;
use crate::io::leg::LegInfo;

/// A call that is asked for.
pub(super) struct CallRequest {
    /// The last part of the path.
    pub(super) route: String,
    /// Session parameters that may reach the agent.
    pub(super) parameters: BTreeMap<String, String>,
}

/// A session that has begun.
#[derive(Debug)]
pub(super) struct Begun {
    /// Its name, unguessable.
    pub(super) id: String,
    /// Our SDP.
    pub(super) answer: String,
    /// The entity tag of its first ICE session, with its quotes.
    pub(super) etag: String,
}

/// One side's user fragment and password (RFC 8839 §5.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IceCredentials {
    /// The user fragment.
    pub(super) ufrag: String,
    /// The password.
    pub(super) pwd: String,
}

/// An ICE session that has taken another's place.
#[derive(Debug)]
pub(super) struct Restarted {
    /// Ours, new.
    pub(super) credentials: IceCredentials,
    /// Our candidates: `candidate:…`.
    pub(super) candidates: Vec<String>,
    /// The entity tag of the new ICE session, with its quotes.
    pub(super) etag: String,
}

/// A handle on a session.
#[derive(Clone)]
pub(super) struct Session(Arc<Inner>);

struct Inner {
    route: String,
    etag: Mutex<String>,
    place: Mutex<Option<Box<dyn Admission>>>,
}

fn etag() -> String {
    format!("\"{}\"", Uuid::new_v4().simple())
}

impl Shared {
    pub(super) async fn begin(
        self: &Arc<Self>,
        offer: &[u8],
        request: CallRequest,
    ) -> Result<Begun, Refused> {
        if !offer.starts_with(b"v=0") {
            return Err(Refused::BadOffer);
        }
        let id = Uuid::new_v4().simple().to_string();
        let info = LegInfo {
            ingress: IngressKind::Whip,
            external_id: id.clone(),
            from: String::new(),
            to: request.route.clone(),
            domain: String::new(),
            headers: Vec::new(),
            parameters: request.parameters,
            traits: LegTraits {
                rate: SampleRate::HZ_16000,
                lead: std::time::Duration::ZERO,
                confirms_playout: false,
                continuous: true,
                rings: None,
                transfers: false,
            },
        };
        let place = self.exchange.admit(&info)?;
        let session = Session(Arc::new(Inner {
            route: request.route,
            etag: Mutex::new(etag()),
            place: Mutex::new(Some(place)),
        }));
        let begun = Begun {
            id: id.clone(),
            answer: "v=0\r\n".to_owned(),
            etag: session.etag(),
        };
        self.sessions.lock().expect("no panic").insert(id, session);
        Ok(begun)
    }

    pub(super) fn find(&self, id: &str) -> Option<Session> {
        let session = self.sessions.lock().expect("no panic").get(id).cloned()?;
        let is_on = session.0.place.lock().expect("no panic").is_some();
        is_on.then_some(session)
    }
}

impl Session {
    pub(super) fn route(&self) -> &str {
        &self.0.route
    }

    pub(super) fn etag(&self) -> String {
        self.0.etag.lock().expect("no panic").clone()
    }

    pub(super) fn hang_up(&self) {
        self.0.place.lock().expect("no panic").take();
    }

    pub(super) async fn restart(&self, remote: IceCredentials) -> Result<Restarted, Refused> {
        let etag = etag();
        *self.0.etag.lock().expect("no panic") = etag.clone();
        let id = Uuid::new_v4().simple().to_string();
        Ok(Restarted {
            credentials: IceCredentials {
                ufrag: id[..remote.ufrag.len().clamp(4, 8)].to_owned(),
                pwd: id,
            },
            candidates: vec!["candidate:1 1 udp 2130706431 127.0.0.1 10443 typ host".to_owned()],
            etag,
        })
    }
}
