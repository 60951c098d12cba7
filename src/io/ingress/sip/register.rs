//! Being an extension: REGISTER at each of `sip.register`, refreshed by what the registrar grants, tried again with
//! patience when it does not answer, and taken back when the gateway stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rsipstack::dialog::authenticate::Credential;
use rsipstack::dialog::registration::RefreshOutcome;
use rsipstack::dialog::registration::Registration;
use rsipstack::sip::Host;
use rsipstack::sip::HostWithPort;
use rsipstack::sip::Port;
use rsipstack::sip::Transport;
use rsipstack::sip::Uri;
use rsipstack::sip::typed::Contact;
use tokio_util::sync::CancellationToken;

use super::contact;
use super::measure;
use super::switchboard::Switchboard;
use crate::config::SipRegister;
use crate::io::ingress::Exchange;

/// How long a registration is taken back for, at most, when the gateway stops.
const GOODBYE: Duration = Duration::from_secs(1);

/// Starts to register every extension, until the gateway drains: a PBX must not send calls that would be refused.
pub(super) fn start(boards: &[Arc<Switchboard>], stopped: &CancellationToken) {
    let Some(first) = boards.first() else {
        return;
    };
    let leaving = stopped.child_token();
    tokio::spawn(watch_for_drain(
        first.shared.exchange.clone(),
        leaving.clone(),
    ));
    for extension in &first.shared.sip.register {
        let Ok(registrar) = Uri::try_from(extension.registrar.as_str()) else {
            tracing::error!(
                registrar = extension.registrar,
                "a registrar's address cannot be read"
            );
            continue;
        };
        let board = boards
            .iter()
            .find(|board| board.port(transport(&registrar)).is_some())
            .unwrap_or(first);
        tokio::spawn(keep(
            board.clone(),
            extension.clone(),
            registrar,
            leaving.clone(),
        ));
    }
}

async fn watch_for_drain(exchange: Arc<dyn Exchange>, leaving: CancellationToken) {
    /// How soon a drain is noticed.
    const LOOK_EVERY: Duration = Duration::from_millis(200);
    while !exchange.is_draining() && !leaving.is_cancelled() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    leaving.cancel();
}

fn transport(uri: &Uri) -> Transport {
    use rsipstack::sip::uri::ParamsExt as _;
    match uri.scheme {
        Some(rsipstack::sip::Scheme::Sips) => Transport::Tls,
        _ => uri.transport().copied().unwrap_or(Transport::Udp),
    }
}

/// Keeps one extension registered until `stopped`.
async fn keep(
    board: Arc<Switchboard>,
    extension: SipRegister,
    registrar: Uri,
    leaving: CancellationToken,
) {
    let mut registration = Registration::new(board.endpoint.clone(), Some(credential(&extension)));
    let way = find(&registrar).await;
    let seen_as = board.seen_by(way.map_or(board.address, |address| address.ip()));
    let transport = transport(&registrar);
    let uri = contact::uri(&board, transport, seen_as, &extension.username);
    registration.contact = Some(Contact {
        display_name: None,
        uri,
        params: Vec::new(),
    });
    let mut registrar = registrar;
    if let Some(domain) = &extension.domain
        && let Ok(host) = Host::try_from(domain.as_str())
    {
        // The address of record is of the domain; the way there is to the registrar.
        registrar.host_with_port = HostWithPort { host, port: None };
        registration.outbound_proxy = way;
    }
    let expires = extension.expires.as_secs() as u32;
    let mut is_registered = false;
    let kept = registration.keep_alive(registrar.clone(), expires, leaving, |outcome| {
        let result = match &outcome {
            RefreshOutcome::Registered(_) => measure::Registration::Ok,
            RefreshOutcome::Rejected(_) => measure::Registration::Refused,
            RefreshOutcome::Failed(_) => measure::Registration::Failed,
        };
        measure::registration(result);
        let is_now = matches!(outcome, RefreshOutcome::Registered(_));
        if is_now != is_registered {
            is_registered = is_now;
            measure::registered(is_now);
            tell(&extension, &outcome);
        } else if !is_now {
            tell(&extension, &outcome);
        }
    });
    kept.await;
    if is_registered {
        let goodbye = registration.register(registrar, Some(0));
        // Nobody waits for it: the registration runs out by itself.
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
        measure::registered(false);
    }
}

/// What we answer a PBX with that asks who we are in the middle of a call which it has sent to one of our extensions.
pub(super) fn credential_of(board: &Switchboard, called: &Uri) -> Option<Credential> {
    let called = called.user()?;
    let mut extensions = board.shared.sip.register.iter();
    extensions
        .find(|extension| extension.username == called)
        .map(credential)
}

fn credential(extension: &SipRegister) -> Credential {
    Credential {
        username: extension.username.clone(),
        password: extension.password.reveal().to_owned(),
        realm: None,
        auth_username: extension.auth_username.clone(),
    }
}

/// Where a registrar is; `None` if its name leads nowhere at present, and then the stack goes on asking.
async fn find(registrar: &Uri) -> Option<SocketAddr> {
    let host = registrar.host_with_port.host.to_string();
    let default = if transport(registrar) == Transport::Tls {
        5061
    } else {
        5060
    };
    let port = registrar
        .host_with_port
        .port
        .as_ref()
        .map_or(default, Port::value);
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    tokio::net::lookup_host((host, port)).await.ok()?.next()
}

fn tell(extension: &SipRegister, outcome: &RefreshOutcome<'_>) {
    let (registrar, username) = (&extension.registrar, &extension.username);
    match outcome {
        RefreshOutcome::Registered(_) => tracing::info!(registrar, username, "registered"),
        RefreshOutcome::Rejected(answer) => {
            let status = answer.status_code.code();
            tracing::warn!(registrar, username, status, "a registration was refused");
        }
        RefreshOutcome::Failed(error) => {
            tracing::warn!(registrar, username, %error, "a registration came to nothing");
        }
    }
}
