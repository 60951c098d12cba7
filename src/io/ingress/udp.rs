//! UDP sockets for media and signalling.

use std::io;
use std::net::SocketAddr;

use socket2::Domain;
use socket2::Protocol;
use socket2::Socket;
use socket2::Type;
use tokio::net::UdpSocket;

/// Opens a socket whose receive buffer holds `receive_buffer_bytes` (the system may allow less). One of IPv6 is not one of
/// IPv4 too, whatever the system's default: those are listed on their own.
///
/// # Errors
/// If the address is in use or not ours.
pub(super) fn open(address: SocketAddr, receive_buffer_bytes: usize) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(receive_buffer_bytes)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}
