//! A new call: from an INVITE to a ringing leg, or to the refusal that says what was wrong with it.
//!
//! The order of the checks is that of their cost: what the message says of itself, what its SDP offers, whether the
//! gateway has a place, and only then a port and a dialog.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use rsipstack::dialog::dialog::Dialog;
use rsipstack::sip::CSeq;
use rsipstack::sip::Header;
use rsipstack::sip::HeadersExt as _;
use rsipstack::sip::Request;
use rsipstack::sip::StatusCode;
use rsipstack::transaction::transaction::Transaction;
use tracing::Instrument as _;
use tracing::debug;

use super::contact;
use super::gate::RETRY_AFTER_SECONDS;
use super::leg;
use super::leg::Media;
use super::leg::Negotiation;
use super::leg::Parts;
use super::measure;
use super::message;
use super::message::field;
use super::refused::Refused;
use super::register;
use super::reliable;
use super::reliable::Reliable;
use super::router;
use super::session_timer;
use super::session_timer::Asked;
use super::session_timer::Plan;
use super::switchboard::Switchboard;
use crate::engine::sdp::agreement::Agreement;
use crate::io::clock::now;
use crate::io::ingress::Admission;
use crate::io::ingress::Refusal as NotAdmitted;
use crate::io::leg::IngressKind;
use crate::io::leg::LegInfo;
use crate::io::leg::leg;

/// Header fields of an INVITE that routes may ask for; more are not looked at.
const MAX_HEADERS: usize = 64;

/// Why an INVITE is not taken, as its sender is told.
struct NotTaken {
    status: StatusCode,
    headers: Vec<Header>,
}

/// Everything that is known of a call before it has a dialog.
struct Prepared {
    info: LegInfo,
    admission: Box<dyn Admission>,
    negotiation: Negotiation,
    /// `None` where the caller leaves the offer to us.
    agreement: Option<Agreement>,
    description: Vec<u8>,
    media: Media,
    plan: Plan,
}

/// Takes an INVITE that begins a call.
pub(super) async fn take(board: Arc<Switchboard>, mut transaction: Transaction) {
    let prepared = match prepare(&board, &transaction) {
        Ok(prepared) => prepared,
        Err(not_taken) => {
            router::answer(&mut transaction, not_taken.status, not_taken.headers).await;
            return;
        }
    };
    let request = &transaction.original;
    let contact = contact::ours(&board, &transaction);
    let (states_in, states) = board.dialogs.new_dialog_state_channel();
    let credential = register::credential_of(&board, &request.uri);
    let dialog = board.dialogs.get_or_create_server_invite(
        &transaction,
        states_in,
        credential,
        Some(contact),
    );
    let Ok(mut dialog) = dialog else {
        measure::refused(Refused::NoDialog);
        router::answer(&mut transaction, StatusCode::BadRequest, Vec::new()).await;
        return;
    };
    if let Some(target) = contact::behind_nat(&transaction) {
        Dialog::Invite(dialog.clone())
            .set_remote_target(target, request.contact_header().ok().cloned());
    }
    let (connected, signals) = board.connect(dialog.id());
    let wants_prack = reliable::names_extension(message::values(request, "Require"), "100rel");
    let sequence = request.cseq_header().and_then(CSeq::seq);
    let provisional =
        wants_prack.then(|| Reliable::new(sequence.unwrap_or_default(), rand::random()));
    let call_id = prepared.info.external_id.clone();
    let (call_side, port) = leg(prepared.info);
    prepared.admission.connect(call_side);
    let parts = Parts {
        connected,
        dialog: dialog.clone(),
        states,
        signals,
        port,
        media: prepared.media,
        negotiation: prepared.negotiation,
        agreement: prepared.agreement,
        plan: prepared.plan,
        description: prepared.description,
        provisional,
    };
    tokio::spawn(leg::run(parts).instrument(tracing::info_span!("leg", call_id)));
    // The stack's part: 100, CANCEL, the 200 again and again until its ACK is here.
    if let Err(error) = dialog.handle(&mut transaction).await {
        debug!(%error, "an INVITE came to nothing");
    }
}

fn prepare(board: &Switchboard, transaction: &Transaction) -> Result<Prepared, NotTaken> {
    let now = now();
    let request = &transaction.original;
    let peer = contact::source(transaction);
    check_password(board, transaction, now)?;
    check_extensions(request)?;
    let plan = session_timer::negotiate(board.shared.timer_settings(), &asked(request));
    let plan = plan.map_err(|refusal| {
        let min_se = refusal.min_se.as_secs().to_string();
        not_taken(
            Refused::Interval,
            StatusCode::SessionIntervalTooSmall,
            vec![field("Min-SE", min_se)],
        )
    })?;
    let body_type = message::body_type(request);
    if !request.body.is_empty() && body_type != message::SDP {
        let accept = field("Accept", message::SDP);
        return Err(not_taken(
            Refused::MediaType,
            StatusCode::UnsupportedMediaType,
            vec![accept],
        ));
    }
    let seen_as = board.seen_by(peer.ip());
    let advertised = board.shared.media_address(seen_as);
    let mut negotiation = Negotiation::new(&board.shared, advertised);
    // Asked before there is a port: the offer decides whether this can be a call at all.
    if !request.body.is_empty() {
        negotiation.rehearse(&request.body).map_err(no_media)?;
    }
    let info = leg_info(board, request, &negotiation, now);
    let admission = board.shared.exchange.admit(&info).map_err(not_admitted)?;
    let ports = board.shared.ports.open(board.address).map_err(|error| {
        tracing::warn!(%error, "no RTP port for a call");
        let later = field("Retry-After", RETRY_AFTER_SECONDS);
        not_taken(Refused::NoPort, StatusCode::ServiceUnavailable, vec![later])
    })?;
    negotiation.set_ports(ports.rtp_port, ports.rtp_port + 1);
    let media = Media::new(ports, &board.shared, info.traits.rate, now);
    let (description, agreement) = if request.body.is_empty() {
        (negotiation.offer(), None)
    } else {
        let (description, agreement) = negotiation.answer(&request.body).map_err(no_media)?;
        (description, Some(agreement))
    };
    Ok(Prepared {
        info,
        admission,
        negotiation,
        agreement,
        description,
        media,
        plan,
    })
}

/// Over UDP the gate has asked already; a connection's messages come straight from the stack.
fn check_password(
    board: &Switchboard,
    transaction: &Transaction,
    now: Instant,
) -> Result<(), NotTaken> {
    let is_judged = transaction
        .connection
        .as_ref()
        .is_some_and(|connection| !connection.is_reliable());
    if is_judged {
        return Ok(());
    }
    let authorizations = message::values(&transaction.original, "Authorization");
    let checked = board
        .shared
        .gate
        .check_password("INVITE", authorizations, now);
    checked.map_err(|challenge| {
        let headers = challenge
            .values
            .into_iter()
            .map(|value| field("WWW-Authenticate", value))
            .collect();
        not_taken(Refused::Unauthorised, StatusCode::Unauthorized, headers)
    })
}

fn check_extensions(request: &Request) -> Result<(), NotTaken> {
    let unsupported = reliable::required_extensions(message::values(request, "Require"));
    if unsupported.is_empty() {
        return Ok(());
    }
    let unsupported = field("Unsupported", unsupported.join(", "));
    Err(not_taken(
        Refused::Extension,
        StatusCode::BadExtension,
        vec![unsupported],
    ))
}

/// What a request says of the session's timer.
pub(super) fn asked(request: &Request) -> Asked {
    let headers = request.headers.iter();
    Asked::read(headers.map(|header| (header.name(), header.value())))
}

fn not_taken(reason: Refused, status: StatusCode, headers: Vec<Header>) -> NotTaken {
    measure::refused(reason);
    debug!(reason = reason.label(), %status, "an INVITE is refused");
    NotTaken { status, headers }
}

fn no_media(reason: Refused) -> NotTaken {
    not_taken(reason, media_status(reason), Vec::new())
}

/// How a description that cannot be used is refused.
pub(super) fn media_status(reason: Refused) -> StatusCode {
    if reason == Refused::BadSdp {
        StatusCode::BadRequest
    } else {
        StatusCode::NotAcceptableHere
    }
}

/// The registry has counted it.
fn not_admitted(refusal: NotAdmitted) -> NotTaken {
    let (status, headers) = match refusal {
        NotAdmitted::Busy | NotAdmitted::Draining => {
            let later = field("Retry-After", RETRY_AFTER_SECONDS);
            (StatusCode::ServiceUnavailable, vec![later])
        }
        NotAdmitted::NoRoute => (StatusCode::NotFound, Vec::new()),
    };
    NotTaken { status, headers }
}

fn leg_info(
    board: &Switchboard,
    request: &Request,
    negotiation: &Negotiation,
    now: Instant,
) -> LegInfo {
    let wanted = &board.shared.sip.parameters;
    let parameters: BTreeMap<String, String> = wanted
        .iter()
        .filter_map(|name| Some((name.clone(), message::value(request, name)?.to_owned())))
        .collect();
    let headers = request.headers.iter().take(MAX_HEADERS);
    LegInfo {
        ingress: IngressKind::Sip,
        external_id: message::value(request, "Call-ID")
            .unwrap_or_default()
            .to_owned(),
        began: now,
        from: message::user(message::value(request, "From").unwrap_or_default()),
        to: message::number(request.uri.user().unwrap_or_default()),
        domain: request.uri.host().to_string(),
        headers: headers
            .filter(|header| !header.name().eq_ignore_ascii_case("Authorization"))
            .map(|header| (header.name().to_owned(), header.value().to_owned()))
            .collect(),
        parameters,
        traits: super::traits(negotiation.rate(), board.shared.sip.answer_within),
    }
}
