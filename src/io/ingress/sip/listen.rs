//! Opening the listeners: one endpoint of the stack for each local address, each with its gated UDP socket, its TCP and
//! its TLS listener.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rsipstack::EndpointBuilder;
use rsipstack::sip::Method;
use rsipstack::sip::Transport;
use rsipstack::transaction::endpoint::TransportEventInspector;
use rsipstack::transport::SipConnection;
use rsipstack::transport::TcpListenerConnection;
use rsipstack::transport::TransportEvent;
use rsipstack::transport::TransportLayer;
use rsipstack::transport::tls::TlsConfig;
use rsipstack::transport::tls::TlsListenerConnection;
use rsipstack::transport::udp::UdpConnection;
use socket2::Domain;
use socket2::Protocol;
use socket2::Socket;
use socket2::Type;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::measure;
use super::refused::Refused;
use super::router;
use super::socket::GatedSocket;
use super::switchboard::Switchboard;
use crate::config::SipListen;
use crate::config::SipTransport;
use crate::io::ingress::udp;

/// What the kernel keeps of datagrams that wait: some two thousand INVITEs, so that a burst is not lost.
const RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// Requests at work at once on one address. A call being set up is one, until its ACK is here.
const TRANSACTIONS: usize = 4_096;
/// How long a connection may be quiet: longer than a registration over it goes without being renewed.
const IDLE: Duration = Duration::from_secs(30 * 60);
/// Whom the machine trusts, for connections that we open by TLS (Debian's package ca-certificates).
const TRUSTED: &str = "/etc/ssl/certs/ca-certificates.crt";
/// How we name ourselves.
const USER_AGENT: &str = concat!("Tandem/", env!("CARGO_PKG_VERSION"));

/// Opens every listener.
pub(super) async fn open(
    shared: &Arc<Shared>,
    stopped: &CancellationToken,
) -> anyhow::Result<Vec<Arc<Switchboard>>> {
    let mut by_address: BTreeMap<IpAddr, Vec<SipListen>> = BTreeMap::new();
    for listen in &shared.sip.listen {
        by_address
            .entry(listen.address.ip())
            .or_default()
            .push(*listen);
    }
    let mut boards = Vec::new();
    for (address, mut listens) in by_address {
        // The stack puts the first into Via where it has no reason for another.
        listens.sort_by_key(|listen| listen.transport as u8);
        boards.push(open_address(shared, address, &listens, stopped).await?);
    }
    Ok(boards)
}

async fn open_address(
    shared: &Arc<Shared>,
    address: IpAddr,
    listens: &[SipListen],
    stopped: &CancellationToken,
) -> anyhow::Result<Arc<Switchboard>> {
    let layer = TransportLayer::new(stopped.child_token());
    layer.set_stream_idle_timeout(IDLE);
    layer.set_tls_config(TlsConfig {
        ca_certs: std::fs::read(TRUSTED).ok(),
        ..TlsConfig::default()
    });
    let mut ports = Vec::new();
    for listen in listens {
        let (transport, port) = add_listener(shared, &layer, *listen, stopped)
            .await
            .with_context(|| format!("sip.listen {listen}"))?;
        ports.push((transport, port));
    }
    // A datagram has passed the gate before; a connection is judged here, before anything is read from it.
    let gate = shared.gate.clone();
    layer.set_whitelist(move |peer: IpAddr| {
        let is_allowed = gate.allows(peer);
        async move {
            if !is_allowed {
                measure::refused(Refused::NotAllowed);
            }
            is_allowed
        }
    });
    let endpoint = EndpointBuilder::new()
        .with_cancel_token(stopped.child_token())
        .with_transport_layer(layer)
        .with_user_agent(USER_AGENT)
        .with_allows(vec![
            Method::Invite,
            Method::Ack,
            Method::Bye,
            Method::Cancel,
            Method::Options,
            Method::Info,
            Method::Update,
            Method::PRack,
            Method::Notify,
        ])
        .with_transport_inspector(Box::new(ConnectionLimit(shared.clone())))
        .build();
    let incoming = endpoint.incoming_transactions()?;
    let inner = endpoint.inner.clone();
    let board = Arc::new(Switchboard::new(
        shared.clone(),
        address,
        ports,
        inner.clone(),
        TRANSACTIONS,
    ));
    tokio::spawn(async move {
        // The endpoint ends what it owns when it is dropped, so it lives as long as it serves.
        let _endpoint = endpoint;
        if let Err(error) = inner.serve().await {
            tracing::error!(%error, "the SIP endpoint has stopped");
        }
    });
    tokio::spawn(router::run(board.clone(), incoming));
    for listen in listens.iter().zip(&board.ports) {
        until_heard(listen.0, listen.1.1)
            .await
            .with_context(|| format!("sip.listen {}", listen.0))?;
    }
    Ok(board)
}

/// Waits until a stream listener is there: the stack opens it in a task of its own, and would merely log that it could
/// not (a certificate that does not fit its key, say).
async fn until_heard(listen: &SipListen, port: u16) -> anyhow::Result<()> {
    const MOMENT: Duration = Duration::from_millis(5);
    /// Two seconds in all: at start-up the machine may be busy.
    const MOMENTS: usize = 400;
    if listen.transport == SipTransport::Udp {
        return Ok(());
    }
    let address = SocketAddr::new(listen.address.ip(), port);
    for _ in 0..MOMENTS {
        // While nobody listens there, the address can be had once more.
        if free_stream_address(address).is_err() {
            return Ok(());
        }
        tokio::time::sleep(MOMENT).await;
    }
    anyhow::bail!("the listener does not open")
}

async fn add_listener(
    shared: &Shared,
    layer: &TransportLayer,
    listen: SipListen,
    stopped: &CancellationToken,
) -> anyhow::Result<(Transport, u16)> {
    match listen.transport {
        SipTransport::Udp => {
            let socket = udp::open(listen.address, RECEIVE_BUFFER_BYTES)?;
            let port = socket.local_addr()?.port();
            let gated = Arc::new(GatedSocket::new(socket, shared.gate.clone()));
            let token = Some(stopped.child_token());
            let seen_as = shared.advertised(port);
            let connection = UdpConnection::from_socket(gated, seen_as, token).await?;
            layer.add_transport(connection.into());
            Ok((Transport::Udp, port))
        }
        SipTransport::Tcp => {
            let address = free_stream_address(listen.address)?;
            let seen_as = shared.advertised(address.port());
            let connection = TcpListenerConnection::new(address, seen_as).await?;
            layer.add_transport(connection.into());
            Ok((Transport::Tcp, address.port()))
        }
        SipTransport::Tls => {
            let address = free_stream_address(listen.address)?;
            let read = |path: &Option<std::path::PathBuf>| {
                let path = path.as_ref().context("the configuration names no file")?;
                std::fs::read(path).with_context(|| path.display().to_string())
            };
            let config = TlsConfig {
                cert: Some(read(&shared.sip.tls_certificate)?),
                key: Some(read(&shared.sip.tls_key)?),
                ..TlsConfig::default()
            };
            let seen_as = shared.advertised(address.port());
            let connection = TlsListenerConnection::new(address, seen_as, config).await?;
            layer.add_transport(SipConnection::TlsListener(connection));
            Ok((Transport::Tls, address.port()))
        }
    }
}

/// Finds out whether a stream listener can be opened, and on which port if any will do. The stack opens it itself, and
/// would merely log that it could not.
fn free_stream_address(address: SocketAddr) -> anyhow::Result<SocketAddr> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    let bound = socket.local_addr()?.as_socket().context("an IP socket")?;
    Ok(bound)
}

/// Closes connections beyond `sip.connections` as soon as they are open.
struct ConnectionLimit(Arc<Shared>);

#[async_trait::async_trait]
impl TransportEventInspector for ConnectionLimit {
    async fn handle(&self, event: TransportEvent) -> Option<TransportEvent> {
        use std::sync::atomic::Ordering;
        match &event {
            TransportEvent::New(connection) => {
                let open = self.0.connections.fetch_add(1, Ordering::Relaxed);
                if open >= self.0.sip.connections {
                    measure::refused(Refused::TooManyConnections);
                    let _ = connection.close().await;
                }
            }
            TransportEvent::Closed(_) => {
                self.0.connections.fetch_sub(1, Ordering::Relaxed);
            }
            TransportEvent::Incoming(..) => {}
        }
        Some(event)
    }
}
