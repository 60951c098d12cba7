//! Provisional responses that must arrive: 100rel on the side that answers (RFC 3262 §3), and which extensions of SIP a
//! request may require of us (RFC 3261 §8.2.2.3).
//!
//! One reliable response is under way at a time: the next may only follow the PRACK of the one before, unless that one
//! was never sent again. Retransmissions double from T1 without an upper bound, and after 64·T1 the call cannot be set up.

use std::time::Duration;
use std::time::Instant;

/// T1: the round trip that SIP assumes (RFC 3261 §17.1.1.1).
pub const T1: Duration = Duration::from_millis(500);
/// The status with which an INVITE ends whose provisional response nobody acknowledged (RFC 3262 §3: "a 5xx").
pub const GIVE_UP_STATUS: u16 = 504;
/// The status of a PRACK that acknowledges nothing (RFC 3262 §3).
pub const UNKNOWN_PRACK_STATUS: u16 = 481;
/// The first number is chosen from 1 to 2³¹ − 1 (RFC 3262 §3).
const HIGHEST_FIRST: u32 = (1 << 31) - 1;

/// The option tags that a request may require of us. Not `replaces`: there is no other call to take the place of.
const KNOWN: [&str; 2] = ["100rel", "timer"];

/// The tags in the values of Require that we do not know, for the Unsupported of a 420, each once and in their order.
pub fn required_extensions<'a>(values: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut unsupported: Vec<&str> = Vec::new();
    for tag in tags(values) {
        let known = KNOWN.iter().any(|known| known.eq_ignore_ascii_case(tag));
        let named = unsupported
            .iter()
            .any(|named| named.eq_ignore_ascii_case(tag));
        if !known && !named {
            unsupported.push(tag);
        }
    }
    unsupported
}

/// Whether a list of option tags (the values of Require or Supported) names this one.
pub fn names_extension<'a>(values: impl IntoIterator<Item = &'a str>, tag: &str) -> bool {
    tags(values).any(|named| named.eq_ignore_ascii_case(tag))
}

fn tags<'a>(values: impl IntoIterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    values
        .into_iter()
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|tag| !tag.is_empty())
}

/// What is due for a response that is not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Send the response with this RSeq again.
    Again {
        /// Its number.
        rseq: u32,
    },
    /// End the INVITE with [`GIVE_UP_STATUS`].
    GiveUp,
}

/// Why no reliable response can be sent now: one is under way. The caller waits for its PRACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnderWay;

/// What a PRACK says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prack {
    /// It acknowledges the response that is under way: answer 200.
    Acknowledged,
    /// It acknowledges nothing: answer [`UNKNOWN_PRACK_STATUS`].
    Unknown,
}

/// The reliable provisional responses of one INVITE.
#[derive(Debug)]
pub struct Reliable {
    /// The CSeq number of the INVITE.
    sequence: u32,
    next_rseq: u32,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Idle,
    Unacknowledged {
        rseq: u32,
        interval: Duration,
        again_at: Instant,
        until: Instant,
    },
    GivenUp,
}

impl Reliable {
    /// For the INVITE with this CSeq number; `random` chooses the first RSeq.
    pub const fn new(sequence: u32, random: u32) -> Self {
        Self {
            sequence,
            next_rseq: random % HIGHEST_FIRST + 1,
            state: State::Idle,
        }
    }

    /// The RSeq for a response that is sent now.
    ///
    /// # Errors
    /// If the one before is not acknowledged.
    pub fn send(&mut self, now: Instant) -> Result<u32, UnderWay> {
        match self.state {
            State::Idle => {}
            State::Unacknowledged { .. } | State::GivenUp => return Err(UnderWay),
        }
        let rseq = self.next_rseq;
        // A call does not ring four billion times; were the first number the highest, the next still fits in 32 bits.
        self.next_rseq = self.next_rseq.wrapping_add(1);
        self.state = State::Unacknowledged {
            rseq,
            interval: T1,
            again_at: now + T1,
            until: now + T1 * 64,
        };
        Ok(rseq)
    }

    /// When [`Reliable::poll`] has something to say.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Unacknowledged {
                again_at, until, ..
            } => Some(again_at.min(until)),
            State::Idle | State::GivenUp => None,
        }
    }

    /// What is due at `now`. At most one repetition, however late it is asked.
    pub fn poll(&mut self, now: Instant) -> Option<Due> {
        let State::Unacknowledged {
            rseq,
            interval,
            again_at,
            until,
        } = self.state
        else {
            return None;
        };
        if now >= until {
            self.state = State::GivenUp;
            return Some(Due::GiveUp);
        }
        if now < again_at {
            return None;
        }
        let interval = interval * 2;
        self.state = State::Unacknowledged {
            rseq,
            interval,
            again_at: now + interval,
            until,
        };
        Some(Due::Again { rseq })
    }

    /// A PRACK with this RAck: `RSeq CSeq-number method`.
    pub fn acknowledged(&mut self, rack: &str) -> Prack {
        let State::Unacknowledged { rseq, .. } = self.state else {
            return Prack::Unknown;
        };
        let mut words = rack.split_ascii_whitespace();
        let mut number = || words.next().and_then(|word| word.parse::<u32>().ok());
        let (response, sequence) = (number(), number());
        let method = words.next();
        if response == Some(rseq)
            && sequence == Some(self.sequence)
            && method == Some("INVITE")
            && words.next().is_none()
        {
            self.state = State::Idle;
            Prack::Acknowledged
        } else {
            Prack::Unknown
        }
    }

    /// Whether a response waits for its PRACK: then the 200 waits too, if that response carried an SDP (RFC 3262 §3).
    pub const fn is_under_way(&self) -> bool {
        matches!(self.state, State::Unacknowledged { .. })
    }

    /// The INVITE has its final response: nothing is sent again (RFC 3262 §3).
    pub fn end(&mut self) {
        if self.is_under_way() {
            self.state = State::Idle;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_repeated_at_doubling_intervals_until_it_is_given_up() {
        let begin = Instant::now();
        let mut reliable = Reliable::new(7, 0);
        assert_eq!(reliable.send(begin), Ok(1));
        let mut at_ms = Vec::new();
        let gave_up_at = loop {
            let now = reliable.deadline().expect("something is due");
            assert_eq!(reliable.poll(now - Duration::from_millis(1)), None);
            match reliable.poll(now).expect("due") {
                Due::Again { rseq } => {
                    assert_eq!(rseq, 1);
                    at_ms.push((now - begin).as_millis());
                }
                Due::GiveUp => break now,
            }
        };
        assert_eq!(at_ms, [500, 1_500, 3_500, 7_500, 15_500, 31_500]);
        assert_eq!(gave_up_at - begin, Duration::from_secs(32));
        assert_eq!(reliable.deadline(), None);
        assert_eq!(reliable.send(gave_up_at), Err(UnderWay));
    }

    #[test]
    fn a_prack_ends_the_repetitions_and_lets_the_next_go() {
        let now = Instant::now();
        let mut reliable = Reliable::new(7, 41);
        assert_eq!(reliable.send(now), Ok(42));
        assert_eq!(reliable.send(now), Err(UnderWay));
        assert!(reliable.is_under_way());
        assert_eq!(
            reliable.acknowledged(" 42  7\tINVITE "),
            Prack::Acknowledged
        );
        assert_eq!(reliable.poll(now + T1), None);
        assert_eq!(reliable.send(now), Ok(43));
    }

    #[test]
    fn a_prack_that_fits_nothing_is_unknown_and_changes_nothing() {
        let now = Instant::now();
        let mut reliable = Reliable::new(7, 41);
        assert_eq!(reliable.acknowledged("42 7 INVITE"), Prack::Unknown);
        assert_eq!(reliable.send(now), Ok(42));
        for rack in [
            "",
            "42",
            "41 7 INVITE",
            "42 8 INVITE",
            "42 7 UPDATE",
            "42 7 INVITE x",
            "99999999999 7 INVITE",
        ] {
            assert_eq!(reliable.acknowledged(rack), Prack::Unknown, "{rack}");
        }
        assert!(reliable.is_under_way());
        assert_eq!(reliable.acknowledged("42 7 INVITE"), Prack::Acknowledged);
        // The PRACK itself may be sent twice; the transaction answers that, not we.
        assert_eq!(reliable.acknowledged("42 7 INVITE"), Prack::Unknown);
    }

    #[test]
    fn the_final_response_ends_the_repetitions() {
        let now = Instant::now();
        let mut reliable = Reliable::new(7, u32::MAX);
        assert!(reliable.send(now).is_ok());
        reliable.end();
        assert_eq!(reliable.deadline(), None);
        assert_eq!(reliable.poll(now + T1 * 100), None);
    }

    #[test]
    fn the_first_number_is_within_its_range() {
        for random in [0, 1, HIGHEST_FIRST - 1, HIGHEST_FIRST, u32::MAX] {
            let rseq = Reliable::new(1, random).send(Instant::now()).expect("idle");
            assert!((1..=HIGHEST_FIRST).contains(&rseq), "{random}");
        }
    }

    #[test]
    fn what_we_do_not_know_is_named_once() {
        assert_eq!(
            required_extensions(["timer, replaces", "100REL,,precondition", "Replaces"]),
            ["replaces", "precondition"]
        );
        assert!(required_extensions([]).is_empty());
        assert!(names_extension(["timer, 100Rel"], "100rel"));
        assert!(!names_extension(["100relish"], "100rel"));
    }
}
