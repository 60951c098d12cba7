//! A caller as browsers are: the crate `webrtc` with a socket of its own and full ICE.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use async_trait::async_trait;
use rtc::ice::mdns::MulticastDnsMode;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::transport::RTCDtlsTransportState;
use rtc::rtp::Packet;
use rtc::rtp::header::Header;
use rtc::rtp_transceiver::rtp_sender::RTCRtpCodec;
use rtc::rtp_transceiver::rtp_sender::RTCRtpCodecParameters;
use rtc::rtp_transceiver::rtp_sender::RTCRtpCodingParameters;
use rtc::rtp_transceiver::rtp_sender::RTCRtpEncodingParameters;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use tandem::engine::media::codec::packet::Codec;
use tandem::engine::media::codec::packet::Decoder;
use tandem::engine::media::codec::packet::Encoder;
use tandem::engine::media::codec::packet::MAX_PAYLOAD_BYTES;
use tandem::engine::media::frame::Frame;
use tandem::io::leg::LegInput;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;
use tokio::time::sleep;
use tokio::time::timeout;
use webrtc::data_channel::DataChannel;
use webrtc::data_channel::DataChannelEvent;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_remote::TrackRemote;
use webrtc::media_stream::track_remote::TrackRemoteEvent;
use webrtc::peer_connection::MediaEngine;
use webrtc::peer_connection::PeerConnection;
use webrtc::peer_connection::PeerConnectionBuilder;
use webrtc::peer_connection::PeerConnectionEventHandler;
use webrtc::peer_connection::RTCSessionDescription;
use webrtc::peer_connection::SettingEngineBuilder;

use crate::nat::Nat;
use crate::sound::level;
use crate::sound::tone;
use crate::world::Begun;
use crate::world::CallSide;
use crate::world::PATIENCE;
use crate::world::World;

/// The payload type of telephone-events.
const TELEPHONE_EVENT: u8 = 110;
const SSRC: u32 = 0x5eed_cafe;
/// What must be heard of a tone without a break.
const HEARD: Duration = Duration::from_millis(200);

/// How a caller calls.
pub(crate) struct Manner {
    pub(crate) codec: Codec,
    /// The address that it calls from.
    pub(crate) ip: IpAddr,
    /// Whether there is a NAT on its way.
    pub(crate) behind_nat: bool,
    /// Lines for the end of the offer's audio part.
    pub(crate) lines: &'static str,
}

impl Manner {
    pub(crate) const fn with(codec: Codec) -> Self {
        Self {
            codec,
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            behind_nat: false,
            lines: "",
        }
    }
}

impl Default for Manner {
    fn default() -> Self {
        Self::with(Codec::Opus)
    }
}

/// A caller in a call.
pub(crate) struct Caller {
    pub(crate) begun: Begun,
    pub(crate) nat: Option<Nat>,
    connection: Arc<dyn PeerConnection>,
    codec: Codec,
    voice: Arc<TrackLocalStaticRTP>,
    encoder: Encoder,
    decoder: Decoder,
    sequence: u16,
    timestamp: u32,
    packets: mpsc::UnboundedReceiver<Packet>,
    /// The events' channel that every page opens.
    pub(crate) events: Channel,
}

struct Handler {
    packets: mpsc::UnboundedSender<Packet>,
}

#[async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let packets = self.packets.clone();
        tokio::spawn(async move {
            while let Some(event) = track.poll().await {
                if let TrackRemoteEvent::OnRtpPacket(packet) = event {
                    // The test may have ended.
                    let _ = packets.send(packet);
                }
            }
        });
    }
}

impl Caller {
    /// Calls, and waits until the gateway has a call.
    pub(crate) async fn call(world: &mut World, manner: Manner) -> (Self, CallSide) {
        let codec = manner.codec;
        let (packet_sender, packets) = mpsc::unbounded_channel();
        let handler = Handler {
            packets: packet_sender,
        };
        let settings = SettingEngineBuilder::new()
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .with_include_loopback_candidate(true)
            .with_ice_timeouts(
                Some(Duration::from_secs(60)),
                Some(Duration::from_secs(60)),
                Some(Duration::from_secs(1)),
            )
            .build();
        let mut engine = MediaEngine::default();
        for codec in codecs(codec) {
            let registered = engine.register_codec(codec, RtpCodecKind::Audio);
            registered.expect("it is known");
        }
        let connection = PeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_setting_engine(settings)
            .with_handler(Arc::new(handler))
            .with_udp_addrs(vec![SocketAddr::new(manner.ip, 0).to_string()])
            .build()
            .await;
        let connection: Arc<dyn PeerConnection> = Arc::new(connection.expect("a connection"));
        let voice = Arc::new(TrackLocalStaticRTP::new(MediaStreamTrack::new(
            "page".to_owned(),
            "microphone".to_owned(),
            "microphone".to_owned(),
            RtpCodecKind::Audio,
            vec![RTCRtpEncodingParameters {
                rtp_coding_parameters: RTCRtpCodingParameters {
                    ssrc: Some(SSRC),
                    ..RTCRtpCodingParameters::default()
                },
                codec: kind(codec),
                ..RTCRtpEncodingParameters::default()
            }],
        )));
        let added = connection.add_track(voice.clone()).await;
        added.expect("a place for the track");
        // With a track alone, its own codec is all that would be offered.
        let transceivers = connection.get_transceivers().await;
        let preferred = transceivers[0].set_codec_preferences(codecs(codec)).await;
        preferred.expect("they are known");
        let events = Channel::open(&connection, "events").await;
        let offer = offer(&connection).await.replacen(
            "a=sendrecv\r\n",
            &format!("a=sendrecv\r\n{}", manner.lines),
            1,
        );
        let begun = world.begin(offer).await;
        let mut caller = Self {
            nat: None,
            connection,
            codec,
            voice,
            encoder: Encoder::new(codec, 5),
            decoder: Decoder::new(codec),
            sequence: 0,
            timestamp: 0,
            packets,
            events,
            begun,
        };
        if manner.behind_nat {
            caller.nat = Some(Nat::open(caller.begun.addresses()[0]).await);
        }
        let answer = caller.begun.answer.clone();
        caller.take(&answer).await;
        let side = world.call().await;
        (caller, side)
    }

    /// Takes an answer; behind a NAT, the gateway is found there.
    async fn take(&self, answer: &str) {
        let mut answer = answer.to_owned();
        if let Some(nat) = &self.nat {
            let [from, to] = [self.begun.addresses()[0], nat.inner]
                .map(|place| format!(" {} {} typ host", place.ip(), place.port()));
            answer = answer.replace(&from, &to);
        }
        let answer = RTCSessionDescription::answer(answer).expect("an answer");
        let taken = self.connection.set_remote_description(answer).await;
        taken.expect("a browser can read it");
    }

    /// Makes ICE anew, over HTTP as on the path.
    pub(crate) async fn restart(&mut self, world: &World) {
        self.connection.restart_ice().await.expect("it restarts");
        let offer = offer(&self.connection).await;
        let lines = offer.lines().filter(|line| line.starts_with("a=ice-"));
        let fragment: String = lines.map(|line| format!("{line}\r\n")).collect();
        let response = world.restart(&self.begun.url, fragment).await;
        assert_eq!(response.status(), 200);
        let fragment = response.text().await.expect("a body");
        let value = |name| crate::world::attribute(&fragment, name).expect(name);
        let answer = self
            .begun
            .answer
            .replace(self.begun.attribute("ice-ufrag"), value("ice-ufrag"))
            .replace(self.begun.attribute("ice-pwd"), value("ice-pwd"));
        self.take(&answer).await;
    }

    /// Opens another channel.
    pub(crate) async fn open(&self, label: &str) -> Channel {
        Channel::open(&self.connection, label).await
    }

    /// Waits until the caller's own side knows that the connection is over. As in browsers, it is the transport that
    /// knows: a connection's own state tells only of losses, and of one's own closing.
    pub(crate) async fn closed(&self) {
        let sctp = self.connection.sctp().await.expect("there are channels");
        let dtls = sctp.transport();
        let since = Instant::now();
        while dtls.state().await.expect("a state") != RTCDtlsTransportState::Closed {
            assert!(since.elapsed() < PATIENCE, "it is still open");
            sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn hang_up(&self) {
        self.connection.close().await.expect("it closes");
    }

    /// Says 20 ms.
    pub(crate) async fn say(&mut self, samples: &[i16]) {
        let frame = Frame::new(self.codec.sample_rate(), samples);
        let mut payload = [0; MAX_PAYLOAD_BYTES];
        let length = self.encoder.encode(&frame, &mut payload);
        let number = payload_type(self.codec);
        let timestamp = self.timestamp;
        self.timestamp += self.codec.clock_rate() / 50;
        self.send(number, timestamp, &payload[..length]).await;
    }

    /// Presses a key for 60 ms: begin, continuation, and three times its end (RFC 4733 §2.5.1).
    pub(crate) async fn press(&mut self, event: u8) {
        let ticks = (self.codec.clock_rate() / 50) as u16;
        let timestamp = self.timestamp;
        for (end, frames) in [(0, 1), (0, 2), (0x80, 3), (0x80, 3), (0x80, 3)] {
            let [high, low] = (frames * ticks).to_be_bytes();
            let payload = [event, end | 10, high, low];
            self.send(TELEPHONE_EVENT, timestamp, &payload).await;
        }
        self.timestamp += 3 * u32::from(ticks);
    }

    async fn send(&mut self, payload_type: u8, timestamp: u32, payload: &[u8]) {
        self.sequence += 1;
        let header = Header {
            version: 2,
            payload_type,
            sequence_number: self.sequence,
            timestamp,
            ssrc: SSRC,
            ..Header::default()
        };
        let packet = Packet {
            header,
            payload: payload.to_vec().into(),
        };
        self.voice.write_rtp(packet).await.expect("it is sent");
    }

    /// The next packet.
    pub(crate) async fn packet(&mut self) -> Packet {
        let packet = timeout(PATIENCE, self.packets.recv()).await;
        packet.expect("in time").expect("the call lives")
    }

    /// Everything heard since it was last asked for.
    pub(crate) fn heard(&mut self) -> Vec<i16> {
        let mut pcm = Vec::new();
        while let Ok(packet) = self.packets.try_recv() {
            self.decoder.decode(&packet.payload, &mut pcm);
        }
        pcm
    }
}

fn codecs(codec: Codec) -> Vec<RTCRtpCodecParameters> {
    let keys = RTCRtpCodec {
        mime_type: "audio/telephone-event".to_owned(),
        clock_rate: codec.clock_rate(),
        channels: 0,
        sdp_fmtp_line: "0-16".to_owned(),
        rtcp_feedback: Vec::new(),
    };
    let both = [(kind(codec), payload_type(codec)), (keys, TELEPHONE_EVENT)];
    let parameters = both.map(|(rtp_codec, payload_type)| RTCRtpCodecParameters {
        rtp_codec,
        payload_type,
    });
    parameters.to_vec()
}

fn kind(codec: Codec) -> RTCRtpCodec {
    let is_opus = codec == Codec::Opus;
    let format = if is_opus {
        "minptime=10;useinbandfec=1"
    } else {
        ""
    };
    RTCRtpCodec {
        mime_type: format!("audio/{}", codec.encoding_name()),
        clock_rate: codec.clock_rate(),
        channels: if is_opus { 2 } else { 0 },
        sdp_fmtp_line: format.to_owned(),
        rtcp_feedback: Vec::new(),
    }
}

fn payload_type(codec: Codec) -> u8 {
    codec.static_payload_type().unwrap_or(111)
}

async fn offer(connection: &Arc<dyn PeerConnection>) -> String {
    let offer = connection.create_offer(None).await.expect("an offer");
    let sdp = offer.sdp.clone();
    let set = connection.set_local_description(offer).await;
    set.expect("it is its own");
    sdp
}

/// A data channel, as the page reads it.
pub(crate) struct Channel(mpsc::UnboundedReceiver<String>);

impl Channel {
    async fn open(connection: &Arc<dyn PeerConnection>, label: &str) -> Self {
        let channel = connection.create_data_channel(label, None).await;
        let channel: Arc<dyn DataChannel> = channel.expect("a channel");
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(event) = channel.poll().await {
                match event {
                    DataChannelEvent::OnMessage(message) => {
                        let text = String::from_utf8(message.data.to_vec()).expect("text");
                        // The test may have ended.
                        let _ = sender.send(text);
                    }
                    DataChannelEvent::OnClose => return,
                    _ => {}
                }
            }
        });
        Self(receiver)
    }

    /// The next message, as JSON; `None` once the channel is closed.
    pub(crate) async fn next(&mut self) -> Option<serde_json::Value> {
        let text = timeout(PATIENCE, self.0.recv()).await.expect("in time")?;
        Some(serde_json::from_str(&text).expect("JSON"))
    }
}

/// Asserts that each hears the other's tone, and nothing at the pitch of `foreign`. They talk until they have.
pub(crate) async fn hear_each_other(
    caller: &mut Caller,
    side: &mut CallSide,
    (up, down): (f64, f64),
    foreign: Option<f64>,
) {
    let rate = caller.codec.sample_rate();
    assert_eq!(side.rate(), rate, "{:?}", caller.codec);
    let (hz, frame) = (rate.hz(), rate.hz() as usize / 50);
    let (mut leg, mut page) = (Ear::new(hz, up), Ear::new(hz, down));
    // What was said before.
    caller.heard();
    side.waiting();
    let mut ticks = interval(Duration::from_millis(20));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let since = Instant::now();
    for at in 0.. {
        ticks.tick().await;
        caller.say(&tone(hz, up, at * frame, frame)).await;
        side.play(&tone(hz, down, at * frame, frame));
        for input in side.waiting() {
            match input {
                LegInput::Audio(frame) => leg.hear(frame.samples(), foreign),
                other => panic!("{other:?}"),
            }
        }
        page.hear(&caller.heard(), foreign);
        if leg.has_heard && page.has_heard {
            return;
        }
        assert!(
            since.elapsed() < PATIENCE,
            "{:?}: the leg heard {:.0}, the page {:.0}",
            caller.codec,
            leg.loudest,
            page.loudest
        );
    }
}

/// Listens for a tone.
struct Ear {
    rate: u32,
    hz: f64,
    latest: VecDeque<i16>,
    loudest: f64,
    has_heard: bool,
}

impl Ear {
    fn new(rate: u32, hz: f64) -> Self {
        Self {
            rate,
            hz,
            latest: VecDeque::new(),
            loudest: 0.0,
            has_heard: false,
        }
    }

    fn hear(&mut self, samples: &[i16], foreign: Option<f64>) {
        self.latest.extend(samples);
        let window = self.rate as usize * HEARD.as_millis() as usize / 1_000;
        let Some(old) = self.latest.len().checked_sub(window) else {
            return;
        };
        self.latest.drain(..old);
        let samples = self.latest.make_contiguous();
        let heard = level(self.rate, self.hz, samples);
        self.loudest = self.loudest.max(heard);
        // Of 8000, as it is said; a codec may take some.
        self.has_heard |= heard > 5_000.0;
        if let Some(foreign) = foreign {
            let heard = level(self.rate, foreign, samples);
            assert!(heard < 1_000.0, "{heard:.0} of another call's {foreign} Hz");
        }
    }
}
