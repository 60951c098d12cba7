//! The way back through the shim: what the stack writes wrong is put right before it reaches the socket.
//!
//! The stack (rsipstack) keeps the user part of a URI as it stands in a Contact and escapes its `%` again when it writes
//! the URI into a Request-Line: `sip:alice%40corp@host` becomes `sip:alice%2540corp@host`, and the peer has never heard of
//! that user. Since it does so with every `%`, taking one escape away gives exactly what the peer had written.

use std::borrow::Cow;

/// A message of the stack as it should go out: borrowed, where nothing is wrong with it.
pub fn outgoing(message: &[u8]) -> Cow<'_, [u8]> {
    let Some(user) = user_of_request_line(message) else {
        return Cow::Borrowed(message);
    };
    let part = &message[user.clone()];
    let mut right = Vec::with_capacity(message.len());
    right.extend_from_slice(&message[..user.start]);
    let mut rest = part;
    while let Some(at) = rest.windows(3).position(|three| three == b"%25") {
        right.extend_from_slice(&rest[..=at]);
        rest = &rest[at + 3..];
    }
    if rest.len() == part.len() {
        return Cow::Borrowed(message);
    }
    right.extend_from_slice(rest);
    right.extend_from_slice(&message[user.end..]);
    Cow::Owned(right)
}

/// Where the user part of the Request-URI stands; `None` in responses and where there is none.
fn user_of_request_line(message: &[u8]) -> Option<std::ops::Range<usize>> {
    let line_ends = message.iter().position(|&byte| byte == b'\r')?;
    let line = &message[..line_ends];
    let begins = line.iter().position(|&byte| byte == b':')? + 1;
    let ends = line.iter().rposition(|&byte| byte == b'@')?;
    (!line.starts_with(b"SIP/") && begins < ends).then_some(begins..ends)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::any;
    use proptest::proptest;
    use rsipstack::sip::Uri;

    use super::*;

    #[test]
    fn a_user_part_goes_out_as_the_peer_wrote_it() {
        for uri in [
            "sip:cal%6Cer@h",
            "sip:a%3Bb%2540@h:5070;x=%41",
            "sip:%23%2A:p%25w@h",
            "sip:plain@h",
            "sip:h",
        ] {
            let written = Uri::try_from(uri).expect("good").to_string();
            let message = format!("BYE {written} SIP/2.0\r\nTo: <sip:%25@x>\r\n\r\n");
            let expected = format!("BYE {uri} SIP/2.0\r\nTo: <sip:%25@x>\r\n\r\n");
            assert_eq!(*outgoing(message.as_bytes()), *expected.as_bytes());
        }
    }

    #[test]
    fn what_is_right_is_not_copied() {
        for message in [
            "BYE sip:a@h SIP/2.0\r\n\r\n",
            "SIP/2.0 200 a:%25@\r\n\r\n",
            "\r\n\r\n",
            "",
        ] {
            assert!(matches!(outgoing(message.as_bytes()), Cow::Borrowed(_)));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(message in vec(any::<u8>(), 0..200), line in "[A-Z:@% 25\r]{0,40}") {
            outgoing(&message);
            outgoing(line.as_bytes());
        }
    }
}
