//! Requests that are turned away, each with the status that says why.

use tandem::engine::media::codec::packet::Codec;
use tandem::io::ingress::Refusal;

use crate::line::Line;
use crate::phone::Phone;
use crate::phone::TELEPHONE;
use crate::world::World;

#[tokio::test]
async fn a_content_length_beyond_the_datagram_gets_400() {
    let mut world = World::open().await;
    let (mut phone, line) = (Phone::udp(&world).await, Line::open().await);
    let invite = phone.invite(&line).set("Content-Length", "5000");
    assert_eq!(phone.refused(&invite).await.status(), Some(400));
    world.no_leg();
}

#[tokio::test]
async fn an_unknown_method_gets_501_and_one_that_is_not_served_405_with_what_is() {
    let world = World::open().await;
    let mut phone = Phone::udp(&world).await;
    let sing = phone.request("SING");
    assert_eq!(phone.ask(&sing).await.status(), Some(501));
    for method in ["REGISTER", "SUBSCRIBE", "MESSAGE", "PUBLISH", "REFER"] {
        // To one who writes very little the status says enough: no answer is larger than its request.
        let short = phone.request(method);
        let answer = phone.ask(&short).await;
        assert_eq!(answer.status(), Some(405), "{method}");
        assert!(answer.text.len() <= short.text().len());
        let agent =
            "A telephone that says as much of itself as telephones do, 1.0.12 (of the test)";
        let request = phone.request(method).with("User-Agent", agent);
        let answer = phone.ask(&request).await;
        assert_eq!(answer.status(), Some(405), "{method}");
        for served in ["INVITE", "ACK", "BYE", "CANCEL", "OPTIONS"] {
            assert!(answer.need("Allow").contains(served), "{}", answer.text);
        }
    }
}

#[tokio::test]
async fn the_same_over_tcp_and_the_connection_stays() {
    let world = World::open().await;
    let mut phone = Phone::tcp(&world).await;
    let request = phone.request("SUBSCRIBE");
    let answer = phone.ask(&request).await;
    assert_eq!(answer.status(), Some(405));
    answer.need("Allow");
    let options = phone.request("OPTIONS");
    assert_eq!(phone.ask(&options).await.status(), Some(200));
}

#[tokio::test]
async fn another_version_of_sip_gets_505() {
    let mut world = World::open().await;
    let (mut phone, line) = (Phone::udp(&world).await, Line::open().await);
    let mut invite = phone.invite(&line);
    invite.version = "SIP/7.0".to_owned();
    assert_eq!(phone.refused(&invite).await.status(), Some(505));
    world.no_leg();
}

#[tokio::test]
async fn requests_that_lack_a_header_or_contradict_themselves_get_400() {
    let mut world = World::open().await;
    let (mut phone, line) = (Phone::udp(&world).await, Line::open().await);
    for name in ["From", "To", "Call-ID"] {
        let invite = phone.invite(&line).without(name);
        phone.send(&invite).await;
        let answer = phone.next().await;
        assert_eq!(answer.status(), Some(400), "without {name}");
    }
    for (name, value) in [
        ("CSeq", "1 BYE"),
        ("CSeq", "4294967296 INVITE"),
        ("Max-Forwards", "many"),
        ("Content-Length", "-1"),
    ] {
        let invite = phone.invite(&line).set(name, value);
        phone.send(&invite).await;
        assert_eq!(phone.next().await.status(), Some(400), "{name}: {value}");
    }
    let invite = phone.invite(&line).set("Max-Forwards", "0");
    assert_eq!(phone.refused(&invite).await.status(), Some(483));
    let mut invite = phone.invite(&line);
    invite.uri = "mailto:100@example.com".to_owned();
    assert_eq!(phone.refused(&invite).await.status(), Some(416));
    world.no_leg();
}

#[tokio::test]
async fn an_extension_that_we_do_not_have_gets_420_by_its_name() {
    let mut world = World::open().await;
    let (mut phone, line) = (Phone::udp(&world).await, Line::open().await);
    let invite = phone.invite(&line).with("Require", "timer, teleport");
    let answer = phone.refused(&invite).await;
    assert_eq!(answer.status(), Some(420));
    assert_eq!(answer.need("Unsupported"), "teleport");
    world.no_leg();
}

#[tokio::test]
async fn a_request_within_no_call_gets_481() {
    let mut world = World::open().await;
    let mut phone = Phone::udp(&world).await;
    for method in ["BYE", "INFO", "UPDATE", "PRACK", "NOTIFY"] {
        let without_tag = phone.request(method);
        assert_eq!(
            phone.ask(&without_tag).await.status(),
            Some(481),
            "{method}"
        );
        let to = format!("<sip:100@{}>;tag=nobody", phone.gateway);
        let with_tag = phone.request(method).set("To", to);
        assert_eq!(phone.ask(&with_tag).await.status(), Some(481), "{method}");
    }
    let line = Line::open().await;
    let to = format!("<sip:100@{}>;tag=nobody", phone.gateway);
    let invite = phone.invite(&line).set("To", to);
    assert_eq!(phone.refused(&invite).await.status(), Some(481));
    world.no_leg();
}

#[tokio::test]
async fn a_call_that_is_not_admitted_is_told_why() {
    let mut world = World::open().await;
    let (mut phone, line) = (Phone::udp(&world).await, Line::open().await);
    for (refusal, status, is_later) in [
        (Refusal::Busy, 503, true),
        (Refusal::Draining, 503, true),
        (Refusal::NoRoute, 404, false),
    ] {
        world.fake.refuse(Some(refusal));
        let invite = phone.invite(&line);
        let answer = phone.refused(&invite).await;
        assert_eq!(answer.status(), Some(status), "{refusal:?}");
        assert_eq!(answer.header("Retry-After").is_some(), is_later);
        world.no_leg();
    }
    world.fake.refuse(None);
    let mut line = line;
    phone.call(&mut world, &mut line).await;
}

#[tokio::test]
async fn a_refusal_is_repeated_until_its_ack() {
    let world = World::open().await;
    let (mut phone, line) = (Phone::udp(&world).await, Line::open().await);
    world.fake.refuse(Some(Refusal::NoRoute));
    let invite = phone.invite(&line);
    let first = phone.ask(&invite).await;
    assert_eq!(phone.answer("INVITE").await, first);
    phone
        .send(&crate::phone::ack_of_refusal(&invite, &first))
        .await;
}

#[tokio::test]
async fn a_description_that_cannot_be_used_is_refused_by_what_is_wrong_with_it() {
    let mut world = World::with(|_, rtp| rtp.codecs = vec![Codec::Pcmu, Codec::G722]).await;
    let (mut phone, line) = (Phone::udp(&world).await, Line::open().await);
    let request = || phone.request("INVITE");
    let secret = line.describe_as(TELEPHONE, "RTP/SAVP", "sendrecv", "");
    let video = line.describe(TELEPHONE).replace("m=audio", "m=video");
    for (invite, status) in [
        (request().sdp(line.describe(&["8 PCMA/8000"])), 488),
        (request().sdp(line.describe(&["18 G729/8000"])), 488),
        (request().sdp(video), 488),
        // Encrypted, without a key.
        (request().sdp(secret), 488),
        (request().sdp("v=0\r\nm=audio\r\n"), 400),
        (request().sdp("\0\0\0"), 400),
        (request().body("application/isup", "x"), 415),
        (request().body("text/plain", line.describe(TELEPHONE)), 415),
    ] {
        let answer = phone.refused(&invite).await;
        assert_eq!(answer.status(), Some(status), "{}", invite.text());
        if status == 415 {
            assert_eq!(answer.need("Accept"), "application/sdp");
        }
        world.no_leg();
    }
}

#[tokio::test]
async fn a_session_interval_that_is_too_short_gets_422_with_the_shortest() {
    let mut world = World::open().await;
    let (mut phone, line) = (Phone::udp(&world).await, Line::open().await);
    let invite = phone
        .invite(&line)
        .with("Supported", "timer")
        .with("Session-Expires", "60");
    let answer = phone.refused(&invite).await;
    assert_eq!(answer.status(), Some(422));
    assert_eq!(answer.need("Min-SE"), "90");
    world.no_leg();
}

#[tokio::test]
async fn a_stranger_gets_403_not_larger_than_his_request_and_no_connection() {
    let allow = |text: &str| text.parse().expect("a network");
    let mut world = World::with(|sip, _| sip.allow = vec![allow("127.0.0.2/32")]).await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    for request in [
        phone.invite(&line),
        phone.request("OPTIONS"),
        phone.request("BYE"),
    ] {
        let answer = phone.ask(&request).await;
        assert_eq!(answer.status(), Some(403));
        let (asked, got) = (request.text().len(), answer.text.len());
        assert!(got <= asked, "{got} bytes for {asked}");
    }
    // Nothing answers an ACK, so the next answer is that of what is sent behind it.
    let ack = phone.request("ACK");
    phone.send(&ack).await;
    let options = phone.request("OPTIONS");
    phone.send(&options).await;
    assert_eq!(phone.next().await.method(), "OPTIONS");

    let mut connected = Phone::tcp(&world).await;
    let options = connected.request("OPTIONS");
    connected.send(&options).await;
    assert!(connected.read().await.is_none(), "it is closed");
    world.no_leg();

    // A friend is served at the same time.
    let mut friend = Phone::udp_at("127.0.0.2", &world).await;
    friend.call(&mut world, &mut line).await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_the_others_live() {
    let world = World::with(|sip, _| sip.connections = 2).await;
    let mut phones = [Phone::tcp(&world).await, Phone::tcp(&world).await];
    for phone in &mut phones {
        let options = phone.request("OPTIONS");
        assert_eq!(phone.ask(&options).await.status(), Some(200));
    }
    let mut third = Phone::tcp(&world).await;
    assert!(third.read().await.is_none(), "it is closed");
    for phone in &mut phones {
        let options = phone.request("OPTIONS");
        assert_eq!(phone.ask(&options).await.status(), Some(200));
    }
    drop(phones);
    // A place is free again as soon as the gateway has noticed.
    for _ in 0..100 {
        let mut phone = Phone::tcp(&world).await;
        let options = phone.request("OPTIONS");
        let address = phone.address;
        phone.send(&options).await;
        if let Some(answer) = phone.read().await {
            assert_eq!(answer.status(), Some(200), "to {address}");
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the places are never free again");
}
