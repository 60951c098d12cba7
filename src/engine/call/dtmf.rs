//! Digits: collected as the current page asks, and given to the agent as one input (facts §5.1).

use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

use crate::engine::call::event::Digit;
use crate::engine::call::event::DigitSource;
use crate::engine::call::event::DtmfSettings;
use crate::engine::call::event::TurnInput;

/// How long after a key was taken its echo by another way may still arrive: an INFO follows the release of the key.
const ECHO: Duration = Duration::from_secs(2);
/// Keys whose echoes may be under way at once; nobody presses more in that time.
const MAX_ECHOES: usize = 16;

/// Tells a new press from one that has been taken already and now arrives by another way: many networks send the same
/// key as an event, as tones and as INFO (field notes 28).
///
/// Every way reports every press once and in order. So a digit from one way is the echo of the oldest recent press of
/// the same key that this way has not yet reported, and a new press if there is none.
#[derive(Debug, Default)]
pub(super) struct Presses(VecDeque<Press>);

#[derive(Debug)]
struct Press {
    digit: Digit,
    at: Instant,
    /// By which ways it has come.
    sources: [bool; DigitSource::ALL.len()],
}

impl Presses {
    /// Whether this is a press of its own.
    pub(super) fn is_new(&mut self, digit: Digit, source: DigitSource, now: Instant) -> bool {
        while self
            .0
            .pop_front_if(|press| now.saturating_duration_since(press.at) > ECHO)
            .is_some()
        {}
        let echo = self
            .0
            .iter_mut()
            .find(|press| press.digit == digit && !press.sources[source as usize]);
        if let Some(press) = echo {
            press.sources[source as usize] = true;
            return false;
        }
        if self.0.len() == MAX_ECHOES {
            self.0.pop_front();
        }
        let mut sources = [false; DigitSource::ALL.len()];
        sources[source as usize] = true;
        self.0.push_back(Press {
            digit,
            at: now,
            sources,
        });
        true
    }
}

/// Collects the digits of one input.
pub(super) struct Digits {
    default_max: u32,
    default_timeout: Duration,
    page: DtmfSettings,
    collected: String,
    /// A complete input that waits for its turn.
    complete: Option<TurnInput>,
}

/// What a digit led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Collected {
    /// More may follow within this time.
    More(Duration),
    /// The input is complete.
    Complete,
}

impl Digits {
    pub(super) const fn new(default_max: u32, default_timeout: Duration) -> Self {
        let page = DtmfSettings {
            max_digits: None,
            finish_digit: None,
            interdigit_timeout: None,
        };
        Self {
            default_max,
            default_timeout,
            page,
            collected: String::new(),
            complete: None,
        }
    }

    /// The page that the agent is on now collects like this; `None`: by our defaults.
    pub(super) fn configure(&mut self, page: Option<DtmfSettings>) {
        self.page = page.unwrap_or_default();
    }

    /// Takes a digit.
    pub(super) fn press(&mut self, digit: Digit) -> Collected {
        // Without a finish digit of the page's own, `#` is the key by which people end a number.
        let finish = self.page.finish_digit.or(Digit::from_char('#'));
        if Some(digit) == finish && !self.collected.is_empty() {
            self.finish(Some(digit));
            return Collected::Complete;
        }
        self.collected.push(digit.as_char());
        let max = self
            .page
            .max_digits
            .filter(|max| *max > 0)
            .unwrap_or(self.default_max) as usize;
        if self.collected.len() >= max {
            self.finish(None);
            return Collected::Complete;
        }
        Collected::More(self.page.interdigit_timeout.unwrap_or(self.default_timeout))
    }

    /// No further digit came in time.
    pub(super) fn time_out(&mut self) {
        if !self.collected.is_empty() {
            self.finish(None);
        }
    }

    /// Whether digits are being collected or wait for their turn.
    pub(super) fn is_pending(&self) -> bool {
        self.complete.is_some() || !self.collected.is_empty()
    }

    /// Takes the complete input, once.
    pub(super) fn take(&mut self) -> Option<TurnInput> {
        self.complete.take()
    }

    fn finish(&mut self, finish_digit: Option<Digit>) {
        let digits = std::mem::take(&mut self.collected);
        // Digits of an input that has not had its turn yet belong before these: nothing pressed is lost.
        let digits = match self.complete.take() {
            Some(TurnInput::Dtmf {
                digits: earlier, ..
            }) => earlier + &digits,
            _ => digits,
        };
        self.complete = Some(TurnInput::Dtmf {
            digits,
            finish_digit,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(3);

    fn digits(page: Option<DtmfSettings>) -> Digits {
        let mut digits = Digits::new(20, PAUSE);
        digits.configure(page);
        digits
    }

    fn press(digits: &mut Digits, keys: &str) -> Option<Collected> {
        keys.chars()
            .filter_map(Digit::from_char)
            .map(|digit| digits.press(digit))
            .last()
    }

    #[test]
    fn the_finish_digit_ends_the_input_and_is_no_part_of_it() {
        let mut digits = digits(None);
        assert_eq!(press(&mut digits, "12"), Some(Collected::More(PAUSE)));
        assert_eq!(press(&mut digits, "#"), Some(Collected::Complete));
        let finish_digit = Digit::from_char('#');
        assert_eq!(
            digits.take(),
            Some(TurnInput::Dtmf {
                digits: "12".into(),
                finish_digit
            })
        );
        assert_eq!(digits.take(), None);
    }

    #[test]
    fn the_pages_longest_input_ends_at_once() {
        let mut digits = digits(Some(DtmfSettings {
            max_digits: Some(1),
            ..DtmfSettings::default()
        }));
        assert_eq!(press(&mut digits, "7"), Some(Collected::Complete));
        assert_eq!(
            digits.take(),
            Some(TurnInput::Dtmf {
                digits: "7".into(),
                finish_digit: None
            })
        );
    }

    #[test]
    fn a_pause_ends_the_input() {
        let mut digits = digits(None);
        press(&mut digits, "04");
        assert!(digits.is_pending());
        digits.time_out();
        assert_eq!(
            digits.take(),
            Some(TurnInput::Dtmf {
                digits: "04".into(),
                finish_digit: None
            })
        );
        assert!(!digits.is_pending());
    }

    #[test]
    fn a_finish_digit_alone_is_an_input() {
        let mut digits = digits(None);
        assert_eq!(press(&mut digits, "#"), Some(Collected::More(PAUSE)));
    }

    #[test]
    fn digits_pressed_before_the_last_input_had_its_turn_are_joined_to_it() {
        let mut digits = digits(Some(DtmfSettings {
            max_digits: Some(1),
            ..DtmfSettings::default()
        }));
        press(&mut digits, "1");
        press(&mut digits, "2");
        assert_eq!(
            digits.take(),
            Some(TurnInput::Dtmf {
                digits: "12".into(),
                finish_digit: None
            })
        );
    }
}
