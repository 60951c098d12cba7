//! Keys that come in a SIP INFO: the two bodies that telephones and exchanges use, neither of which a standard defines.
//!
//! `application/dtmf-relay` (Cisco's): lines `Signal=5` and `Duration=160`. `application/dtmf`: the key alone. What is
//! not a key — a hook flash, a tone we have no name for — is not a key of the caller's, and says nothing.

use crate::engine::media::digit::Digit;

/// The largest body that is looked at, in bytes. Real ones have about 25.
const LARGEST_BODY: usize = 256;

/// The key that an INFO with this Content-Type and body tells; `None` if it tells none.
pub fn digit(content_type: &str, body: &[u8]) -> Option<Digit> {
    let media_type = content_type.split(';').next()?.trim();
    let body = body.get(..body.len().min(LARGEST_BODY))?;
    let body = std::str::from_utf8(body).ok()?;
    if media_type.eq_ignore_ascii_case("application/dtmf-relay") {
        relayed(body)
    } else if media_type.eq_ignore_ascii_case("application/dtmf") {
        // Some put the lines of the other kind under this name.
        relayed(body).or_else(|| key(body))
    } else {
        None
    }
}

/// The key of `Signal=5`, whichever line it stands on.
fn relayed(body: &str) -> Option<Digit> {
    body.split(['\r', '\n']).find_map(|line| {
        let (name, value) = line.split_once('=')?;
        let is_signal = name.trim().eq_ignore_ascii_case("signal");
        is_signal.then(|| key(value)).flatten()
    })
}

/// A key by its face, or by the number of its event (RFC 4733 §3.2) where that has two digits.
fn key(text: &str) -> Option<Digit> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\''));
    let mut faces = text.chars();
    match (faces.next(), faces.next()) {
        (Some(face), None) => Digit::from_char(face),
        // `flash` and `hf` are no numbers, and 16 is no key.
        _ => text
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| text.parse().ok())
            .flatten()
            .and_then(Digit::from_event),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::any;
    use proptest::proptest;

    use super::*;

    #[test]
    fn both_bodies_tell_a_key() {
        for (content_type, body, expected) in [
            ("application/dtmf-relay", "Signal=5\r\nDuration=160", '5'),
            (
                "application/dtmf-relay",
                "Signal= 5\r\nDuration= 160\r\n",
                '5',
            ),
            (
                "Application/DTMF-Relay;charset=utf-8",
                "Duration=100\nsignal = *\n",
                '*',
            ),
            ("application/dtmf-relay", "Signal=#", '#'),
            ("application/dtmf-relay", "Signal=10\r\n", '*'),
            ("application/dtmf-relay", "Signal=11\r\n", '#'),
            ("application/dtmf-relay", "Signal=d\r\n", 'D'),
            ("application/dtmf", "7", '7'),
            ("application/dtmf", " \"7\"\r\n", '7'),
            ("application/dtmf", "#\r\n", '#'),
            ("application/dtmf", "Signal=9\r\nDuration=250\r\n", '9'),
        ] {
            let digit = digit(content_type, body.as_bytes());
            assert_eq!(digit.map(Digit::as_char), Some(expected), "{body:?}");
        }
    }

    #[test]
    fn a_flash_a_tone_and_other_bodies_tell_none() {
        for (content_type, body) in [
            ("application/dtmf-relay", "Signal=hf\r\nDuration=160"),
            ("application/dtmf-relay", "Signal=flash"),
            ("application/dtmf-relay", "Signal=16"),
            ("application/dtmf-relay", "Signal=256"),
            ("application/dtmf-relay", "Signal=+5"),
            ("application/dtmf-relay", "Signal="),
            ("application/dtmf-relay", "Duration=5"),
            ("application/dtmf-relay", "5"),
            ("application/dtmf", ""),
            ("application/dtmf", "12x"),
            ("application/media_control+xml", "5"),
            ("", "5"),
        ] {
            assert_eq!(digit(content_type, body.as_bytes()), None, "{body:?}");
        }
        assert_eq!(digit("application/dtmf", b"\xff"), None);
    }

    proptest! {
        #[test]
        fn no_body_panics(content_type in any::<String>(), body in any::<Vec<u8>>()) {
            digit(&content_type, &body);
            digit("application/dtmf", &body);
            digit("application/dtmf-relay", &body);
        }
    }
}
