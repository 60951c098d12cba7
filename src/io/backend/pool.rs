//! A pool of HTTP/2 connections to one host, for streams that live as long as a caller speaks.
//!
//! One connection carries about 100 streams at Google. The next one neither fails nor opens: it hangs until another ends.
//! So streams are counted here, each goes to the connection with the fewest, and a connection is added when all are at
//! [`STREAMS_PER_CHANNEL`]. Connections are lazy: they are dialled by their first stream, and again by the next stream
//! after they broke.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tonic::transport::Channel;
use tonic::transport::ClientTlsConfig;
use tonic::transport::Endpoint;
use tonic::transport::Identity;

use crate::io::backend::endpoint::Target;
use crate::io::backend::endpoint::Trust;

/// Streams that one connection may carry: the front ends' usual 100, less a margin for streams that we have given up and the
/// server still counts.
pub const STREAMS_PER_CHANNEL: usize = 90;
/// The most connections: 2,880 streams, nearly three for each of 1,000 calls, of which two can overlap in a call (the one
/// that is answering and the one that listens).
pub const MAX_CHANNELS: usize = 32;

/// How long to dial. Beyond it a caller has heard silence for too long anyhow.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A dead connection is found within this and [`KEEP_ALIVE_TIMEOUT`]. Google's front ends tolerate one ping per 10 s.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// How long a ping may stay unanswered.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// What a server may send on one stream before it hears from us. An answer is one message and is played only when all of it
/// has come, so a window smaller than an answer costs a round trip each time it fills: 1 MiB holds 30 s of 16 kHz linear
/// speech, where the protocol's 64 KiB would take such an answer 15 round trips. It also bounds what a call that is slow to
/// take its answer keeps in memory.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// The same for all streams of a connection: a few answers at once, so that a slow call does not stop its neighbours.
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// Connections to one host.
#[derive(Debug)]
pub struct Pool {
    endpoint: Endpoint,
    channels: Mutex<Vec<Slot>>,
}

/// One connection.
#[derive(Debug)]
struct Slot {
    channel: Channel,
    streams: Arc<AtomicUsize>,
}

/// The right to one stream on a connection; dropping it gives the place back.
#[derive(Debug)]
pub struct Lease {
    /// The connection.
    pub channel: Channel,
    streams: Arc<AtomicUsize>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.streams.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Pool {
    /// A pool of connections to `target`, which show `identity` if there is one. Connects nothing yet.
    ///
    /// # Errors
    /// If the certificates (ours, or the system's roots) cannot be used.
    pub fn new(
        target: &Target,
        identity: Option<Identity>,
    ) -> Result<Self, tonic::transport::Error> {
        // No `Endpoint::timeout`: it would end every stream that lives longer.
        let endpoint = Endpoint::from(target.uri.clone())
            .user_agent(concat!("tandem/", env!("CARGO_PKG_VERSION")))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        let endpoint = match target.trust {
            Trust::PlainText => endpoint,
            Trust::Foreign | Trust::Google => {
                let tls = ClientTlsConfig::new().with_enabled_roots();
                endpoint.tls_config(match identity {
                    Some(identity) => tls.identity(identity),
                    None => tls,
                })?
            }
        };
        Ok(Self {
            endpoint,
            channels: Mutex::default(),
        })
    }

    /// A place on the least loaded connection; `None` when all [`MAX_CHANNELS`] are full.
    ///
    /// The lock is taken once per turn and never waits for the network.
    ///
    /// # Panics
    /// Outside a Tokio runtime, which a new connection needs.
    pub fn lease(&self) -> Option<Lease> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let least = channels
            .iter()
            .map(|slot| (slot.streams.load(Ordering::Acquire), slot))
            .min_by_key(|(streams, _)| *streams);
        if let Some((streams, slot)) = least
            && streams < STREAMS_PER_CHANNEL
        {
            return Some(slot.lease());
        }
        if channels.len() >= MAX_CHANNELS {
            return None;
        }
        let slot = Slot {
            channel: self.endpoint.connect_lazy(),
            streams: Arc::default(),
        };
        let lease = slot.lease();
        channels.push(slot);
        Some(lease)
    }
}

impl Slot {
    fn lease(&self) -> Lease {
        // Only ever raised under the pool's lock, so the limit checked there holds.
        self.streams.fetch_add(1, Ordering::AcqRel);
        Lease {
            channel: self.channel.clone(),
            streams: self.streams.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_is_added_when_all_are_full_and_none_beyond_the_bound() {
        let pool = pool();
        let mut leases: Vec<_> = (0..STREAMS_PER_CHANNEL)
            .map(|_| pool.lease().expect("room"))
            .collect();
        assert_eq!(pool.loads(), [STREAMS_PER_CHANNEL]);
        leases.push(pool.lease().expect("a second connection"));
        assert_eq!(pool.loads(), [STREAMS_PER_CHANNEL, 1]);
        while let Some(lease) = pool.lease() {
            leases.push(lease);
        }
        assert_eq!(leases.len(), STREAMS_PER_CHANNEL * MAX_CHANNELS);
    }

    #[tokio::test]
    async fn a_dropped_lease_gives_its_place_back_and_the_least_loaded_connection_is_next() {
        let pool = pool();
        let mut leases: Vec<_> = (0..=STREAMS_PER_CHANNEL)
            .map(|_| pool.lease().expect("room"))
            .collect();
        leases.truncate(STREAMS_PER_CHANNEL - 10);
        assert_eq!(pool.loads(), [STREAMS_PER_CHANNEL - 10, 0]);
        let _next = pool.lease().expect("room");
        assert_eq!(pool.loads(), [STREAMS_PER_CHANNEL - 10, 1]);
    }

    fn pool() -> Pool {
        let target = Target {
            uri: "http://127.0.0.1:1".parse().expect("a URL"),
            trust: Trust::PlainText,
        };
        Pool::new(&target, None).expect("plain text needs no certificates")
    }

    impl Pool {
        fn loads(&self) -> Vec<usize> {
            let channels = self.channels.lock().expect("no test panics with the lock");
            channels
                .iter()
                .map(|slot| slot.streams.load(Ordering::Acquire))
                .collect()
        }
    }
}
