//! Requests of our own within a call: refreshes and REFER. Each goes out in a task, since the peer may take half a minute
//! to answer, and comes back as an [`Outcome`].

use std::time::Duration;
use std::time::Instant;

use rsipstack::dialog::dialog::Dialog;
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::sip::From;
use rsipstack::sip::Header;
use rsipstack::sip::HeadersExt as _;
use rsipstack::sip::Method;
use rsipstack::sip::Request;
use rsipstack::sip::Response;
use tokio::sync::mpsc;
use tracing::debug;

use crate::engine::call::event::Transfer;
use crate::engine::destination::Destination;
use crate::io::ingress::handoff;
use crate::io::ingress::sip::message;
use crate::io::ingress::sip::message::field;
use crate::io::ingress::sip::session_timer;
use crate::io::ingress::sip::session_timer::SessionExpires;

/// Outcomes that may wait: one refresh and one transfer at a time.
const OUTCOMES: usize = 4;

/// What came of a request.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A refresh was answered; `None` if it was not.
    Refreshed(Option<Refreshed>),
    /// A transfer was carried out, or not.
    Transferred(Result<(), String>),
    /// The so-manyth REFER was refused, or not answered: nothing may be waiting for that any more.
    ReferRefused(u32, String),
}

/// The answer to a refresh.
#[derive(Debug)]
pub(super) struct Refreshed {
    pub(super) status: u16,
    pub(super) session_expires: Option<SessionExpires>,
    pub(super) min_se: Option<Duration>,
    /// The peer's description, if there is one.
    pub(super) description: Vec<u8>,
}

/// What is under way.
pub(super) struct Requests {
    dialog: InviteDialog,
    outcomes: mpsc::Sender<Outcome>,
    is_refreshing: bool,
    /// When we stop waiting to hear how a transfer went.
    transfer_until: Option<Instant>,
    /// REFERs that were sent.
    refers: u32,
}

impl Requests {
    pub(super) fn new(dialog: InviteDialog) -> (Self, mpsc::Receiver<Outcome>) {
        let (sender, receiver) = mpsc::channel(OUTCOMES);
        let requests = Self {
            dialog,
            outcomes: sender,
            is_refreshing: false,
            transfer_until: None,
            refers: 0,
        };
        (requests, receiver)
    }

    /// Whether a refresh of ours is not answered yet.
    pub(super) const fn is_refreshing(&self) -> bool {
        self.is_refreshing
    }

    /// When we stop waiting for something.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.transfer_until
    }

    /// Sends a refresh.
    pub(super) fn refresh(&mut self, method: Method, headers: Vec<Header>, body: Vec<u8>) {
        self.is_refreshing = true;
        let mut headers = headers;
        if !body.is_empty() {
            headers.push(field("Content-Type", message::SDP));
        }
        let body = (!body.is_empty()).then_some(body);
        let (dialog, outcomes) = (self.dialog.clone(), self.outcomes.clone());
        tokio::spawn(async move {
            let answer = match method {
                Method::Invite => dialog.reinvite(Some(headers), body).await,
                _ => dialog.update(Some(headers), body).await,
            };
            let answer = answer.ok().flatten().map(refreshed);
            // A leg that is over needs no outcome.
            let _ = outcomes.send(Outcome::Refreshed(answer)).await;
        });
    }

    /// A refresh has come to its end.
    pub(super) const fn refresh_ended(&mut self) {
        self.is_refreshing = false;
    }

    /// Asks the caller's side to call someone else instead of us (RFC 3515).
    pub(super) fn transfer(&mut self, transfer: &Transfer, until: Instant) {
        let Some(target) = self.target(&transfer.to) else {
            let unusable = Err("the agent named no number and no address".to_owned());
            let _ = self.outcomes.try_send(Outcome::Transferred(unusable));
            return;
        };
        self.transfer_until = Some(until);
        self.refers += 1;
        let refer = self.refers;
        let mut headers: Vec<Header> = handoff::headers(&transfer.metadata)
            .into_iter()
            .map(|(name, value)| field(&name, value))
            .collect();
        headers.push(field("Referred-By", format!("<{}>", self.our_address())));
        let (dialog, outcomes) = (self.dialog.clone(), self.outcomes.clone());
        tokio::spawn(async move {
            let answer = dialog
                .refer(format!("<{target}>"), Some(headers), None)
                .await;
            let failure = match answer {
                // NOTIFY tells the rest.
                Ok(Some(answer)) if answer.status_code.code() / 100 == 2 => return,
                Ok(Some(answer)) => answer.status_code.to_string(),
                Ok(None) => "REFER was not answered".to_owned(),
                Err(error) => error.to_string(),
            };
            let _ = outcomes.send(Outcome::ReferRefused(refer, failure)).await;
        });
    }

    /// Whether it is still waited for what becomes of this REFER.
    pub(super) fn awaits(&self, refer: u32) -> bool {
        self.refers == refer && self.transfer_until.is_some()
    }

    /// Reads a NOTIFY that has been answered. If it tells how the transfer went, that is an outcome, a moment later: our BYE
    /// belongs to another transaction and would overtake the answer that the stack is still sending.
    pub(super) fn on_notify(&mut self, notify: &Request) {
        const ANSWER_TAKES: Duration = Duration::from_millis(100);
        let Some(result) = self.fate(notify) else {
            return;
        };
        let outcomes = self.outcomes.clone();
        tokio::spawn(async move {
            tokio::time::sleep(ANSWER_TAKES).await;
            let _ = outcomes.send(Outcome::Transferred(result)).await;
        });
    }

    /// How the transfer went, if a NOTIFY tells.
    fn fate(&mut self, notify: &Request) -> Option<Result<(), String>> {
        self.transfer_until?;
        let event = message::value(notify, "Event").unwrap_or_default();
        if !event.to_ascii_lowercase().starts_with("refer") {
            return None;
        }
        let status = sipfrag_status(&notify.body);
        let is_over = message::value(notify, "Subscription-State")
            .is_some_and(|state| state.to_ascii_lowercase().starts_with("terminated"));
        let result = match status {
            Some(status) if status / 100 == 2 => Ok(()),
            Some(status) if status >= 300 => Err(format!("the new call was answered {status}")),
            _ if is_over => Err("the new call's fate is not told".to_owned()),
            _ => return None,
        };
        self.transfer_until = None;
        Some(result)
    }

    /// Whether a transfer that nobody speaks of any more has failed.
    pub(super) fn tick(&mut self, now: Instant) -> Option<Outcome> {
        self.transfer_until.take_if(|until| *until <= now)?;
        let silence = "nothing was heard of the transfer in time".to_owned();
        Some(Outcome::Transferred(Err(silence)))
    }

    /// A transfer has come to its end.
    pub(super) const fn transfer_ended(&mut self) {
        self.transfer_until = None;
    }

    /// Requests of ours go to the Contact of the peer's latest request that may change it (RFC 3261 §12.2.2).
    pub(super) fn refresh_target(&self, request: &Request) {
        let Some(target) = message::contact_uri(request) else {
            return;
        };
        let contact = request.contact_header().ok().cloned();
        Dialog::Invite(self.dialog.clone()).set_remote_target(target, contact);
    }

    /// Whom to name in Refer-To: a URI as it stands, a number at the caller's own domain.
    fn target(&self, to: &str) -> Option<String> {
        match Destination::parse(to)? {
            Destination::SipUri(uri) => Some(uri),
            Destination::Number(number) => {
                let request = self.dialog.initial_request();
                let host = request.from_header().and_then(From::uri).ok()?;
                let user = number.replace('#', "%23");
                Some(format!("sip:{user}@{}", host.host_with_port))
            }
        }
    }

    fn our_address(&self) -> String {
        let uri = self.dialog.initial_request().uri;
        format!(
            "sip:{}@{}",
            uri.user().unwrap_or("tandem"),
            uri.host_with_port
        )
    }
}

fn refreshed(answer: Response) -> Refreshed {
    let session_expires = message::value(&answer, "Session-Expires").and_then(SessionExpires::read);
    let min_se = message::value(&answer, "Min-SE").and_then(session_timer::seconds);
    debug!(status = answer.status_code.code(), "a refresh was answered");
    Refreshed {
        status: answer.status_code.code(),
        session_expires,
        min_se,
        description: answer.body,
    }
}

/// The status in a `message/sipfrag` body (RFC 3420).
fn sipfrag_status(body: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(body);
    let line = text.lines().find(|line| line.starts_with("SIP/2.0 "))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sipfrag_tells_its_status() {
        assert_eq!(sipfrag_status(b"SIP/2.0 200 OK\r\n"), Some(200));
        assert_eq!(sipfrag_status(b"\r\nSIP/2.0 603 Decline"), Some(603));
        assert_eq!(sipfrag_status(b"SIP/2.0 OK"), None);
        assert_eq!(sipfrag_status(b"\xff\xfe"), None);
    }
}
