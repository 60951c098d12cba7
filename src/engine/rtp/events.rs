//! Telephone keys in RTP (RFC 4733): one digit for each press, whatever packets are lost or come twice.
//!
//! All packets of a press carry the timestamp of its beginning, so a press is known by timestamp and event; neither
//! the marker nor the end bit is needed. The digit is told at the first packet of a press, not at its end.

use crate::engine::media::digit::Digit;

/// Presses that are remembered, for packets that come late.
const REMEMBERED: usize = 8;
/// A press longer than 16 bits of ticks goes on as a new event with a later timestamp (RFC 4733 §2.5.1.3). Senders
/// break it at the last multiple of their packet time, a little before the full 65,535 ticks.
const SEGMENT_TICKS: std::ops::RangeInclusive<u32> = 0xf000..=0xffff;

/// The press of a key, as far as it has been seen.
#[derive(Clone, Copy, Debug)]
struct Press {
    timestamp: u32,
    event: u8,
    is_ended: bool,
}

/// The presses of one call.
#[derive(Debug, Default)]
pub struct Events {
    /// A ring; `None` where nothing has been yet.
    presses: [Option<Press>; REMEMBERED],
    /// Where the next press goes.
    next: usize,
}

impl Events {
    /// No key has been pressed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the payload of one packet. Gives the digit at the first packet of its press; nothing for later packets,
    /// for events above 15 (flash-hook, tones of a line) and for payloads that are too short.
    pub fn receive(&mut self, timestamp: u32, payload: &[u8]) -> Option<Digit> {
        let [event, flags, _, _, ..] = *payload else {
            return None;
        };
        let digit = Digit::from_event(event)?;
        let is_end = flags & 0x80 != 0;
        let mut presses = self.presses.iter_mut().flatten();
        if let Some(press) =
            presses.find(|press| press.timestamp == timestamp && press.event == event)
        {
            press.is_ended |= is_end;
            return None;
        }
        let is_continued = self.presses.iter().flatten().any(|press| {
            press.event == event
                && !press.is_ended
                && SEGMENT_TICKS.contains(&timestamp.wrapping_sub(press.timestamp))
        });
        self.presses[self.next] = Some(Press {
            timestamp,
            event,
            is_ended: is_end,
        });
        self.next = (self.next + 1) % REMEMBERED;
        (!is_continued).then_some(digit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_press_is_one_digit_however_many_packets_tell_of_it() {
        let mut packets: Vec<(u32, [u8; 4])> =
            (1..=5).map(|n| (800, event(5, false, n * 160))).collect();
        packets.extend([(800, event(5, true, 960)); 3]);
        assert_eq!(heard(&packets), "5");
        // The beginning is lost; all ends are lost; only an end is left; packets come in another order.
        assert_eq!(heard(&packets[3..]), "5");
        assert_eq!(heard(&packets[..5]), "5");
        assert_eq!(heard(&packets[7..]), "5");
        packets.reverse();
        assert_eq!(heard(&packets), "5");
    }

    #[test]
    fn the_same_key_twice_is_two_digits_even_when_the_ends_are_lost() {
        let packets = [
            (800, event(1, false, 160)),
            (800, event(1, false, 320)),
            (4_000, event(1, false, 160)),
            (4_000, event(1, true, 320)),
            // A late packet of the first press.
            (800, event(1, true, 480)),
        ];
        assert_eq!(heard(&packets), "11");
    }

    #[test]
    fn every_key_has_its_digit() {
        let packets: Vec<_> = (0..16)
            .map(|code| (u32::from(code) * 1_000, event(code, true, 800)))
            .collect();
        assert_eq!(heard(&packets), "0123456789*#ABCD");
    }

    #[test]
    fn a_very_long_press_is_one_digit() {
        // 20 s at 8 kHz: two full segments and a rest, across the end of the timestamps.
        let begin = u32::MAX - 70_000;
        let mut packets = Vec::new();
        for (segment, ticks) in [(0, 0xffff), (1, 0xffff), (2, 28_930)] {
            let timestamp = begin.wrapping_add(segment * 0xffff);
            for duration in (160..=ticks).step_by(8_000) {
                packets.push((timestamp, event(9, false, duration as u16)));
            }
        }
        packets.push((begin.wrapping_add(2 * 0xffff), event(9, true, 28_930)));
        assert_eq!(heard(&packets), "9");
    }

    #[test]
    fn the_same_key_eight_seconds_later_is_a_new_digit_once_the_first_has_ended() {
        let packets = [(0, event(9, true, 800)), (0xffff, event(9, false, 160))];
        assert_eq!(heard(&packets), "99");
    }

    #[test]
    fn a_flash_and_a_short_payload_are_no_digit() {
        let mut events = Events::new();
        assert_eq!(events.receive(0, &event(16, true, 800)), None);
        assert_eq!(events.receive(0, &[5, 0x80, 0]), None);
        assert_eq!(events.receive(0, &[]), None);
    }

    fn event(code: u8, is_end: bool, duration: u16) -> [u8; 4] {
        let [high, low] = duration.to_be_bytes();
        [code, if is_end { 0x8a } else { 0x0a }, high, low]
    }

    fn heard(packets: &[(u32, [u8; 4])]) -> String {
        let mut events = Events::new();
        packets
            .iter()
            .filter_map(|(timestamp, payload)| events.receive(*timestamp, payload))
            .map(Digit::as_char)
            .collect()
    }
}
