//! Our side of an RTP stream: sequence, timestamp and source, across pauses and changes of codec.

use std::time::Duration;
use std::time::Instant;

use rtc::rtp::Header;
use rtc::shared::marshal::Marshal;

use crate::engine::rtp::packet::HEADER_BYTES;

/// From how late on a packet counts as sent after a pause. A stall of the pacer is shorter, and is made good by a
/// burst that continues the timeline.
const PAUSE: Duration = Duration::from_millis(200);

/// The numbering of one stream.
#[derive(Debug)]
pub struct Sender {
    ssrc: u32,
    clock_rate: u32,
    /// Of the next packet.
    sequence: u16,
    /// Of the next packet.
    timestamp: u32,
    /// When the next packet's first sample is due; `None` before the first packet.
    due: Option<Instant>,
    /// A silence was skipped since the last packet.
    is_silent: bool,
    packets: u64,
    payload_bytes: u64,
}

impl Sender {
    /// A stream at its beginning. RFC 3550 §5.1 wants `ssrc`, `sequence` and `timestamp` random.
    pub fn new(ssrc: u32, sequence: u16, timestamp: u32, clock_rate: u32) -> Self {
        Self {
            ssrc,
            clock_rate,
            sequence,
            timestamp,
            due: None,
            is_silent: false,
            packets: 0,
            payload_bytes: 0,
        }
    }

    /// Writes the header in front of a payload that lies at [`HEADER_BYTES`] of `datagram`, lasts `ticks`, and begins
    /// now. After a pause the timestamp has advanced by the pause, and the marker is set (RFC 3551 §4.1).
    ///
    /// # Panics
    /// If `datagram` is shorter than [`HEADER_BYTES`].
    pub fn stamp(&mut self, datagram: &mut [u8], payload_type: u8, ticks: u32, now: Instant) {
        let pause = self.due.map(|due| now.saturating_duration_since(due));
        let is_pause_over = pause.is_none_or(|pause| pause >= PAUSE);
        if let Some(pause) = pause
            && pause >= PAUSE
        {
            self.timestamp = self
                .timestamp
                .wrapping_add(ticks_in(pause, self.clock_rate));
        }
        let begins = match self.due {
            Some(due) if !is_pause_over => due,
            Some(_) | None => now,
        };
        let header = Header {
            version: 2,
            marker: is_pause_over || self.is_silent,
            payload_type,
            sequence_number: self.sequence,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
            ..Header::default()
        };
        header
            .marshal_to(&mut datagram[..HEADER_BYTES])
            .expect("a header without extensions fits its fixed size");
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(ticks);
        self.due = Some(begins + duration_of(ticks, self.clock_rate));
        self.is_silent = false;
        self.packets += 1;
        self.payload_bytes += (datagram.len() - HEADER_BYTES) as u64;
    }

    /// Lets `ticks` of the timeline pass without a packet: a silence that is not sent.
    pub fn skip(&mut self, ticks: u32) {
        self.timestamp = self.timestamp.wrapping_add(ticks);
        self.due = self
            .due
            .map(|due| due + duration_of(ticks, self.clock_rate));
        self.is_silent = true;
    }

    /// The clock of a new codec; sequence and timestamp go on from where they are.
    pub fn set_clock_rate(&mut self, clock_rate: u32) {
        self.clock_rate = clock_rate;
    }

    /// Who we are.
    pub const fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Packets sent so far.
    pub const fn packets(&self) -> u64 {
        self.packets
    }

    /// Bytes of payload sent so far (RFC 3550 §6.4.1: without headers and padding).
    pub const fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// Where the timeline stands now, sending or not, as a sender report states it.
    pub fn timestamp_at(&self, now: Instant) -> u32 {
        let Some(due) = self.due else {
            return self.timestamp;
        };
        let ahead = ticks_in(due.saturating_duration_since(now), self.clock_rate);
        let behind = ticks_in(now.saturating_duration_since(due), self.clock_rate);
        self.timestamp.wrapping_add(behind).wrapping_sub(ahead)
    }
}

/// Whole ticks in `duration`, modulo 2³².
fn ticks_in(duration: Duration, clock_rate: u32) -> u32 {
    (duration.as_nanos() * u128::from(clock_rate) / 1_000_000_000) as u32
}

/// How long `ticks` last.
fn duration_of(ticks: u32, clock_rate: u32) -> Duration {
    Duration::from_nanos(u64::from(ticks) * 1_000_000_000 / u64::from(clock_rate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::rtp::packet::Packet;
    use crate::engine::rtp::testing::noon;

    const PACKET_TIME: Duration = Duration::from_millis(20);

    #[test]
    fn sequence_and_timestamp_go_on_across_their_ends() {
        let mut sender = Sender::new(7, 65_534, u32::MAX - 200, 8_000);
        let mut now = noon();
        let mut sent = Vec::new();
        for _ in 0..4 {
            sent.push(stamped(&mut sender, 160, now));
            now += PACKET_TIME;
        }
        assert_eq!(
            sent,
            [
                (65_534, u32::MAX - 200, true),
                (65_535, u32::MAX - 40, false),
                (0, 119, false),
                (1, 279, false),
            ]
        );
        assert_eq!((sender.packets(), sender.payload_bytes()), (4, 640));
    }

    #[test]
    fn after_a_pause_the_timestamp_has_advanced_by_it_and_the_marker_is_set() {
        let mut sender = Sender::new(7, 0, 0, 8_000);
        let start = noon();
        stamped(&mut sender, 160, start);
        let resumed = start + PACKET_TIME + Duration::from_secs(30);
        assert_eq!(stamped(&mut sender, 160, resumed), (1, 160 + 240_000, true));
        assert_eq!(
            stamped(&mut sender, 160, resumed + PACKET_TIME),
            (2, 240_320, false)
        );
    }

    #[test]
    fn a_silence_that_is_not_sent_passes_on_the_timeline() {
        let mut sender = Sender::new(7, 0, 0, 48_000);
        let start = noon();
        stamped(&mut sender, 960, start);
        sender.skip(960);
        sender.skip(960);
        let after = start + 3 * PACKET_TIME;
        assert_eq!(stamped(&mut sender, 960, after), (1, 2_880, true));
        assert_eq!(
            stamped(&mut sender, 960, after + PACKET_TIME),
            (2, 3_840, false)
        );
    }

    #[test]
    fn a_stall_made_good_by_a_burst_leaves_the_timeline_whole() {
        let mut sender = Sender::new(7, 0, 0, 8_000);
        let start = noon();
        stamped(&mut sender, 160, start);
        let late = start + Duration::from_millis(150);
        for n in 1..=7 {
            assert_eq!(
                stamped(&mut sender, 160, late),
                (n, u32::from(n) * 160, false)
            );
        }
        // No pause has piled up.
        let next = start + Duration::from_millis(160);
        assert_eq!(stamped(&mut sender, 160, next), (8, 1_280, false));
    }

    #[test]
    fn a_sender_report_reads_the_timeline_between_and_beyond_packets() {
        let mut sender = Sender::new(7, 0, 1_000, 48_000);
        let start = noon();
        assert_eq!(sender.timestamp_at(start), 1_000);
        stamped(&mut sender, 960, start);
        assert_eq!(sender.timestamp_at(start + Duration::from_millis(5)), 1_240);
        assert_eq!(
            sender.timestamp_at(start + Duration::from_millis(100)),
            5_800
        );
    }

    /// Sequence, timestamp and marker of a packet of G.711 of `ticks`.
    fn stamped(sender: &mut Sender, ticks: u32, now: Instant) -> (u16, u32, bool) {
        let mut datagram = vec![0; HEADER_BYTES + ticks as usize];
        sender.stamp(&mut datagram, 0, ticks, now);
        let packet = Packet::parse(&datagram).expect("what we write can be read");
        assert_eq!((packet.ssrc, packet.payload.len()), (7, ticks as usize));
        (packet.sequence, packet.timestamp, packet.marker)
    }
}
