//! What the caller's screen is told of the call.

use serde_json::Value;
use serde_json::json;
use tandem::engine::call::end::EndReason;
use tandem::engine::call::event::FaultKind;
use tandem::engine::call::notice::Notice;

use crate::caller::Caller;
use crate::caller::Channel;
use crate::caller::Manner;
use crate::world::World;

#[tokio::test]
async fn the_journal_arrives_in_order_on_every_channel_and_ends_with_ended() {
    let mut world = World::open().await;
    let (mut caller, mut side) = Caller::call(&mut world, Manner::default()).await;
    let words = |text: &str| Notice::Final {
        text: text.to_owned(),
    };
    for number in 0..20 {
        side.journal.write(words(&number.to_string()));
    }
    for number in 0..20 {
        let event = event(&mut caller.events).await;
        assert_eq!(event, json!({"type": "final", "text": number.to_string()}));
    }
    // Opened late, and told all the same.
    let mut late = caller.open("late").await;
    side.journal.write(words("20"));
    for number in 0..=20 {
        let event = event(&mut late).await;
        assert_eq!(event, json!({"type": "final", "text": number.to_string()}));
    }
    side.hang_up();
    side.journal.write(words("21"));
    side.journal.end(EndReason::AgentEnded);
    assert_eq!(event(&mut caller.events).await["text"], "20");
    for channel in [&mut caller.events, &mut late] {
        assert_eq!(event(channel).await["text"], "21");
        let last = event(channel).await;
        assert_eq!(last, json!({"type": "ended", "reason": "agent_ended"}));
        assert!(channel.next().await.is_none(), "something follows");
    }
}

#[tokio::test]
async fn what_callers_may_not_read_does_not_arrive() {
    const SECRET: &str = "not for callers";
    let mut world = World::open().await;
    let (mut caller, side) = Caller::call(&mut world, Manner::default()).await;
    let secret = || SECRET.to_owned();
    let secrets = || json!({ "note": SECRET });
    for notice in [
        Notice::Unsupported { message: secret() },
        Notice::BackendFault {
            fault: FaultKind::Unavailable,
            message: secret(),
        },
        Notice::Transfer {
            to: Some("+18005551212".to_owned()),
            metadata: secrets(),
        },
        Notice::TransferFailed { reason: secret() },
        Notice::ConversationSuccess {
            metadata: secrets(),
        },
        Notice::Payload {
            payload: json!({"show": "map"}),
        },
    ] {
        side.journal.write(notice);
    }
    side.journal.end(EndReason::AgentEnded);
    let mut kinds = Vec::new();
    loop {
        let event = event(&mut caller.events).await;
        assert!(!event.to_string().contains(SECRET), "{event}");
        let kind = event["type"].as_str().expect("a type").to_owned();
        match kind.as_str() {
            "transfer" => assert_eq!(event["to"], "+18005551212"),
            "payload" => assert_eq!(event["payload"]["show"], "map"),
            "backend_fault" => assert_eq!(event["fault"], FaultKind::Unavailable.label()),
            _ => {}
        }
        kinds.push(kind);
        if kinds.last().is_some_and(|kind| kind == "ended") {
            break;
        }
    }
    let expected = [
        "backend_fault",
        "transfer",
        "transfer_failed",
        "conversation_success",
        "payload",
        "ended",
    ];
    assert_eq!(kinds, expected);
}

/// The next event, without its time.
async fn event(channel: &mut Channel) -> Value {
    let mut event = channel.next().await.expect("the channel is open");
    let time = event.as_object_mut().expect("an object").remove("at_ms");
    assert!(time.is_some_and(|time| time.is_u64()), "{event}");
    event
}
