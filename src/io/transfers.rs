//! Where callers go after their call, until their ingress asks: an agent wants a transfer, the call ends, and only then does
//! the protocol come for it (Twilio: `POST /twilio/action`).

use std::collections::VecDeque;

/// Transfers that wait. Each is asked for within a second or two; the oldest make room, so that those that are never asked
/// for do not pile up.
const CAPACITY: usize = 1_024;
/// The longest number that is dialled (E.164: 15 digits).
const LONGEST_NUMBER: usize = 15;

/// The longest address; longer ones are nobody's.
const LONGEST_ADDRESS: usize = 256;

/// Transfers that wait to be asked for.
#[derive(Debug, Default)]
pub struct Transfers(VecDeque<(String, String)>);

impl Transfers {
    /// Remembers that the caller of `external_id` is to be connected to `number`; `false` if that is neither a number in
    /// E.164 nor a `sip:` address: what an agent says must not end up as anything else on a telephone line.
    #[must_use]
    pub fn add(&mut self, external_id: String, number: String) -> bool {
        let digits = number.strip_prefix('+').unwrap_or(&number);
        let is_number = !digits.is_empty()
            && digits.len() <= LONGEST_NUMBER
            && digits.bytes().all(|b| b.is_ascii_digit());
        let is_address = number.len() <= LONGEST_ADDRESS
            && number.strip_prefix("sip:").is_some_and(|rest| {
                rest.bytes()
                    .all(|b| b.is_ascii_graphic() && !b"<>\"'".contains(&b))
                    && rest
                        .split_once('@')
                        .is_some_and(|(user, host)| !user.is_empty() && !host.is_empty())
            });
        let is_dialled = is_number || is_address;
        if is_dialled {
            if self.0.len() == CAPACITY {
                self.0.pop_front();
            }
            self.0.push_back((external_id, number));
        }
        is_dialled
    }

    /// Where the caller of `external_id` goes, once.
    pub fn take(&mut self, external_id: &str) -> Option<String> {
        let at = self.0.iter().position(|(id, _)| id == external_id)?;
        self.0.remove(at).map(|(_, number)| number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_is_given_out_once() {
        let mut transfers = Transfers::default();
        assert!(transfers.add("CA1".into(), "+15551234567".into()));
        assert_eq!(transfers.take("CA2"), None);
        assert_eq!(transfers.take("CA1").as_deref(), Some("+15551234567"));
        assert_eq!(transfers.take("CA1"), None);
    }

    #[test]
    fn only_telephone_numbers_and_addresses_are_dialled() {
        let mut transfers = Transfers::default();
        for number in [
            "",
            "+",
            "911;x=1",
            "</Dial>",
            "+1234567890123456",
            "sip:me",
            "sip:me@here><Say>",
            "sips:me@here",
        ] {
            assert!(!transfers.add("CA1".into(), number.into()), "{number}");
        }
        assert_eq!(transfers.take("CA1"), None);
        assert!(transfers.add("CA1".into(), "sip:people@pbx.example.com".into()));
    }

    #[test]
    fn the_oldest_make_room() {
        let mut transfers = Transfers::default();
        for id in 0..=CAPACITY {
            assert!(transfers.add(id.to_string(), "1".into()));
        }
        assert_eq!(transfers.take("0"), None);
        assert_eq!(transfers.take("1").as_deref(), Some("1"));
    }
}
