//! Which addresses we connect to on somebody else's word.
//!
//! An agent's answer names a URL, and what is in the answer may come from the caller's mouth. From inside our network such
//! a URL reaches what the Internet does not: databases, admin pages, and the metadata servers that give out a cloud
//! machine's credentials. So an address is judged by what it is, never by the name that led to it, and names are judged at
//! the moment of connecting ([`Guarded`]): the addresses that were judged are the ones that are connected to, whatever the
//! name says a moment later.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use reqwest::dns::Addrs;
use reqwest::dns::Name;
use reqwest::dns::Resolve;
use reqwest::dns::Resolving;

/// What an address is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Anybody's.
    Public,
    /// This machine's or this network's own.
    Private,
    /// Nobody serves anything there that an agent may name: link-local addresses and the metadata servers of clouds among
    /// them, and what is reserved.
    Barred,
}

/// Which addresses are let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// Public ones.
    Public,
    /// Public ones and those of our own networks.
    PublicAndPrivate,
    /// Those of our own networks alone.
    Private,
}

impl Door {
    /// Whether it may be connected to this address.
    pub(super) fn admits(self, address: IpAddr) -> bool {
        match reach(address) {
            Reach::Public => self != Self::Private,
            Reach::Private => self != Self::Public,
            Reach::Barred => false,
        }
    }
}

fn reach(address: IpAddr) -> Reach {
    match address.to_canonical() {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    }
}

/// By the registry of special addresses (RFC 6890 and what followed it).
fn reach_v4(address: Ipv4Addr) -> Reach {
    /// The metadata servers of Alibaba's and of Oracle's cloud, which lie outside of 169.254.0.0/16.
    const METADATA: [Ipv4Addr; 2] = [
        Ipv4Addr::new(100, 100, 100, 200),
        Ipv4Addr::new(192, 0, 0, 192),
    ];
    if METADATA.contains(&address) {
        return Reach::Barred;
    }
    match address.octets() {
        // Loopback, private (RFC 1918), and between a carrier's customers (RFC 6598).
        [127 | 10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => {
            Reach::Private
        }
        // "This network", link-local, protocol assignments, documentation, the old 6to4 relays, benchmarks, multicast and
        // reserved.
        [0, ..]
        | [169, 254, ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18..=19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [224..=255, ..] => Reach::Barred,
        _ => Reach::Public,
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    /// The metadata servers of Amazon's and of Google's cloud.
    const METADATA: [Ipv6Addr; 2] = [
        Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
        Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    ];
    if METADATA.contains(&address) {
        return Reach::Barred;
    }
    if address.is_loopback() {
        return Reach::Private;
    }
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        reach_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        [0xfc00..=0xfdff, ..] => Reach::Private,
        // An IPv4 address behind a translator (RFC 6052), or in a tunnel (6to4).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => embedded(high, low),
        // Teredo and its neighbours, and documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Reach::Barred,
        [0x2000..=0x3fff, ..] => Reach::Public,
        // Link-local, multicast, unspecified, and what has not been given out.
        _ => Reach::Barred,
    }
}

/// Finds the addresses of a name.
pub trait Lookup: Send + Sync {
    /// Every address of the name.
    fn lookup(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The system's own way: its hosts file, then its DNS servers.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// A name leads to where nobody may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Barred(pub(super) String);

impl fmt::Display for Barred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} leads to an address that may not be fetched from",
            self.0
        )
    }
}

impl std::error::Error for Barred {}

/// Finds the addresses of names for a client, and hands out those alone that its door admits.
pub(super) struct Guarded {
    pub(super) door: Door,
    pub(super) lookup: Arc<dyn Lookup>,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let door = self.door;
        let found = self.lookup.lookup(name.as_str().to_owned());
        Box::pin(async move {
            let found = found.await?;
            // One that must not be reached spoils the name: whoever mixes them is up to something.
            if found.iter().any(|address| !door.admits(*address)) {
                return Err(Barred(name.as_str().to_owned()).into());
            }
            let addresses = found.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_internet_is_public() {
        for address in [
            "8.8.8.8",
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.167.0.1",
            "169.253.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450:4001:81b::2010",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
        ] {
            assert_eq!(judged(address), Reach::Public, "{address}");
        }
    }

    #[test]
    fn our_own_networks_are_private_in_every_spelling() {
        for address in [
            "127.0.0.1",
            "127.255.0.9",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "::1",
            "fc00::1",
            "fd12:3456::1",
            "::ffff:127.0.0.1",
            "::ffff:10.1.2.3",
            "64:ff9b::10.1.2.3",
            "2002:7f00:1::",
        ] {
            assert_eq!(judged(address), Reach::Private, "{address}");
        }
    }

    #[test]
    fn metadata_servers_and_what_is_reserved_are_barred_everywhere() {
        for address in [
            "169.254.169.254",
            "169.254.0.1",
            "100.100.100.200",
            "192.0.0.192",
            "0.0.0.0",
            "0.1.2.3",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::127.0.0.1",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "2001:db8::1",
            "2001::1",
            "::ffff:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::1",
            "64:ff9b:1::1",
        ] {
            assert_eq!(judged(address), Reach::Barred, "{address}");
        }
    }

    #[test]
    fn a_door_admits_its_own_and_no_door_admits_what_is_barred() {
        let [public, private, barred] =
            ["8.8.8.8", "10.0.0.1", "169.254.169.254"].map(|text| text.parse().expect("it is one"));
        for (door, admitted) in [
            (Door::Public, [true, false, false]),
            (Door::PublicAndPrivate, [true, true, false]),
            (Door::Private, [false, true, false]),
        ] {
            assert_eq!(
                [public, private, barred].map(|address| door.admits(address)),
                admitted,
                "{door:?}"
            );
        }
    }

    fn judged(address: &str) -> Reach {
        reach(address.parse().expect("an address"))
    }
}
