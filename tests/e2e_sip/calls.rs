//! Calls that go well, however oddly their messages are written, and requests that come early, late or twice.

use std::time::Duration;

use tandem::engine::call::end::EndReason;
use tandem::engine::call::event::Digit;
use tandem::engine::call::event::DigitSource;
use tandem::engine::call::event::LegEnd;
use tandem::io::leg::IngressKind;
use tandem::io::leg::LegInput;
use tandem::io::leg::LegOutput;
use tokio::time::timeout;

use crate::line::Line;
use crate::media::hears_each_other;
use crate::phone::Call;
use crate::phone::Phone;
use crate::phone::ack_of_refusal;
use crate::world::PATIENCE;
use crate::world::World;

#[tokio::test]
async fn a_call_is_answered_carries_sound_both_ways_and_ends_with_the_callers_bye() {
    let mut world = World::open().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let (mut call, mut side) = phone.call(&mut world, &mut line).await;
    hears_each_other(&mut line, &mut side).await;
    let bye = call.request("BYE");
    assert_eq!(phone.ask(&bye).await.status(), Some(200));
    assert_eq!(side.ended().await, LegEnd::HungUp);
    side.gone().await;
}

#[tokio::test]
async fn a_call_over_tcp_does_the_same() {
    let mut world = World::open().await;
    let (mut phone, mut line) = (Phone::tcp(&world).await, Line::open().await);
    let (mut call, mut side) = phone.call(&mut world, &mut line).await;
    let target = call.target.to_ascii_lowercase();
    assert!(target.contains("transport=tcp"), "{target}");
    hears_each_other(&mut line, &mut side).await;
    let bye = call.request("BYE");
    assert_eq!(phone.ask(&bye).await.status(), Some(200));
    assert_eq!(side.ended().await, LegEnd::HungUp);
}

#[tokio::test]
async fn the_gateway_ends_a_call_with_bye() {
    let mut world = World::open().await;
    for phone in [Phone::udp(&world).await, Phone::tcp(&world).await] {
        let (mut phone, mut line) = (phone, Line::open().await);
        let (call, mut side) = phone.call(&mut world, &mut line).await;
        side.hang_up();
        let bye = phone.hung_up().await;
        assert_eq!(bye.need("Call-ID"), call.invite.header("Call-ID"));
        assert_eq!(bye.need("From"), call.to);
        assert_eq!(bye.need("To"), call.invite.header("From"));
        assert_eq!(side.ended().await, LegEnd::HungUp);
        side.gone().await;
    }
}

#[tokio::test]
async fn a_leg_knows_who_calls_whom_and_what_the_caller_sent_along() {
    let mut world = World::with(|sip, _| sip.parameters = vec!["X-Campaign".to_owned()]).await;
    let (mut phone, line) = (Phone::udp(&world).await, Line::open().await);
    let mut invite = phone
        .invite(&line)
        .set("From", "\"A. Lice\" <sip:+14158675309@pbx.example>;tag=1")
        .with("X-Campaign", "spring")
        .with("X-Secret", "1");
    invite.uri = format!("sip:%2B18005551212@{}", phone.gateway);
    phone.send(&invite).await;
    let side = world.leg().await;
    let info = &side.0.info;
    assert_eq!(info.ingress, IngressKind::Sip);
    assert_eq!(info.external_id, invite.header("Call-ID"));
    assert_eq!((&*info.from, &*info.to), ("+14158675309", "+18005551212"));
    assert_eq!(info.domain, "127.0.0.1");
    let parameters: Vec<_> = info.parameters.iter().collect();
    assert_eq!(
        parameters,
        [(&"X-Campaign".to_owned(), &"spring".to_owned())]
    );
    let secret = ("X-Secret".to_owned(), "1".to_owned());
    assert!(info.headers.contains(&secret), "{:?}", info.headers);
}

// ---- what the stack alone would lose

#[tokio::test]
async fn an_invite_without_content_length_keeps_its_sdp() {
    let mut world = World::open().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let invite = phone.invite(&line).without("Content-Length");
    let (_call, mut side) = phone.call_by(&mut world, &mut line, invite).await;
    hears_each_other(&mut line, &mut side).await;
}

#[tokio::test]
async fn an_invite_in_bare_line_feeds_is_a_call() {
    let mut world = World::open().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let invite = phone.invite(&line).without("Content-Length");
    let text = invite.text().replace("\r\n", "\n");
    phone.send_bytes(text.as_bytes()).await;
    let mut side = world.leg().await;
    side.answer();
    let answer = phone.status(200).await;
    let call = Call::new(invite, &answer);
    phone.send(&call.ack()).await;
    side.answered().await;
    line.connect(answer.body());
    hears_each_other(&mut line, &mut side).await;
}

#[tokio::test]
async fn compact_names_folded_lines_and_unknown_headers_are_a_call() {
    let mut world = World::open().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let invite = phone.invite(&line).with("X-Odd", "\u{e9}\u{1f4de}");
    let text = invite
        .text()
        .replace("Via:", "v :")
        .replace("From:", "f:")
        .replace("To:", "t:\r\n ")
        .replace("Call-ID:", "i:")
        .replace("Contact:", "m:")
        .replace("Content-Length:", "l:")
        .replace("Content-Type:", "c:");
    phone.send_bytes(text.as_bytes()).await;
    let mut side = world.leg().await;
    side.answer();
    let answer = phone.status(200).await;
    let call = Call::new(invite, &answer);
    phone.send(&call.ack()).await;
    side.answered().await;
    line.connect(answer.body());
    hears_each_other(&mut line, &mut side).await;
}

#[tokio::test]
async fn a_keep_alive_is_nothing() {
    let mut world = World::open().await;
    let mut phone = Phone::udp(&world).await;
    for bytes in [&b"\r\n"[..], b"\0\0\0\0", b"   ", b"jaK", b"\xff\xfe\x00"] {
        phone.send_bytes(bytes).await;
    }
    // Whatever would have come would have come before this.
    let options = phone.request("OPTIONS");
    phone.send(&options).await;
    assert_eq!(phone.next().await.status(), Some(200));
    world.no_leg();
}

// ---- twice

#[tokio::test]
async fn an_invite_sent_again_is_the_same_call_with_the_same_200() {
    let mut world = World::open().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let invite = phone.invite(&line);
    phone.send(&invite).await;
    phone.status(180).await;
    phone.send(&invite).await;
    let mut side = world.leg().await;
    side.answer();
    let first = phone.status(200).await;
    phone.send(&invite).await;
    let second = phone.status(200).await;
    assert_eq!(first, second);
    let call = Call::new(invite.clone(), &first);
    phone.send(&call.ack()).await;
    side.answered().await;
    phone.send(&invite).await;
    line.connect(first.body());
    hears_each_other(&mut line, &mut side).await;
    world.no_leg();
}

#[tokio::test]
async fn the_200_is_repeated_until_its_ack() {
    let mut world = World::open().await;
    let (mut phone, line) = (Phone::udp(&world).await, Line::open().await);
    let invite = phone.invite(&line);
    phone.send(&invite).await;
    let mut side = world.leg().await;
    side.answer();
    let first = phone.status(200).await;
    for _ in 0..3 {
        assert_eq!(phone.next().await, first);
    }
    let call = Call::new(invite, &first);
    phone.send(&call.ack()).await;
    side.answered().await;
    // The next would come after 4 s at most.
    let more = timeout(Duration::from_millis(4_500), phone.read()).await;
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test]
async fn a_bye_sent_again_gets_the_same_answer() {
    let mut world = World::open().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let (mut call, mut side) = phone.call(&mut world, &mut line).await;
    let bye = call.request("BYE");
    let first = phone.ask(&bye).await;
    assert_eq!(first.status(), Some(200));
    assert_eq!(side.ended().await, LegEnd::HungUp);
    assert_eq!(phone.ask(&bye).await, first);
}

// ---- before the answer

#[tokio::test]
async fn a_call_that_is_cancelled_ends() {
    let mut world = World::open().await;
    for phone in [Phone::udp(&world).await, Phone::tcp(&world).await] {
        let (mut phone, line) = (phone, Line::open().await);
        let invite = phone.invite(&line);
        phone.send(&invite).await;
        phone.status(180).await;
        let mut side = world.leg().await;
        phone.send(&cancel(&invite)).await;
        let (mut of_cancel, mut of_invite) = (None, None);
        while of_cancel.is_none() || of_invite.is_none() {
            let answer = phone.next().await;
            match answer.method() {
                "CANCEL" => of_cancel = answer.status(),
                _ => {
                    of_invite = answer.status();
                    phone.send(&ack_of_refusal(&invite, &answer)).await;
                }
            }
        }
        assert_eq!((of_cancel, of_invite), (Some(200), Some(487)));
        assert_eq!(side.ended().await, LegEnd::HungUp);
        side.gone().await;
    }
}

#[tokio::test]
async fn a_cancel_of_no_call_gets_481() {
    let world = World::open().await;
    let (mut phone, line) = (Phone::udp(&world).await, Line::open().await);
    let answer = phone.ask(&cancel(&phone.invite(&line))).await;
    assert_eq!(answer.status(), Some(481));
}

#[tokio::test]
async fn a_cancel_after_the_answer_changes_nothing() {
    let mut world = World::open().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let (call, mut side) = phone.call(&mut world, &mut line).await;
    let answer = phone.ask(&cancel(&call.invite)).await;
    assert!(
        matches!(answer.status(), Some(200 | 481)),
        "{}",
        answer.text
    );
    hears_each_other(&mut line, &mut side).await;
}

#[tokio::test]
async fn a_call_that_rings_and_is_not_wanted_is_refused_by_the_reason() {
    let mut world = World::open().await;
    for (reason, status) in [
        (EndReason::BackendFailed, 503),
        (EndReason::Drained, 503),
        (EndReason::InternalError, 500),
        (EndReason::Operator, 480),
    ] {
        let (mut phone, line) = (Phone::udp(&world).await, Line::open().await);
        let invite = phone.invite(&line);
        phone.send(&invite).await;
        phone.status(180).await;
        let mut side = world.leg().await;
        side.say(LegOutput::HangUp(reason));
        let answer = phone.answer("INVITE").await;
        assert_eq!(answer.status(), Some(status), "{reason:?}");
        phone.send(&ack_of_refusal(&invite, &answer)).await;
        assert_eq!(side.ended().await, LegEnd::HungUp);
    }
}

#[tokio::test]
async fn a_call_whose_owner_is_gone_is_refused_or_ended() {
    let mut world = World::open().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let invite = phone.invite(&line);
    phone.send(&invite).await;
    phone.status(180).await;
    drop(world.leg().await);
    let answer = phone.answer("INVITE").await;
    assert_eq!(answer.status(), Some(500));
    phone.send(&ack_of_refusal(&invite, &answer)).await;
    let (_call, side) = phone.call(&mut world, &mut line).await;
    drop(side);
    phone.hung_up().await;
}

#[tokio::test]
async fn an_update_and_an_info_before_the_answer_are_answered_and_the_digit_is_heard() {
    let mut world = World::open().await;
    let (mut phone, line) = (Phone::udp(&world).await, Line::open().await);
    let invite = phone.invite(&line);
    phone.send(&invite).await;
    let ringing = phone.status(180).await;
    let mut side = world.leg().await;
    let mut call = Call::new(invite, &ringing);
    let update = call.request("UPDATE");
    assert_eq!(phone.ask(&update).await.status(), Some(200));
    let info = call
        .request("INFO")
        .body("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n");
    assert_eq!(phone.ask(&info).await.status(), Some(200));
    let five = Digit::from_char('5').expect("a key");
    let event = side.event().await;
    assert!(
        matches!(event, LegInput::Digit(digit, DigitSource::Info) if digit == five),
        "{event:?}"
    );
    // An offer must wait until ours is settled.
    let offer = call.request("UPDATE").sdp(call.invite.body.clone());
    let answer = phone.ask(&offer).await;
    assert_eq!(answer.status(), Some(500));
    answer.need("Retry-After");
    side.answer();
    phone.status(200).await;
    phone.send(&call.request_numbered("ACK", 1)).await;
    side.answered().await;
}

#[tokio::test]
async fn a_bye_before_the_answer_ends_the_call() {
    let mut world = World::open().await;
    let (mut phone, line) = (Phone::udp(&world).await, Line::open().await);
    let invite = phone.invite(&line);
    phone.send(&invite).await;
    let ringing = phone.status(180).await;
    let mut side = world.leg().await;
    let mut call = Call::new(invite.clone(), &ringing);
    let bye = call.request("BYE");
    phone.send(&bye).await;
    let (mut of_bye, mut of_invite) = (None, None);
    while of_bye.is_none() || of_invite.is_none() {
        let answer = phone.next().await;
        match answer.method() {
            "BYE" => of_bye = answer.status(),
            _ => {
                of_invite = answer.status();
                phone.send(&ack_of_refusal(&invite, &answer)).await;
            }
        }
    }
    assert_eq!((of_bye, of_invite), (Some(200), Some(487)));
    assert_eq!(side.ended().await, LegEnd::HungUp);
}

#[tokio::test]
async fn a_reliable_180_is_repeated_until_its_prack() {
    let mut world = World::open().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let invite = phone.invite(&line).with("Require", "100rel");
    phone.send(&invite).await;
    let first = phone.status(180).await;
    assert_eq!(first.need("Require"), "100rel");
    let number = first.need("RSeq").to_owned();
    let again = phone.status(180).await;
    assert_eq!(again.need("RSeq"), number);
    let mut side = world.leg().await;
    let mut call = Call::new(invite, &first);
    let rseq: u32 = number.parse().expect("a number");
    for wrong in [format!("{} 1 INVITE", rseq + 1), format!("{rseq} 2 INVITE")] {
        let prack = call.request("PRACK").with("RAck", wrong);
        assert_eq!(phone.ask(&prack).await.status(), Some(481));
    }
    let without = call.request("PRACK");
    assert_eq!(phone.ask(&without).await.status(), Some(400));
    let prack = call
        .request("PRACK")
        .with("RAck", format!("{rseq} 1 INVITE"));
    assert_eq!(phone.ask(&prack).await.status(), Some(200));
    // Not again: the next would be due after 2 s, or 4 if the PRACKs took long.
    let more = timeout(Duration::from_millis(4_500), phone.read()).await;
    assert!(more.is_err(), "{more:?}");
    side.answer();
    let answer = phone.status(200).await;
    phone.send(&call.request_numbered("ACK", 1)).await;
    side.answered().await;
    line.connect(answer.body());
    hears_each_other(&mut line, &mut side).await;
}

// ---- within the call

#[tokio::test]
async fn a_request_older_than_its_predecessor_gets_500() {
    let mut world = World::open().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let (mut call, mut side) = phone.call(&mut world, &mut line).await;
    call.sequence = 10;
    let info = call.request("INFO").body("application/dtmf", "1");
    assert_eq!(phone.ask(&info).await.status(), Some(200));
    assert!(matches!(side.event().await, LegInput::Digit(..)));
    let old = call
        .request_numbered("INFO", 9)
        .body("application/dtmf", "2");
    assert_eq!(phone.ask(&old).await.status(), Some(500));
    hears_each_other(&mut line, &mut side).await;
}

#[tokio::test]
async fn options_within_a_call_are_answered() {
    let mut world = World::open().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let (mut call, _side) = phone.call(&mut world, &mut line).await;
    let options = call.request("OPTIONS");
    let answer = phone.ask(&options).await;
    assert_eq!(answer.status(), Some(200));
    assert!(answer.need("Allow").contains("INVITE"));
}

#[tokio::test]
async fn a_gateway_that_hangs_up_before_the_ack_says_bye_once_it_may() {
    let mut world = World::open().await;
    let (mut phone, line) = (Phone::udp(&world).await, Line::open().await);
    let invite = phone.invite(&line);
    phone.send(&invite).await;
    let mut side = world.leg().await;
    side.answer();
    let answer = phone.status(200).await;
    side.hang_up();
    assert_eq!(side.ended().await, LegEnd::HungUp);
    let call = Call::new(invite, &answer);
    phone.send(&call.ack()).await;
    phone.hung_up().await;
}

// ---- are you there?

#[tokio::test]
async fn options_without_a_user_are_answered_and_tell_when_we_are_leaving() {
    let world = World::open().await;
    for phone in [Phone::udp(&world).await, Phone::tcp(&world).await] {
        let mut phone = phone;
        let mut options = phone.request("OPTIONS");
        options.uri = format!("sip:{}", phone.gateway);
        let answer = phone.ask(&options).await;
        assert_eq!(answer.status(), Some(200));
        assert!(answer.need("Allow").contains("INVITE"));
        assert!(answer.need("Accept").contains("application/sdp"));
    }
    world.fake.drain();
    let mut phone = Phone::udp(&world).await;
    let options = phone.request("OPTIONS");
    let answer = phone.ask(&options).await;
    assert_eq!(answer.status(), Some(503));
    answer.need("Retry-After");
}

#[tokio::test]
async fn answers_go_back_to_the_port_they_came_from_and_name_it() {
    let world = World::open().await;
    let mut phone = Phone::udp(&world).await;
    let address = phone.address;
    let options = phone.request("OPTIONS");
    let behind_nat = options
        .header("Via")
        .replace(&address.to_string(), "10.1.2.3:5060");
    let answer = phone.ask(&options.clone().set("Via", behind_nat)).await;
    let via = answer.need("Via");
    assert!(via.contains(&format!("rport={}", address.port())), "{via}");
    assert!(via.contains("received=127.0.0.1"), "{via}");
}

#[tokio::test]
async fn requests_of_ours_go_the_way_that_the_proxies_recorded() {
    let mut world = World::open().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let mut proxy = Phone::udp(&world).await;
    let route = format!("<sip:{};lr>", proxy.address);
    let invite = phone.invite(&line).with("Record-Route", &*route);
    let (call, mut side) = phone.call_by(&mut world, &mut line, invite).await;
    side.hang_up();
    let bye = timeout(PATIENCE, proxy.asked("BYE"))
        .await
        .expect("in time");
    assert_eq!(bye.need("Route"), route);
    let contact = call.invite.header("Contact").trim_matches(['<', '>']);
    assert_eq!(bye.first_line(), format!("BYE {contact} SIP/2.0"));
    proxy.reply(&bye, "200 OK", "", "").await;
}

/// The CANCEL of an INVITE (RFC 3261 §9.1).
pub(crate) fn cancel(invite: &crate::message::Request) -> crate::message::Request {
    let mut cancel = invite
        .clone()
        .without("Content-Type")
        .without("Contact")
        .set("Content-Length", "0")
        .set("CSeq", "1 CANCEL");
    cancel.method = "CANCEL".to_owned();
    cancel.body.clear();
    cancel
}
