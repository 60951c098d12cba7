//! The connection of one call: `rtc`, which has no socket and no clock, with a socket and the clock.

use std::collections::VecDeque;
use std::future;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use bytes::BytesMut;
use reqwest::Url;
use rtc::crypto;
use rtc::crypto::SignatureScheme;
use rtc::ice::mdns::MulticastDnsMode;
use rtc::interceptor::Registry;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::RTCPeerConnection;
use rtc::peer_connection::RTCPeerConnectionBuilder;
use rtc::peer_connection::certificate::CertificateParams;
use rtc::peer_connection::certificate::RTCCertificate;
use rtc::peer_connection::configuration::RTCConfigurationBuilder;
use rtc::peer_connection::configuration::interceptor_registry::configure_rtcp_reports;
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::peer_connection::configuration::setting_engine::SettingEngine;
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::event::RTCDataChannelEvent;
use rtc::peer_connection::event::RTCPeerConnectionEvent;
use rtc::peer_connection::message::RTCMessage;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::peer_connection::transport::RTCIceCandidateInit;
use rtc::rtp::Packet;
use rtc::rtp_transceiver::RTCRtpSenderId;
use rtc::rtp_transceiver::rtp_sender::RTCRtpCodec;
use rtc::rtp_transceiver::rtp_sender::RTCRtpCodecParameters;
use rtc::rtp_transceiver::rtp_sender::RTCRtpCodingParameters;
use rtc::rtp_transceiver::rtp_sender::RTCRtpEncodingParameters;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use rtc::sansio::Protocol;
use rtc::shared::TaggedBytesMut;
use rtc::shared::TransportContext;
use rtc::shared::TransportProtocol;
use rtc::shared::error::Error;
use rtc::shared::marshal::Unmarshal;
use tokio::net::UdpSocket;
use tokio::time::sleep_until;

use super::codec::Codec;
use crate::bad_network::BadNetwork;
use crate::bad_network::Faults;

/// The data channel on which the gateway tells what happens.
const EVENTS: &str = "events";
/// From one check of a candidate to the next, and so the time that a nomination costs; the stack's own 200 ms would be half of a set-up.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// Checks before a candidate is given up; the whole of a set-up's patience.
const CHECKS: u16 = 500;
/// The stack may give its timers a resolution finer than anything here needs, and times that are past.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);
/// While the connection is made: a DTLS flight leaves at a timeout only, which the stack has up to 200 ms away.
const SET_UP_SLEEP: Duration = Duration::from_millis(10);
/// The stack does not tell which.
const FAILED: &str = "no check was answered any more (ICE), or DTLS failed";
/// More than any datagram over Ethernet has.
const DATAGRAM: usize = 2048;

/// The certificate that all callers of a process share: to make one costs more than a call.
#[derive(Default)]
pub(crate) struct Identity(OnceLock<Result<RTCCertificate, String>>);

impl Identity {
    fn certificate(&self) -> Result<RTCCertificate, String> {
        self.0.get_or_init(generate).clone()
    }
}

/// A connection from its offer on.
pub(super) struct Peer {
    core: RTCPeerConnection,
    sender: RTCRtpSenderId,
    socket: Arc<UdpSocket>,
    network: BadNetwork,
    /// The address of our one candidate.
    local: SocketAddr,
    is_up: bool,
    buffer: Box<[u8; DATAGRAM]>,
    happened: VecDeque<Happening>,
}

/// What a connection brings.
#[derive(Debug)]
pub(super) enum Happening {
    /// Media may flow.
    Connected,
    /// No checks have been answered for a while.
    Disconnected,
    /// A text on the data channel.
    Text(String),
    /// The other side closed the data channel.
    NoMoreTexts,
    /// A packet, deciphered.
    Packet(Packet),
    /// The other side closed the connection.
    Closed,
    /// The connection came to nothing, or to an end.
    Failed(String),
}

impl Peer {
    /// A connection that offers this codec, events and a data channel, from a socket that reaches the gateway: and the offer.
    pub(super) async fn new(
        gateway: &Url,
        codec: Codec,
        ssrc: u32,
        faults: Faults,
        identity: &Identity,
    ) -> Result<(Self, String), String> {
        let (socket, local) = socket(gateway).await?;
        let certificate = identity.certificate()?;
        let (core, sender) =
            connection(certificate, codec, ssrc, local).map_err(|error| error.to_string())?;
        let mut peer = Self {
            core,
            sender,
            socket: Arc::new(socket),
            network: BadNetwork::new(faults, crate::random()),
            local,
            is_up: false,
            buffer: Box::new([0; DATAGRAM]),
            happened: VecDeque::new(),
        };
        let offer = peer.offer().map_err(|error| error.to_string())?;
        Ok((peer, offer))
    }

    /// The gateway's answer.
    pub(super) fn accept(&mut self, answer: String) -> Result<(), String> {
        RTCSessionDescription::answer(answer)
            .and_then(|answer| self.core.set_remote_description(Instant::now(), answer))
            .map_err(|error| error.to_string())
    }

    /// Ciphers a packet and sends it. A connection that takes none any more tells so itself.
    pub(super) async fn send(&mut self, packet: Vec<u8>) {
        let packet = Packet::unmarshal(&mut Bytes::from(packet));
        let packet = packet.expect("a packet of our own reads as one");
        if let Some(mut sender) = self.core.rtp_sender(self.sender) {
            let _ = sender.write_rtp(Instant::now(), packet);
        }
        self.flush().await;
    }

    /// Turns the connection until something happens. Cancel safe, but for a datagram on its way out, which may be lost as any may be.
    pub(super) async fn next(&mut self) -> Happening {
        loop {
            self.flush().await;
            self.collect();
            if let Some(happening) = self.happened.pop_front() {
                return happening;
            }
            let deadline = self.deadline();
            let timer = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline.into()).await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                biased;
                got = self.socket.recv_from(&mut self.buffer[..]) => match got {
                    Ok((length, from)) => self.read(length, from),
                    Err(error) => return Happening::Failed(error.to_string()),
                },
                () = timer => {
                    // What goes wrong here shows in the connection's state.
                    let _ = self.core.handle_timeout(Instant::now());
                }
            }
        }
    }

    /// What has come and can be had without waiting.
    pub(super) fn try_next(&mut self) -> Option<Happening> {
        while self.happened.is_empty()
            && let Ok((length, from)) = self.socket.try_recv_from(&mut self.buffer[..])
        {
            self.read(length, from);
            self.collect();
        }
        self.happened.pop_front()
    }

    /// Says goodbye: to the data channel, and by DTLS.
    pub(super) async fn close(&mut self) {
        // There is nothing to be done about a goodbye that does not leave.
        let _ = self.core.close();
        self.flush().await;
    }

    fn offer(&mut self) -> Result<String, Error> {
        let offer = self.core.create_offer(None)?;
        self.core.set_local_description(Instant::now(), offer)?;
        let offer = self.core.local_description();
        Ok(offer.ok_or(Error::ErrPeerConnLocalDescriptionNil)?.sdp)
    }

    /// Sends what is to be sent. A datagram that cannot leave is as good as lost: of several candidates one may be out of reach, and
    /// if none can be reached the connection tells it.
    async fn flush(&mut self) {
        while let Some(datagram) = self.core.poll_write() {
            let (bytes, to) = (&datagram.message[..], datagram.transport.peer_addr);
            // STUN and DTLS are spared: it is what is heard on a bad network that matters, not whether a call comes about
            // (RFC 7983 §7: 128 to 191 is RTP).
            let is_rtp = matches!(bytes.first(), Some(128..=191));
            let _ = if is_rtp {
                self.network.send(&self.socket, bytes, to).await
            } else {
                self.socket.send_to(bytes, to).await.map(drop)
            };
        }
    }

    /// A datagram that the stack refuses is none that the gateway meant for us, or one that came too late.
    fn read(&mut self, length: usize, from: SocketAddr) {
        let datagram = TaggedBytesMut {
            now: Instant::now(),
            transport: TransportContext {
                local_addr: self.local,
                peer_addr: from,
                transport_protocol: TransportProtocol::UDP,
                ecn: None,
            },
            message: BytesMut::from(&self.buffer[..length]),
        };
        let _ = self.core.handle_read(datagram);
    }

    fn deadline(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let deadline = self.core.poll_timeout();
        let deadline = deadline.map(|deadline| deadline.max(now + SHORTEST_SLEEP));
        if self.is_up {
            return deadline;
        }
        let soon = now + SET_UP_SLEEP;
        Some(deadline.map_or(soon, |deadline| deadline.min(soon)))
    }

    /// What the stack has to tell.
    fn collect(&mut self) {
        while let Some(event) = self.core.poll_event() {
            let happening = match event {
                RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) => match state {
                    RTCPeerConnectionState::Connected => {
                        self.is_up = true;
                        Some(Happening::Connected)
                    }
                    RTCPeerConnectionState::Disconnected => Some(Happening::Disconnected),
                    RTCPeerConnectionState::Failed => Some(Happening::Failed(FAILED.to_owned())),
                    RTCPeerConnectionState::Closed => Some(Happening::Closed),
                    _ => None,
                },
                RTCPeerConnectionEvent::OnDataChannel(RTCDataChannelEvent::OnClose(_)) => {
                    Some(Happening::NoMoreTexts)
                }
                _ => None,
            };
            self.happened.extend(happening);
        }
        while let Some(message) = self.core.poll_read() {
            match message.message {
                RTCMessage::RtpPacket(_, packet) => {
                    self.happened.push_back(Happening::Packet(packet));
                }
                RTCMessage::DataChannelMessage(_, message) => {
                    let text = String::from_utf8_lossy(&message.data).into_owned();
                    self.happened.push_back(Happening::Text(text));
                }
                _ => {}
            }
        }
    }
}

/// A socket, and the address by which the gateway is reached. The socket is not bound to that: the gateway's media may be
/// elsewhere than its HTTP.
async fn socket(gateway: &Url) -> Result<(UdpSocket, SocketAddr), String> {
    let host = gateway.host_str().ok_or("the target has no host")?;
    let port = gateway.port_or_known_default().unwrap_or(443);
    // The brackets of an IPv6 address belong to the URL.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let io = |error: std::io::Error| error.to_string();
    let mut found = tokio::net::lookup_host((host, port)).await.map_err(io)?;
    let address = found.next().ok_or("its host has no address")?;
    let any = match address.ip() {
        IpAddr::V4(_) => "0.0.0.0:0",
        IpAddr::V6(_) => "[::]:0",
    };
    // Connecting a UDP socket sends nothing; it asks the system for the way.
    let probe = UdpSocket::bind(any).await.map_err(io)?;
    probe.connect(address).await.map_err(io)?;
    let ip = probe.local_addr().map_err(io)?.ip();
    let socket = UdpSocket::bind(any).await.map_err(io)?;
    let port = socket.local_addr().map_err(io)?.port();
    Ok((socket, SocketAddr::new(ip, port)))
}

fn generate() -> Result<RTCCertificate, String> {
    let provider = crypto::default_provider().map_err(|error| error.to_string())?;
    let parameters =
        CertificateParams::new(vec!["caller".to_owned()]).map_err(|error| error.to_string())?;
    RTCCertificate::generate(
        provider.crypto(),
        SignatureScheme::EcdsaP256Sha256,
        parameters,
    )
    .map_err(|error| error.to_string())
}

fn connection(
    certificate: RTCCertificate,
    codec: Codec,
    ssrc: u32,
    local: SocketAddr,
) -> Result<(RTCPeerConnection, RTCRtpSenderId), Error> {
    let codecs = [
        (
            codec.name(),
            codec.channels(),
            codec.parameters(),
            codec.payload_type(),
        ),
        ("telephone-event", 0, "0-16", codec.events()),
    ];
    let codecs = codecs.map(
        |(name, channels, parameters, payload_type)| RTCRtpCodecParameters {
            rtp_codec: RTCRtpCodec {
                mime_type: format!("audio/{name}"),
                clock_rate: codec.clock(),
                channels,
                sdp_fmtp_line: parameters.to_owned(),
                rtcp_feedback: Vec::new(),
            },
            payload_type,
        },
    );
    let track = MediaStreamTrack::new(
        "caller".to_owned(),
        "caller-audio".to_owned(),
        "caller-audio".to_owned(),
        RtpCodecKind::Audio,
        vec![RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters {
                ssrc: Some(ssrc),
                ..RTCRtpCodingParameters::default()
            },
            codec: codecs[0].rtp_codec.clone(),
            ..RTCRtpEncodingParameters::default()
        }],
    );
    let mut media = MediaEngine::default();
    for codec in codecs.clone() {
        media.register_codec(codec, RtpCodecKind::Audio)?;
    }
    let mut core = RTCPeerConnectionBuilder::new()
        .with_configuration(
            RTCConfigurationBuilder::new()
                .with_certificates(vec![certificate])
                .build(),
        )
        .with_media_engine(media)
        .with_setting_engine(settings())
        // Sender and receiver reports, as a browser's.
        .with_interceptor_registry(configure_rtcp_reports(Registry::new()))
        .build(Instant::now())?;
    let sender = core.add_track(track)?;
    let transceiver = core.get_transceivers().next();
    if let Some(mut transceiver) = transceiver.and_then(|id| core.rtp_transceiver(id)) {
        // Left to itself the stack would offer the track's codec alone.
        transceiver.set_codec_preferences(codecs.to_vec())?;
    }
    core.create_data_channel(EVENTS, None)?;
    let (ip, port) = (local.ip(), local.port());
    for candidate in [
        format!("candidate:1 1 udp 2130706431 {ip} {port} typ host"),
        // There will be no more.
        String::new(),
    ] {
        core.add_local_candidate(RTCIceCandidateInit {
            candidate,
            ..RTCIceCandidateInit::default()
        })?;
    }
    Ok((core, sender))
}

fn settings() -> SettingEngine {
    SettingEngineBuilder::new()
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        .with_ice_connection_attempts(Some(CHECK_INTERVAL), Some(CHECKS))
        .build()
}
