//! RTP as telephones and browsers send it: a packet every 20 ms, keys as RFC 4733 events in their place.

use std::collections::VecDeque;

use crate::mulaw;

/// A header without contributing sources or extension.
pub(crate) const HEADER: usize = 12;
/// Updates of a key that is held down, one a frame: 100 ms, as a short press is.
const UPDATES: u16 = 5;
/// How often the end of a key is told, since a lost end would hold the key down (RFC 4733 §2.5.1.4).
const ENDS: u16 = 3;
/// −10 dBm0, as telephones send keys.
const VOLUME: u8 = 10;

/// What we send: one packet a tick.
#[derive(Debug)]
pub(crate) struct Sender {
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    /// Ticks of the timestamp in 20 ms.
    step: u16,
    /// The next packet of audio begins a talk: it is the first, or the first after a key.
    talk_begins: bool,
    keys: VecDeque<u8>,
    key: Option<Key>,
}

#[derive(Debug, Clone, Copy)]
struct Key {
    event: u8,
    /// All packets of one key carry the moment it was pressed.
    pressed: u32,
    sent: u16,
}

impl Sender {
    /// Begins at an unforeseeable number and time (RFC 3550 §5.1). `step` is 20 ms in ticks of the codec's clock.
    pub(crate) fn new(random: u64, step: u16) -> Self {
        Self {
            step,
            ssrc: (random >> 32) as u32,
            sequence: (random >> 16) as u16,
            timestamp: random as u32,
            talk_begins: true,
            keys: VecDeque::new(),
            key: None,
        }
    }

    /// A key will be pressed when those before it are done; `false` if it has no event.
    pub(crate) fn press(&mut self, key: char) -> bool {
        let event = event_of(key);
        self.keys.extend(event);
        event.is_some()
    }

    /// The source of all packets.
    pub(crate) fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// The packet of the next 20 ms: the frame, which `append` writes behind the header, or in its place what a pressed key says.
    pub(crate) fn packet(
        &mut self,
        payload_type: u8,
        events: Option<u8>,
        append: impl FnOnce(&mut Vec<u8>),
    ) -> Vec<u8> {
        if self.key.is_none() {
            self.key = self.keys.pop_front().map(|event| Key {
                event,
                pressed: self.timestamp,
                sent: 0,
            });
        }
        let packet = match (events, self.key.take()) {
            (Some(events), Some(key)) => self.event(events, key),
            _ => {
                let begins = std::mem::take(&mut self.talk_begins);
                let mut packet = self.header(payload_type, begins, self.timestamp);
                append(&mut packet);
                packet
            }
        };
        self.pass();
        packet
    }

    /// 20 ms go by without a packet.
    pub(crate) fn pass(&mut self) {
        self.timestamp = self.timestamp.wrapping_add(u32::from(self.step));
    }

    fn event(&mut self, payload_type: u8, key: Key) -> Vec<u8> {
        let mut packet = self.header(payload_type, key.sent == 0, key.pressed);
        let ended = key.sent >= UPDATES;
        let duration = (key.sent + 1).min(UPDATES) * self.step;
        let end_and_volume = if ended { 0x80 | VOLUME } else { VOLUME };
        packet.extend([key.event, end_and_volume]);
        packet.extend(duration.to_be_bytes());
        self.talk_begins = true;
        let sent = key.sent + 1;
        self.key = (sent < UPDATES + ENDS).then_some(Key { sent, ..key });
        packet
    }

    fn header(&mut self, payload_type: u8, marker: bool, timestamp: u32) -> Vec<u8> {
        let mut packet = Vec::with_capacity(HEADER + mulaw::FRAME);
        packet.extend([0x80, payload_type | if marker { 0x80 } else { 0 }]);
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(timestamp.to_be_bytes());
        packet.extend(self.ssrc.to_be_bytes());
        self.sequence = self.sequence.wrapping_add(1);
        packet
    }
}

/// RFC 4733 §3.2.
fn event_of(key: char) -> Option<u8> {
    match key {
        '0'..='9' => Some(key as u8 - b'0'),
        '*' => Some(10),
        '#' => Some(11),
        'A'..='D' => Some(12 + key as u8 - b'A'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_told_while_it_is_down_and_three_times_at_its_end() {
        let mut sender = Sender::new(0, 160);
        assert!(sender.press('#'));
        let packets: Vec<Vec<u8>> = (0..9)
            .map(|_| sender.packet(0, Some(96), |packet| packet.extend([0xff; 160])))
            .collect();
        let told: Vec<(bool, u8, bool, u16)> = packets[..8]
            .iter()
            .map(|packet| {
                assert_eq!((packet[1] & 0x7f, packet.len()), (96, 16));
                assert_eq!(packet[4..8], [0; 4], "the moment it was pressed");
                let duration = u16::from_be_bytes([packet[14], packet[15]]);
                (
                    packet[1] & 0x80 != 0,
                    packet[12],
                    packet[13] & 0x80 != 0,
                    duration,
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                (true, 11, false, 160),
                (false, 11, false, 320),
                (false, 11, false, 480),
                (false, 11, false, 640),
                (false, 11, false, 800),
                (false, 11, true, 800),
                (false, 11, true, 800),
                (false, 11, true, 800),
            ]
        );
        assert_eq!(packets[8][1], 0x80, "audio again, a talk begins");
        assert_eq!(packets[8][4..8], (8 * 160_u32).to_be_bytes());
        let numbers: Vec<u8> = packets.iter().map(|packet| packet[3]).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn a_faster_clock_has_longer_steps() {
        let mut sender = Sender::new(0, 960);
        sender.press('5');
        let packets: Vec<Vec<u8>> = (0..9)
            .map(|_| sender.packet(111, Some(110), |packet| packet.push(7)))
            .collect();
        assert_eq!(packets[0][14..], 960_u16.to_be_bytes());
        assert_eq!(packets[7][14..], 4800_u16.to_be_bytes());
        assert_eq!(packets[8][4..8], (8 * 960_u32).to_be_bytes());
        assert_eq!(packets[8][12..], [7]);
    }

    #[test]
    fn where_no_events_are_taken_a_key_is_left_out() {
        let mut sender = Sender::new(0, 160);
        sender.press('5');
        let packet = sender.packet(8, None, |packet| packet.push(7));
        assert_eq!((packet[1] & 0x7f, packet[12]), (8, 7));
    }
}
