//! Handing a caller over by REFER.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tandem::engine::call::event::LegEnd;
use tandem::engine::call::event::Transfer;
use tandem::io::leg::LegInput;
use tandem::io::leg::LegOutput;

use crate::line::Line;
use crate::message::Message;
use crate::phone::Call;
use crate::phone::Phone;
use crate::world::CallSide;
use crate::world::World;

const ACTIVE: &str = "active;expires=60";
const OVER: &str = "terminated;reason=noresource";

fn transfer(side: &mut CallSide, to: &str, metadata: Value) {
    let to = to.to_owned();
    side.say(LegOutput::Transfer(Box::new(Transfer { to, metadata })));
}

async fn outcome(side: &mut CallSide) -> Result<(), String> {
    match side.event().await {
        LegInput::TransferEnded(outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

async fn notify(phone: &mut Phone, call: &mut Call, fragment: &str, state: &str) -> Message {
    let notify = call
        .request("NOTIFY")
        .with("Event", "refer")
        .with("Subscription-State", state)
        .body("message/sipfrag;version=2.0", fragment);
    phone.ask(&notify).await
}

#[tokio::test]
async fn a_transfer_is_a_refer_with_what_the_agent_sends_along() {
    let mut world = World::open().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let (call, mut side) = phone.call(&mut world, &mut line).await;
    transfer(
        &mut side,
        "+1 (800) 555-1212",
        json!({"account_id": "42\r\nX-Evil: 1"}),
    );
    let refer = phone.asked("REFER").await;
    let host = phone.address;
    assert_eq!(refer.need("Refer-To"), format!("<sip:+18005551212@{host}>"));
    assert_eq!(refer.need("Call-ID"), call.invite.header("Call-ID"));
    assert!(
        refer.need("Referred-By").starts_with("<sip:100@"),
        "{}",
        refer.text
    );
    assert_eq!(refer.need("X-Tandem-Account-Id"), "42%0D%0AX-Evil: 1");
    assert!(refer.need("User-to-User").ends_with(";encoding=hex"));
    assert_eq!(refer.header("X-Evil"), None);
}

#[tokio::test]
async fn a_transfer_has_succeeded_when_notify_says_so() {
    let mut world = World::open().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let (mut call, mut side) = phone.call(&mut world, &mut line).await;
    transfer(&mut side, "sip:bob@example.com", Value::Null);
    let refer = phone.asked("REFER").await;
    assert_eq!(refer.need("Refer-To"), "<sip:bob@example.com>");
    phone.reply(&refer, "202 Accepted", "", "").await;
    for fragment in ["SIP/2.0 100 Trying\r\n", "SIP/2.0 180 Ringing\r\n"] {
        let answer = notify(&mut phone, &mut call, fragment, ACTIVE).await;
        assert_eq!(answer.status(), Some(200));
    }
    notify(&mut phone, &mut call, "SIP/2.0 200 OK\r\n", OVER).await;
    assert_eq!(outcome(&mut side).await, Ok(()));
    // The caller is with somebody else, and takes leave.
    let bye = call.request("BYE");
    assert_eq!(phone.ask(&bye).await.status(), Some(200));
    assert_eq!(side.ended().await, LegEnd::HungUp);
}

#[tokio::test]
async fn a_transfer_that_is_refused_or_not_answered_by_its_target_has_failed_and_the_call_goes_on()
{
    let mut world = World::open().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let (mut call, mut side) = phone.call(&mut world, &mut line).await;

    transfer(&mut side, "1000", Value::Null);
    let refer = phone.asked("REFER").await;
    phone.reply(&refer, "603 Decline", "", "").await;
    let reason = outcome(&mut side).await.expect_err("refused");
    assert!(reason.contains("603"), "{reason}");

    for (fragment, state) in [
        ("SIP/2.0 486 Busy Here\r\n", OVER),
        ("SIP/2.0 503 Service Unavailable\r\n", ACTIVE),
        ("SIP/2.0 100 Trying\r\n", OVER),
        ("", OVER),
    ] {
        transfer(&mut side, "1000", Value::Null);
        let refer = phone.asked("REFER").await;
        phone.reply(&refer, "202 Accepted", "", "").await;
        notify(&mut phone, &mut call, fragment, state).await;
        outcome(&mut side).await.expect_err("not taken");
    }

    for (to, named) in [
        ("sip:pbx", "<sip:pbx>".to_owned()),
        ("SIPS:bob@example.com", "<sips:bob@example.com>".to_owned()),
        ("*72#", format!("<sip:*72%23@{}>", phone.address)),
    ] {
        transfer(&mut side, to, Value::Null);
        let refer = phone.asked("REFER").await;
        assert_eq!(refer.need("Refer-To"), named, "{to}");
        phone.reply(&refer, "603 Decline", "", "").await;
        outcome(&mut side).await.expect_err("refused");
    }

    // Nobody can be meant.
    for to in ["", "\u{7f}", "bob", "sip:bob@example.com>\r\nX-Evil: 1"] {
        transfer(&mut side, to, Value::Null);
        outcome(&mut side).await.expect_err("no address");
    }
    crate::media::hears_each_other(&mut line, &mut side).await;
}

#[tokio::test]
async fn a_transfer_of_which_nothing_is_heard_has_failed_in_time() {
    let brief = Duration::from_millis(300);
    let mut world = World::with(|sip, _| sip.transfer_timeout = brief).await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let (mut call, mut side) = phone.call(&mut world, &mut line).await;
    transfer(&mut side, "1000", Value::Null);
    let refer = phone.asked("REFER").await;
    phone.reply(&refer, "202 Accepted", "", "").await;
    outcome(&mut side).await.expect_err("silence");
    // What is said too late is answered, and changes nothing.
    let answer = notify(&mut phone, &mut call, "SIP/2.0 200 OK\r\n", OVER).await;
    assert_eq!(answer.status(), Some(200));
    crate::media::hears_each_other(&mut line, &mut side).await;
}
