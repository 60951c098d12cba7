//! A client of a few datagrams: it offers like a browser and then says over UDP what it is told to, which need not be
//! what a browser would.

use std::net::SocketAddr;
use std::time::Duration;

use rtc::crypto::RTCCryptoProvider as _;
use rtc::crypto::providers::RingProvider;
use rtc::stun::attributes::ATTR_ICE_CONTROLLING;
use rtc::stun::attributes::ATTR_PRIORITY;
use rtc::stun::attributes::ATTR_USE_CANDIDATE;
use rtc::stun::attributes::ATTR_USERNAME;
use rtc::stun::fingerprint::FINGERPRINT;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::BINDING_REQUEST;
use rtc::stun::message::BINDING_SUCCESS;
use rtc::stun::message::Getter as _;
use rtc::stun::message::Message;
use rtc::stun::message::Setter;
use rtc::stun::message::TransactionId;
use rtc::stun::textattrs::TextAttribute;
use rtc::stun::xoraddr::XorMappedAddress;
use tandem::engine::webrtc::ice::Credentials;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::world::Begun;
use crate::world::PATIENCE;
use crate::world::attribute;

/// Long for a loopback: after this, nothing comes.
const SILENCE: Duration = Duration::from_millis(300);
const UFRAG: &str = "visitor";

/// What a visitor offers; nobody has the key of its certificate.
pub(crate) const OFFER: &str = "v=0\r\n\
    o=- 1 1 IN IP4 127.0.0.1\r\n\
    s=-\r\n\
    t=0 0\r\n\
    a=group:BUNDLE 0\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n\
    c=IN IP4 0.0.0.0\r\n\
    a=mid:0\r\n\
    a=ice-ufrag:visitor\r\n\
    a=ice-pwd:a+password+has+22+characters\r\n\
    a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n\
    a=setup:active\r\n\
    a=rtcp-mux\r\n\
    a=sendrecv\r\n\
    a=rtpmap:0 PCMU/8000\r\n";

/// A socket that speaks to one gateway.
pub(crate) struct Visitor {
    socket: UdpSocket,
    gateway: SocketAddr,
}

impl Visitor {
    /// From a port of its own.
    pub(crate) async fn new(gateway: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await;
        Self {
            socket: socket.expect("a free port"),
            gateway,
        }
    }

    pub(crate) async fn send(&self, datagram: &[u8]) {
        let sent = self.socket.send_to(datagram, self.gateway).await;
        assert_eq!(sent.expect("sent"), datagram.len());
    }

    /// Asserts that nothing comes.
    pub(crate) async fn hears_nothing(&self) {
        let mut buffer = [0; 2_048];
        let received = timeout(SILENCE, self.socket.recv_from(&mut buffer)).await;
        assert!(received.is_err(), "{received:?}: {:?}", &buffer[..32]);
    }

    /// Sends a check and asserts that it is answered as it must be. Whatever else comes is passed over.
    pub(crate) async fn is_answered(&self, credentials: &Credentials, nominates: bool) {
        let (id, check) = check(credentials, nominates);
        self.send(&check).await;
        let provider = RingProvider::new();
        let mut response = loop {
            let mut buffer = [0; 2_048];
            let received = timeout(PATIENCE, self.socket.recv_from(&mut buffer)).await;
            let (length, source) = received.expect("an answer in time").expect("received");
            assert_eq!(source, self.gateway);
            let mut response = Message::new();
            if response.unmarshal_binary(&buffer[..length]).is_ok() {
                break response;
            }
        };
        assert_eq!(response.transaction_id, id);
        assert_eq!(response.typ, BINDING_SUCCESS);
        let pwd = credentials.pwd.as_bytes();
        MessageIntegrity::check(&mut response, pwd, provider.crypto()).expect("it is signed");
        let mut mapped = XorMappedAddress::default();
        mapped.get_from(&response).expect("an address");
        let own = self.socket.local_addr().expect("an address");
        assert_eq!(SocketAddr::new(mapped.ip, mapped.port), own);
    }

    /// Sends a check and asserts that nothing comes.
    pub(crate) async fn is_ignored(&self, credentials: &Credentials) {
        self.send(&check(credentials, true).1).await;
        self.hears_nothing().await;
    }
}

/// The gateway's credentials in an answer or a fragment.
pub(crate) fn credentials(text: &str) -> Credentials {
    let value = |name| attribute(text, name).expect(name).to_owned();
    Credentials {
        ufrag: value("ice-ufrag"),
        pwd: value("ice-pwd"),
    }
}

impl Begun {
    pub(crate) fn credentials(&self) -> Credentials {
        credentials(&self.answer)
    }
}

/// A controlling agent's check (RFC 8445 §7.1), and by which name its answer is known.
pub(crate) fn check(credentials: &Credentials, nominates: bool) -> (TransactionId, Vec<u8>) {
    let provider = RingProvider::new();
    let Credentials { ufrag, pwd } = credentials;
    let id = TransactionId::new();
    let mut parts: Vec<Box<dyn Setter>> = vec![
        Box::new(BINDING_REQUEST),
        Box::new(id),
        Box::new(TextAttribute::new(
            ATTR_USERNAME,
            format!("{ufrag}:{UFRAG}"),
        )),
        Box::new(Raw(ATTR_PRIORITY, &[0x6e, 0, 0x1e, 0xff])),
        Box::new(Raw(ATTR_ICE_CONTROLLING, &[7; 8])),
    ];
    if nominates {
        parts.push(Box::new(Raw(ATTR_USE_CANDIDATE, &[])));
    }
    let signature =
        MessageIntegrity::new_short_term_integrity_with_provider(pwd.clone(), provider.crypto());
    let mut message = Message::new();
    message.build(&parts).expect("it fits");
    let end: [Box<dyn Setter + '_>; 2] = [Box::new(signature), Box::new(FINGERPRINT)];
    for part in end {
        part.add_to(&mut message).expect("it fits");
    }
    (id, message.raw)
}

/// An attribute without any meaning to the crate.
struct Raw(rtc::stun::attributes::AttrType, &'static [u8]);

impl Setter for Raw {
    fn add_to(&self, message: &mut Message) -> rtc::shared::error::Result<()> {
        message.add(self.0, self.1);
        Ok(())
    }
}
