//! A key of a telephone, by whichever way it was pressed.

/// One of the sixteen telephone keys (RFC 4733 §3.2, events 0–15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digit(char);

/// The keys in the order of their event codes.
const KEYS: [char; 16] = [
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '*', '#', 'A', 'B', 'C', 'D',
];

impl Digit {
    /// `0`–`9`, `*`, `#` or `A`–`D` in either case; `None` for anything else.
    pub fn from_char(key: char) -> Option<Self> {
        let key = key.to_ascii_uppercase();
        matches!(key, '0'..='9' | '*' | '#' | 'A'..='D').then_some(Self(key))
    }

    /// The key as it is printed on a telephone.
    pub const fn as_char(self) -> char {
        self.0
    }

    /// The key of an RFC 4733 event; `None` above 15, where flash-hook and line tones begin.
    pub fn from_event(code: u8) -> Option<Self> {
        KEYS.get(usize::from(code)).copied().map(Self)
    }
}
