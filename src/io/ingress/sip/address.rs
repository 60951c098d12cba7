//! Which address of ours a peer sees.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::UdpSocket;

/// The address from which packets to `peer` leave this machine; `None` if there is no way there. Sends nothing: a UDP
/// socket that is connected merely asks the routing table.
pub(super) fn towards(peer: IpAddr) -> Option<IpAddr> {
    /// Any port will do for asking.
    const PORT: u16 = 9;
    let any: IpAddr = match peer {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(SocketAddr::new(peer, PORT)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_sees_us_at_its_own_address() {
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(towards(here), Some(here));
    }
}
