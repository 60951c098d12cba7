//! Offers within a call, offers that come late, and the timer that keeps a session alive.

use std::time::Duration;

use tandem::engine::call::event::LegEnd;
use tandem::engine::media::codec::packet::Codec;
use tandem::engine::media::frame::SampleRate;
use tandem::io::leg::LegInput;

use crate::line::Line;
use crate::media::hear_each_other;
use crate::media::hears_each_other;
use crate::media::send_tone;
use crate::phone::Call;
use crate::phone::Phone;
use crate::phone::TELEPHONE;
use crate::world::CallSide;
use crate::world::World;

const WIDEBAND: &[&str] = &["9 G722/8000", "101 telephone-event/8000"];

/// A re-INVITE that is taken, and its answer.
async fn reinvited(phone: &mut Phone, call: &mut Call, sdp: String) -> String {
    let reinvite = call.request("INVITE").sdp(sdp);
    let answer = phone.ask(&reinvite).await;
    assert_eq!(answer.status(), Some(200), "{}", answer.text);
    phone.send(&call.ack()).await;
    answer.body().to_owned()
}

#[tokio::test]
async fn a_held_call_hears_nothing_and_says_nothing_until_it_is_taken_up_again() {
    let mut world = World::open().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let (mut call, mut side) = phone.call(&mut world, &mut line).await;
    hears_each_other(&mut line, &mut side).await;
    let nowhere = line
        .describe(TELEPHONE)
        .replace("c=IN IP4 127.0.0.1", "c=IN IP4 0.0.0.0");
    for (offer, answered) in [
        (
            line.describe_as(TELEPHONE, "RTP/AVP", "sendonly", ""),
            "a=recvonly",
        ),
        (
            line.describe_as(TELEPHONE, "RTP/AVP", "inactive", ""),
            "a=inactive",
        ),
        (nowhere, "a="),
    ] {
        let answer = reinvited(&mut phone, &mut call, offer).await;
        assert!(answer.contains(answered), "{answer}");
        assert!(side.held().await);
        line.drain();
        // Music.
        send_tone(&mut line, Codec::Pcmu, 0, 440.0).await;
        for _ in 0..5 {
            side.play(&[1_000; 160]);
        }
        // The answer comes behind whatever the packets have caused.
        let options = call.request("OPTIONS");
        phone.ask(&options).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let waiting = side.waiting();
        assert!(waiting.is_empty(), "{} were heard", waiting.len());
        assert_eq!(line.drain(), 0, "packets to one who holds");

        reinvited(&mut phone, &mut call, line.describe(TELEPHONE)).await;
        assert!(!side.held().await);
        hears_each_other(&mut line, &mut side).await;
    }
}

#[tokio::test]
async fn a_reinvite_from_another_address_moves_our_packets_there() {
    let mut world = World::open().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let (mut call, mut side) = phone.call(&mut world, &mut line).await;
    hears_each_other(&mut line, &mut side).await;
    let mut moved = Line::open().await;
    let answer = reinvited(&mut phone, &mut call, moved.describe(TELEPHONE)).await;
    moved.connect(&answer);
    // At once, without having heard anything from there.
    side.play(&[1_000; 160]);
    moved.receive().await;
    hears_each_other(&mut moved, &mut side).await;
    assert_eq!(line.drain(), 0);
}

#[tokio::test]
async fn a_reinvite_from_narrowband_to_wideband_and_back_carries_sound_both_ways() {
    let mut world = World::open().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let (mut call, mut side) = phone.call(&mut world, &mut line).await;
    hears_each_other(&mut line, &mut side).await;
    reinvited(&mut phone, &mut call, line.describe(WIDEBAND)).await;
    // The call goes on at the rate with which it began.
    assert_eq!(side.rate(), SampleRate::HZ_8000);
    hear_each_other(&mut line, &mut side, Codec::G722).await;
    reinvited(&mut phone, &mut call, line.describe(TELEPHONE)).await;
    hears_each_other(&mut line, &mut side).await;
}

#[tokio::test]
async fn an_update_with_an_offer_does_what_a_reinvite_does() {
    let mut world = World::open().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let (mut call, mut side) = phone.call(&mut world, &mut line).await;
    for (direction, is_held) in [("sendonly", true), ("sendrecv", false)] {
        let offer = line.describe_as(TELEPHONE, "RTP/AVP", direction, "");
        let update = call.request("UPDATE").sdp(offer);
        let answer = phone.ask(&update).await;
        assert_eq!(answer.status(), Some(200));
        assert!(answer.body().contains("m=audio"), "{}", answer.text);
        assert_eq!(side.held().await, is_held);
    }
    let without_offer = call.request("UPDATE");
    let answer = phone.ask(&without_offer).await;
    assert_eq!((answer.status(), answer.body()), (Some(200), ""));
    hears_each_other(&mut line, &mut side).await;
}

#[tokio::test]
async fn an_offer_that_cannot_be_taken_is_refused_and_the_call_goes_on() {
    let mut world = World::open().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let (mut call, mut side) = phone.call(&mut world, &mut line).await;
    for (kind, body, status) in [
        ("application/sdp", line.describe(&["18 G729/8000"]), 488),
        ("application/sdp", "nonsense".to_owned(), 400),
        ("text/plain", line.describe(TELEPHONE), 415),
    ] {
        let update = call.request("UPDATE").body(kind, body.clone());
        assert_eq!(phone.ask(&update).await.status(), Some(status), "{body}");
        let reinvite = call.request("INVITE").body(kind, body.clone());
        let answer = phone.ask(&reinvite).await;
        assert_eq!(answer.status(), Some(status), "{body}");
        phone
            .send(&crate::phone::ack_of_refusal(&reinvite, &answer))
            .await;
        hears_each_other(&mut line, &mut side).await;
    }
}

// ---- offers of ours

#[tokio::test]
async fn an_invite_without_an_offer_gets_one_and_its_answer_in_the_ack_is_used() {
    let mut world = World::open().await;
    for codec in [Codec::Pcmu, Codec::Pcma] {
        let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
        let (_call, mut side) = answered_late(&mut world, &mut phone, &mut line, codec).await;
        hear_each_other(&mut line, &mut side, codec).await;
    }
}

async fn answered_late(
    world: &mut World,
    phone: &mut Phone,
    line: &mut Line,
    codec: Codec,
) -> (Call, CallSide) {
    let invite = phone.request("INVITE");
    phone.send(&invite).await;
    let mut side = world.leg().await;
    side.answer();
    let answer = phone.status(200).await;
    assert_eq!(answer.need("Content-Type"), "application/sdp");
    let offer = answer.body();
    assert!(
        offer.contains("PCMU/8000") && offer.contains("PCMA/8000"),
        "{offer}"
    );
    line.connect(offer);
    let call = Call::new(invite, &answer);
    let format = match codec {
        Codec::Pcma => "8 PCMA/8000",
        Codec::Pcmu => "0 PCMU/8000",
        Codec::G722 | Codec::Opus => panic!("a telephone's codec"),
    };
    let ack = call.ack().sdp(line.describe(&[format]));
    phone.send(&ack).await;
    side.answered().await;
    (call, side)
}

#[tokio::test]
async fn a_call_whose_ack_lacks_the_answer_is_ended() {
    let mut world = World::open().await;
    for sdp in [None, Some("v=0\r\nm=audio 4000 RTP/AVP 18\r\n")] {
        let mut phone = Phone::udp(&world).await;
        let invite = phone.request("INVITE");
        phone.send(&invite).await;
        let mut side = world.leg().await;
        side.answer();
        let answer = phone.status(200).await;
        let ack = Call::new(invite, &answer).ack();
        let ack = match sdp {
            None => ack,
            Some(sdp) => ack.sdp(sdp),
        };
        phone.send(&ack).await;
        phone.hung_up().await;
        let end = side.ended().await;
        assert!(matches!(end, LegEnd::ProtocolError(_)), "{end:?}");
    }
}

#[tokio::test]
async fn a_reinvite_without_an_offer_gets_one_and_its_answer_in_the_ack_is_used() {
    let mut world = World::open().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let (mut call, mut side) = phone.call(&mut world, &mut line).await;
    hears_each_other(&mut line, &mut side).await;
    let reinvite = call.request("INVITE");
    let answer = phone.ask(&reinvite).await;
    assert_eq!(answer.status(), Some(200));
    assert!(answer.body().contains("m=audio"), "{}", answer.text);
    let mut moved = Line::open().await;
    moved.connect(answer.body());
    let ack = call.ack().sdp(moved.describe(TELEPHONE));
    // What comes in between is not taken for the ACK, and another offer must wait.
    let info = call.request("INFO");
    assert_eq!(phone.ask(&info).await.status(), Some(200));
    let update = call.request("UPDATE").sdp(line.describe(TELEPHONE));
    assert_eq!(phone.ask(&update).await.status(), Some(491));
    line.drain();
    phone.send(&ack).await;
    hears_each_other(&mut moved, &mut side).await;
    assert_eq!(line.drain(), 0);
}

// ---- the session's timer

#[tokio::test]
async fn the_200_says_who_keeps_the_session_alive_and_how_often() {
    let mut world = World::open().await;
    for (asked, answered, is_required) in [
        (None, "1800;refresher=uas", false),
        (Some("1800"), "1800;refresher=uas", true),
        (Some("600;refresher=uac"), "600;refresher=uac", true),
        (Some("90;refresher=uas"), "90;refresher=uas", true),
        (Some("99999;refresher=uac"), "1800;refresher=uac", true),
    ] {
        let (mut phone, line) = (Phone::udp(&world).await, Line::open().await);
        let mut invite = phone.invite(&line);
        if let Some(asked) = asked {
            invite = invite
                .with("Supported", "timer")
                .with("Session-Expires", asked);
        }
        phone.send(&invite).await;
        let mut side = world.leg().await;
        side.answer();
        let answer = phone.status(200).await;
        assert_eq!(answer.need("Session-Expires"), answered);
        let required = answer.header("Require") == Some("timer");
        assert_eq!(required, is_required, "{}", answer.text);
        let mut call = Call::new(invite, &answer);
        phone.send(&call.ack()).await;
        side.answered().await;
        // The peer's own refreshes are held to the same.
        let update = call
            .request("UPDATE")
            .with("Supported", "timer")
            .with("Session-Expires", "20");
        let answer = phone.ask(&update).await;
        assert_eq!((answer.status(), answer.need("Min-SE")), (Some(422), "90"));
        let update = update
            .again(call.sequence + 1)
            .set("Session-Expires", "200;refresher=uac");
        let answer = phone.ask(&update).await;
        assert_eq!(answer.need("Session-Expires"), "200;refresher=uac");
    }
}

/// A gateway whose sessions last ten seconds.
async fn hasty() -> World {
    World::with(|sip, _| {
        sip.session_expires = Duration::from_secs(10);
        sip.min_session_expires = Duration::from_secs(10);
    })
    .await
}

#[tokio::test]
async fn a_reinvite_while_ours_is_unanswered_gets_491() {
    let mut world = hasty().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    // Who does not allow UPDATE is refreshed by re-INVITE.
    let (mut call, mut side) = phone.call(&mut world, &mut line).await;
    let ours = phone.asked("INVITE").await;
    let offer = ours.body().to_owned();
    assert!(offer.contains("m=audio"), "{}", ours.text);
    let theirs = call.request("INVITE").sdp(line.describe(TELEPHONE));
    let answer = phone.ask(&theirs).await;
    assert_eq!(answer.status(), Some(491));
    phone
        .send(&crate::phone::ack_of_refusal(&theirs, &answer))
        .await;
    let of_ours = "Content-Type: application/sdp\r\nSession-Expires: 10;refresher=uac\r\n";
    let description = line.describe(TELEPHONE);
    phone.reply(&ours, "200 OK", of_ours, &description).await;
    let ack = phone.asked("ACK").await;
    assert_eq!(ack.sequence(), ours.sequence());
    hears_each_other(&mut line, &mut side).await;
    // Now theirs is taken.
    reinvited(&mut phone, &mut call, description).await;
    hears_each_other(&mut line, &mut side).await;
}

#[tokio::test]
async fn our_refresh_keeps_a_call_alive_that_answers_and_ends_one_that_denies_it() {
    let mut world = hasty().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let invite = phone
        .invite(&line)
        .with("Allow", "INVITE, ACK, BYE, UPDATE")
        .with("Supported", "timer")
        .with("Session-Expires", "10;refresher=uas");
    let (_call, mut side) = phone.call_by(&mut world, &mut line, invite).await;
    let first = phone.asked("UPDATE").await;
    assert_eq!(first.need("Session-Expires"), "10;refresher=uac");
    assert_eq!(first.body(), "");
    let still = "Session-Expires: 10;refresher=uac\r\n";
    phone.reply(&first, "200 OK", still, "").await;
    hears_each_other(&mut line, &mut side).await;
    let second = phone.asked("UPDATE").await;
    assert!(second.sequence() > first.sequence());
    let denied = "481 Call/Transaction Does Not Exist";
    phone.reply(&second, denied, "", "").await;
    assert_eq!(side.ended().await, LegEnd::Lost);
}

#[tokio::test]
async fn a_session_that_the_caller_does_not_refresh_is_ended() {
    let mut world = hasty().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let invite = phone
        .invite(&line)
        .with("Supported", "timer")
        .with("Session-Expires", "10;refresher=uac");
    let (mut call, mut side) = phone.call_by(&mut world, &mut line, invite).await;
    // Refreshed once, it lives longer than its first ten seconds (less the third by which we are early).
    tokio::time::sleep(Duration::from_secs(4)).await;
    let update = call
        .request("UPDATE")
        .with("Supported", "timer")
        .with("Session-Expires", "10;refresher=uac");
    assert_eq!(phone.ask(&update).await.status(), Some(200));
    tokio::time::sleep(Duration::from_secs(4)).await;
    let waiting = side.waiting();
    assert!(
        !waiting
            .iter()
            .any(|input| matches!(input, LegInput::Ended(_)))
    );
    phone.hung_up().await;
    assert_eq!(side.ended().await, LegEnd::Lost);
}
