//! What a frame costs at each stage, and what share of a core that is per call.
//!
//! Each stage runs on frames of 20 ms; the best of several rounds is printed, as the least disturbed by the machine. The
//! share is the time per frame over 20 ms. `cargo bench` runs it; figures of two runs compare on the same machine only.

use std::hint::black_box;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use tandem::engine::call::Call;
use tandem::engine::call::event::Action;
use tandem::engine::call::event::Answer;
use tandem::engine::call::event::Audio;
use tandem::engine::call::event::BackendEvent;
use tandem::engine::call::event::Event;
use tandem::engine::call::event::StreamId;
use tandem::engine::call::settings::CallSettings;
use tandem::engine::call::settings::LegTraits;
use tandem::engine::call::settings::NoInput;
use tandem::engine::media::codec::AudioFormat;
use tandem::engine::media::codec::Encoding;
use tandem::engine::media::codec::g711;
use tandem::engine::media::codec::packet::Codec;
use tandem::engine::media::codec::packet::Encoder;
use tandem::engine::media::codec::packet::MAX_PAYLOAD_BYTES;
use tandem::engine::media::frame::FRAME_DURATION;
use tandem::engine::media::frame::Frame;
use tandem::engine::media::frame::SampleRate;
use tandem::engine::media::resample::Resampler;
use tandem::engine::media::ring;
use tandem::engine::media::testing;
use tandem::engine::media::vad::VoiceDetector;

const ROUNDS: usize = 7;
const FRAMES: u32 = 2_000;

fn main() {
    println!(
        "{:<44} {:>10} {:>12}",
        "stage, per frame of 20 ms", "µs", "% of a core"
    );
    let frame = buzz();

    let mut encoded = [0_u8; 160];
    stage("mu-law, 160 samples there and back", || {
        for (byte, sample) in encoded.iter_mut().zip(frame.samples()) {
            *byte = g711::encode_mulaw(*sample);
        }
        black_box(
            encoded
                .iter()
                .map(|byte| i32::from(g711::decode_mulaw(*byte)))
                .sum::<i32>(),
        );
    });

    let mut up = Resampler::new(SampleRate::HZ_8000, SampleRate::HZ_16000);
    stage("resampling 8 to 16 kHz", || {
        black_box(up.process(frame.samples()));
    });

    let mut voice = VoiceDetector::new(SampleRate::HZ_8000);
    stage("voice activity at 8 kHz", || {
        black_box(voice.hear(frame.samples()));
    });

    let speech: Vec<Frame> = testing::voice(FRAMES as usize * SampleRate::HZ_16000.frame_samples())
        .chunks(SampleRate::HZ_16000.frame_samples())
        .map(|piece| Frame::new(SampleRate::HZ_16000, piece))
        .collect();
    for (name, fraction_lost) in [
        ("Opus, against loss", 1),
        ("Opus, where nothing is lost", 0),
    ] {
        let (mut opus, mut packet) = (Encoder::new(Codec::Opus, 5), [0; MAX_PAYLOAD_BYTES]);
        opus.heed_loss(fraction_lost);
        // It takes silence to change the mode.
        opus.encode(&Frame::silence(SampleRate::HZ_16000), &mut packet);
        let mut frames = speech.iter().cycle();
        stage(name, || {
            let frame = frames.next().expect("there is speech");
            black_box(opus.encode(frame, &mut packet));
        });
    }

    let (mut sender, mut receiver) = ring::ring(64);
    stage("a frame through a ring", || {
        let _ = sender.push(frame);
        black_box(receiver.pop());
    });

    let mulaw = AudioFormat {
        encoding: Encoding::Mulaw,
        rate: SampleRate::HZ_8000,
    };
    let linear = AudioFormat {
        encoding: Encoding::Linear16,
        rate: SampleRate::HZ_16000,
    };
    for (name, uplink, downlink) in [
        ("a call both ways, mu-law to the agent", mulaw, mulaw),
        ("a call both ways, resampled to 16 kHz", linear, linear),
    ] {
        let mut talking = Talking::new(uplink, downlink);
        stage(name, || talking.frame(&frame));
    }
}

fn stage(name: &str, mut run: impl FnMut()) {
    let round = |run: &mut dyn FnMut()| {
        let began = Instant::now();
        for _ in 0..FRAMES {
            run();
        }
        began.elapsed().as_secs_f64() / f64::from(FRAMES)
    };
    let best = (0..ROUNDS)
        .map(|_| round(&mut run))
        .fold(f64::INFINITY, f64::min);
    let share = best / FRAME_DURATION.as_secs_f64();
    println!("{name:<44} {:>10.3} {:>12.4}", best * 1e6, share * 100.0);
}

/// Something with harmonics.
fn buzz() -> Frame {
    let samples: Vec<i16> = (0..160)
        .map(|i| {
            let t = f64::from(i) / 8_000.0;
            ((1..8)
                .map(|h| (std::f64::consts::TAU * 150.0 * f64::from(h) * t).sin())
                .sum::<f64>()
                * 2_000.0) as i16
        })
        .collect();
    Frame::new(SampleRate::HZ_8000, &samples)
}

/// A call in which both sides speak all the time.
struct Talking {
    call: Call,
    now: Instant,
    downlink: AudioFormat,
    stream: u32,
}

impl Talking {
    fn new(uplink: AudioFormat, downlink: AudioFormat) -> Self {
        let now = Instant::now();
        let leg = LegTraits {
            rate: SampleRate::HZ_8000,
            lead: Duration::ZERO,
            confirms_playout: false,
            continuous: false,
            rings: None,
            transfers: false,
            dials: false,
        };
        let settings = CallSettings {
            uplink,
            downlink,
            no_input: NoInput {
                timeout: Duration::from_secs(60),
                limit: 100,
                ..NoInput::default()
            },
            call_duration: Duration::from_secs(1_000_000),
            ..CallSettings::new(leg)
        };
        Self {
            call: Call::new(settings, now),
            now,
            downlink,
            stream: 0,
        }
    }

    fn frame(&mut self, frame: &Frame) {
        self.now += FRAME_DURATION;
        self.call.hear(frame, self.now);
        self.call.tick(self.now);
        let mut closed = None;
        while let Some(action) = self.call.poll() {
            match action {
                Action::Open(turn) => self.stream = turn.stream.0,
                Action::HalfClose(stream) => closed = Some(stream),
                other => {
                    black_box(&other);
                }
            }
        }
        // The agent answers the greeting and every half-closed stream with another minute of speech.
        let stream = closed.or((self.stream == 1).then_some(StreamId(1)));
        if let Some(stream) = stream {
            self.stream = 0;
            let samples = self.downlink.rate.samples_in(Duration::from_secs(60)) as usize;
            let bytes = Bytes::from(vec![
                0x55;
                samples * self.downlink.encoding.bytes_per_sample()
            ]);
            let output_audio = Audio {
                bytes,
                format: Some(self.downlink),
            };
            let answer = Box::new(Answer {
                output_audio,
                ..Answer::default()
            });
            self.call.handle(
                Event::Backend(stream, BackendEvent::Answer(answer)),
                self.now,
            );
        }
    }
}
