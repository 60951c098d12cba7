//! The signalling side that all calls share: a UDP socket and a TCP listener on one port, and the task that brings what the gateway asks
//! to the dialog it belongs to.

use std::collections::HashMap;
use std::collections::HashSet;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use rsipstack::EndpointBuilder;
use rsipstack::dialog::DialogId;
use rsipstack::dialog::dialog::Dialog;
use rsipstack::dialog::dialog_layer::DialogLayer;
use rsipstack::platform::CancellationToken;
use rsipstack::sip::Header;
use rsipstack::sip::HeadersExt;
use rsipstack::sip::Host;
use rsipstack::sip::Method;
use rsipstack::sip::StatusCode;
use rsipstack::sip::Transport;
use rsipstack::sip::Uri;
use rsipstack::sip::uri::ParamsExt;
use rsipstack::transaction::Transaction;
use rsipstack::transport::SipAddr;
use rsipstack::transport::TcpListenerConnection;
use rsipstack::transport::TransportLayer;
use rsipstack::transport::udp::UdpConnection;

/// Ports that are free for UDP and taken for TCP are rare.
const PORT_ATTEMPTS: usize = 20;
/// A BYE may come right behind the 200, a moment before the stack has written down the dialog.
const SECOND_LOOK: Duration = Duration::from_millis(20);
/// Where a target without a port is (RFC 3261 §19.1.2).
const SIP_PORT: u16 = 5060;
/// What we serve, for Allow.
pub(super) const METHODS: [Method; 9] = [
    Method::Invite,
    Method::Ack,
    Method::Bye,
    Method::Cancel,
    Method::Options,
    Method::Info,
    Method::Update,
    Method::Refer,
    Method::Notify,
];

/// All telephones of this process, one for each local address that leads to a gateway.
#[derive(Default)]
pub(crate) struct Phones(tokio::sync::Mutex<HashMap<IpAddr, Arc<Phone>>>);

/// A telephone: where it is and its dialogs.
pub(super) struct Phone {
    pub(super) address: SocketAddr,
    pub(super) dialogs: Arc<DialogLayer>,
    /// Calls whose telephone has vanished: nothing is answered for them any more.
    vanished: Mutex<HashSet<String>>,
}

/// Where a target is.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) address: SocketAddr,
    pub(super) transport: Transport,
}

impl Place {
    /// Looks the host up; SRV records are not asked for.
    pub(super) async fn find(target: &Uri) -> Result<Self, String> {
        let transport = match target.transport() {
            None | Some(Transport::Udp) => Transport::Udp,
            Some(Transport::Tcp) => Transport::Tcp,
            Some(other) => return Err(format!("transport {other} is not spoken; udp and tcp are")),
        };
        let port = target
            .host_with_port
            .port
            .as_ref()
            .map_or(SIP_PORT, rsipstack::sip::Port::value);
        let address = match &target.host_with_port.host {
            Host::IpAddr(ip) => SocketAddr::new(*ip, port),
            Host::Domain(name) => tokio::net::lookup_host((name.to_string(), port))
                .await
                .map_err(|error| format!("{name}: {error}"))?
                .next()
                .ok_or_else(|| format!("{name} has no address"))?,
        };
        Ok(Self { address, transport })
    }

    /// For the stack.
    pub(super) fn destination(&self) -> SipAddr {
        SipAddr::new(self.transport, self.address.into())
    }
}

impl Phones {
    /// The telephone whose address leads to this place.
    pub(super) async fn towards(&self, place: &Place) -> Result<Arc<Phone>, String> {
        let ip = local_ip(place.address).map_err(|error| error.to_string())?;
        let mut phones = self.0.lock().await;
        if let Some(phone) = phones.get(&ip) {
            return Ok(Arc::clone(phone));
        }
        let phone = Phone::install(ip).await?;
        phones.insert(ip, Arc::clone(&phone));
        Ok(phone)
    }
}

impl Phone {
    async fn install(ip: IpAddr) -> Result<Arc<Self>, String> {
        let (socket, address) = free_port(ip).map_err(|error| error.to_string())?;
        let token = CancellationToken::new();
        let transports = TransportLayer::new(token.clone());
        let words = |error: rsipstack::Error| error.to_string();
        let socket = tokio::net::UdpSocket::from_std(socket).map_err(|error| error.to_string())?;
        let udp = UdpConnection::from_socket(Arc::new(socket), None, Some(token.child_token()))
            .await
            .map_err(words)?;
        transports.add_transport(udp.into());
        let tcp = TcpListenerConnection::new(address, None)
            .await
            .map_err(words)?;
        transports.add_transport(tcp.into());
        let endpoint = EndpointBuilder::new()
            .with_cancel_token(token)
            .with_transport_layer(transports)
            .with_user_agent(concat!("tandem-load/", env!("CARGO_PKG_VERSION")))
            .with_allows(METHODS.to_vec())
            .build();
        let mut incoming = endpoint.incoming_transactions().map_err(words)?;
        let serving = Arc::clone(&endpoint.inner);
        tokio::spawn(async move { serving.serve().await });
        let phone = Arc::new(Self {
            address,
            dialogs: Arc::new(DialogLayer::new(endpoint.inner)),
            vanished: Mutex::default(),
        });
        let answering = Arc::clone(&phone);
        tokio::spawn(async move {
            while let Some(transaction) = incoming.recv().await {
                let phone = Arc::clone(&answering);
                // One that waits for its ACK must not hold the others up.
                tokio::spawn(async move { phone.serve(transaction).await });
            }
        });
        Ok(phone)
    }

    /// The call is over.
    pub(super) fn forget(&self, dialog: &DialogId) {
        self.dialogs.remove_dialog(dialog);
    }

    /// The call is over, and the gateway is not to learn it from us.
    pub(super) fn vanish(&self, dialog: &DialogId) {
        self.vanished
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(dialog.call_id.clone());
        self.dialogs.remove_dialog(dialog);
    }

    /// A request of the gateway's. Its fate is the gateway's to notice; here nobody is left to be told of a failure.
    async fn serve(&self, mut transaction: Transaction) {
        let request = &transaction.original;
        let call = request
            .call_id_header()
            .map(|id| id.value().to_owned())
            .unwrap_or_default();
        if self
            .vanished
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&call)
        {
            return;
        }
        let in_dialog = request
            .to_header()
            .ok()
            .and_then(|to| to.tag().ok().flatten())
            .is_some();
        let mut dialog = self.dialogs.match_dialog(&transaction);
        if in_dialog && dialog.is_none() {
            tokio::time::sleep(SECOND_LOOK).await;
            dialog = self.dialogs.match_dialog(&transaction);
        }
        let _ = match (dialog, in_dialog, transaction.original.method) {
            (Some(Dialog::Invite(mut dialog)), _, _) => dialog.handle(&mut transaction).await,
            (_, true, _) => {
                transaction
                    .reply(StatusCode::CallTransactionDoesNotExist)
                    .await
            }
            (_, false, Method::Options) => transaction.reply(StatusCode::OK).await,
            // This telephone only calls.
            (_, false, Method::Invite) => {
                transaction.reply(StatusCode::TemporarilyUnavailable).await
            }
            (_, false, _) => {
                let allow = METHODS.map(|method| method.to_string()).join(", ");
                let headers = vec![Header::Allow(allow.into())];
                transaction
                    .reply_with(StatusCode::MethodNotAllowed, headers, None)
                    .await
            }
        };
    }
}

/// The address that packets to this one leave from.
fn local_ip(remote: SocketAddr) -> std::io::Result<IpAddr> {
    let any: IpAddr = if remote.is_ipv4() {
        [0_u8; 4].into()
    } else {
        [0_u8; 16].into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    // Nothing is sent: a datagram socket only looks up its route.
    socket.connect(remote)?;
    Ok(socket.local_addr()?.ip())
}

/// A UDP socket on a port that is free for TCP too: a gateway may answer a call by UDP and end it by TCP.
fn free_port(ip: IpAddr) -> std::io::Result<(UdpSocket, SocketAddr)> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let socket = UdpSocket::bind((ip, 0))?;
        let address = socket.local_addr()?;
        match TcpListener::bind(address) {
            Ok(_) => {
                socket.set_nonblocking(true)?;
                return Ok((socket, address));
            }
            Err(error) if attempts == PORT_ATTEMPTS => return Err(error),
            Err(_) => {}
        }
    }
}
