//! Reports (RFC 3550 §6): ours every few seconds, and what those of the peer say.
//!
//! There are two parties, so of the rules for scheduling only the smallest interval and its randomness are left: 5 %
//! of a telephone's bandwidth would allow far more (§6.2).

use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use rtc::rtcp::Packet as _;
use rtc::rtcp::goodbye::Goodbye;
use rtc::rtcp::header::Header;
use rtc::rtcp::header::PacketType;
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::reception_report::ReceptionReport;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtcp::source_description::SdesType;
use rtc::rtcp::source_description::SourceDescription;
use rtc::rtcp::source_description::SourceDescriptionChunk;
use rtc::rtcp::source_description::SourceDescriptionItem;
use rtc::shared::marshal::Unmarshal;

/// The time between reports before it is made random (RFC 3550 §6.2).
const INTERVAL: Duration = Duration::from_secs(5);
/// The longest CNAME: its length is one byte (RFC 3550 §6.5).
const MAX_CNAME_BYTES: usize = 255;
/// The longest compound we write: a sender report with one block, a CNAME and a goodbye.
pub const MAX_COMPOUND_BYTES: usize = 52 + 268 + 12;
/// What our clock shows when it starts. RFC 3550 §6.4.1 allows a clock that is not of this world; but a report of
/// time zero would be read as "none yet".
const CLOCK_STARTS_AT: Duration = Duration::from_secs(3_600);
/// A longer round trip is a mistake of somebody's arithmetic.
const MAX_ROUND_TRIP: Duration = Duration::from_secs(60);

/// What we have sent, for a sender report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Where our timeline stands now.
    pub timestamp: u32,
    /// Packets so far.
    pub packets: u64,
    /// Bytes of payload so far.
    pub payload_bytes: u64,
}

/// What we have heard of one source, for a report block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reception {
    /// The source.
    pub ssrc: u32,
    /// Lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Lost since the beginning.
    pub lost: u32,
    /// The highest sequence, with its cycles in the upper half.
    pub highest_sequence: u32,
    /// In ticks of the source's clock.
    pub jitter: u32,
}

/// What the peer says of our stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feedback {
    /// Lost since its last report, in 256ths.
    pub fraction_lost: u8,
    /// Lost since the beginning, modulo 2²⁴.
    pub lost: u32,
    /// In ticks of our clock.
    pub jitter: u32,
    /// To the peer and back, without the time the peer sat on our report; `None` if it has had none.
    pub round_trip: Option<Duration>,
}

/// What a compound of the peer said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// How the peer hears us.
    pub feedback: Option<Feedback>,
    /// The source that we hear said goodbye.
    pub goodbye: bool,
}

/// Our reports and what they need to remember of the peer's.
#[derive(Debug)]
pub struct Reports {
    ssrc: u32,
    cname: Bytes,
    started: Instant,
    /// The last sender report of the peer: its source, the middle of its time, and when it came.
    heard: Option<(u32, u32, Instant)>,
    due: Instant,
    random: u64,
}

impl Reports {
    /// The first report is due after half the usual interval (RFC 3550 §6.2). `seed` makes the intervals random.
    pub fn new(ssrc: u32, cname: &str, seed: u64, now: Instant) -> Self {
        let mut reports = Self {
            ssrc,
            cname: Bytes::copy_from_slice(
                &cname.as_bytes()[..cname.floor_char_boundary(MAX_CNAME_BYTES)],
            ),
            started: now,
            heard: None,
            due: now,
            random: seed,
        };
        reports.due = now + reports.interval() / 2;
        reports
    }

    /// When the next report is due.
    pub const fn due(&self) -> Instant {
        self.due
    }

    /// Writes a compound into `out`, says how long it is, and sets the time of the next: SR if something was `sent`
    /// since the last one, else RR; a CNAME; and a goodbye at the `end`.
    ///
    /// # Panics
    /// If `out` is shorter than [`MAX_COMPOUND_BYTES`].
    pub fn write(
        &mut self,
        sent: Option<Sent>,
        reception: Option<Reception>,
        end: bool,
        out: &mut [u8],
        now: Instant,
    ) -> usize {
        self.due = now + self.interval();
        let blocks: Vec<ReceptionReport> = reception
            .iter()
            .map(|heard| self.block(heard, now))
            .collect();
        let report: Box<dyn rtc::rtcp::Packet> = match sent {
            Some(sent) => Box::new(SenderReport {
                ssrc: self.ssrc,
                ntp_time: self.clock(now),
                rtp_time: sent.timestamp,
                // Both counters wrap (RFC 3550 §6.4.1).
                packet_count: sent.packets as u32,
                octet_count: sent.payload_bytes as u32,
                reports: blocks,
                profile_extensions: Bytes::new(),
            }),
            None => Box::new(ReceiverReport {
                ssrc: self.ssrc,
                reports: blocks,
                profile_extensions: Bytes::new(),
            }),
        };
        let name = SourceDescription {
            chunks: vec![SourceDescriptionChunk {
                source: self.ssrc,
                items: vec![SourceDescriptionItem {
                    sdes_type: SdesType::SdesCname,
                    text: self.cname.clone(),
                }],
            }],
        };
        let mut packets = vec![report, name.cloned()];
        if end {
            packets.push(Box::new(Goodbye {
                sources: vec![self.ssrc],
                // Three letters fill the word that the length begins, so no padding is needed.
                reason: Bytes::from_static(b"end"),
            }));
        }
        let mut written = 0;
        for packet in packets {
            written += packet
                .marshal_to(&mut out[written..])
                .expect("the caller's buffer has room for the longest compound");
        }
        written
    }

    /// Reads a compound as far as it makes sense; `None` if nothing in it does. `hearing` is the source whose goodbye
    /// counts: one that a transfer has replaced may leave.
    pub fn read(&mut self, compound: &[u8], hearing: Option<u32>, now: Instant) -> Option<News> {
        let mut news = None;
        let mut rest = compound;
        while let Ok(header) = Header::unmarshal(&mut &*rest) {
            let bytes = 4 * (usize::from(header.length) + 1);
            let Some((mut packet, after)) = rest.split_at_checked(bytes) else {
                break;
            };
            rest = after;
            let news = news.get_or_insert_with(News::default);
            match header.packet_type {
                PacketType::SenderReport => {
                    if let Ok(report) = SenderReport::unmarshal(&mut packet) {
                        self.heard = Some((report.ssrc, (report.ntp_time >> 16) as u32, now));
                        news.feedback = self.feedback(&report.reports, now).or(news.feedback);
                    }
                }
                PacketType::ReceiverReport => {
                    if let Ok(report) = ReceiverReport::unmarshal(&mut packet) {
                        news.feedback = self.feedback(&report.reports, now).or(news.feedback);
                    }
                }
                PacketType::Goodbye => {
                    if let Ok(goodbye) = Goodbye::unmarshal(&mut packet) {
                        news.goodbye |= hearing.is_none_or(|ssrc| goodbye.sources.contains(&ssrc));
                    }
                }
                // Names, extended reports and feedback for video.
                _ => {}
            }
        }
        news
    }

    fn block(&self, reception: &Reception, now: Instant) -> ReceptionReport {
        let heard = self.heard.filter(|(ssrc, ..)| *ssrc == reception.ssrc);
        ReceptionReport {
            ssrc: reception.ssrc,
            fraction_lost: reception.fraction_lost,
            // 24 bits with a sign (RFC 3550 §6.4.1).
            total_lost: reception.lost.min(0x7f_ffff),
            last_sequence_number: reception.highest_sequence,
            jitter: reception.jitter,
            last_sender_report: heard.map_or(0, |(_, time, _)| time),
            delay: heard.map_or(0, |(.., when)| {
                short_time(now.saturating_duration_since(when))
            }),
        }
    }

    fn feedback(&self, reports: &[ReceptionReport], now: Instant) -> Option<Feedback> {
        let report = reports.iter().find(|report| report.ssrc == self.ssrc)?;
        Some(Feedback {
            fraction_lost: report.fraction_lost,
            lost: report.total_lost,
            jitter: report.jitter,
            round_trip: self.round_trip(report, now),
        })
    }

    /// RFC 3550 §6.4.1, figure 2.
    fn round_trip(&self, report: &ReceptionReport, now: Instant) -> Option<Duration> {
        if report.last_sender_report == 0 {
            return None;
        }
        let middle = (self.clock(now) >> 16) as u32;
        let units = middle
            .wrapping_sub(report.last_sender_report)
            .wrapping_sub(report.delay) as i32;
        // The peer's clock may be a little quicker than ours, which on a short way shows as less than nothing.
        let units = if (-65_536..0).contains(&units) {
            0
        } else {
            units
        };
        let round_trip = Duration::from_nanos(u64::try_from(units).ok()? * 1_000_000_000 / 65_536);
        (round_trip <= MAX_ROUND_TRIP).then_some(round_trip)
    }

    /// Our clock as an NTP time: seconds in the upper half, 2³²ths of a second in the lower.
    fn clock(&self, now: Instant) -> u64 {
        let time = now.saturating_duration_since(self.started) + CLOCK_STARTS_AT;
        let fraction = (u64::from(time.subsec_nanos()) << 32) / 1_000_000_000;
        (time.as_secs() << 32) | fraction
    }

    /// 0.5–1.5 times the usual, so that reports of many calls do not fall into step (RFC 3550 §6.2).
    fn interval(&mut self) -> Duration {
        // SplitMix64: a counter, well stirred.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        let unit = (bits >> 11) as f64 / (1_u64 << 53) as f64;
        INTERVAL.mul_f64(0.5 + unit)
    }
}

/// In 65,536ths of a second, as reports carry delays; 18 hours and more stay at the top.
fn short_time(duration: Duration) -> u32 {
    u32::try_from(duration.as_nanos() * 65_536 / 1_000_000_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::rtp::testing::noon;

    const OURS: u32 = 0x1111_1111;
    const THEIRS: u32 = 0x2222_2222;
    const SENT: Sent = Sent {
        timestamp: 160_000,
        packets: 1_000,
        payload_bytes: 160_000,
    };
    const HEARD: Reception = Reception {
        ssrc: THEIRS,
        fraction_lost: 12,
        lost: 34,
        highest_sequence: 0x0001_0005,
        jitter: 56,
    };

    #[test]
    fn a_sender_report_is_what_the_crate_reads() {
        let now = noon();
        let mut reports = Reports::new(OURS, "tandem@example.com", 1, now);
        let mut out = [0; MAX_COMPOUND_BYTES];
        let written = reports.write(Some(SENT), Some(HEARD), true, &mut out, now);
        let packets = rtc::rtcp::packet::unmarshal(&mut &out[..written]).expect("a compound");
        assert_eq!(packets.len(), 3);
        let report = packets[0].as_any().downcast_ref::<SenderReport>();
        let report = report.expect("a sender report");
        assert_eq!(
            (
                report.ssrc,
                report.rtp_time,
                report.packet_count,
                report.octet_count
            ),
            (OURS, 160_000, 1_000, 160_000)
        );
        let block = &report.reports[0];
        assert_eq!(
            (
                block.ssrc,
                block.fraction_lost,
                block.total_lost,
                block.last_sequence_number,
                block.jitter,
                block.last_sender_report,
                block.delay
            ),
            (THEIRS, 12, 34, 0x0001_0005, 56, 0, 0)
        );
        let name = packets[1].as_any().downcast_ref::<SourceDescription>();
        let item = &name.expect("a name").chunks[0].items[0];
        assert_eq!(&item.text[..], b"tandem@example.com");
        let goodbye = packets[2].as_any().downcast_ref::<Goodbye>();
        assert_eq!(goodbye.expect("a goodbye").sources, [OURS]);
        assert_eq!(out[0] & 0x20, 0, "no padding but at the end");
    }

    #[test]
    fn the_longest_compound_fits_its_buffer() {
        let now = noon();
        let mut reports = Reports::new(OURS, &"ü".repeat(200), 1, now);
        let mut out = [0; MAX_COMPOUND_BYTES];
        let written = reports.write(Some(SENT), Some(HEARD), true, &mut out, now);
        assert!(rtc::rtcp::packet::unmarshal(&mut &out[..written]).is_ok());
    }

    #[test]
    fn two_parties_measure_the_round_trip() {
        let start = noon();
        let mut we = Reports::new(OURS, "we", 1, start);
        // The peer's clock began at another time.
        let mut they = Reports::new(THEIRS, "they", 2, start + Duration::from_millis(1_234));
        let mut out = [0; MAX_COMPOUND_BYTES];

        let sent = start + Duration::from_secs(3);
        let n = we.write(Some(SENT), None, false, &mut out, sent);
        let heard = sent + Duration::from_millis(40);
        assert_eq!(they.read(&out[..n], None, heard), Some(News::default()));

        let answered = heard + Duration::from_secs(2);
        let about_us = Reception {
            ssrc: OURS,
            ..HEARD
        };
        let n = they.write(None, Some(about_us), false, &mut out, answered);
        let back = answered + Duration::from_millis(60);
        let news = we.read(&out[..n], Some(THEIRS), back).expect("news");
        let feedback = news.feedback.expect("about us");
        assert_eq!(
            (feedback.fraction_lost, feedback.lost, feedback.jitter),
            (12, 34, 56)
        );
        let round_trip = feedback.round_trip.expect("a round trip").as_secs_f64();
        assert!((round_trip - 0.1).abs() < 0.001, "{round_trip}");
        assert!(!news.goodbye);
    }

    #[test]
    fn only_the_source_that_is_heard_can_say_goodbye() {
        let now = noon();
        let mut they = Reports::new(THEIRS, "they", 2, now);
        let mut out = [0; MAX_COMPOUND_BYTES];
        let n = they.write(None, None, true, &mut out, now);
        let mut we = Reports::new(OURS, "we", 1, now);
        let mut goodbye = |hearing| we.read(&out[..n], hearing, now).expect("news").goodbye;
        assert!(goodbye(Some(THEIRS)));
        assert!(goodbye(None));
        assert!(!goodbye(Some(5)));
    }

    #[test]
    fn what_makes_sense_is_read_though_the_rest_does_not() {
        let now = noon();
        let mut they = Reports::new(THEIRS, "they", 2, now);
        let mut out = [0; MAX_COMPOUND_BYTES + 8];
        let about_us = Reception {
            ssrc: OURS,
            ..HEARD
        };
        let n = they.write(Some(SENT), Some(about_us), false, &mut out, now);
        // An application's own packet that claims to be longer than the datagram.
        out[n..n + 4].copy_from_slice(&[0x80, 204, 0, 9]);
        let mut we = Reports::new(OURS, "we", 1, now);
        let news = we.read(&out[..n + 4], Some(THEIRS), now).expect("news");
        assert!(news.feedback.is_some());
        assert_eq!(we.read(&[0x80, 200], None, now), None);
        assert_eq!(we.read(&[0; 40], None, now), None);
    }

    #[test]
    fn reports_come_every_five_seconds_give_or_take_a_half() {
        let start = noon();
        let mut reports = Reports::new(OURS, "we", 42, start);
        let first = reports.due() - start;
        assert!((1.25..3.75).contains(&first.as_secs_f64()), "{first:?}");
        let mut out = [0; MAX_COMPOUND_BYTES];
        let mut sum = Duration::ZERO;
        for _ in 0..1_000 {
            let now = reports.due();
            reports.write(None, None, false, &mut out, now);
            let interval = reports.due() - now;
            assert!((2.5..7.5).contains(&interval.as_secs_f64()));
            sum += interval;
        }
        assert!((4_850..5_150).contains(&sum.as_secs()), "{sum:?}");
    }

    proptest! {
        #[test]
        fn no_bytes_upset_the_reader(
            first in 0x80_u8..0xc0,
            kind in 199_u8..209,
            rest in proptest::collection::vec(any::<u8>(), 0..120),
        ) {
            let now = noon();
            let mut reports = Reports::new(OURS, "we", 1, now);
            let mut compound = vec![first, kind];
            compound.extend(rest);
            let words = (compound.len() / 4).saturating_sub(1) as u16;
            let _ = reports.read(&compound, None, now);
            if compound.len() >= 4 {
                compound[2..4].copy_from_slice(&words.to_be_bytes());
                let _ = reports.read(&compound, None, now);
            }
        }
    }
}
