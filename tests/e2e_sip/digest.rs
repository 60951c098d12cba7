//! Passwords.

use md5::Digest as _;
use md5::Md5;
use serde_json::Value;
use sha2::Sha256;
use tandem::config::Secret;
use tandem::config::SecretSource;
use tandem::config::Sip;
use tandem::config::SipRegister;
use tandem::config::SipUser;
use tandem::engine::call::event::Transfer;
use tandem::io::ingress::Refusal;
use tandem::io::leg::LegOutput;

use crate::line::Line;
use crate::media::hears_each_other;
use crate::message::Message;
use crate::message::Request;
use crate::phone::Phone;
use crate::phone::ack_of_refusal;
use crate::world::World;

const PASSWORD: &str = "open sesame";

fn ask_alice(sip: &mut Sip) {
    sip.auth.users = vec![SipUser {
        username: "alice".to_owned(),
        password: Secret::new(PASSWORD.to_owned()),
        password_from: SecretSource::Environment("ALICE".to_owned()),
    }];
}

async fn guarded() -> World {
    World::with(|sip, _| ask_alice(sip)).await
}

/// A parameter of a challenge.
fn parameter<'a>(challenge: &'a str, name: &str) -> &'a str {
    let list = challenge.strip_prefix("Digest ").expect("a digest");
    let mut parameters = list.split(',').filter_map(|one| one.trim().split_once('='));
    let (_, value) = parameters
        .find(|(found, _)| *found == name)
        .unwrap_or_else(|| panic!("no {name} in {challenge}"));
    value.trim_matches('"')
}

/// A hash in hexadecimal, by its name in the challenge.
fn hash(algorithm: &str, text: &str) -> String {
    let bytes = match algorithm {
        "MD5" => Md5::digest(text).to_vec(),
        "SHA-256" => Sha256::digest(text).to_vec(),
        other => panic!("{other}"),
    };
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The value of Authorization (RFC 7616 §3.4) for the use of a nonce that is number `count`.
fn authorization(challenge: &str, uri: &str, user: &str, password: &str, count: u32) -> String {
    let (realm, nonce) = (parameter(challenge, "realm"), parameter(challenge, "nonce"));
    let algorithm = parameter(challenge, "algorithm");
    let secret = hash(algorithm, &format!("{user}:{realm}:{password}"));
    let request = hash(algorithm, &format!("INVITE:{uri}"));
    let response = format!("{secret}:{nonce}:{count:08x}:c0ffee:auth:{request}");
    let response = hash(algorithm, &response);
    format!(
        "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", \
         response=\"{response}\", algorithm={algorithm}, qop=auth, nc={count:08x}, cnonce=\"c0ffee\""
    )
}

/// The INVITE once more, with alice's password.
fn authorised(invite: &Request, challenge: &str, sequence: u32, count: u32) -> Request {
    let proof = authorization(challenge, &invite.uri, "alice", PASSWORD, count);
    invite.clone().again(sequence).with("Authorization", proof)
}

fn challenges(answer: &Message) -> Vec<String> {
    assert_eq!(answer.status(), Some(401), "{}", answer.text);
    let challenges = answer.all("WWW-Authenticate");
    challenges.map(str::to_owned).collect()
}

#[tokio::test]
async fn a_pbx_that_asks_who_we_are_in_a_call_to_our_extension_is_told() {
    let mut world = World::with(|sip, _| {
        sip.register = vec![SipRegister {
            // Nobody is there, which is no reason not to take calls.
            registrar: "sip:127.0.0.1:9".to_owned(),
            username: "100".to_owned(),
            auth_username: Some("gateway".to_owned()),
            password: Secret::new(PASSWORD.to_owned()),
            password_from: SecretSource::Environment("EXTENSION".to_owned()),
            expires: SipRegister::DEFAULT_EXPIRES,
            domain: None,
        }];
    })
    .await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let (_call, mut side) = phone.call(&mut world, &mut line).await;
    side.say(LegOutput::Transfer(Box::new(Transfer {
        to: "1000".to_owned(),
        metadata: Value::Null,
    })));
    let refer = phone.asked("REFER").await;
    assert_eq!(refer.header("Authorization"), None);
    let challenge =
        "WWW-Authenticate: Digest realm=\"pbx\",nonce=\"n0nce\",algorithm=MD5,qop=\"auth\"\r\n";
    phone.reply(&refer, "401 Unauthorized", challenge, "").await;
    let again = phone.asked("REFER").await;
    let proof = again.need("Authorization");
    assert_eq!(parameter(proof, "username"), "gateway");
    let secret = hash("MD5", &format!("gateway:pbx:{PASSWORD}"));
    let request = hash("MD5", &format!("REFER:{}", parameter(proof, "uri")));
    let (count, client) = (parameter(proof, "nc"), parameter(proof, "cnonce"));
    let wanted = hash(
        "MD5",
        &format!("{secret}:n0nce:{count}:{client}:auth:{request}"),
    );
    assert_eq!(parameter(proof, "response"), wanted);
    phone.reply(&again, "202 Accepted", "", "").await;
    hears_each_other(&mut line, &mut side).await;
}

#[tokio::test]
async fn a_call_with_the_right_password_is_taken_by_either_algorithm_and_transport() {
    // To someone from an address that is let in, both challenges are worth their bytes.
    let mut world = World::with(|sip, _| {
        ask_alice(sip);
        sip.allow = vec!["127.0.0.0/8".parse().expect("a network")];
    })
    .await;
    for phone in [Phone::udp(&world).await, Phone::tcp(&world).await] {
        let mut phone = phone;
        for (at, algorithm) in ["MD5", "SHA-256"].into_iter().enumerate() {
            let mut line = Line::open().await;
            let invite = phone.invite(&line);
            let challenges = challenges(&phone.refused(&invite).await);
            world.no_leg();
            assert_eq!(challenges.len(), 2);
            assert_eq!(parameter(&challenges[at], "algorithm"), algorithm);
            assert_eq!(parameter(&challenges[at], "realm"), "tandem");
            let invite = authorised(&invite, &challenges[at], 2, 1);
            let (mut call, mut side) = phone.call_by(&mut world, &mut line, invite).await;
            let headers = &side.0.info.headers;
            assert!(!headers.iter().any(|(name, _)| name == "Authorization"));
            hears_each_other(&mut line, &mut side).await;
            // Within the call nobody is asked again.
            let bye = call.request("BYE");
            assert_eq!(phone.ask(&bye).await.status(), Some(200));
        }
    }
}

#[tokio::test]
async fn an_invite_with_a_password_that_is_repeated_is_no_replay() {
    let mut world = guarded().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let invite = phone.invite(&line);
    let challenges = challenges(&phone.refused(&invite).await);
    let invite = authorised(&invite, &challenges[0], 2, 1);
    for _ in 0..3 {
        phone.send(&invite).await;
    }
    let (_call, mut side) = phone.call_by(&mut world, &mut line, invite).await;
    hears_each_other(&mut line, &mut side).await;
    world.no_leg();
}

#[tokio::test]
async fn whoever_has_only_listened_gets_nowhere_with_what_he_heard() {
    let mut world = guarded().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let invite = phone.invite(&line);
    let challenges = challenges(&phone.refused(&invite).await);
    let invite = authorised(&invite, &challenges[0], 2, 1);
    let (_call, _side) = phone.call_by(&mut world, &mut line, invite.clone()).await;
    let mut thief = Phone::udp(&world).await;
    let stolen = thief
        .invite(&line)
        .with("Authorization", invite.header("Authorization"));
    let mut stolen = stolen;
    stolen.uri.clone_from(&invite.uri);
    assert_eq!(thief.refused(&stolen).await.status(), Some(401));
    world.no_leg();
    // Its owner may use the nonce again, and counts on.
    let next = authorised(&phone.invite(&line), &challenges[0], 2, 2);
    let (_call, _side) = phone.call_by(&mut world, &mut line, next).await;
}

#[tokio::test]
async fn a_wrong_password_user_nonce_or_address_gets_401_every_time() {
    let mut world = guarded().await;
    let (mut phone, line) = (Phone::udp(&world).await, Line::open().await);
    let first = phone.invite(&line);
    let challenge = challenges(&phone.refused(&first).await).remove(0);
    let uri = &first.uri;
    let forged = challenge.replace(parameter(&challenge, "nonce"), "bm8gbm9uY2Ugb2Ygb3Vycw");
    for proof in [
        authorization(&challenge, uri, "alice", "wrong", 1),
        authorization(&challenge, uri, "bob", PASSWORD, 1),
        authorization(&challenge, "sip:elsewhere", "alice", PASSWORD, 1).replace("elsewhere", uri),
        authorization(&forged, uri, "alice", PASSWORD, 1),
        "Digest".to_owned(),
        "Basic YWxpY2U6b3BlbiBzZXNhbWU=".to_owned(),
        "\u{e9},=\"".to_owned(),
    ] {
        let invite = phone.invite(&line).with("Authorization", &*proof);
        let answer = phone.refused(&invite).await;
        assert_eq!(answer.status(), Some(401), "{proof}");
        world.no_leg();
    }
}

#[tokio::test]
async fn a_401_to_a_stranger_is_not_larger_than_his_request() {
    let world = guarded().await;
    let (mut phone, line) = (Phone::udp(&world).await, Line::open().await);
    let invite = phone.invite(&line);
    let answer = phone.refused(&invite).await;
    let (asked, got) = (invite.text().len(), answer.text.len());
    assert!(got <= asked, "{got} bytes for {asked}");
    assert_eq!(parameter(&challenges(&answer)[0], "algorithm"), "MD5");
    // No form of a challenge is as small as this; the next answer is that of what is sent behind it.
    let bare = phone.request("INVITE");
    phone.send(&bare).await;
    let options = phone.request("OPTIONS");
    phone.send(&options).await;
    assert_eq!(phone.next().await.method(), "OPTIONS");
}

#[tokio::test]
async fn nobody_learns_what_is_served_before_he_has_proved_who_he_is() {
    let mut world = guarded().await;
    world.fake.refuse(Some(Refusal::NoRoute));
    let (mut phone, line) = (Phone::udp(&world).await, Line::open().await);
    let invite = phone
        .invite(&line)
        .sdp("nonsense ".repeat(30))
        .with("Require", "teleport");
    let answer = phone.ask(&invite).await;
    assert_eq!(answer.status(), Some(401));
    phone.send(&ack_of_refusal(&invite, &answer)).await;
    let options = phone.request("OPTIONS");
    let answer = phone.ask(&options).await;
    assert_eq!((answer.status(), answer.header("Allow")), (Some(200), None));
    world.no_leg();
}
