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
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use tandem::engine::call::Call;
use tandem::engine::call::event::Action;
use tandem::engine::call::event::Answer;
use tandem::engine::call::event::Audio;
use tandem::engine::call::event::BackendEvent;
use tandem::engine::call::event::Event;
use tandem::engine::call::event::Message;
use tandem::engine::call::event::StreamId;
use tandem::engine::call::event::TurnInput;
use tandem::engine::call::settings::BargeInMode;
use tandem::engine::call::settings::CallSettings;
use tandem::engine::call::settings::LegTraits;
use tandem::engine::media::codec::AudioFormat;
use tandem::engine::media::codec::Encoding;
use tandem::engine::media::codec::packet::Codec;
use tandem::engine::media::frame::FRAME_DURATION;
use tandem::engine::media::frame::Frame;
use tandem::engine::media::frame::SampleRate;
use tandem::engine::rtp::presence::Patience;
use tandem::engine::rtp::session::Beginning;
use tandem::engine::rtp::session::Heard;
use tandem::engine::rtp::session::Port;
use tandem::engine::rtp::session::Session;
use tandem::engine::rtp::session::Setup;

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

        // The first seconds set things up: the first use of a rate, the first chunk of each size.
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
        run(2, &mut counted);
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
    CallSettings {
        leg: LegTraits {
            rate: SampleRate::HZ_8000,
            lead: Duration::from_millis(100),
            confirms_playout: true,
            continuous: false,
            rings: None,
            transfers: false,
        },
        uplink,
        chunk: Duration::from_millis(100),
        downlink,
        greeting: Some(TurnInput::Event("WELCOME".to_owned())),
        barge_in: BargeInMode::Words,
        no_input_timeout: Duration::from_secs(5),
        no_input_limit: 3,
        stream_ceiling: Duration::from_secs(55),
        interdigit_timeout: Duration::from_secs(3),
        max_digits: 20,
        call_duration: Duration::from_secs(7_200),
        hand_off_to: None,
        transfer_failed_event: "TRANSFER_FAILED".into(),
    }
}
