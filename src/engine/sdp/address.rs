//! Where a stream's packets and reports go.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;

use crate::engine::sdp::agreement::Refusal;
use crate::engine::sdp::description::Connection;

/// Where the peer wants packets and reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remote {
    pub(super) rtp: Option<SocketAddr>,
    /// Where it does not share the port of RTP.
    pub(super) rtcp: Option<SocketAddr>,
}

/// Reads `c=`, the port of the line and its `a=rtcp`, for somebody who sends from `ours`.
pub(super) fn remote(
    connection: Option<&Connection>,
    port: u16,
    rtcp: Option<&str>,
    ours: IpAddr,
) -> Result<Remote, Refusal> {
    let Some(address) = destination(connection, ours)? else {
        return Ok(Remote {
            rtp: None,
            rtcp: None,
        });
    };
    let rtcp = match rtcp {
        Some(value) => explicit_rtcp(value, address, ours),
        // The next port (RFC 3550 §11).
        None => port
            .checked_add(1)
            .map(|port| SocketAddr::new(address, port)),
    };
    Ok(Remote {
        rtp: Some(SocketAddr::new(address, port)),
        rtcp,
    })
}

/// The address to send to; `None` if the peer is nowhere for the moment.
fn destination(connection: Option<&Connection>, ours: IpAddr) -> Result<Option<IpAddr>, Refusal> {
    match connection {
        None => Err(Refusal::NoUsableAddress),
        // 0.0.0.0 was hold before there was `sendonly` (RFC 3264 §8.4).
        Some(Connection::Ip(address)) if address.to_canonical().is_unspecified() => Ok(None),
        Some(Connection::Ip(address)) => reachable(*address, ours).map(Some),
        // The same in IPv6 (RFC 6157), and what a side writes that has no port yet.
        Some(Connection::Other(text)) if is_invalid_name(text) => Ok(None),
        Some(Connection::Other(_)) => Err(Refusal::NoUsableAddress),
    }
}

/// `a=rtcp:4001` or `a=rtcp:4001 IN IP4 192.0.2.1` (RFC 3605). What cannot be read or reached gets no reports.
fn explicit_rtcp(value: &str, rtp: IpAddr, ours: IpAddr) -> Option<SocketAddr> {
    let (port, address) = match value.split_once(' ') {
        Some((port, address)) => (port, Connection::parse_ip(address)?),
        None => (value, rtp),
    };
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let address = reachable(address, ours).ok()?;
    (!address.is_unspecified()).then(|| SocketAddr::new(address, port))
}

fn reachable(address: IpAddr, ours: IpAddr) -> Result<IpAddr, Refusal> {
    let address = address.to_canonical();
    // One caller must not make us speak to many.
    if address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Err(Refusal::NoUsableAddress);
    }
    if address.is_ipv4() != ours.to_canonical().is_ipv4() {
        return Err(Refusal::OtherAddressFamily);
    }
    Ok(address)
}

fn is_invalid_name(connection: &str) -> bool {
    let name = connection.rsplit(' ').next().unwrap_or_default();
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name.ends_with(".invalid")
}
