//! A NAT between a caller and the gateway: the caller's datagrams come from its outer port, which may change or vanish.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;

/// Passes everything on, both ways, until it is dropped.
pub(crate) struct Nat {
    /// Where the caller finds the gateway.
    pub(crate) inner: SocketAddr,
    outer: watch::Sender<Arc<UdpSocket>>,
    _stopped: DropGuard,
}

impl Nat {
    pub(crate) async fn open(gateway: SocketAddr) -> Self {
        let inner = Arc::new(socket().await);
        let address = inner.local_addr().expect("an address");
        let (outer, current) = watch::channel(Arc::new(socket().await));
        let stopped = CancellationToken::new();
        let relay = relay(inner, current, gateway);
        tokio::spawn(stopped.clone().run_until_cancelled_owned(relay));
        Self {
            inner: address,
            outer,
            _stopped: stopped.drop_guard(),
        }
    }

    /// The caller's datagrams come from another port from now on, and what is sent to the old one is lost.
    pub(crate) async fn move_port(&self) {
        let other = Arc::new(socket().await);
        self.outer.send(other).expect("it runs");
    }
}

async fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.expect("a free port")
}

async fn relay(
    inner: Arc<UdpSocket>,
    mut current: watch::Receiver<Arc<UdpSocket>>,
    gateway: SocketAddr,
) {
    let mut caller = None;
    let (mut from_caller, mut from_gateway) = ([0; 2_048], [0; 2_048]);
    loop {
        let outer = current.borrow_and_update().clone();
        tokio::select! {
            _ = current.changed() => {}
            // An error is that of some datagram which could not be sent.
            received = inner.recv_from(&mut from_caller) => if let Ok((length, source)) = received {
                caller = Some(source);
                let _ = outer.send_to(&from_caller[..length], gateway).await;
            },
            received = outer.recv_from(&mut from_gateway) => {
                if let (Ok((length, _)), Some(caller)) = (received, caller) {
                    let _ = inner.send_to(&from_gateway[..length], caller).await;
                }
            }
        }
    }
}
