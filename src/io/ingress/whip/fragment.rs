//! A fragment of SDP (RFC 8840 §9, `application/trickle-ice-sdpfrag`): what a client says of ICE after its offer.
//!
//! Read: the user fragment and password, which decide whether it is an ICE restart, and the candidates. Candidates are
//! checked and then forgotten: the gateway is where clients reach it, waits for their checks, and never sends to an address
//! that nobody has proven to be his. The attributes may come in any order and at either level, as clients write them; what
//! we do not know is passed over (RFC 8840 §9.2: `extension-attribute-fields`).
//!
//! Written: our side of a restart. Its `m=`, `a=mid` and `a=group` lines are the client's own, so that they fit its offer.

use std::fmt::Write as _;

use super::session::Restarted;
use crate::engine::webrtc::ice::Credentials;

/// What stands for the lines that a client leaves out: browsers call their first media line this.
const DEFAULT_MEDIA: &str = "audio 9 UDP/TLS/RTP/SAVPF 0";
const DEFAULT_MID: &str = "0";

/// A fragment, read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fragment {
    /// The client's user fragment and password.
    pub(super) credentials: Option<Credentials>,
    /// How many candidates it brings.
    pub(super) candidates: usize,
    /// Whether there will be no more.
    pub(super) ended: bool,
    /// The value of the first `m=` line.
    media: Option<String>,
    /// The value of the first `a=mid`.
    mid: Option<String>,
    /// The value of `a=group`, if it bundles.
    bundle: Option<String>,
}

/// Why a fragment cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadFragment {
    /// It is no text, or has control characters.
    NotText,
    /// It has no line.
    Empty,
    /// A line is neither an attribute nor a media line.
    UnknownLine,
    /// A media line lacks its port, protocol or format.
    BadMedia,
    /// A user fragment or password against RFC 8839 §5.4, one without the other, or two that differ.
    BadCredentials,
    /// A candidate against RFC 8839 §5.1.
    BadCandidate,
}

impl Fragment {
    /// Reads a fragment. Its length is the limit of everything in it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, BadFragment> {
        let text = std::str::from_utf8(bytes).map_err(|_| BadFragment::NotText)?;
        let mut fragment = Self::default();
        let (mut ufrag, mut pwd) = (None, None);
        let mut is_empty = true;
        for line in text.split('\n') {
            let line = line.strip_suffix('\r').unwrap_or(line);
            if line.contains(char::is_control) {
                return Err(BadFragment::NotText);
            }
            if line.is_empty() {
                continue;
            }
            is_empty = false;
            match line.split_once('=') {
                Some(("m", media)) if is_media(media) => {
                    fragment.media.get_or_insert_with(|| media.to_owned());
                }
                Some(("m", _)) => return Err(BadFragment::BadMedia),
                Some(("a", attribute)) => match attribute.split_once(':') {
                    Some(("ice-ufrag", value)) => keep(&mut ufrag, value, 4)?,
                    Some(("ice-pwd", value)) => keep(&mut pwd, value, 22)?,
                    _ => fragment.note(attribute)?,
                },
                _ => return Err(BadFragment::UnknownLine),
            }
        }
        if is_empty {
            return Err(BadFragment::Empty);
        }
        fragment.credentials = match (ufrag, pwd) {
            (Some(ufrag), Some(pwd)) => Some(Credentials { ufrag, pwd }),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(BadFragment::BadCredentials),
        };
        Ok(fragment)
    }

    fn note(&mut self, attribute: &str) -> Result<(), BadFragment> {
        let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
        match name {
            "candidate" if is_candidate(value) => self.candidates += 1,
            "candidate" => return Err(BadFragment::BadCandidate),
            "end-of-candidates" => self.ended = true,
            "mid" if self.mid.is_none() && is_token(value) => self.mid = Some(value.to_owned()),
            "group" if self.bundle.is_none() && value.starts_with("BUNDLE ") => {
                self.bundle = Some(value.to_owned());
            }
            _ => {}
        }
        Ok(())
    }

    /// Our side of the restart that this fragment asked for. As in our answers, there is `a=ice-lite` and neither
    /// `a=ice-options` nor `a=ice-pacing`: none of these may change (RFC 9725 §4.3.3).
    pub(super) fn answer(&self, restarted: &Restarted) -> String {
        let mut text = String::new();
        let mut line = |line: std::fmt::Arguments<'_>| {
            write!(text, "{line}\r\n").expect("a string takes everything");
        };
        line(format_args!("a=ice-lite"));
        if let Some(bundle) = &self.bundle {
            line(format_args!("a=group:{bundle}"));
        }
        let media = self.media.as_deref().unwrap_or(DEFAULT_MEDIA);
        line(format_args!("m={media}"));
        let mid = self.mid.as_deref().unwrap_or(DEFAULT_MID);
        line(format_args!("a=mid:{mid}"));
        line(format_args!("a=ice-ufrag:{}", restarted.credentials.ufrag));
        line(format_args!("a=ice-pwd:{}", restarted.credentials.pwd));
        for candidate in &restarted.candidates {
            line(format_args!("a={candidate}"));
        }
        line(format_args!("a=end-of-candidates"));
        text
    }
}

/// Keeps a user fragment or password of `shortest` to 256 characters (RFC 8839 §5.4); bundled media lines share it.
fn keep(kept: &mut Option<String>, value: &str, shortest: usize) -> Result<(), BadFragment> {
    let is_good = (shortest..=256).contains(&value.len()) && value.bytes().all(is_ice_char);
    let is_same = kept.as_ref().is_none_or(|kept| kept == value);
    if !is_good || !is_same {
        return Err(BadFragment::BadCredentials);
    }
    *kept = Some(value.to_owned());
    Ok(())
}

/// RFC 8839 §5.1, `ice-char`.
fn is_ice_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'
}

/// RFC 8866 §9, `token`.
fn is_token(text: &str) -> bool {
    let is_char = |byte: u8| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]".contains(&byte);
    !text.is_empty() && text.bytes().all(is_char)
}

/// RFC 8866 §5.14: media, port, protocol and one format at least.
fn is_media(value: &str) -> bool {
    let words: Vec<&str> = value.split(' ').collect();
    let [media, port, protocol, formats @ ..] = &words[..] else {
        return false;
    };
    let is_protocol = protocol.split('/').all(is_token);
    let has_formats = !formats.is_empty() && formats.iter().all(|format| is_token(format));
    is_token(media) && port.parse::<u16>().is_ok() && is_protocol && has_formats
}

/// RFC 8839 §5.1: foundation, component, transport, priority, address, port and type, then anything. Which transport, which
/// address and which type it is does not matter: what we cannot use is silently left alone (RFC 9725 §4.3.2).
fn is_candidate(value: &str) -> bool {
    let mut words = value.split(' ');
    let mut next = || words.next().unwrap_or_default();
    let (foundation, component, transport) = (next(), next(), next());
    let (priority, address, port) = (next(), next(), next());
    let (keyword, kind) = (next(), next());
    let is_number = |text: &str, longest: usize| {
        (1..=longest).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let is_address = !address.is_empty()
        && address
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-.:%_".contains(&byte));
    (1..=32).contains(&foundation.len())
        && foundation.bytes().all(is_ice_char)
        && is_number(component, 3)
        && is_token(transport)
        && is_number(priority, 10)
        && is_address
        && is_number(port, 5)
        && port.parse::<u16>().is_ok()
        && keyword == "typ"
        && is_token(kind)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As a browser's client trickles, with the address that it hides and the one by TCP that nobody can use here.
    const TRICKLED: &str = "a=group:BUNDLE 0 1\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111 0 8\r\n\
        a=mid:0\r\n\
        a=ice-ufrag:EsAw\r\n\
        a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n\
        a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1\r\n\
        a=candidate:3 1 UDP 2122252543 0b1f28bd-1c29-4d9c-a1d3-2f0e4a8f52c1.local 54400 typ host\r\n\
        a=candidate:4 1 udp 1686052607 2001:db8::7 61765 typ srflx raddr 0.0.0.0 rport 0\r\n\
        a=candidate:473322822 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active generation 0\r\n\
        a=end-of-candidates\r\n";

    #[test]
    fn what_a_client_trickles_is_read() {
        let fragment = Fragment::parse(TRICKLED.as_bytes()).expect("it can be read");
        assert_eq!(
            fragment,
            Fragment {
                credentials: Some(credentials("EsAw", "P2uYro0UCOQ4zxjKXaWCBui1")),
                candidates: 4,
                ended: true,
                media: Some("audio 9 UDP/TLS/RTP/SAVPF 111 0 8".into()),
                mid: Some("0".into()),
                bundle: Some("BUNDLE 0 1".into()),
            }
        );
        let bare = TRICKLED.replace("\r\n", "\n");
        assert_eq!(Fragment::parse(bare.as_bytes()), Ok(fragment));
    }

    #[test]
    fn lines_may_be_few_and_in_any_order() {
        let fragment = Fragment::parse(b"a=end-of-candidates").expect("it can be read");
        assert!(fragment.ended && fragment.credentials.is_none());
        let pwd = "x".repeat(22);
        let text = format!(
            "a=ice-pwd:{pwd}\na=ice-options:trickle ice2\na=ice-ufrag:abcd\na=x-new\na=group:LS 0 1\n\
             m=audio 9 RTP/AVP 0\na=mid:a\na=ice-ufrag:abcd\nm=video 9 RTP/AVP 96\na=mid:b\na=ice-ufrag:abcd\n"
        );
        let fragment = Fragment::parse(text.as_bytes()).expect("it can be read");
        assert_eq!(fragment.credentials, Some(credentials("abcd", &pwd)));
        assert_eq!(fragment.media.as_deref(), Some("audio 9 RTP/AVP 0"));
        assert_eq!(fragment.mid.as_deref(), Some("a"));
        assert_eq!(fragment.bundle, None);
    }

    #[test]
    fn what_is_no_fragment_is_refused() {
        let good = "a=ice-ufrag:abcd\na=ice-pwd:0123456789012345678901\n";
        let with = |line: &str| format!("{good}{line}\n");
        let long = "x".repeat(257);
        for (text, reason) in [
            (String::new(), BadFragment::Empty),
            ("\r\n\r\n".into(), BadFragment::Empty),
            ("{}".into(), BadFragment::UnknownLine),
            ("v=0\r\n".into(), BadFragment::UnknownLine),
            ("a".into(), BadFragment::UnknownLine),
            (" a=mid:0".into(), BadFragment::UnknownLine),
            ("a=mid:0\0".into(), BadFragment::NotText),
            ("a=mid:0\r\r\n".into(), BadFragment::NotText),
            ("a=ice-ufrag:abcd".into(), BadFragment::BadCredentials),
            (
                "a=ice-pwd:0123456789012345678901".into(),
                BadFragment::BadCredentials,
            ),
            (with("a=ice-ufrag:abcde"), BadFragment::BadCredentials),
            (with("a=ice-ufrag:abc"), BadFragment::BadCredentials),
            (with("a=ice-ufrag:ab d"), BadFragment::BadCredentials),
            (with("a=ice-pwd:short"), BadFragment::BadCredentials),
            (
                with(&format!("a=ice-pwd:{long}")),
                BadFragment::BadCredentials,
            ),
            (with("m=audio"), BadFragment::BadMedia),
            (with("m=audio 9 RTP/AVP"), BadFragment::BadMedia),
            (with("m=audio 70000 RTP/AVP 0"), BadFragment::BadMedia),
            (with("m=audio 9 RTP//AVP 0"), BadFragment::BadMedia),
            (with("a=candidate"), BadFragment::BadCandidate),
            (with("a=candidate:"), BadFragment::BadCandidate),
            (
                with("a=candidate:1 1 udp 1 192.0.2.1 9"),
                BadFragment::BadCandidate,
            ),
            (
                with("a=candidate:1 1 udp 1 192.0.2.1 9 typ"),
                BadFragment::BadCandidate,
            ),
            (
                with("a=candidate:1 1 udp 1 192.0.2.1 70000 typ host"),
                BadFragment::BadCandidate,
            ),
            (
                with("a=candidate:1 1 udp x 192.0.2.1 9 typ host"),
                BadFragment::BadCandidate,
            ),
            (
                with("a=candidate:1 1000 udp 1 192.0.2.1 9 typ host"),
                BadFragment::BadCandidate,
            ),
            (
                with("a=candidate:! 1 udp 1 192.0.2.1 9 typ host"),
                BadFragment::BadCandidate,
            ),
            (
                with("a=candidate:1 1 udp 1 <script> 9 typ host"),
                BadFragment::BadCandidate,
            ),
        ] {
            assert_eq!(Fragment::parse(text.as_bytes()), Err(reason), "{text:?}");
        }
        let latin = Fragment::parse(b"a=x:\xe4\n");
        assert_eq!(latin, Err(BadFragment::NotText));
    }

    #[test]
    fn a_restart_is_answered_with_the_clients_own_lines_and_our_credentials() {
        let restarted = Restarted {
            credentials: credentials("ours", "0123456789012345678901"),
            candidates: vec!["candidate:1 1 udp 2130706431 198.51.100.1 10443 typ host".into()],
            etag: "\"2\"".into(),
        };
        let fragment = Fragment::parse(TRICKLED.as_bytes()).expect("it can be read");
        assert_eq!(
            fragment.answer(&restarted),
            "a=ice-lite\r\n\
             a=group:BUNDLE 0 1\r\n\
             m=audio 9 UDP/TLS/RTP/SAVPF 111 0 8\r\n\
             a=mid:0\r\n\
             a=ice-ufrag:ours\r\n\
             a=ice-pwd:0123456789012345678901\r\n\
             a=candidate:1 1 udp 2130706431 198.51.100.1 10443 typ host\r\n\
             a=end-of-candidates\r\n"
        );
        let bare = Fragment::parse(b"a=end-of-candidates").expect("it can be read");
        let begins =
            "a=ice-lite\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=ice-ufrag:ours\r\n";
        assert!(bare.answer(&restarted).starts_with(begins));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = Fragment::parse(&bytes);
        }

        /// Lines that are nearly right, in any order and number.
        #[test]
        fn whatever_is_read_can_be_answered_and_read_again(
            lines in prop::collection::vec(line(), 0..12),
            ufrag in "[A-Za-z0-9+/]{4,256}",
            pwd in "[A-Za-z0-9+/]{22,256}",
            candidates in prop::collection::vec(candidate(), 0..5),
        ) {
            let text = lines.concat();
            let Ok(fragment) = Fragment::parse(text.as_bytes()) else { return Ok(()) };
            let restarted = Restarted {
                credentials: credentials(&ufrag, &pwd),
                candidates: candidates.clone(),
                etag: String::new(),
            };
            let answer = fragment.answer(&restarted);
            let again = Fragment::parse(answer.as_bytes()).expect("ours can be read");
            prop_assert_eq!(again.credentials, Some(credentials(&ufrag, &pwd)));
            prop_assert_eq!(again.candidates, candidates.len());
            prop_assert!(again.ended);
            prop_assert_eq!(again.bundle, fragment.bundle);
            if fragment.media.is_some() {
                prop_assert_eq!(again.media, fragment.media);
            }
            if fragment.mid.is_some() {
                prop_assert_eq!(again.mid, fragment.mid);
            }
        }

        #[test]
        fn what_is_cut_off_is_read_or_refused(end in 0..TRICKLED.len(), noise in any::<u8>()) {
            let mut bytes = TRICKLED.as_bytes()[..end].to_vec();
            bytes.push(noise);
            if let Ok(fragment) = Fragment::parse(&bytes) {
                prop_assert!(fragment.candidates <= 4);
            }
        }
    }

    fn line() -> impl Strategy<Value = String> {
        let end = prop_oneof![Just("\n"), Just("\r\n")];
        let content = prop_oneof![
            candidate().prop_map(|candidate| format!("a={candidate}")),
            Just("a=ice-ufrag:abcd".to_owned()),
            Just("a=ice-pwd:0123456789012345678901".to_owned()),
            Just("a=end-of-candidates".to_owned()),
            "a=mid:[a-z0-9]{1,3}",
            "a=group:(BUNDLE|LS)( [a-z0-9]{1,3}){0,3}",
            "m=(audio|application) [0-9]{1,5} (RTP/AVP|UDP/DTLS/SCTP) [a-z0-9]{1,4}",
            "a=[a-z-]{1,12}(:[ -~]{0,20})?",
        ];
        (content, end).prop_map(|(content, end)| format!("{content}{end}"))
    }

    fn candidate() -> impl Strategy<Value = String> {
        "candidate:[a-zA-Z0-9+/]{1,32} [12] (udp|TCP) [0-9]{1,10} (192\\.0\\.2\\.1|2001:db8::7|a-b\\.local) [1-9][0-9]{0,3} typ (host|srflx|relay)( generation [0-9])?"
    }

    fn credentials(ufrag: &str, pwd: &str) -> Credentials {
        Credentials {
            ufrag: ufrag.to_owned(),
            pwd: pwd.to_owned(),
        }
    }
}
