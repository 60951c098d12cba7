//! The two HTTP listeners: the public one, which only serves what ingresses bring and the phone page, and the operator's.

pub mod admin;
pub mod phone;

mod connections;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use tokio::net::TcpListener;
use tokio::net::TcpSocket;
use tokio_util::sync::CancellationToken;

use self::connections::Limits;

/// What the kernel may hold for a peer that does not read: eight seconds of speech as Twilio takes it. With its default of
/// megabytes, a peer that is gone would take minutes of audio before we notice.
const SEND_BUFFER_BYTES: u32 = 64 * 1024;
/// Connections that wait to be accepted, as the standard library has it.
const BACKLOG: u32 = 1024;
/// Connections besides one for each call: of requests, and of browsers that keep theirs for the next. Each takes some 10 KiB.
const SPARE_CONNECTIONS: usize = 4_000;
/// How long a connection may be without a request: longer than most proxies keep idle ones (60 s), so that these close first and
/// lose no request over it. Bodies have their own limits.
const HEAD_WITHIN: Duration = Duration::from_secs(75);

/// A listener that is bound, so that a port in use is found before the gateway says that it is ready.
pub struct Listener(TcpListener);

impl Listener {
    /// Binds `address`.
    ///
    /// # Errors
    /// If it is in use or not ours.
    pub fn bind(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = listen(address).with_context(|| format!("cannot listen on {address}"))?;
        Ok(Self(listener))
    }

    /// Where it listens; the port that the system chose if 0 was asked for.
    ///
    /// # Errors
    /// If the system cannot say.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.0.local_addr()?)
    }

    /// Serves `router` until `stopped`; connections that are open then may finish. `calls` is how many calls there may be, each
    /// of which may have a connection.
    pub async fn serve(self, router: Router, calls: usize, stopped: CancellationToken) {
        let limits = Limits {
            connections: calls + SPARE_CONNECTIONS,
            head: HEAD_WITHIN,
        };
        connections::serve(self.0, router, limits, stopped).await;
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
