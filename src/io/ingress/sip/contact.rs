//! Where requests of a call go, theirs and ours.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;

use rsipstack::sip::Host;
use rsipstack::sip::HostWithPort;
use rsipstack::sip::Param;
use rsipstack::sip::Scheme;
use rsipstack::sip::Transport;
use rsipstack::sip::Uri;
use rsipstack::transaction::transaction::Transaction;
use rsipstack::transport::SipConnection;

use super::message;
use super::switchboard::Switchboard;

/// The user part of our Contact.
const USER: &str = "tandem";

/// Where a request came from.
pub(super) fn source(transaction: &Transaction) -> SocketAddr {
    let unknown = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let remote = transaction
        .connection
        .as_ref()
        .and_then(|connection| connection.get_remote_addr());
    remote
        .and_then(|address| address.get_socketaddr().ok())
        .unwrap_or(unknown)
}

/// By what a request came.
fn transport(transaction: &Transaction) -> Transport {
    transaction
        .connection
        .as_ref()
        .map_or(Transport::Udp, SipConnection::transport)
}

/// Our Contact for the peer of a transaction: the advertised address, else the one that the peer sees.
pub(super) fn ours(board: &Switchboard, transaction: &Transaction) -> Uri {
    let transport = transport(transaction);
    let seen_as = board.seen_by(source(transaction).ip());
    uri(board, transport, seen_as, USER)
}

/// Our address for `transport`, with `user`.
pub(super) fn uri(board: &Switchboard, transport: Transport, seen_as: IpAddr, user: &str) -> Uri {
    let host = match &board.shared.sip.advertised_address {
        Some(name) => Host::try_from(name.as_str()).unwrap_or(Host::IpAddr(seen_as)),
        None => Host::IpAddr(seen_as),
    };
    let mut params = Vec::new();
    if transport != Transport::Udp {
        params.push(Param::Transport(transport));
    }
    Uri {
        scheme: Some(Scheme::Sip),
        auth: Some(rsipstack::sip::uri::Auth {
            user: user.to_owned(),
            password: None,
        }),
        host_with_port: HostWithPort {
            host,
            port: board.port(transport).map(Into::into),
        },
        params,
        headers: Vec::new(),
    }
}

/// Where requests to a caller behind a NAT must go: whence theirs came, if no proxy is between us and their Contact has
/// an address from which they did not come (field notes 23).
pub(super) fn behind_nat(transaction: &Transaction) -> Option<Uri> {
    let request = &transaction.original;
    if message::value(request, "Record-Route").is_some() || transport(transaction) != Transport::Udp
    {
        return None;
    }
    let mut target = message::contact_uri(request)?;
    let source = source(transaction);
    let Host::IpAddr(named) = target.host_with_port.host else {
        return None;
    };
    // A public address is meant, even where a proxy has sent the request; a private one cannot be reached from afar.
    if named == source.ip() || !is_private(named) {
        return None;
    }
    target.host_with_port = source.into();
    Some(target)
}

fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            address.is_private() || address.is_loopback() || address.is_link_local()
        }
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    }
}
