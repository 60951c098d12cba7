use proptest::prelude::*;
use rtc::ice::attributes::control::AttrControlled;
use rtc::ice::attributes::control::AttrControlling;
use rtc::ice::attributes::priority::PriorityAttr;
use rtc::ice::attributes::use_candidate::UseCandidateAttr;
use rtc::stun::attributes::ATTR_ERROR_CODE;
use rtc::stun::attributes::ATTR_XORMAPPED_ADDRESS;
use rtc::stun::error_code::ErrorCodeAttribute;
use rtc::stun::message::CLASS_INDICATION;
use rtc::stun::message::Getter as _;
use rtc::stun::message::METHOD_BINDING;
use rtc::stun::message::MessageType;
use rtc::stun::message::TransactionId;
use rtc::stun::textattrs::Username;

use super::*;
use crate::engine::rtp::testing::noon;

/// The request of RFC 5769 §2.1.
const SAMPLE: [u8; 108] = [
    0x00, 0x01, 0x00, 0x58, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86,
    0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x10, 0x53, 0x54, 0x55, 0x4e, 0x20, 0x74, 0x65, 0x73,
    0x74, 0x20, 0x63, 0x6c, 0x69, 0x65, 0x6e, 0x74, 0x00, 0x24, 0x00, 0x04, 0x6e, 0x00, 0x01, 0xff,
    0x80, 0x29, 0x00, 0x08, 0x93, 0x2f, 0xf9, 0xb1, 0x51, 0x26, 0x3b, 0x36, 0x00, 0x06, 0x00, 0x09,
    0x65, 0x76, 0x74, 0x6a, 0x3a, 0x68, 0x36, 0x76, 0x59, 0x20, 0x20, 0x20, 0x00, 0x08, 0x00, 0x14,
    0x9a, 0xea, 0xa7, 0x0c, 0xbf, 0xd8, 0xcb, 0x56, 0x78, 0x1e, 0xf2, 0xb5, 0xb2, 0xd3, 0xf2, 0x49,
    0xc1, 0xb5, 0x71, 0xa2, 0x80, 0x28, 0x00, 0x04, 0xe5, 0x7a, 0x3b, 0xcf,
];
const SAMPLE_PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

#[test]
fn the_request_of_the_rfc_is_valid_but_its_writer_is_in_the_wrong_role() {
    let credentials = Credentials {
        ufrag: "evtj".to_owned(),
        pwd: SAMPLE_PASSWORD.to_owned(),
    };
    assert!(is_stun(&SAMPLE));
    assert_eq!(addressee(&SAMPLE), Some("evtj"));
    let mut ice = Ice::new(credentials.clone(), noon());
    let check = ice.receive(&SAMPLE, path(1), noon()).expect("it is signed");
    let response = read(&check.response, SAMPLE_PASSWORD);
    assert_eq!(response.typ, BINDING_ERROR);
    assert_eq!(response.transaction_id.0, SAMPLE[8..20]);
    let mut error = ErrorCodeAttribute::default();
    error.get_from(&response).expect("an error");
    assert_eq!(error.code.0, 487);
    assert!(!response.contains(ATTR_XORMAPPED_ADDRESS));
    // It changes nothing.
    assert!(!check.is_new && !ice.knows(path(1)) && ice.selected().is_none());
    // With one bit changed anywhere that is signed, it is forged, or not even a message.
    for bit in 0..8 * 76 {
        let mut damaged = SAMPLE;
        damaged[bit / 8] ^= 1 << (bit % 8);
        let refused = Ice::new(credentials.clone(), noon()).receive(&damaged, path(1), noon());
        assert!(refused.is_err(), "bit {bit}");
    }
}

#[test]
fn a_check_is_answered_with_where_it_came_from() {
    let mut ice = ice();
    // The addresses and the transaction of RFC 5769 §2.2 and §2.3.
    for (remote, expected) in [
        (
            "192.0.2.1:32853",
            &[0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43][..],
        ),
        (
            "[::ffff:192.0.2.1]:32853",
            &[0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43],
        ),
        (
            "[2001:db8:1234:5678:11:2233:4455:6677]:32853",
            &[
                0x00, 0x02, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25,
                0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9,
            ],
        ),
    ] {
        let request = Request {
            transaction: SAMPLE[8..20].try_into().unwrap(),
            ..Request::default()
        };
        let remote = remote.parse().unwrap();
        let path = Path { remote, socket: 2 };
        let check = ice.receive(&request.write(), path, noon()).expect("valid");
        assert!(check.is_new && ice.knows(path));
        let response = read(&check.response, PASSWORD);
        assert_eq!(response.typ, BINDING_SUCCESS);
        assert_eq!(response.transaction_id.0, SAMPLE[8..20]);
        assert_eq!(response.get(ATTR_XORMAPPED_ADDRESS).unwrap(), expected);
        assert!(!response.contains(ATTR_ERROR_CODE));
        // Any other socket is another path.
        assert!(!ice.knows(Path { remote, socket: 1 }));
        let again = ice.receive(&request.write(), path, noon()).expect("valid");
        assert!(!again.is_new);
    }
}

#[test]
fn what_is_not_signed_for_us_is_not_answered() {
    let signed_with = |name: &str, password: &str| {
        Request {
            name: name.to_owned(),
            password: Some(password.to_owned()),
            ..Request::default()
        }
        .write()
    };
    let mut ice = ice();
    for (what, datagram) in [
        ("another password", signed_with("ours:theirs", "password")),
        ("no password", signed_with("ours:theirs", "")),
        ("another's name", signed_with("hers:theirs", PASSWORD)),
        ("the names swapped", signed_with("theirs:ours", PASSWORD)),
        ("one name", signed_with("ours", PASSWORD)),
        ("no signature", {
            Request {
                password: None,
                ..Request::default()
            }
            .write()
        }),
        ("a name behind the signature", {
            let mut request = Request {
                name: String::new(),
                ..Request::default()
            }
            .message();
            request.add(ATTR_USERNAME, b"ours:theirs");
            request.raw
        }),
        ("a signature of no bytes", {
            let mut request = Request {
                password: None,
                ..Request::default()
            }
            .message();
            request.add(ATTR_MESSAGE_INTEGRITY, b"");
            request.raw
        }),
    ] {
        let refused = ice.receive(&datagram, path(1), noon());
        assert_eq!(refused, Err(Unanswered::Forged), "{what}");
    }
    assert!(!ice.knows(path(1)));
}

#[test]
fn what_is_no_check_is_not_answered() {
    let of_kind = |kind| {
        Request {
            kind,
            ..Request::default()
        }
        .write()
    };
    let whole = Request::default().write();
    let mut long = Request::default().message();
    long.add(ATTR_USERNAME, &[b'x'; MAX_CHECK_BYTES]);
    let indication = MessageType::new(METHOD_BINDING, CLASS_INDICATION);
    let mut ice = ice();
    for (what, datagram) in [
        ("an indication", of_kind(indication)),
        ("a response", of_kind(BINDING_SUCCESS)),
        ("an error", of_kind(BINDING_ERROR)),
        ("truncated", whole[..whole.len() - 1].to_vec()),
        ("a header", whole[..20].to_vec()),
        ("too long", long.raw),
    ] {
        let refused = ice.receive(&datagram, path(1), noon());
        assert_eq!(refused, Err(Unanswered::Malformed), "{what}");
    }
}

#[test]
fn a_request_to_be_nominated_counts_only_if_it_is_signed() {
    let mut ice = ice();
    let mut request = Request::default().message();
    request.add(ATTR_USE_CANDIDATE, b"");
    let check = ice.receive(&request.raw, path(1), noon()).expect("valid");
    assert!(check.is_new);
    assert_eq!(ice.selected(), None);
    ice.receive(&nominating("ours", PASSWORD), path(1), noon())
        .expect("valid");
    assert_eq!(ice.selected(), Some(path(1)));
    // The last one counts.
    ice.receive(&nominating("ours", PASSWORD), path(2), noon())
        .expect("valid");
    assert_eq!(ice.selected(), Some(path(2)));
    ice.receive(&Request::default().write(), path(1), noon())
        .expect("valid");
    assert_eq!(ice.selected(), Some(path(2)));
}

#[test]
fn the_oldest_path_makes_room_but_not_the_selected_one() {
    let mut ice = ice();
    ice.receive(&nominating("ours", PASSWORD), path(0), noon())
        .expect("valid");
    for number in 1..100 {
        let check = ice.receive(&Request::default().write(), path(number), noon());
        let check = check.expect("valid");
        assert!(check.is_new);
        let expected =
            (usize::from(number) >= MAX_PATHS).then(|| path(number - MAX_PATHS as u16 + 1));
        assert_eq!(check.forgotten, expected);
        let known = (0..100).filter(|number| ice.knows(path(*number))).count();
        assert_eq!(known, MAX_PATHS.min(usize::from(number) + 1));
        assert!(ice.knows(path(0)) && ice.knows(path(number)));
    }
}

#[test]
fn a_restart_is_over_when_the_new_name_nominates() {
    let mut ice = ice();
    let new = Credentials::new(&[9; Credentials::RANDOM_BYTES]);
    ice.restart(new.clone());
    assert_eq!(*ice.credentials(), new);
    let mut check = |datagram: &[u8]| ice.receive(datagram, path(1), noon()).map(|_| ());
    assert_eq!(check(&nominating("ours", PASSWORD)), Ok(()));
    let plain = Request {
        name: format!("{}:theirs", new.ufrag),
        password: Some(new.pwd.clone()),
        ..Request::default()
    };
    assert_eq!(check(&plain.write()), Ok(()));
    assert_eq!(check(&nominating("ours", PASSWORD)), Ok(()));
    // Names and passwords do not mix.
    assert_eq!(
        check(&nominating(&new.ufrag, PASSWORD)),
        Err(Unanswered::Forged)
    );
    assert_eq!(check(&nominating(&new.ufrag, &new.pwd)), Ok(()));
    assert_eq!(
        check(&nominating("ours", PASSWORD)),
        Err(Unanswered::Forged)
    );
}

#[test]
fn the_peer_was_last_heard_when_its_last_valid_check_came() {
    let began = noon();
    let later = |seconds| began + Duration::from_secs(seconds);
    let mut ice = Ice::new(credentials(), began);
    ice.receive(&Request::default().write(), path(1), later(3))
        .expect("valid");
    assert_eq!(ice.heard_at(), later(3));
    let forged = Request {
        password: Some("x".to_owned()),
        ..Request::default()
    };
    assert!(ice.receive(&forged.write(), path(1), later(4)).is_err());
    assert_eq!(ice.heard_at(), later(3));
}

#[test]
fn a_peer_that_has_moved_without_a_word_is_followed() {
    let began = noon();
    let later = |seconds| began + Duration::from_secs(seconds);
    let mut ice = Ice::new(credentials(), began);
    let plain = Request::default().write();
    let mut check = |datagram: &[u8], by: u16, seconds| {
        ice.receive(datagram, path(by), later(seconds))
            .expect("valid");
        ice.selected()
    };
    assert_eq!(check(&plain, 1, 0), None);
    assert_eq!(check(&nominating("ours", PASSWORD), 1, 1), Some(path(1)));
    // Checks of the other paths go on beside the selected one's.
    assert_eq!(check(&plain, 2, 4), Some(path(1)));
    assert_eq!(check(&plain, 1, 6), Some(path(1)));
    assert_eq!(check(&plain, 2, 12), Some(path(1)));
    assert_eq!(check(&plain, 2, 13), Some(path(2)));
    assert_eq!(check(&plain, 1, 14), Some(path(2)));
}

#[test]
fn credentials_are_of_the_alphabet_and_the_length_that_ice_demands() {
    let credentials = Credentials::new(&std::array::from_fn(|index| 255 - 7 * index as u8));
    assert_eq!((credentials.ufrag.len(), credentials.pwd.len()), (16, 32));
    let is_fit = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte))
    };
    assert!(is_fit(&credentials.ufrag) && is_fit(&credentials.pwd));
}

proptest! {
    #[test]
    fn no_datagram_panics(datagram in prop::collection::vec(any::<u8>(), 0..700)) {
        is_stun(&datagram);
        addressee(&datagram);
        prop_assert!(ice().receive(&datagram, path(1), noon()).is_err());
    }

    /// Messages whose header is right, whose attributes have any kind and length, and which are cut anywhere.
    #[test]
    fn no_message_panics(
        attributes in prop::collection::vec(
            (
                prop::sample::select(vec![
                    0x0006_u16, 0x0008, 0x0008, 0x001c, 0x0020, 0x0024, 0x0025, 0x8028, 0x8029, 0x802a, 0xffff,
                ]),
                prop_oneof![4 => Just(None), 1 => any::<u16>().prop_map(Some)],
                prop_oneof![
                    Just(b"ours:theirs".to_vec()),
                    prop::collection::vec(any::<u8>(), 0..24),
                ],
                any::<bool>(),
            ),
            0..8,
        ),
        length in prop_oneof![4 => Just(None), 1 => any::<u16>().prop_map(Some)],
        cut in 0_usize..16,
    ) {
        let mut body = Vec::new();
        for (kind, length, value, is_padded) in attributes {
            body.extend(kind.to_be_bytes());
            body.extend(length.unwrap_or(value.len() as u16).to_be_bytes());
            body.extend(&value);
            while is_padded && body.len() % 4 != 0 {
                body.push(0);
            }
        }
        body.truncate(body.len().saturating_sub(if cut > 8 { 0 } else { cut }));
        let mut datagram = SAMPLE[..20].to_vec();
        let length = length.unwrap_or(body.len() as u16);
        datagram[2..4].copy_from_slice(&length.to_be_bytes());
        datagram.extend(body);
        prop_assert!(is_stun(&datagram));
        addressee(&datagram);
        prop_assert!(ice().receive(&datagram, path(1), noon()).is_err());
    }
}

const PASSWORD: &str = "a password of enough bytes";

fn credentials() -> Credentials {
    Credentials {
        ufrag: "ours".to_owned(),
        pwd: PASSWORD.to_owned(),
    }
}

fn ice() -> Ice {
    Ice::new(credentials(), noon())
}

fn path(number: u16) -> Path {
    Path {
        remote: SocketAddr::from(([192, 0, 2, 1], 1_000 + number)),
        socket: 0,
    }
}

/// A check, or something like one.
struct Request {
    kind: MessageType,
    transaction: [u8; 12],
    name: String,
    password: Option<String>,
    nominates: bool,
    is_controlled: bool,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            kind: BINDING_REQUEST,
            transaction: [7; 12],
            name: "ours:theirs".to_owned(),
            password: Some(PASSWORD.to_owned()),
            nominates: false,
            is_controlled: false,
        }
    }
}

impl Request {
    fn write(&self) -> Vec<u8> {
        let mut message = self.message();
        message.build_on(Box::new(FINGERPRINT));
        message.raw
    }

    /// Without FINGERPRINT, so that something may be put behind the signature.
    fn message(&self) -> Message {
        let provider = RingProvider::new();
        let mut parts: Vec<Box<dyn Setter + '_>> = vec![
            Box::new(TransactionId(self.transaction)),
            Box::new(self.kind),
            Box::new(PriorityAttr(1)),
        ];
        if !self.name.is_empty() {
            parts.push(Box::new(Username::new(ATTR_USERNAME, self.name.clone())));
        }
        if self.is_controlled {
            parts.push(Box::new(AttrControlled(1)));
        } else {
            parts.push(Box::new(AttrControlling(1)));
        }
        if self.nominates {
            parts.push(Box::<UseCandidateAttr>::default());
        }
        if let Some(password) = &self.password {
            let signature = MessageIntegrity::new_short_term_integrity_with_provider(
                password.clone(),
                provider.crypto(),
            );
            parts.push(Box::new(signature));
        }
        let mut message = Message::new();
        message.build(&parts).expect("a message");
        message
    }
}

trait BuildOn {
    /// Adds one thing more.
    fn build_on(&mut self, part: Box<dyn Setter>);
}

impl BuildOn for Message {
    fn build_on(&mut self, part: Box<dyn Setter>) {
        part.add_to(self).expect("it has room");
    }
}

fn nominating(ufrag: &str, password: &str) -> Vec<u8> {
    Request {
        name: format!("{ufrag}:theirs"),
        password: Some(password.to_owned()),
        nominates: true,
        ..Request::default()
    }
    .write()
}

/// A response, if it is rightly signed and its fingerprint is right.
fn read(response: &[u8], password: &str) -> Message {
    let mut message = Message::new();
    message.unmarshal_binary(response).expect("a message");
    let provider = RingProvider::new();
    MessageIntegrity::check(&mut message, password.as_bytes(), provider.crypto())
        .expect("it is signed");
    FINGERPRINT.check(&message).expect("its sum is right");
    message
}
