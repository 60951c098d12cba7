//! Everything that reads bytes of a peer on the SIP side before anyone is let in.

#![no_main]

use std::net::SocketAddr;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use rsipstack::sip::HeadersExt;
use rsipstack::sip::SipMessage;
use rsipstack::sip::prelude::ToTypedHeader;
use rsipstack::transaction::key::TransactionKey;
use rsipstack::transaction::key::TransactionRole;

use tandem::io::ingress::sip::digest;
use tandem::io::ingress::sip::info_dtmf;
use tandem::io::ingress::sip::normalise::LARGEST_MESSAGE;
use tandem::io::ingress::sip::normalise::Reason;
use tandem::io::ingress::sip::normalise::Verdict;
use tandem::io::ingress::sip::normalise::normalise;
use tandem::io::ingress::sip::outgoing::outgoing;
use tandem::io::ingress::sip::raw::Raw;
use tandem::io::ingress::sip::reliable::Prack;
use tandem::io::ingress::sip::reliable::Reliable;
use tandem::io::ingress::sip::reliable::required_extensions;
use tandem::io::ingress::sip::reply::Answer;
use tandem::io::ingress::sip::reply::Ceiling;
use tandem::io::ingress::sip::reply::reply;
use tandem::io::ingress::sip::session_timer::Asked;
use tandem::io::ingress::sip::session_timer::SMALLEST;
use tandem::io::ingress::sip::session_timer::SessionTimer;
use tandem::io::ingress::sip::session_timer::Settings;
use tandem::io::ingress::sip::session_timer::negotiate;

fuzz_target!(|message: &[u8]| {
    let verdict = normalise(message);
    match &verdict {
        Verdict::Pass(passed) => {
            assert!(passed.len() <= LARGEST_MESSAGE);
            let is_ping = &**passed == b"\r\n\r\n";
            assert!(is_ping || stack(passed), "the stack reads what it gets");
            let again = normalise(passed);
            assert_eq!(again, Verdict::Pass((&**passed).into()), "once is enough");
            outgoing(passed);
        }
        Verdict::Answer(reason) => {
            let response = answered(message, *reason, Ceiling::None);
            let response = response.expect("what is to be answered can be");
            let response = SipMessage::try_from(response.as_slice());
            assert!(matches!(response, Ok(SipMessage::Response(_))));
        }
        Verdict::Drop(_) | Verdict::KeepAlive => {}
    }
    if let Some(response) = answered(message, Reason::Unreadable, Ceiling::Request) {
        assert!(response.len() <= message.len());
    }
    // As a connection gives it, where there is no shim.
    stack(message);
    outgoing(message);

    let raw = Raw::read(message);
    let values: Vec<_> = raw.fields.iter().map(|field| field.text()).collect();
    let values = || values.iter().map(|value| &**value);
    let now = Instant::now();
    nobody_knows_the_password(values(), now);
    for content_type in ["application/dtmf-relay", "application/dtmf"] {
        info_dtmf::digit(content_type, raw.body);
        info_dtmf::digit(content_type, message);
    }
    required_extensions(values());
    for value in values() {
        let mut reliable = Reliable::new(1, 0);
        reliable.send(now).expect("idle");
        let prack = reliable.acknowledged(value);
        assert!(prack == Prack::Unknown || value.contains("INVITE"));
    }
    let names = raw.fields.iter().map(|field| field.full_name());
    timers(names.zip(values()), now);
});

/// What the stack does with a message until it has found its transaction, and with the headers that make a dialog.
/// Whether it gets as far as a transaction.
fn stack(message: &[u8]) -> bool {
    let Ok(message) = SipMessage::try_from(message) else {
        return false;
    };
    let via = message.top_via_header().map(|via| via.typed().is_ok());
    let _ = message.from_header().map(|from| from.typed().is_ok());
    let _ = message.to_header().map(|to| to.typed().is_ok());
    let _ = message.cseq_header().map(|cseq| cseq.typed().is_ok());
    let _ = message
        .contact_header()
        .map(|contact| contact.typed().is_ok());
    let key = match &message {
        SipMessage::Request(request) => {
            TransactionKey::from_request(request, TransactionRole::Server)
        }
        SipMessage::Response(response) => {
            TransactionKey::from_response(response, TransactionRole::Client)
        }
    };
    let _ = message.to_string();
    matches!(via, Ok(true)) && key.is_ok()
}

fn answered(message: &[u8], reason: Reason, ceiling: Ceiling) -> Option<Vec<u8>> {
    let source: SocketAddr = "198.51.100.9:40000".parse().expect("an address");
    let (status, phrase) = reason.status();
    let answer = Answer {
        status,
        phrase,
        required: reason.headers(),
        optional: &[("X", "1"), ("Y", "2")],
    };
    reply(message, &answer, source, ceiling)
}

fn nobody_knows_the_password<'a>(values: impl Iterator<Item = &'a str>, now: Instant) {
    let users = [("alice".to_owned(), "secret".to_owned())];
    let mut authenticator = digest::Authenticator::new(
        "r",
        digest::Algorithm::ALL.to_vec(),
        users,
        [0; 32],
        digest::NONCE_LIFE,
        4,
        now,
    );
    for value in values {
        assert!(authenticator.check("INVITE", [value], now).is_err());
    }
    assert_eq!(authenticator.nonces_in_use(), 0);
}

fn timers<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>, now: Instant) {
    let settings = Settings {
        session_expires: SMALLEST * 20,
        min_se: SMALLEST,
    };
    if let Ok(plan) = negotiate(settings, &Asked::read(headers)) {
        assert!(plan.interval >= SMALLEST);
        let mut timer = SessionTimer::new(plan, now);
        assert_eq!(timer.poll(now), None, "a session does not end as it begins");
    }
}
