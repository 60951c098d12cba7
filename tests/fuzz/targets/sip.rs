//! Everything that reads bytes of a peer on the SIP side before anyone is let in.

#![no_main]

use std::net::SocketAddr;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use rsipstack::sip::SipMessage;

use tandem::io::ingress::sip::digest;
use tandem::io::ingress::sip::info_dtmf;
use tandem::io::ingress::sip::normalise::LARGEST_MESSAGE;
use tandem::io::ingress::sip::normalise::Reason;
use tandem::io::ingress::sip::normalise::Verdict;
use tandem::io::ingress::sip::normalise::normalise;
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
    match normalise(message) {
        Verdict::Pass(passed) => {
            assert!(passed.len() <= LARGEST_MESSAGE);
            let ping = &*passed == b"\r\n\r\n";
            assert!(ping || SipMessage::try_from(&*passed).is_ok());
            assert_eq!(normalise(&passed), Verdict::Pass((&*passed).into()), "once is enough");
        }
        Verdict::Answer(reason) => {
            let response = answered(message, reason, Ceiling::None);
            let response = response.expect("what is to be answered can be");
            assert!(SipMessage::try_from(response.as_slice()).is_ok());
        }
        Verdict::Drop(_) | Verdict::KeepAlive => {}
    }
    if let Some(response) = answered(message, Reason::Unreadable, Ceiling::Request) {
        assert!(response.len() <= message.len());
    }
    // The parser alone, as TCP gives it bytes without the shim.
    let _ = SipMessage::try_from(message);

    let text = String::from_utf8_lossy(message);
    let now = Instant::now();
    let users = [("alice".to_owned(), "secret".to_owned())];
    let mut authenticator = digest::Authenticator::new("r", digest::Algorithm::ALL.to_vec(), users, [0; 32], digest::NONCE_LIFE, 4, now);
    assert!(authenticator.check("INVITE", text.lines(), now).is_err());
    info_dtmf::digit("application/dtmf-relay", message);
    info_dtmf::digit("application/dtmf", message);
    required_extensions(text.lines());
    let mut reliable = Reliable::new(1, 0);
    reliable.send(now).expect("idle");
    let acknowledged = reliable.acknowledged(&text);
    assert!(acknowledged == Prack::Unknown || text.contains("INVITE"));

    let headers = text.lines().filter_map(|line| line.split_once(": "));
    let settings = Settings {
        session_expires: SMALLEST * 20,
        min_se: SMALLEST,
    };
    if let Ok(plan) = negotiate(settings, &Asked::read(headers)) {
        assert!(plan.interval >= SMALLEST);
        SessionTimer::new(plan, now).poll(now);
    }
});

fn answered(message: &[u8], reason: Reason, ceiling: Ceiling) -> Option<Vec<u8>> {
    let source: SocketAddr = "198.51.100.9:40000".parse().expect("an address");
    let (status, phrase) = reason.status();
    let answer = Answer {
        status,
        phrase,
        required: reason.headers(),
        optional: &[],
    };
    reply(message, &answer, source, ceiling)
}
