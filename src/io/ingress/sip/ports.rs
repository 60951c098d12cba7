//! RTP ports: a pair per call, RTP on the even one and RTCP on the odd one above it (RFC 3550 §11).
//!
//! Ports are taken in a circle, so that one is used again as late as possible: a peer that goes on sending after its call
//! must not be heard in the next.

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use tokio::net::UdpSocket;

use crate::io::ingress::udp;

/// What the kernel keeps for us of packets that wait: 64 KiB are 6 s of G.711, far more than we ever let wait.
const RECEIVE_BUFFER_BYTES: usize = 64 * 1024;

/// The ports of `rtp.ports`.
#[derive(Debug)]
pub(super) struct Ports {
    first: u16,
    pairs: u32,
    next: AtomicU32,
}

/// The sockets of one call.
#[derive(Debug)]
pub(super) struct PortPair {
    /// On the even port.
    pub(super) rtp: UdpSocket,
    /// On the odd one.
    pub(super) rtcp: UdpSocket,
    /// The even port.
    pub(super) rtp_port: u16,
}

impl Ports {
    /// The ports of a range that begins with an even one and has two at least; `start` is where the circle begins, so
    /// that a gateway that restarts does not take the ports of its last calls.
    pub(super) fn new(range: &RangeInclusive<u16>, start: u32) -> Self {
        let pairs = u32::from(range.end() - range.start()).div_ceil(2);
        Self {
            first: *range.start(),
            pairs,
            next: AtomicU32::new(start % pairs),
        }
    }

    /// Opens the next pair that is free.
    ///
    /// # Errors
    /// When none is, or when the kernel refuses for another reason than a port in use.
    pub(super) fn open(&self, address: IpAddr) -> io::Result<PortPair> {
        for _ in 0..self.pairs {
            let pair = self.next.fetch_add(1, Ordering::Relaxed) % self.pairs;
            let rtp_port = self.first + 2 * pair as u16;
            match open_pair(address, rtp_port) {
                Ok(pair) => return Ok(pair),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "every port of rtp.ports is in use",
        ))
    }
}

fn open_pair(address: IpAddr, rtp_port: u16) -> io::Result<PortPair> {
    Ok(PortPair {
        rtp: udp::open(SocketAddr::new(address, rtp_port), RECEIVE_BUFFER_BYTES)?,
        rtcp: udp::open(SocketAddr::new(address, rtp_port + 1), RECEIVE_BUFFER_BYTES)?,
        rtp_port,
    })
}

/// The part of `range` from which the kernel takes ports for outgoing connections of its own choice, where a call would
/// find its port taken now and then; `None` if there is none, or if the kernel does not tell.
pub(super) fn ephemeral_overlap(range: &RangeInclusive<u16>) -> Option<RangeInclusive<u16>> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    overlap(range, &text)
}

fn overlap(range: &RangeInclusive<u16>, kernel: &str) -> Option<RangeInclusive<u16>> {
    let mut bounds = kernel.split_whitespace().map(str::parse);
    let (Some(Ok(low)), Some(Ok(high))) = (bounds.next(), bounds.next()) else {
        return None;
    };
    let both = *range.start().max(&low)..=*range.end().min(&high);
    (!both.is_empty()).then_some(both)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[tokio::test]
    async fn pairs_are_even_and_adjacent_and_taken_in_a_circle() {
        let ports = Ports::new(&(41_000..=41_005), 2);
        let taken: Vec<PortPair> = (0..3).map(|_| ports.open(HERE).expect("free")).collect();
        let numbers: Vec<u16> = taken.iter().map(|pair| pair.rtp_port).collect();
        assert_eq!(numbers, [41_004, 41_000, 41_002]);
        for pair in &taken {
            let rtcp = pair.rtcp.local_addr().expect("an address").port();
            assert_eq!(rtcp, pair.rtp_port + 1);
        }
        let none = ports.open(HERE).expect_err("all are taken");
        assert_eq!(none.kind(), io::ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn a_pair_that_somebody_else_has_half_of_is_passed_over() {
        let _other = UdpSocket::bind((HERE, 41_011)).await.expect("free");
        let ports = Ports::new(&(41_010..=41_013), 0);
        assert_eq!(ports.open(HERE).expect("the second").rtp_port, 41_012);
    }

    #[test]
    fn a_range_among_the_kernels_own_ports_is_found() {
        assert_eq!(overlap(&(10_000..=19_999), "32768\t60999\n"), None);
        assert_eq!(
            overlap(&(30_000..=40_000), "32768\t60999\n"),
            Some(32_768..=40_000)
        );
        assert_eq!(overlap(&(30_000..=40_000), "garbage"), None);
    }
}
