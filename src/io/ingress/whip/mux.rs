//! One UDP port for all calls: finds out whose a datagram is.
//!
//! One task reads every socket and is the only one that knows the tables, so nothing is locked. A check names its
//! addressee; everything else is told by where it comes from, which a leg reports once it has seen a valid check from there
//! ([`Order::Learn`]). A leg gives its orders before it answers, so the table is ready when the peer's next datagram comes.
//!
//! There may be several sockets, one for each address: bound to all at once (`0.0.0.0`), the system would choose the
//! address of our answers, and to a peer they would come from a stranger.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;

use anyhow::Context as _;
use bytes::Bytes;
use bytes::BytesMut;
use rtc::shared::ifaces::ifaces;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::ignored;
use super::ignored::Ignored;
use crate::engine::media::ring;
use crate::engine::webrtc::ice;
use crate::engine::webrtc::ice::Path;
use crate::io::ingress::udp;

/// What the kernel may hold for all calls while we are busy: at 1000 calls some 100 ms. It may allow less.
const RECEIVE_BUFFER_BYTES: usize = 4 * 1_024 * 1_024;
/// Datagrams that may wait for one leg: a second of sound.
const WAITING: usize = 64;
/// Datagrams taken from one socket before the next one's turn.
const READ_BOUND: usize = 64;
/// The largest datagram that is looked at: DTLS keeps below the MTU, and sound far below.
const LARGEST_DATAGRAM: usize = 2_048;
/// Datagrams are cut from blocks of this size.
const BLOCK_BYTES: usize = 64 * 1_024;

/// A datagram for a leg.
pub(super) struct Arrival {
    pub(super) bytes: Bytes,
    pub(super) path: Path,
}

/// Which leg, for as long as the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct LegId(pub(super) u64);

/// What the reader is told. Each leg gives a handful in its life, and there are as many legs as admission allows.
enum Order {
    Admit(LegId, String, ring::Sender<Arrival>),
    /// Checks for these names, and no others, are for the leg.
    Name(LegId, Vec<String>),
    Learn(LegId, Path),
    Forget(LegId, Path),
    Leave(LegId),
}

/// The port as legs see it. Clones share it.
#[derive(Clone)]
pub(super) struct Mux {
    sockets: Arc<[UdpSocket]>,
    orders: mpsc::UnboundedSender<Order>,
}

impl Mux {
    /// Opens a socket for each address that `listen` means, and reads them until `stopped`.
    ///
    /// # Errors
    /// If one cannot be opened.
    pub(super) fn open(listen: &[SocketAddr], stopped: CancellationToken) -> anyhow::Result<Self> {
        let mut sockets = Vec::new();
        for address in listen {
            // Whatever port is found first is the port everywhere.
            let mut port = address.port();
            for ip in addresses(*address)? {
                let address = SocketAddr::new(ip, port);
                let socket = udp::open(address, RECEIVE_BUFFER_BYTES)
                    .with_context(|| format!("cannot listen on {address} (webrtc.listen)"))?;
                port = socket.local_addr()?.port();
                sockets.push(socket);
            }
        }
        let sockets: Arc<[UdpSocket]> = sockets.into();
        let (orders, received) = mpsc::unbounded_channel();
        let reader = Reader {
            sockets: sockets.clone(),
            orders: received,
            legs: HashMap::new(),
            by_name: HashMap::new(),
            by_path: HashMap::new(),
            block: BytesMut::with_capacity(BLOCK_BYTES),
        };
        tokio::spawn(async move {
            tokio::select! {
                () = reader.run() => {}
                () = stopped.cancelled() => {}
            }
        });
        Ok(Self { sockets, orders })
    }

    /// Where we can be reached, as far as this machine knows: without the loopback, unless there is nothing else.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let all = self
            .sockets
            .iter()
            .filter_map(|socket| socket.local_addr().ok());
        let (loopback, others): (Vec<_>, Vec<_>) = all.partition(|it| it.ip().is_loopback());
        if others.is_empty() { loopback } else { others }
    }

    /// From now on, checks for `name` are for this leg.
    pub(super) fn admit(&self, leg: LegId, name: &str) -> ring::Receiver<Arrival> {
        let (sender, receiver) = ring::ring(WAITING);
        self.order(Order::Admit(leg, name.to_owned(), sender));
        receiver
    }

    /// From now on, checks for these names are for the leg, and those for any others that it had no longer.
    pub(super) fn name<'a>(&self, leg: LegId, names: impl Iterator<Item = &'a str>) {
        self.order(Order::Name(leg, names.map(str::to_owned).collect()));
    }

    /// From now on, whatever comes by this path is for the leg.
    pub(super) fn learn(&self, leg: LegId, path: Path) {
        self.order(Order::Learn(leg, path));
    }

    /// No longer.
    pub(super) fn forget(&self, leg: LegId, path: Path) {
        self.order(Order::Forget(leg, path));
    }

    /// The leg is gone.
    pub(super) fn leave(&self, leg: LegId) {
        self.order(Order::Leave(leg));
    }

    /// Sends at once or not at all: what a full socket buffer cannot take is lost, as on any network.
    pub(super) fn send(&self, bytes: &[u8], path: Path) {
        let Some(socket) = self.sockets.get(path.socket) else {
            return;
        };
        if let Err(error) = socket.try_send_to(bytes, path.remote) {
            tracing::debug!(%error, "a datagram could not be sent");
        }
    }

    fn order(&self, order: Order) {
        // Without a reader the process is about to end.
        let _ = self.orders.send(order);
    }
}

/// A leg as the reader knows it.
struct Known {
    inlet: ring::Sender<Arrival>,
    names: Vec<String>,
    paths: Vec<Path>,
}

struct Reader {
    sockets: Arc<[UdpSocket]>,
    orders: mpsc::UnboundedReceiver<Order>,
    legs: HashMap<LegId, Known>,
    by_name: HashMap<String, LegId>,
    by_path: HashMap<Path, LegId>,
    block: BytesMut,
}

impl Reader {
    async fn run(mut self) {
        loop {
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(order) => self.obey(order),
                    None => return,
                },
                () = any_readable(&self.sockets) => self.read(),
            }
        }
    }

    fn read(&mut self) {
        let sockets = self.sockets.clone();
        for (number, socket) in sockets.iter().enumerate() {
            for _ in 0..READ_BOUND {
                self.block.reserve(LARGEST_DATAGRAM);
                // An error is that of some datagram which we sent, and is told by its call's silence.
                let Ok((_, remote)) = socket.try_recv_buf_from(&mut self.block) else {
                    break;
                };
                while let Ok(order) = self.orders.try_recv() {
                    self.obey(order);
                }
                let path = Path {
                    remote,
                    socket: number,
                };
                self.route(path);
            }
        }
    }

    /// Gives what has just been read to its leg.
    fn route(&mut self, path: Path) {
        let bytes = self.block.split().freeze();
        let leg = if ice::is_stun(&bytes) {
            ice::addressee(&bytes).and_then(|name| self.by_name.get(name))
        } else {
            self.by_path.get(&path)
        };
        let known = leg.and_then(|leg| self.legs.get_mut(leg));
        match known {
            Some(known) => {
                if known.inlet.push(Arrival { bytes, path }).is_err() {
                    ignored::count(Ignored::Crowded, 1);
                }
            }
            None if ice::is_stun(&bytes) => ignored::count(Ignored::UnknownUser, 1),
            None => ignored::count(Ignored::Stranger, 1),
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Admit(leg, name, inlet) => {
                self.by_name.insert(name.clone(), leg);
                let known = Known {
                    inlet,
                    names: vec![name],
                    paths: Vec::new(),
                };
                self.legs.insert(leg, known);
            }
            Order::Name(leg, names) => {
                if let Some(known) = self.legs.get_mut(&leg) {
                    for former in std::mem::replace(&mut known.names, names) {
                        self.by_name.remove(&former);
                    }
                    for name in &known.names {
                        self.by_name.insert(name.clone(), leg);
                    }
                }
            }
            Order::Learn(leg, path) => {
                if let Some(known) = self.legs.get_mut(&leg) {
                    // Not from another leg that lives: a check from its peer's address is easily forged, by somebody with a
                    // call of their own.
                    self.by_path.entry(path).or_insert(leg);
                    known.paths.push(path);
                }
            }
            Order::Forget(leg, path) => {
                if let Some(known) = self.legs.get_mut(&leg) {
                    known.paths.retain(|other| *other != path);
                    self.forget(leg, path);
                }
            }
            Order::Leave(leg) => {
                let Some(known) = self.legs.remove(&leg) else {
                    return;
                };
                for name in known.names {
                    self.by_name.remove(&name);
                }
                for path in known.paths {
                    self.forget(leg, path);
                }
            }
        }
    }

    /// The path is no longer this leg's; another that has seen a check from there gets it.
    fn forget(&mut self, leg: LegId, path: Path) {
        if self.by_path.get(&path) != Some(&leg) {
            return;
        }
        let heir = self
            .legs
            .iter()
            .find(|(_, known)| known.paths.contains(&path));
        match heir.map(|(heir, _)| *heir) {
            Some(heir) => _ = self.by_path.insert(path, heir),
            None => _ = self.by_path.remove(&path),
        }
    }
}

/// Waits until some socket has something.
async fn any_readable(sockets: &[UdpSocket]) {
    poll_fn(|cx| {
        // Each must be asked, so that each wakes us.
        let ready = sockets
            .iter()
            .filter(|socket| socket.poll_recv_ready(cx).is_ready())
            .count();
        if ready > 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

/// The addresses that an address means: itself, or every one of this machine. Link-local ones are left out, since nobody
/// can be told which link.
fn addresses(address: SocketAddr) -> io::Result<Vec<IpAddr>> {
    if !address.ip().is_unspecified() {
        return Ok(vec![address.ip()]);
    }
    let mut found: Vec<IpAddr> = ifaces()?
        .into_iter()
        .filter_map(|interface| interface.addr)
        .map(|address| address.ip())
        .filter(|ip| match ip {
            IpAddr::V4(_) => true,
            IpAddr::V6(ip) => address.is_ipv6() && !ip.is_unicast_link_local(),
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    Ok(found)
}
