//! Once a call is set up, the engine allocates nothing per frame: counted by the allocator itself.
#![expect(
    unsafe_code,
    reason = "a global allocator that counts cannot be written without it"
)]

use std::alloc::GlobalAlloc;
use std::alloc::Layout;
use std::alloc::System;
use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use rtc::crypto::RTCCryptoProvider as _;
use rtc::crypto::providers::RingProvider;
use rtc::ice::attributes::use_candidate::UseCandidateAttr;
use rtc::stun::attributes::ATTR_USERNAME;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::BINDING_REQUEST;
use rtc::stun::message::Message as StunMessage;
use rtc::stun::textattrs::Username;
use tandem::engine::call::Call;
use tandem::engine::call::event::Action;
use tandem::engine::call::event::Answer;
use tandem::engine::call::event::Audio;
use tandem::engine::call::event::BackendEvent;
use tandem::engine::call::event::Event;
use tandem::engine::call::event::Message;
use tandem::engine::call::event::StreamId;
use tandem::engine::call::settings::CallSettings;
use tandem::engine::call::settings::LegTraits;
use tandem::engine::media::codec::AudioFormat;
use tandem::engine::media::codec::Encoding;
use tandem::engine::media::codec::packet::Codec;
use tandem::engine::media::frame::FRAME_DURATION;
use tandem::engine::media::frame::Frame;
use tandem::engine::media::frame::SampleRate;
use tandem::engine::rtp::dtls::DtlsRole;
use tandem::engine::rtp::dtls::Fingerprint;
use tandem::engine::rtp::dtls::Handshake;
use tandem::engine::rtp::dtls::Identity;
use tandem::engine::rtp::dtls::is_dtls;
use tandem::engine::rtp::key::SrtpKey;
use tandem::engine::rtp::presence::Patience;
use tandem::engine::rtp::session::Beginning;
use tandem::engine::rtp::session::Heard;
use tandem::engine::rtp::session::Port;
use tandem::engine::rtp::session::Session;
use tandem::engine::rtp::session::Setup;
use tandem::engine::sdp::agreement::Agreement;
use tandem::engine::sdp::agreement::Direction;
use tandem::engine::sdp::agreement::Keying;
use tandem::engine::sdp::agreement::PayloadType;
use tandem::engine::webrtc::ice::Credentials;
use tandem::engine::webrtc::ice::Path;
use tandem::engine::webrtc::peer;
use tandem::engine::webrtc::peer::Peer;
use tandem::engine::webrtc::peer::Terms;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is handed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is the one that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System` by `alloc` above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_frame_allocates_nothing_while_the_agent_listens_or_speaks_or_both() {
    let mulaw = AudioFormat {
        encoding: Encoding::Mulaw,
        rate: SampleRate::HZ_8000,
    };
    let linear = AudioFormat {
        encoding: Encoding::Linear16,
        rate: SampleRate::HZ_16000,
    };
    // The second resamples both ways.
    for (uplink, downlink) in [(mulaw, mulaw), (linear, linear)] {
        let mut now = Instant::now();
        let mut call = Call::new(settings(uplink, downlink), now);
        let mut counted = Counted::default();
        counted.act(&mut call);
        call.handle(
            Event::Backend(
                StreamId(1),
                BackendEvent::Answer(Box::new(speech(downlink))),
            ),
            now,
        );
        counted.act(&mut call);

        let mut run = |seconds: u32, counted: &mut Counted| {
            let before = ALLOCATIONS.with(Cell::get);
            for n in 0..seconds * 50 {
                now += FRAME_DURATION;
                call.hear(&Frame::new(SampleRate::HZ_8000, &noise(n)), now);
                call.tick(now);
                counted.act(&mut call);
            }
            ALLOCATIONS.with(Cell::get) - before
        };
        // The first call of all sets things up: the first use of a rate, the first chunk of each size.
        let allocations = run(3, &mut counted);
        assert!(allocations <= 20, "{allocations} in the first seconds");
        // Nobody understands the caller, so the room for what is kept of them is doubled: 4 s, 8 s, 16 s, 30 s.
        let allocations = run(28, &mut counted);
        assert_eq!(allocations, 3, "until half a minute is kept, {uplink:?}");
        counted = Counted::default();
        let allocations = run(30, &mut counted);
        assert_eq!(allocations, 0, "in 1,500 frames each way, {uplink:?}");
        assert_eq!(counted.played, 1_500, "the agent spoke all the time");
        assert!(
            counted.sent >= 295,
            "and was listened to: {} chunks",
            counted.sent
        );
    }
}

#[test]
fn a_packet_allocates_nothing_in_either_direction() {
    let peer = SocketAddr::from(([198, 51, 100, 1], 4_000));
    let mut now = Instant::now();
    let beginning = Beginning {
        ssrc: 1,
        // Both wrap while packets are counted.
        sequence: u16::MAX - 700,
        timestamp: u32::MAX - 160 * 800,
        seed: 1,
    };
    let mut session = Session::new(pcmu(peer), beginning, now);
    let mut from_peer = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7].to_vec();
    from_peer.resize(12 + 160, 0);
    let mut run = |packets: std::ops::Range<u32>| {
        let mut counted = Counts::default();
        for n in packets {
            now += FRAME_DURATION;
            let sequence = u16::MAX.wrapping_sub(800).wrapping_add(n as u16);
            from_peer[2..4].copy_from_slice(&sequence.to_be_bytes());
            from_peer[4..8].copy_from_slice(&n.wrapping_mul(160).to_be_bytes());
            from_peer[12..].fill(n as u8);
            let before = ALLOCATIONS.with(Cell::get);
            session.receive(&from_peer, peer, now);
            while let Some(Heard::Audio(_)) = session.poll(now) {
                counted.heard += 1;
            }
            session.send(&Frame::new(SampleRate::HZ_8000, &noise(n)));
            let mut has_reported = false;
            while let Some(datagram) = session.next_datagram(now) {
                match datagram.from {
                    Port::Rtp => counted.sent += 1,
                    Port::Rtcp => has_reported = true,
                }
            }
            let allocations = ALLOCATIONS.with(Cell::get) - before;
            // The crate that writes a report allocates; one every few seconds is no packet's.
            match has_reported {
                true => counted.reports += 1,
                false => counted.allocations += allocations,
            }
        }
        counted
    };
    run(0..100);
    let counted = run(100..1_600);
    assert_eq!(counted.allocations, 0, "in 1,500 packets each way");
    assert_eq!((counted.heard, counted.sent), (1_500, 1_500));
    assert!((2..20).contains(&counted.reports), "{}", counted.reports);
}

#[test]
fn a_browsers_packet_allocates_what_srtp_does_and_nothing_else() {
    let mut now = Instant::now();
    let path = Path {
        remote: SocketAddr::from(([198, 51, 100, 1], 4_000)),
        socket: 0,
    };
    let (ours, theirs) = [(); 2]
        .map(|()| Arc::new(Identity::generate().unwrap()))
        .into();
    let mut peer = Peer::new(terms(ours.clone(), theirs.fingerprint()), now);
    peer.receive(&nomination(), path, now);
    let mut handshake = Handshake::new(DtlsRole::Client, &theirs, ours.fingerprint(), now);
    let mut keys = None;
    while keys.is_none() {
        while let Some(datagram) = handshake.poll_transmit() {
            peer.receive(&datagram, path, now);
        }
        while let Some(datagram) = peer.next_datagram(now) {
            if is_dtls(datagram.bytes) {
                keys = keys.or(handshake.receive(datagram.bytes, now).unwrap());
            }
        }
    }
    let keys = keys.map(|keys| (keys.ours, keys.theirs));
    let beginning = Beginning {
        ssrc: 1,
        sequence: 1,
        timestamp: 1,
        seed: 1,
    };
    let mut client = Session::new(opus(path.remote, keys), beginning, now);
    // The same without what a connection has around it.
    let ours = keys.map(|(theirs, ours)| (ours, theirs));
    let mut bare = Session::new(opus(path.remote, ours), beginning, now);
    let mut run = |packets: std::ops::Range<u32>| {
        let (mut connection, mut session) = (Counts::default(), Counts::default());
        for n in packets {
            now += FRAME_DURATION;
            let frame = Frame::new(SampleRate::HZ_16000, &[noise(n), noise(n + 1)].concat());
            client.send(&frame);
            let from_client = client.next_datagram(now).unwrap().bytes.to_vec();
            while client.next_datagram(now).is_some() {}

            let before = ALLOCATIONS.with(Cell::get);
            peer.receive(&from_client, path, now);
            while let Some(event) = peer.poll(now) {
                connection.heard += u32::from(matches!(event, peer::Event::Heard(Heard::Audio(_))));
            }
            peer.send(&frame);
            let mut sent = 0;
            while peer.next_datagram(now).is_some() {
                sent += 1;
            }
            peer.tick(now);
            connection.count(sent, ALLOCATIONS.with(Cell::get) - before);

            let before = ALLOCATIONS.with(Cell::get);
            bare.receive(&from_client, path.remote, now);
            while bare.poll(now).is_some() {
                session.heard += 1;
            }
            bare.send(&frame);
            let mut sent = 0;
            while bare.next_datagram(now).is_some() {
                sent += 1;
            }
            session.count(sent, ALLOCATIONS.with(Cell::get) - before);
        }
        (connection, session)
    };
    run(0..100);
    let (connection, session) = run(100..1_600);
    assert_eq!((connection.heard, session.heard), (1_500, 1_500));
    // Reports are due at random times, so either may have some more frames without.
    for counts in [&connection, &session] {
        assert!((2..20).contains(&counts.reports), "{}", counts.reports);
    }
    let each = session.allocations / u64::from(session.sent);
    assert_eq!(session.allocations, each * u64::from(session.sent));
    assert_eq!(connection.allocations, each * u64::from(connection.sent));
    assert!(each <= 4, "{each} in a packet each way");
}

impl Counts {
    /// Takes what one frame has allocated, unless there was a report beside its packet.
    fn count(&mut self, datagrams: u32, allocations: u64) {
        if datagrams == 1 {
            self.sent += 1;
            self.allocations += allocations;
        } else {
            self.reports += 1;
        }
    }
}

/// A connection whose client begins the handshake, and opens no channels.
fn terms(identity: Arc<Identity>, fingerprint: Fingerprint) -> Terms {
    let opus = PayloadType {
        send: 111,
        receive: 111,
    };
    Terms {
        agreement: Agreement {
            codec: Codec::Opus,
            payload_type: opus,
            telephone_event: None,
            comfort_noise: None,
            packet_time: FRAME_DURATION,
            max_average_bitrate: None,
            remote_rtp: None,
            remote_rtcp: None,
            rtcp_mux: true,
            direction: Direction::BOTH,
            keying: Keying::Dtls {
                role: DtlsRole::Server,
                fingerprint,
            },
        },
        has_channels: false,
        credentials: credentials(),
        identity,
        cname: "a".to_owned(),
        opus_complexity: 0,
        beginning: Beginning {
            ssrc: 2,
            sequence: 1,
            timestamp: 1,
            seed: 1,
        },
    }
}

fn credentials() -> Credentials {
    Credentials::new(&[7; Credentials::RANDOM_BYTES])
}

/// A check that chooses its path.
fn nomination() -> Vec<u8> {
    let provider = RingProvider::new();
    let Credentials { ufrag, pwd } = credentials();
    let name = Username::new(ATTR_USERNAME, format!("{ufrag}:client"));
    let signature =
        MessageIntegrity::new_short_term_integrity_with_provider(pwd, provider.crypto());
    let mut message = StunMessage::new();
    message
        .build(&[
            Box::new(BINDING_REQUEST),
            Box::new(name),
            Box::<UseCandidateAttr>::default(),
            Box::new(signature),
        ])
        .unwrap();
    message.raw
}

/// A browser's setup, as its connection makes it.
fn opus(peer: SocketAddr, keys: Option<(SrtpKey, SrtpKey)>) -> Setup {
    Setup {
        codec: Codec::Opus,
        payload_type: 111,
        own_payload_type: 111,
        telephone_event: None,
        remote_rtcp: Some(peer),
        keys,
        ..pcmu(peer)
    }
}

#[derive(Default)]
struct Counts {
    allocations: u64,
    heard: u32,
    sent: u32,
    reports: u32,
}

#[test]
fn the_counter_counts() {
    let before = ALLOCATIONS.with(Cell::get);
    drop(std::hint::black_box(vec![1_u8; 100]));
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 1);
}

#[derive(Default)]
struct Counted {
    played: u32,
    sent: u32,
}

impl Counted {
    fn act(&mut self, call: &mut Call) {
        while let Some(action) = call.poll() {
            match action {
                Action::Play(_) => self.played += 1,
                Action::SendAudio(..) => self.sent += 1,
                Action::End(reason) => panic!("the call ended: {reason:?}"),
                Action::Mark(_)
                | Action::Clear
                | Action::Answer
                | Action::Transfer(_)
                | Action::Fetch(..)
                | Action::RunTool(_)
                | Action::Open(_)
                | Action::SendRest(..)
                | Action::HalfClose(_)
                | Action::Cancel(_)
                | Action::Tell(_)
                | Action::Measure(_) => {}
            }
        }
    }
}

/// A minute of speech, so that nothing ends while frames are counted.
fn speech(format: AudioFormat) -> Answer {
    let samples = format.rate.samples_in(Duration::from_secs(60)) as usize;
    let bytes = Bytes::from(vec![0x55; samples * format.encoding.bytes_per_sample()]);
    Answer {
        output_audio: Audio {
            bytes,
            format: Some(format),
        },
        messages: vec![Message::Text {
            text: "A long story".to_owned(),
            interruptible: true,
        }],
        ..Answer::default()
    }
}

/// A telephone's setup, whose reports have a port of their own.
fn pcmu(peer: SocketAddr) -> Setup {
    let ever = Duration::from_secs(3_600);
    Setup {
        codec: Codec::Pcmu,
        payload_type: 0,
        own_payload_type: 0,
        telephone_event: Some(101),
        comfort_noise: None,
        packet_time: FRAME_DURATION,
        max_average_bitrate: None,
        remote_rtp: Some(peer),
        remote_rtcp: Some(SocketAddr::new(peer.ip(), peer.port() + 1)),
        send: true,
        receive: true,
        keys: None,
        patience: Patience {
            initial: ever,
            mid_call: ever,
            hold: ever,
        },
        learning: Duration::ZERO,
        cname: "a".to_owned(),
        opus_complexity: 0,
    }
}

/// A frame that is not silence.
fn noise(seed: u32) -> [i16; 160] {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    std::array::from_fn(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 18) as i16 - 4_096
    })
}

fn settings(uplink: AudioFormat, downlink: AudioFormat) -> CallSettings {
    let leg = LegTraits {
        rate: SampleRate::HZ_8000,
        lead: Duration::from_millis(100),
        confirms_playout: true,
        continuous: false,
        rings: None,
        transfers: false,
        dials: false,
    };
    CallSettings {
        uplink,
        downlink,
        ..CallSettings::new(leg)
    }
}
