//! Order and loss of one source (RFC 3550 §6.4, appendix A).
//!
//! There is no playout clock: the recogniser behind a call wants audio as soon as it is here, so a packet in order is
//! given out at once, and a late burst is simply a burst. Only behind a gap do packets wait, for as long as the jitter
//! of this source makes an answer likely. Then the gap is filled on the RTP timeline, by the difference of timestamps,
//! so that what is given out lasts as long as what was said. A timestamp that jumps while the sequence does not is a
//! silence that was not sent.
//!
//! Nothing here queues for longer than a gap is waited for, so one stall cannot delay the rest of a call.

use std::time::Duration;
use std::time::Instant;

use crate::engine::rtp::packet::Packet;
use crate::engine::rtp::rtcp::Reception;

/// The longest payload: no datagram of an Ethernet carries more.
pub const MAX_PAYLOAD_BYTES: usize = 1_500;
/// Packets that may wait: more than the longest wait holds at 10 ms each. All of them take 48 KB, but a call without
/// loss touches only the first.
const SLOTS: usize = 32;
/// How many may wait before a gap is given up early, so that one packet and one candidate always find room.
const CROWD: usize = SLOTS - 2;
/// A gap is waited for at least this long: one packet time of nearly every sender.
const MIN_WAIT: Duration = Duration::from_millis(20);
/// Jitter alone makes it no longer than this.
const USUAL_WAIT: Duration = Duration::from_millis(80);
/// Packets that came too late may stretch it to this.
const MAX_WAIT: Duration = Duration::from_millis(200);
/// So much later than the packet that came too late would another be allowed to come.
const LATE_MARGIN: Duration = Duration::from_millis(5);
/// The wait that late packets have stretched shrinks by this fraction with each packet: to a third in ten seconds.
const STRETCH_DECAY: u32 = 512;
/// The most that is filled in at once, by concealment or silence. What the caller misses beyond it is lost, or silence
/// whose length the call knows by the clock on the wall.
const MAX_FILL: Duration = Duration::from_millis(200);
/// A jump ahead by this many is a sender that began anew (RFC 3550 §A.1).
const MAX_DROPOUT: i16 = 3_000;
/// A jump back by more than this, too (RFC 3550 §A.1).
const MAX_MISORDER: i16 = 100;
/// Added to the first sequence, so that a packet from before it has a number as well.
const FIRST_CYCLE: u64 = 1 << 16;

/// How far below the highest it is known which packets came; what comes from further back is late.
const SIGHT: u64 = 64;

/// What comes next on the timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// A packet of audio, each at most once and in order.
    Packet {
        /// As it came.
        payload_type: u8,
        /// As it came.
        payload: &'a [u8],
    },
    /// Audio that was sent and did not come.
    Lost {
        /// Of the codec's clock: 200 ms at most.
        ticks: u32,
        /// The payload right behind the gap, in which Opus repeats what was before it. It will be given out next.
        next: Option<&'a [u8]>,
    },
    /// Silence that was not sent.
    Silence {
        /// Of the codec's clock: 200 ms at most.
        ticks: u32,
    },
}

/// What has happened so far, over all sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sequence numbers that were given up, whether they came later or not.
    pub lost: u64,
    /// Packets that came after they had been given up.
    pub late: u64,
    /// Packets that came again.
    pub duplicates: u64,
    /// Payloads of more than [`MAX_PAYLOAD_BYTES`].
    pub oversized: u64,
    /// Packets dropped because they led nowhere: a single jump that no second packet confirmed, or what still waited
    /// behind a gap when the sender began anew.
    pub discarded: u64,
    /// How often a sender began anew.
    pub restarts: u64,
    /// How long all of [`Heard::Lost`] was.
    pub concealed: Duration,
}

/// The receiving end of one stream.
pub struct Receiver {
    clock_rate: u32,
    /// Where arrival times are counted from.
    origin: Instant,
    slots: [Slot; SLOTS],
    payloads: Box<[u8]>,
    source: Option<Source>,
    /// How long packets that came late want us to wait.
    stretch: Duration,
    /// To be given out before anything else.
    silence_ticks: u32,
    counters: Counters,
}

/// What a slot is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Free,
    /// A packet of the source, with its extended sequence.
    Waiting(u64),
    /// A packet that may be the first of a new source (RFC 3550 §A.1 calls it probation).
    Candidate,
}

/// A packet that has not been given out.
#[derive(Clone, Copy, Debug)]
struct Slot {
    usage: Use,
    payload_type: u8,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    ticks: u32,
    bytes: usize,
    arrived: Instant,
}

/// The stream that is heard.
#[derive(Debug)]
struct Source {
    ssrc: u32,
    /// The extended sequence of its first packet.
    first: u64,
    /// The highest that came.
    highest: u64,
    /// The one to be given out next.
    next: u64,
    /// Which of the [`SIGHT`] up to the highest came; the highest is bit 0.
    came: u64,
    /// The timestamp that follows what was given out; `None` before the first.
    timeline: Option<u32>,
    /// What the last packet lasted.
    usual_ticks: u32,
    /// Given up since the last packet of audio.
    missing: u64,
    /// The last gap that was given up.
    given_up: Option<GivenUp>,
    /// Arrival less timestamp of the last packet (RFC 3550 §A.8).
    transit: Option<u32>,
    /// In sixteenths of a tick (RFC 3550 §A.8).
    jitter: u32,
    /// Packets that came, late and twice included (RFC 3550 §A.3).
    received: u64,
    expected_before: u64,
    received_before: u64,
}

/// A gap that was not waited for any longer.
#[derive(Clone, Copy, Debug)]
struct GivenUp {
    from: u64,
    until: u64,
    noticed: Instant,
}

impl Receiver {
    /// Hears nobody yet. `clock_rate` is that of the codec's timestamps, in hertz.
    pub fn new(clock_rate: u32, now: Instant) -> Self {
        let slot = Slot {
            usage: Use::Free,
            payload_type: 0,
            ssrc: 0,
            sequence: 0,
            timestamp: 0,
            ticks: 0,
            bytes: 0,
            arrived: now,
        };
        Self {
            clock_rate,
            origin: now,
            slots: [slot; SLOTS],
            payloads: vec![0; SLOTS * MAX_PAYLOAD_BYTES].into_boxed_slice(),
            source: None,
            stretch: Duration::ZERO,
            silence_ticks: 0,
            counters: Counters::default(),
        }
    }

    /// Takes a packet whose audio lasts `ticks`. Zero is for what shares the numbering and is not audio (telephone
    /// keys, comfort noise): it is never given out, leaves no gap, and never begins a source.
    pub fn push(&mut self, packet: &Packet<'_>, ticks: u32, now: Instant) {
        if packet.payload.len() > MAX_PAYLOAD_BYTES {
            self.counters.oversized += 1;
            return;
        }
        let Some(source) = &mut self.source else {
            if ticks > 0 {
                self.source = Some(Source::new(packet.ssrc, packet.sequence));
                self.take(packet, ticks, now);
            }
            return;
        };
        let jump = packet.sequence.wrapping_sub(source.highest as u16) as i16;
        let is_ours = packet.ssrc == source.ssrc && (-MAX_MISORDER..MAX_DROPOUT).contains(&jump);
        if is_ours {
            self.drop_candidate();
            self.take(packet, ticks, now);
        } else if ticks > 0 {
            self.audition(packet, ticks, now);
        }
    }

    /// What comes next, if it is here or no longer waited for. To be asked until it gives nothing.
    pub fn pop(&mut self, now: Instant) -> Option<Heard<'_>> {
        if self.silence_ticks > 0 {
            let ticks = std::mem::take(&mut self.silence_ticks);
            return Some(Heard::Silence { ticks });
        }
        loop {
            let waiting = self.waiting()?;
            let is_waited_for = now < waiting.earliest + self.wait() && waiting.count < CROWD;
            let source = self.source.as_mut()?;
            if waiting.sequence > source.next {
                if is_waited_for {
                    return None;
                }
                self.counters.lost += source.give_up(waiting.sequence, waiting.earliest);
            }
            let slot = &mut self.slots[waiting.place];
            let payload = waiting.place * MAX_PAYLOAD_BYTES..;
            let payload = &self.payloads[payload][..slot.bytes];
            if slot.ticks > 0 {
                let gap = source.gap(slot.timestamp);
                if gap > 0 {
                    source.timeline = Some(slot.timestamp);
                    let fill = fill(gap, source.lost_ticks(), self.clock_rate);
                    source.missing = 0;
                    self.silence_ticks = fill.silence;
                    if fill.concealed > 0 {
                        self.counters.concealed += duration_of(fill.concealed, self.clock_rate);
                        // What Opus repeats is what was right before it, and that was silence.
                        let next = (fill.silence == 0).then_some(payload);
                        return Some(Heard::Lost {
                            ticks: fill.concealed,
                            next,
                        });
                    }
                    let ticks = std::mem::take(&mut self.silence_ticks);
                    return Some(Heard::Silence { ticks });
                }
                source.timeline = Some(slot.timestamp.wrapping_add(slot.ticks));
                source.usual_ticks = slot.ticks;
                source.missing = 0;
            }
            source.next = waiting.sequence + 1;
            slot.usage = Use::Free;
            if slot.ticks > 0 {
                return Some(Heard::Packet {
                    payload_type: slot.payload_type,
                    payload,
                });
            }
        }
    }

    /// When [`Receiver::pop`] will have something though nothing more comes.
    pub fn deadline(&self) -> Option<Instant> {
        let waiting = self.waiting()?;
        let source = self.source.as_ref()?;
        let is_next = waiting.sequence <= source.next || waiting.count >= CROWD;
        Some(if is_next {
            waiting.earliest
        } else {
            waiting.earliest + self.wait()
        })
    }

    /// Forgets the source and what waits: after a change of codec, or of a direction that was shut.
    pub fn restart(&mut self, clock_rate: u32) {
        self.clock_rate = clock_rate;
        self.source = None;
        self.silence_ticks = 0;
        self.drop_candidate();
        self.drop_waiting();
    }

    /// Who is heard.
    pub fn ssrc(&self) -> Option<u32> {
        self.source.as_ref().map(|source| source.ssrc)
    }

    /// What has happened so far.
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// The mean deviation of the time between packets (RFC 3550 §6.4.1).
    pub fn jitter(&self) -> Duration {
        let ticks = self.source.as_ref().map_or(0, |source| source.jitter / 16);
        duration_of(ticks, self.clock_rate)
    }

    /// A report block of the source since the last one (RFC 3550 §A.3); `None` while nobody is heard.
    pub fn report(&mut self) -> Option<Reception> {
        let source = self.source.as_mut()?;
        let expected = source.highest - source.first + 1;
        let expected_now = expected - source.expected_before;
        let received_now = source.received - source.received_before;
        let lost_now = expected_now.saturating_sub(received_now);
        source.expected_before = expected;
        source.received_before = source.received;
        Some(Reception {
            ssrc: source.ssrc,
            fraction_lost: (lost_now * 256)
                .checked_div(expected_now)
                .map_or(0, |part| part.min(255) as u8),
            lost: u32::try_from(expected.saturating_sub(source.received)).unwrap_or(u32::MAX),
            highest_sequence: (source.highest - FIRST_CYCLE) as u32,
            jitter: source.jitter / 16,
        })
    }

    /// How long a gap is waited for: for nearly all packets of a source that jitters like this one, or for as long as
    /// packets have been late of late.
    fn wait(&self) -> Duration {
        let usual = (self.jitter() * 4).clamp(MIN_WAIT, USUAL_WAIT);
        usual.max(self.stretch).min(MAX_WAIT)
    }

    /// Puts a packet of the source into its place.
    fn take(&mut self, packet: &Packet<'_>, ticks: u32, now: Instant) {
        let Some(source) = &mut self.source else {
            return;
        };
        self.stretch -= self.stretch / STRETCH_DECAY;
        source.received += 1;
        let jump = packet.sequence.wrapping_sub(source.highest as u16) as i16;
        let sequence = source.highest.wrapping_add_signed(i64::from(jump));
        if source.has_come(sequence) {
            self.counters.duplicates += 1;
            return;
        }
        if ticks > 0 {
            let arrived = ticks_in(now.saturating_duration_since(self.origin), self.clock_rate);
            source.measure(arrived.wrapping_sub(packet.timestamp), self.clock_rate);
        }
        let is_out_of_sight = source.highest.saturating_sub(sequence) >= SIGHT;
        source.mark(sequence);
        if sequence < source.next || is_out_of_sight {
            self.counters.late += 1;
            self.stretch = self.stretch.max(source.lateness(sequence, now));
            return;
        }
        if !self.store(packet, ticks, Use::Waiting(sequence), now) {
            // Only if nobody asks for what waits.
            self.counters.discarded += 1;
        }
    }

    /// Hears a packet that does not belong to the source. Two of a kind are a new one: both are kept, since the first
    /// may hold the first word.
    fn audition(&mut self, packet: &Packet<'_>, ticks: u32, now: Instant) {
        let candidate = self
            .slots
            .iter()
            .position(|slot| slot.usage == Use::Candidate);
        if let Some(place) = candidate {
            let first = self.slots[place];
            let jump = packet.sequence.wrapping_sub(first.sequence) as i16;
            let is_of_a_kind =
                first.ssrc == packet.ssrc && jump.unsigned_abs() <= MAX_MISORDER.unsigned_abs();
            if is_of_a_kind && jump == 0 {
                self.counters.duplicates += 1;
                return;
            }
            if is_of_a_kind {
                self.begin_anew(place, packet, ticks, now);
                return;
            }
        }
        self.drop_candidate();
        if !self.store(packet, ticks, Use::Candidate, now) {
            self.counters.discarded += 1;
        }
    }

    fn begin_anew(&mut self, place: usize, packet: &Packet<'_>, ticks: u32, now: Instant) {
        self.counters.restarts += 1;
        self.drop_waiting();
        self.silence_ticks = 0;
        let first = self.slots[place];
        let is_reversed = (packet.sequence.wrapping_sub(first.sequence) as i16) < 0;
        let mut source = Source::new(first.ssrc, first.sequence);
        if is_reversed {
            source = Source::new(packet.ssrc, packet.sequence);
        }
        let behind = first.sequence.wrapping_sub(source.highest as u16);
        let sequence = source.first + u64::from(behind);
        source.received = 1;
        source.mark(sequence);
        self.slots[place].usage = Use::Waiting(sequence);
        self.source = Some(source);
        self.take(packet, ticks, now);
    }

    /// Copies a packet into a free slot, if there is one.
    fn store(&mut self, packet: &Packet<'_>, ticks: u32, usage: Use, now: Instant) -> bool {
        // The first that is free, so that a call without loss uses one and the same.
        let Some(place) = self.slots.iter().position(|slot| slot.usage == Use::Free) else {
            return false;
        };
        let bytes = packet.payload.len();
        let from = place * MAX_PAYLOAD_BYTES;
        self.payloads[from..from + bytes].copy_from_slice(packet.payload);
        self.slots[place] = Slot {
            usage,
            payload_type: packet.payload_type,
            ssrc: packet.ssrc,
            sequence: packet.sequence,
            timestamp: packet.timestamp,
            ticks,
            bytes,
            arrived: now,
        };
        true
    }

    fn drop_candidate(&mut self) {
        for slot in &mut self.slots {
            if slot.usage == Use::Candidate {
                slot.usage = Use::Free;
                self.counters.discarded += 1;
            }
        }
    }

    fn drop_waiting(&mut self) {
        for slot in &mut self.slots {
            if matches!(slot.usage, Use::Waiting(_)) {
                slot.usage = Use::Free;
                self.counters.discarded += 1;
            }
        }
    }

    /// What waits, as one; `None` if nothing does.
    fn waiting(&self) -> Option<Waiting> {
        let mut all: Option<Waiting> = None;
        for (place, slot) in self.slots.iter().enumerate() {
            let Use::Waiting(sequence) = slot.usage else {
                continue;
            };
            let all = all.get_or_insert(Waiting {
                place,
                sequence,
                earliest: slot.arrived,
                count: 0,
            });
            all.count += 1;
            all.earliest = all.earliest.min(slot.arrived);
            if sequence < all.sequence {
                (all.place, all.sequence) = (place, sequence);
            }
        }
        all
    }
}

/// The packets that wait.
struct Waiting {
    /// The slot of the lowest.
    place: usize,
    /// The lowest extended sequence.
    sequence: u64,
    /// When the first of them came: since then the gap before them is known.
    earliest: Instant,
    count: usize,
}

impl Source {
    fn new(ssrc: u32, sequence: u16) -> Self {
        let first = FIRST_CYCLE + u64::from(sequence);
        Self {
            ssrc,
            first,
            highest: first,
            next: first,
            came: 0,
            timeline: None,
            usual_ticks: 0,
            missing: 0,
            given_up: None,
            transit: None,
            jitter: 0,
            received: 0,
            expected_before: 0,
            received_before: 0,
        }
    }

    /// Whether this one came before. What is too long ago to tell is late, not twice.
    fn has_come(&self, sequence: u64) -> bool {
        match self.highest.checked_sub(sequence) {
            Some(back @ 0..SIGHT) => self.came >> back & 1 == 1,
            Some(_) | None => false,
        }
    }

    fn mark(&mut self, sequence: u64) {
        if let Some(ahead) = sequence.checked_sub(self.highest) {
            self.came = u32::try_from(ahead)
                .ok()
                .and_then(|ahead| self.came.checked_shl(ahead))
                .unwrap_or(0);
            self.highest = sequence;
        }
        if let back @ 0..SIGHT = self.highest - sequence {
            self.came |= 1 << back;
        }
    }

    /// RFC 3550 §A.8. A step of more than a second is a sender that set its timestamps anew, not jitter.
    fn measure(&mut self, transit: u32, clock_rate: u32) {
        if let Some(before) = self.transit.replace(transit) {
            let step = (transit.wrapping_sub(before) as i32).unsigned_abs();
            if step < clock_rate {
                self.jitter = self.jitter + step - ((self.jitter + 8) >> 4);
            }
        }
    }

    /// Gives up what lies before `until` and says how much that is.
    fn give_up(&mut self, until: u64, noticed: Instant) -> u64 {
        let missing = until - self.next;
        self.given_up = Some(GivenUp {
            from: self.next,
            until,
            noticed,
        });
        self.missing += missing;
        self.next = until;
        missing
    }

    /// How long we should have waited for this packet; nothing, if that is too long or not known.
    fn lateness(&self, sequence: u64, now: Instant) -> Duration {
        let gap = self
            .given_up
            .filter(|gap| (gap.from..gap.until).contains(&sequence));
        let late = gap.map(|gap| now.saturating_duration_since(gap.noticed) + LATE_MARGIN);
        late.filter(|late| *late <= MAX_WAIT).unwrap_or_default()
    }

    /// How far `timestamp` is ahead of what was given out. A timestamp that goes back begins a new timeline.
    fn gap(&self, timestamp: u32) -> u32 {
        let ahead = self
            .timeline
            .map_or(0, |end| timestamp.wrapping_sub(end) as i32);
        ahead.max(0).unsigned_abs()
    }

    /// What the packets that were given up have lasted, as far as one can know.
    fn lost_ticks(&self) -> u64 {
        self.missing.saturating_mul(u64::from(self.usual_ticks))
    }
}

/// How a gap is filled.
struct Fill {
    concealed: u32,
    silence: u32,
}

/// What was lost comes before the silence that was not sent, and both together have a limit.
fn fill(gap: u32, lost: u64, clock_rate: u32) -> Fill {
    let limit = ticks_in(MAX_FILL, clock_rate);
    let lost = u32::try_from(lost).unwrap_or(u32::MAX).min(gap);
    let concealed = lost.min(limit);
    Fill {
        concealed,
        silence: (gap - lost).min(limit - concealed),
    }
}

/// Whole ticks in `duration`, modulo 2³².
fn ticks_in(duration: Duration, clock_rate: u32) -> u32 {
    (duration.as_nanos() * u128::from(clock_rate) / 1_000_000_000) as u32
}

fn duration_of(ticks: u32, clock_rate: u32) -> Duration {
    Duration::from_nanos(u64::from(ticks) * 1_000_000_000 / u64::from(clock_rate))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::rtp::testing::noon;

    const CLOCK: u32 = 8_000;
    const TICKS: u32 = 160;
    const SSRC: u32 = 7;
    const PACKET_TIME: Duration = Duration::from_millis(20);
    const MILLISECOND: Duration = Duration::from_millis(1);

    /// What was given out, in few words.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Out {
        /// The first byte of the payload.
        Packet(u8),
        Lost(u32, Option<u8>),
        Silence(u32),
    }

    #[test]
    fn packets_in_order_are_given_out_at_once_across_the_ends_of_both_counters() {
        let mut line = Line::new();
        for n in 0..5 {
            line.push(n, 65_533, u32::MAX - 300);
            assert_eq!(line.heard(), [Out::Packet(n)]);
            line.pass(PACKET_TIME);
        }
        assert_eq!(line.receiver.counters(), Counters::default());
        assert_eq!(line.receiver.deadline(), None);
        let report = line.receiver.report().expect("a source");
        assert_eq!(report.highest_sequence, 0x0001_0001);
        assert_eq!((report.lost, report.fraction_lost), (0, 0));
    }

    #[test]
    fn a_packet_that_comes_within_the_wait_takes_its_place() {
        let mut line = Line::new();
        line.push(0, 65_534, 0);
        line.push(2, 65_534, 0);
        line.push(3, 65_534, 0);
        assert_eq!(line.heard(), [Out::Packet(0)]);
        assert_eq!(line.receiver.deadline(), Some(line.now + MIN_WAIT));
        line.pass(19 * MILLISECOND);
        assert_eq!(line.heard(), []);
        line.push(1, 65_534, 0);
        assert_eq!(line.heard(), [1, 2, 3].map(Out::Packet));
        assert_eq!(line.receiver.counters(), Counters::default());
    }

    #[test]
    fn a_gap_is_filled_by_the_difference_of_timestamps_with_what_follows_at_hand() {
        let mut line = Line::new();
        line.push(0, 65_534, u32::MAX - 100);
        line.push(3, 65_534, u32::MAX - 100);
        line.push(4, 65_534, u32::MAX - 100);
        assert_eq!(line.heard(), [Out::Packet(0)]);
        line.pass(MIN_WAIT);
        assert_eq!(
            line.heard(),
            [Out::Lost(320, Some(3)), Out::Packet(3), Out::Packet(4)]
        );
        let counters = line.receiver.counters();
        assert_eq!((counters.lost, counters.concealed), (2, 40 * MILLISECOND));
        let report = line.receiver.report().expect("a source");
        assert_eq!((report.lost, report.fraction_lost), (2, 102));
        // Nothing more was lost since.
        line.push(5, 65_534, u32::MAX - 100);
        assert_eq!(line.receiver.report().expect("a source").fraction_lost, 0);
    }

    #[test]
    fn no_more_than_200_ms_are_filled_at_once() {
        let mut line = Line::new();
        line.push(0, 0, 0);
        line.push(100, 0, 0);
        line.pass(MIN_WAIT);
        assert_eq!(
            line.heard(),
            [
                Out::Packet(0),
                Out::Lost(1_600, Some(100)),
                Out::Packet(100)
            ]
        );
        assert_eq!(line.receiver.counters().lost, 99);
    }

    #[test]
    fn silence_that_was_not_sent_is_silence_and_not_loss() {
        let mut line = Line::new();
        line.push_at(0, 10, 0, TICKS);
        line.push_at(1, 11, 960, TICKS);
        line.push_at(2, 12, 100_000, TICKS);
        assert_eq!(
            line.heard(),
            [
                Out::Packet(0),
                Out::Silence(800),
                Out::Packet(1),
                Out::Silence(1_600),
                Out::Packet(2)
            ]
        );
        assert_eq!(line.receiver.counters(), Counters::default());
    }

    #[test]
    fn a_packet_lost_in_a_silence_is_concealed_and_the_rest_stays_silent() {
        let mut line = Line::new();
        line.push_at(0, 10, 0, TICKS);
        line.push_at(2, 12, 800, TICKS);
        line.pass(USUAL_WAIT);
        // What follows the silence says nothing of what was lost before it.
        assert_eq!(
            line.heard(),
            [
                Out::Packet(0),
                Out::Lost(160, None),
                Out::Silence(480),
                Out::Packet(2)
            ]
        );
    }

    #[test]
    fn what_is_no_audio_takes_its_number_and_nothing_else() {
        let mut line = Line::new();
        // A telephone event never begins a source.
        line.push_at(9, 9, 0, 0);
        line.push_at(0, 10, 0, TICKS);
        for n in 1..=5 {
            line.push_at(n, 10 + u16::from(n), 160, 0);
        }
        line.push_at(6, 16, 160 + 800, TICKS);
        assert_eq!(
            line.heard(),
            [Out::Packet(0), Out::Silence(800), Out::Packet(6)]
        );
        assert_eq!(line.receiver.counters().lost, 0);
    }

    #[test]
    fn a_timestamp_that_goes_back_begins_a_new_timeline() {
        let mut line = Line::new();
        line.push_at(0, 10, 1_000_000, TICKS);
        line.push_at(1, 11, 5, TICKS);
        line.push_at(2, 12, 165, TICKS);
        assert_eq!(line.heard(), [0, 1, 2].map(Out::Packet));
    }

    #[test]
    fn what_comes_twice_or_too_late_is_dropped_and_counted() {
        let mut line = Line::new();
        line.push(0, 0, 0);
        line.push(0, 0, 0);
        line.push(2, 0, 0);
        line.push(2, 0, 0);
        line.pass(MIN_WAIT);
        assert_eq!(
            line.heard(),
            [Out::Packet(0), Out::Lost(160, Some(2)), Out::Packet(2)]
        );
        line.push(1, 0, 0);
        line.push(1, 0, 0);
        line.push(2, 0, 0);
        assert_eq!(line.heard(), []);
        let counters = line.receiver.counters();
        assert_eq!(
            (counters.lost, counters.late, counters.duplicates),
            (1, 1, 4)
        );
    }

    #[test]
    fn packets_that_come_too_late_stretch_the_wait_and_it_shrinks_again() {
        let mut line = Line::new();
        line.push(0, 0, 0);
        line.push(2, 0, 0);
        line.pass(MIN_WAIT);
        line.heard();
        line.pass(100 * MILLISECOND);
        line.push(1, 0, 0);
        assert_eq!(line.receiver.wait(), 125 * MILLISECOND);
        for n in 3..=200_u32 {
            line.pass(PACKET_TIME);
            line.push_at(0, n as u16, n * TICKS, TICKS);
        }
        assert!(line.receiver.wait() < 100 * MILLISECOND);
        // Later than the cap is too late to wait for.
        line.heard();
        line.push_at(0, 202, 202 * TICKS, TICKS);
        line.pass(Duration::from_millis(300));
        line.heard();
        line.push_at(0, 201, 201 * TICKS, TICKS);
        assert!(line.receiver.wait() < 100 * MILLISECOND);
    }

    #[test]
    fn the_wait_follows_the_jitter_between_20_and_80_ms() {
        let mut line = Line::new();
        for n in 0..200_u32 {
            line.pass(if n % 2 == 0 { 10 } else { 30 } * MILLISECOND);
            line.push_at(0, n as u16, n * TICKS, TICKS);
            line.heard();
        }
        // Every packet comes 10 ms off the time of the one before.
        let jitter = line.receiver.jitter();
        assert!((9..=11).contains(&jitter.as_millis()), "{jitter:?}");
        let wait = line.receiver.wait();
        assert!((36..=44).contains(&wait.as_millis()), "{wait:?}");
        for n in 200..400_u32 {
            line.pass(if n % 2 == 0 { 0 } else { 40 } * 2 * MILLISECOND);
            line.push_at(0, n as u16, n * TICKS, TICKS);
            line.heard();
        }
        assert_eq!(line.receiver.wait(), USUAL_WAIT);
    }

    #[test]
    fn a_stall_and_its_burst_cost_nothing_and_leave_no_delay() {
        let mut line = Line::new();
        line.push(0, 0, 0);
        line.heard();
        line.pass(Duration::from_secs(3));
        for n in 1..=150 {
            line.push(n, 0, 0);
            assert_eq!(line.heard(), [Out::Packet(n)]);
        }
        assert_eq!(line.receiver.counters(), Counters::default());
    }

    #[test]
    fn a_new_source_is_heard_from_its_first_packet_on() {
        let mut line = Line::new();
        line.push(0, 0, 0);
        line.heard();
        line.ssrc = 8;
        line.push_at(1, 40_000, 777, TICKS);
        assert_eq!(line.heard(), []);
        line.push_at(2, 40_001, 937, TICKS);
        assert_eq!(line.heard(), [1, 2].map(Out::Packet));
        assert_eq!(line.receiver.ssrc(), Some(8));
        assert_eq!(line.receiver.counters().restarts, 1);
        assert_eq!(
            line.receiver.report().expect("a source").highest_sequence,
            40_001
        );
    }

    #[test]
    fn a_sender_that_begins_anew_is_heard_from_its_first_packet_on_in_either_order() {
        for (first, second) in [(1, 2), (2, 1)] {
            let mut line = Line::new();
            line.push_at(0, 20_000, 0, TICKS);
            line.heard();
            line.push_at(first, 5 + u16::from(first), u32::from(first) * TICKS, TICKS);
            line.push_at(
                second,
                5 + u16::from(second),
                u32::from(second) * TICKS,
                TICKS,
            );
            line.push_at(3, 8, 3 * TICKS, TICKS);
            assert_eq!(line.heard(), [1, 2, 3].map(Out::Packet));
        }
    }

    #[test]
    fn a_single_stray_packet_changes_nothing() {
        let mut line = Line::new();
        for n in 0..10 {
            line.push(n, 0, 0);
            line.ssrc = 100 + u32::from(n);
            line.push_at(99, 30_000, 0, TICKS);
            line.ssrc = SSRC;
            assert_eq!(line.heard(), [Out::Packet(n)]);
        }
        assert_eq!(line.receiver.counters().restarts, 0);
        assert_eq!(line.receiver.counters().lost, 0);
    }

    #[test]
    fn two_senders_at_once_leave_the_first_as_it_is() {
        let mut line = Line::new();
        for n in 0..100 {
            line.push(n, 0, 0);
            line.ssrc = 8;
            line.push(200, 500 + u16::from(n), 0);
            line.ssrc = SSRC;
            assert_eq!(line.heard(), [Out::Packet(n)]);
        }
        assert_eq!(line.receiver.counters().restarts, 0);
    }

    #[test]
    fn when_the_slots_are_full_the_gap_is_not_waited_for() {
        let mut line = Line::new();
        line.push(0, 0, 0);
        line.heard();
        for n in 2..=31 {
            line.push(n, 0, 0);
        }
        let heard = line.heard();
        assert_eq!(heard[0], Out::Lost(160, Some(2)));
        assert_eq!(heard.len(), 31);
        assert_eq!(line.receiver.counters().discarded, 0);
    }

    #[test]
    fn nobody_who_asks_for_nothing_fills_more_than_the_slots() {
        let mut line = Line::new();
        for n in 0..100 {
            line.push(n, 0, 0);
        }
        assert_eq!(line.receiver.counters().discarded, 100 - SLOTS as u64);
        assert_eq!(line.heard().len(), SLOTS);
    }

    #[test]
    fn a_payload_longer_than_a_slot_is_dropped_and_counted() {
        let mut line = Line::new();
        line.push(0, 0, 0);
        let packet = Packet {
            payload_type: 0,
            marker: false,
            sequence: 1,
            timestamp: 160,
            ssrc: SSRC,
            payload: &[0; MAX_PAYLOAD_BYTES + 1],
        };
        line.receiver.push(&packet, TICKS, line.now);
        assert_eq!(line.receiver.counters().oversized, 1);
        assert_eq!(line.heard(), [Out::Packet(0)]);
    }

    proptest! {
        #[test]
        fn every_order_within_the_window_comes_out_in_order(
            order in Just((1..28_u8).collect::<Vec<_>>()).prop_shuffle(),
            first in any::<u16>(),
            timestamp in any::<u32>(),
        ) {
            let mut line = Line::new();
            line.push(0, first, timestamp);
            let mut heard = line.heard();
            for n in order {
                line.push(n, first, timestamp);
                heard.extend(line.heard());
            }
            prop_assert_eq!(heard, (0..28).map(Out::Packet).collect::<Vec<_>>());
            prop_assert_eq!(line.receiver.counters(), Counters::default());
        }

        #[test]
        fn no_packets_upset_it_and_what_waits_is_given_out_by_its_deadline(
            packets in proptest::collection::vec(
                (0..2_u32, any::<u16>(), any::<u32>(), 0..5_000_u32, 0..50_u64), 0..200,
            ),
            near in any::<bool>(),
        ) {
            let mut line = Line::new();
            for (ssrc, sequence, timestamp, ticks, millis) in packets {
                line.ssrc = ssrc;
                let sequence = if near { sequence % 64 } else { sequence };
                line.push_at(0, sequence, timestamp, ticks);
                line.pass(Duration::from_millis(millis));
                for out in line.heard() {
                    if let Out::Lost(ticks, _) | Out::Silence(ticks) = out {
                        prop_assert!(ticks > 0 && ticks <= 1_600);
                    }
                }
                let deadline = line.receiver.deadline();
                prop_assert!(deadline.is_none_or(|at| at > line.now && at <= line.now + MAX_WAIT));
            }
        }
    }

    /// A receiver and the time.
    struct Line {
        receiver: Receiver,
        now: Instant,
        ssrc: u32,
    }

    impl Line {
        fn new() -> Self {
            let now = noon();
            Self {
                receiver: Receiver::new(CLOCK, now),
                now,
                ssrc: SSRC,
            }
        }

        fn pass(&mut self, time: Duration) {
            self.now += time;
        }

        /// The `n`th packet of a stream that begins with this sequence and timestamp; its payload is `n`.
        fn push(&mut self, n: u8, sequence: u16, timestamp: u32) {
            let sequence = sequence.wrapping_add(u16::from(n));
            let timestamp = timestamp.wrapping_add(u32::from(n) * TICKS);
            self.push_at(n, sequence, timestamp, TICKS);
        }

        fn push_at(&mut self, content: u8, sequence: u16, timestamp: u32, ticks: u32) {
            let packet = Packet {
                payload_type: 0,
                marker: false,
                sequence,
                timestamp,
                ssrc: self.ssrc,
                payload: &[content],
            };
            self.receiver.push(&packet, ticks, self.now);
        }

        fn heard(&mut self) -> Vec<Out> {
            let mut heard = Vec::new();
            while let Some(next) = self.receiver.pop(self.now) {
                heard.push(match next {
                    Heard::Packet { payload, .. } => Out::Packet(payload[0]),
                    Heard::Lost { ticks, next } => Out::Lost(ticks, next.map(|next| next[0])),
                    Heard::Silence { ticks } => Out::Silence(ticks),
                });
            }
            heard
        }
    }
}
