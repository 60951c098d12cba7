//! A call's media: any datagrams at any times, with frames, holds and re-INVITEs in between. What we send is opened and
//! read as the peer would.
//!
//! The first byte of the input chooses the call ([`Call::new`]). Then come steps of three bytes: what is done
//! ([`Call::step`]), a length, and a wait in milliseconds. Datagrams follow their step, as many bytes as the length says.

#![no_main]

use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;

use tandem::engine::media::codec::packet::Codec;
use tandem::engine::media::frame::Frame;
use tandem::engine::rtp::key::SrtpKey;
use tandem::engine::rtp::key::SrtpProfile;
use tandem::engine::rtp::packet::Kind;
use tandem::engine::rtp::packet::Packet;
use tandem::engine::rtp::presence::Patience;
use tandem::engine::rtp::session::Beginning;
use tandem::engine::rtp::session::Heard;
use tandem::engine::rtp::session::Port;
use tandem::engine::rtp::session::Session;
use tandem::engine::rtp::session::Setup;
use tandem::engine::rtp::srtp::Protect;
use tandem::engine::rtp::srtp::Unprotect;

/// A jitter buffer holds some thirty packets of 120 ms and fills 200 ms before each; more would be a loop.
const MOST_HEARD: usize = 32 * (6 + 10) + 32;
/// Nobody waits for datagrams longer than for one frame, so there are few; more would be a loop.
const MOST_SENT: usize = 16;
/// More than an Ethernet carries would be cut or lost.
const MOST_BYTES: usize = 1_472;
/// Pieces of one input: beyond some, nothing new happens in a call.
const MOST_STEPS: usize = 64;

fuzz_target!(|input: &[u8]| {
    let Some((&choice, mut rest)) = input.split_first() else {
        return;
    };
    let mut call = Call::new(choice, Instant::now());
    for _ in 0..MOST_STEPS {
        let [action, length, wait_ms, after @ ..] = rest else {
            break;
        };
        call.now += Duration::from_millis(u64::from(*wait_ms));
        rest = call.step(*action, *length, after);
        call.settle();
    }
    call.session.close();
    call.settle();
});

struct Call {
    session: Session,
    choice: u8,
    /// The peer's side of SRTP.
    peer: Option<(Protect, Unprotect)>,
    now: Instant,
}

impl Call {
    /// Bits 0–1: codec. 2–3: SRTP profile. 4: SRTP at all. 5: no RTCP. 6: SDP names no address. 7: no learning.
    fn new(choice: u8, now: Instant) -> Self {
        let beginning = Beginning {
            ssrc: 1,
            sequence: 0xfffe,
            timestamp: u32::MAX - 100,
            seed: 4,
        };
        let setup = setup(choice, choice);
        let peer = setup
            .keys
            .map(|(ours, theirs)| (Protect::new(theirs), Unprotect::new(ours)));
        Self {
            session: Session::new(setup, beginning, now),
            choice,
            peer,
            now,
        }
    }

    /// Does one thing, and gives what is left of the input.
    fn step<'a>(&mut self, action: u8, length: u8, rest: &'a [u8]) -> &'a [u8] {
        // The bit that makes a datagram the peer's own, under its key.
        let is_genuine = action & 0x80 != 0;
        let from = match action & 0x0f {
            0..=5 => peer(40_000),
            6 => peer(40_001),
            7 => "203.0.113.5:9".parse().expect("an address"),
            8..=10 => {
                let frame = [i16::from(length) * 128; 320];
                let rate = self.session.setup().codec.sample_rate();
                self.session
                    .send(&Frame::new(rate, &frame[..rate.frame_samples()]));
                return rest;
            }
            11 => {
                self.session
                    .set_direction(length & 1 != 0, length & 2 != 0, self.now);
                return rest;
            }
            12 => {
                // Other codecs and other addresses, but the same keys.
                self.session.update(setup(length, self.choice), self.now);
                return rest;
            }
            13 => {
                self.session.cut();
                return rest;
            }
            14 => {
                // Minutes pass.
                self.now += Duration::from_secs(u64::from(length));
                return rest;
            }
            _ => {
                self.session.close();
                return rest;
            }
        };
        let (datagram, rest) = rest.split_at(rest.len().min(usize::from(length)));
        let mut datagram = datagram.to_vec();
        // Long packets without long inputs: the same bytes over and over.
        for _ in 0..action >> 4 & 0x07 {
            datagram.extend_from_within(datagram.len().min(12)..);
            datagram.truncate(2_000);
        }
        let protected = match &mut self.peer {
            Some((protect, _)) if is_genuine => match Kind::of(&datagram) {
                Some(Kind::Rtp) => protect.rtp(&datagram),
                Some(Kind::Rtcp) => protect.rtcp(&datagram),
                None => None,
            },
            Some(_) | None => None,
        };
        self.session
            .receive(protected.as_deref().unwrap_or(&datagram), from, self.now);
        rest
    }

    /// Takes all that the session has to give, as the task of a leg does.
    fn settle(&mut self) {
        let mut heard = 0;
        while let Some(piece) = self.session.poll(self.now) {
            heard += 1;
            assert!(heard <= MOST_HEARD, "it ends");
            if let Heard::Audio(frame) = piece {
                let rate = self.session.setup().codec.sample_rate();
                assert_eq!(frame.rate(), rate);
                assert!((1..=rate.frame_samples()).contains(&frame.samples().len()));
            }
        }
        let mut sent = 0;
        while let Some(datagram) = self.session.next_datagram(self.now) {
            sent += 1;
            assert!(sent <= MOST_SENT, "it ends");
            assert!(datagram.bytes.len() <= MOST_BYTES);
            let kind = match datagram.from {
                Port::Rtp => Kind::Rtp,
                Port::Rtcp => Kind::Rtcp,
            };
            let opened = self.peer.as_mut().map(|(_, unprotect)| match kind {
                Kind::Rtp => unprotect.rtp(datagram.bytes).expect("the peer can open it"),
                Kind::Rtcp => unprotect
                    .rtcp(datagram.bytes)
                    .expect("the peer can open it"),
            });
            let plain = opened.as_deref().unwrap_or(datagram.bytes);
            assert_eq!(Kind::of(plain), Some(kind));
            assert!(
                kind == Kind::Rtcp || Packet::parse(plain).is_some_and(|packet| packet.ssrc == 1)
            );
        }
        // A deadline that has passed when all is taken would make its task spin.
        let deadline = self.session.deadline();
        assert!(
            deadline.is_none_or(|deadline| deadline > self.now),
            "{deadline:?}"
        );
        let _ = self.session.statistics();
    }
}

fn setup(choice: u8, keys: u8) -> Setup {
    let codec = Codec::ALL[usize::from(choice & 3)];
    let profile = SrtpProfile::ALL[usize::from(keys >> 2 & 3)];
    let key = |byte| {
        let bytes = vec![byte; profile.key_bytes() + profile.salt_bytes()];
        SrtpKey::new(profile, &bytes).expect("as many bytes as the profile wants")
    };
    let remote = (choice & 0x40 == 0).then(|| peer(40_000));
    // Sharing the port or the next one, by a bit that means something else in the first byte.
    let remote_rtcp = remote.map(|_| peer(40_000 + u16::from(choice >> 2 & 1)));
    Setup {
        codec,
        payload_type: codec.static_payload_type().unwrap_or(111),
        own_payload_type: codec.static_payload_type().unwrap_or(112),
        telephone_event: Some(101),
        comfort_noise: Some(13),
        packet_time: Duration::from_millis(10 * u64::from(choice % 9)),
        max_average_bitrate: None,
        remote_rtp: remote,
        remote_rtcp: remote_rtcp.filter(|_| choice & 0x20 == 0),
        send: true,
        receive: true,
        keys: (keys & 0x10 != 0).then(|| (key(5), key(6))),
        patience: Patience {
            initial: Duration::from_secs(15),
            mid_call: Duration::from_secs(30),
            hold: Duration::from_secs(600),
        },
        learning: Duration::from_secs(if choice & 0x80 == 0 { 5 } else { 0 }),
        cname: "fuzz".to_owned(),
        opus_complexity: 0,
    }
}

fn peer(port: u16) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 9], port))
}
