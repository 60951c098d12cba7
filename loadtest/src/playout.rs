//! The ear of a telephone: a buffer that plays RTP packets at the moments their timestamps name.
//!
//! The first packet of a source is played [`DELAY`] after it came; from then on each has its place on the timeline, whenever it comes,
//! and one that comes after its place was played is late and not heard. Nothing is concealed: what is missing is silence, so that a
//! recording shows what the gateway did. Time is the tick, as in [`crate::far_end`].

use std::collections::VecDeque;
use std::time::Duration;

use crate::far_end::FarEndTally;
use crate::far_end::UNDERRUN_AT_MOST;
use crate::far_end::length;
use crate::mulaw;
use crate::voice;

/// What a packet may be later than the first one and still be heard: three frames, as a plain telephone has.
const DELAY: usize = mulaw::FRAME * 3;
/// A packet further ahead than this is not early: the source's clock has jumped, and the timeline begins anew.
const CAPACITY: usize = mulaw::SAMPLE_RATE as usize;
/// So many late packets in a row are a clock that has jumped back.
const LATE_IN_A_ROW: u32 = 10;

/// One packet of audio, as mu-law.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) ssrc: u32,
    pub(crate) sequence: u16,
    /// In samples.
    pub(crate) timestamp: u32,
    pub(crate) audio: Vec<u8>,
}

/// What became of the packets.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct RtpTally {
    /// Packets of audio received, duplicates among them.
    pub(crate) packets: u64,
    /// Numbers that never came.
    pub(crate) lost: u64,
    /// Places where numbers were missing when the next one came.
    pub(crate) gaps: u64,
    /// Packets that came after their place was played.
    pub(crate) late: u64,
    pub(crate) duplicates: u64,
    pub(crate) ssrc_changes: u64,
    /// Timestamps that left the timeline, which began anew.
    pub(crate) jumps: u64,
    /// The highest interarrival jitter (RFC 3550 §6.4.1).
    pub(crate) jitter: Duration,
}

impl RtpTally {
    /// Adds another call's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.packets += other.packets;
        self.lost += other.lost;
        self.gaps += other.gaps;
        self.late += other.late;
        self.duplicates += other.duplicates;
        self.ssrc_changes += other.ssrc_changes;
        self.jumps += other.jumps;
        self.jitter = self.jitter.max(other.jitter);
    }

    /// In words.
    pub(crate) fn describe(&self) -> String {
        format!(
            "{} packets, {} lost in {} gaps, {} late, {} duplicates, {} SSRC changes, {} timestamp jumps, jitter at most {}",
            self.packets,
            self.lost,
            self.gaps,
            self.late,
            self.duplicates,
            self.ssrc_changes,
            self.jumps,
            crate::stats::ms(self.jitter)
        )
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Playout {
    source: Option<Source>,
    /// From the sample that plays next; `None` where nothing has come yet.
    timeline: VecDeque<Option<u8>>,
    /// Samples of silence since the last audio; `None` before any.
    silent: Option<usize>,
    tally: FarEndTally,
    rtp: RtpTally,
}

#[derive(Debug)]
struct Source {
    ssrc: u32,
    /// The timestamp that plays next.
    head: u32,
    /// Sequence numbers without their wraps.
    first: i64,
    highest: i64,
    received: u64,
    /// Bit n: `highest - n` has come.
    seen: u64,
    late_in_a_row: u32,
    /// Arrival less timestamp of the last packet, and the jitter, in samples.
    transit: f64,
    jitter: f64,
}

enum Order {
    Next,
    AfterGap,
    Reordered,
    Duplicate,
}

impl Playout {
    /// A packet that came at `at`.
    pub(crate) fn receive(&mut self, packet: &Packet, at: Duration) {
        self.rtp.packets += 1;
        self.tally.messages += 1;
        self.tally.received += packet.audio.len() as u64;
        if let Some(source) = &self.source
            && source.ssrc != packet.ssrc
        {
            self.rtp.ssrc_changes += 1;
            self.rtp.lost += source.lost();
            self.source = None;
        }
        let Some(source) = &mut self.source else {
            self.source = Some(Source::new(packet, at));
            self.timeline.clear();
            self.place(packet, DELAY);
            return;
        };
        match source.count(packet, at) {
            Order::Next | Order::Reordered => {}
            Order::AfterGap => self.rtp.gaps += 1,
            Order::Duplicate => {
                self.rtp.duplicates += 1;
                return;
            }
        }
        self.rtp.jitter = self.rtp.jitter.max(length(source.jitter as usize));
        // Timestamps wrap; a difference beyond half their range is negative.
        let ahead = packet.timestamp.wrapping_sub(source.head).cast_signed();
        let jumped = match usize::try_from(ahead) {
            Ok(ahead) if ahead + packet.audio.len() <= CAPACITY => {
                source.late_in_a_row = 0;
                self.place(packet, ahead);
                return;
            }
            Ok(_) => true,
            Err(_) => {
                self.rtp.late += 1;
                source.late_in_a_row += 1;
                source.late_in_a_row >= LATE_IN_A_ROW
            }
        };
        if jumped {
            self.rtp.jumps += 1;
            source.late_in_a_row = 0;
            source.head = packet.timestamp.wrapping_sub(DELAY as u32);
            self.timeline.clear();
            self.place(packet, DELAY);
        }
    }

    /// Plays the next 20 ms.
    pub(crate) fn tick(&mut self) -> [u8; mulaw::FRAME] {
        let mut frame = [mulaw::SILENCE; mulaw::FRAME];
        let mut filled = 0;
        for byte in &mut frame {
            if let Some(Some(heard)) = self.timeline.pop_front() {
                *byte = heard;
                filled += 1;
            }
        }
        if let Some(source) = &mut self.source {
            source.head = source.head.wrapping_add(mulaw::FRAME as u32);
        }
        self.tally.played += filled as u64;
        if filled > 0 {
            // As for a stream: what was missing in the middle of a talk starved the listener, a longer silence is a pause.
            if let Some(silent @ 1..=UNDERRUN_AT_MOST) = self.silent {
                self.tally.underruns.push(length(silent));
            }
            self.silent = Some(0);
        }
        if let Some(silent) = &mut self.silent {
            *silent += mulaw::FRAME - filled;
        }
        frame
    }

    /// Whether anything still to be played is voice.
    pub(crate) fn holds_voice(&self) -> bool {
        let (one, two) = self.timeline.as_slices();
        let voiced = |part: &[Option<u8>]| {
            part.chunks(mulaw::FRAME).any(|chunk| {
                let audio: Vec<u8> = chunk.iter().flatten().copied().collect();
                voice::is_voiced(&audio)
            })
        };
        voiced(one) || voiced(two)
    }

    /// What was heard so far, and what became of the packets.
    pub(crate) fn tally(&self) -> (FarEndTally, RtpTally) {
        let mut rtp = self.rtp.clone();
        rtp.lost += self.source.as_ref().map_or(0, Source::lost);
        (self.tally.clone(), rtp)
    }

    fn place(&mut self, packet: &Packet, ahead: usize) {
        let end = ahead + packet.audio.len();
        if self.timeline.len() < end {
            self.timeline.resize(end, None);
        }
        for (place, &byte) in self.timeline.range_mut(ahead..end).zip(&packet.audio) {
            *place = Some(byte);
        }
        self.tally.deepest = self.tally.deepest.max(self.timeline.len());
    }
}

impl Source {
    fn new(packet: &Packet, at: Duration) -> Self {
        let sequence = i64::from(packet.sequence);
        Self {
            ssrc: packet.ssrc,
            head: packet.timestamp.wrapping_sub(DELAY as u32),
            first: sequence,
            highest: sequence,
            received: 1,
            seen: 1,
            late_in_a_row: 0,
            transit: transit(packet, at),
            jitter: 0.0,
        }
    }

    /// Notes the sequence number and the arrival.
    fn count(&mut self, packet: &Packet, at: Duration) -> Order {
        let step = i64::from(
            packet
                .sequence
                .wrapping_sub(self.highest as u16)
                .cast_signed(),
        );
        let order = match step {
            1.. => {
                self.seen = u32::try_from(step)
                    .ok()
                    .and_then(|step| self.seen.checked_shl(step))
                    .unwrap_or(0)
                    | 1;
                self.highest += step;
                if step == 1 {
                    Order::Next
                } else {
                    Order::AfterGap
                }
            }
            -63..=0 if self.seen & 1 << -step != 0 => return Order::Duplicate,
            -63..=0 => {
                self.seen |= 1 << -step;
                Order::Reordered
            }
            _ => Order::Reordered,
        };
        self.first = self.first.min(self.highest + step.min(0));
        self.received += 1;
        let transit = transit(packet, at);
        // The clock of the source may jump; such a difference is no jitter.
        let difference = (transit - self.transit).abs();
        if difference < f64::from(mulaw::SAMPLE_RATE) {
            self.jitter += (difference - self.jitter) / 16.0;
        }
        self.transit = transit;
        order
    }

    fn lost(&self) -> u64 {
        ((self.highest - self.first + 1) as u64).saturating_sub(self.received)
    }
}

fn transit(packet: &Packet, at: Duration) -> f64 {
    at.as_secs_f64() * f64::from(mulaw::SAMPLE_RATE) - f64::from(packet.timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::far_end::TICK;

    #[test]
    fn packets_are_heard_in_the_order_of_their_timestamps() {
        let mut playout = Playout::default();
        for index in [0, 2, 1, 3] {
            playout.receive(&packet(index), TICK);
        }
        let heard: Vec<u8> = (0..8).map(|_| playout.tick()[0]).collect();
        let silence = mulaw::SILENCE;
        assert_eq!(
            heard,
            [silence, silence, silence, 0, 1, 2, 3, silence],
            "three frames after the first came"
        );
        let (_, rtp) = playout.tally();
        assert_eq!((rtp.packets, rtp.lost, rtp.gaps, rtp.late), (4, 0, 1, 0));
    }

    #[test]
    fn a_lost_packet_is_silence_in_its_place_and_an_underrun() {
        let mut playout = Playout::default();
        for index in [0, 1, 3, 4] {
            playout.receive(&packet(index), TICK);
        }
        let heard: Vec<u8> = (0..8).map(|_| playout.tick()[0]).collect();
        assert_eq!(heard[3..], [0, 1, mulaw::SILENCE, 3, 4]);
        let (tally, rtp) = playout.tally();
        assert_eq!((rtp.lost, rtp.gaps), (1, 1));
        assert_eq!(tally.underruns, [TICK]);
    }

    #[test]
    fn a_packet_after_its_place_is_late_and_not_lost() {
        let mut playout = Playout::default();
        for index in [0, 2] {
            playout.receive(&packet(index), TICK);
        }
        for _ in 0..6 {
            playout.tick();
        }
        playout.receive(&packet(1), TICK * 6);
        let (_, rtp) = playout.tally();
        assert_eq!((rtp.lost, rtp.late), (0, 1));
    }

    #[test]
    fn a_duplicate_is_counted_once_and_covers_no_loss() {
        let mut playout = Playout::default();
        for index in [0, 0, 2, 2] {
            playout.receive(&packet(index), TICK);
        }
        let (_, rtp) = playout.tally();
        assert_eq!((rtp.packets, rtp.duplicates, rtp.lost), (4, 2, 1));
    }

    #[test]
    fn numbers_and_timestamps_wrap_unnoticed() {
        let mut playout = Playout::default();
        for index in 0..100_u32 {
            let wrapping = Packet {
                sequence: 65_500_u16.wrapping_add(index as u16),
                timestamp: (u32::MAX - 8000).wrapping_add(index * 160),
                ..packet(0)
            };
            playout.receive(&wrapping, TICK * index);
            playout.tick();
        }
        let (tally, rtp) = playout.tally();
        assert_eq!(
            (rtp.lost, rtp.gaps, rtp.late, rtp.jumps, rtp.duplicates),
            (0, 0, 0, 0, 0)
        );
        assert_eq!(tally.played, 97 * mulaw::FRAME as u64);
        assert_eq!(tally.underruns, [Duration::ZERO; 0]);
    }

    #[test]
    fn another_source_or_another_clock_begins_a_new_timeline() {
        let mut playout = Playout::default();
        playout.receive(&packet(0), TICK);
        playout.receive(
            &Packet {
                ssrc: 9,
                sequence: 7000,
                timestamp: 123_456,
                ..packet(0)
            },
            TICK,
        );
        playout.receive(
            &Packet {
                ssrc: 9,
                sequence: 7001,
                timestamp: 923_456,
                audio: vec![42; 160],
            },
            TICK,
        );
        let heard: Vec<u8> = (0..5).map(|_| playout.tick()[0]).collect();
        assert_eq!(heard[3], 42);
        let (_, rtp) = playout.tally();
        assert_eq!((rtp.ssrc_changes, rtp.jumps, rtp.lost), (1, 1, 0));
    }

    #[test]
    fn jitter_is_of_arrivals_and_not_of_bursts_of_a_timeline() {
        let mut playout = Playout::default();
        for index in 0..200_u32 {
            let shaken = TICK * index + Duration::from_millis(u64::from(index % 2) * 8);
            playout.receive(&packet(index), shaken);
            playout.tick();
        }
        let (_, rtp) = playout.tally();
        assert!(
            (Duration::from_millis(6)..=Duration::from_millis(8)).contains(&rtp.jitter),
            "{:?}",
            rtp.jitter
        );
    }

    fn packet(index: u32) -> Packet {
        Packet {
            ssrc: 1,
            sequence: index as u16,
            timestamp: index * mulaw::FRAME as u32,
            audio: vec![index as u8; mulaw::FRAME],
        }
    }
}
