//! Calls that end by themselves, and what is left of any call: nothing.

use std::time::Duration;
use std::time::Instant;

use tandem::engine::call::event::LegEnd;
use tandem::io::leg::LegInput;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::line::Line;
use crate::media::hears_each_other;
use crate::phone::Phone;
use crate::phone::TELEPHONE;
use crate::phone::ack_of_refusal;
use crate::world::World;
use crate::world::free_ports;

/// Short, and still long for a loopback.
const BRIEF: Duration = Duration::from_millis(400);

#[tokio::test]
async fn a_call_without_a_packet_is_ended_with_bye() {
    let mut world = World::with(|_, rtp| rtp.initial_timeout = BRIEF).await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let (_call, mut side) = phone.call(&mut world, &mut line).await;
    phone.hung_up().await;
    assert_eq!(side.ended().await, LegEnd::Lost);
    side.gone().await;
}

#[tokio::test]
async fn a_call_whose_packets_stop_is_ended_with_bye_but_not_one_on_hold() {
    let mut world = World::with(|_, rtp| rtp.timeout = BRIEF).await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let (mut call, mut side) = phone.call(&mut world, &mut line).await;
    hears_each_other(&mut line, &mut side).await;
    let offer = line.describe_as(TELEPHONE, "RTP/AVP", "sendonly", "");
    let hold = call.request("UPDATE").sdp(offer);
    phone.ask(&hold).await;
    assert!(side.held().await);
    tokio::time::sleep(3 * BRIEF).await;
    assert!(side.waiting().is_empty(), "it is still held");
    let resume = call.request("UPDATE").sdp(line.describe(TELEPHONE));
    phone.ask(&resume).await;
    assert!(!side.held().await);
    hears_each_other(&mut line, &mut side).await;
    let since = Instant::now();
    phone.hung_up().await;
    assert!(since.elapsed() >= BRIEF / 2);
    assert_eq!(side.ended().await, LegEnd::Lost);
}

#[tokio::test]
async fn without_a_free_port_a_call_is_asked_to_come_later() {
    let mut world = World::with(|_, rtp| rtp.ports = free_ports(1)).await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let (mut call, mut side) = phone.call(&mut world, &mut line).await;
    let invite = phone.invite(&line);
    let answer = phone.refused(&invite).await;
    assert_eq!(answer.status(), Some(503));
    answer.need("Retry-After");
    let bye = call.request("BYE");
    phone.ask(&bye).await;
    side.ended().await;
    phone.call(&mut world, &mut line).await;
}

/// Each call finds the only pair of ports free again, so none before it has left anything behind; in the end the tasks
/// are as many as in the beginning.
#[tokio::test]
async fn of_calls_of_every_kind_nothing_is_left() {
    const ROUNDS: usize = 12;
    let mut world = World::with(|_, rtp| rtp.ports = free_ports(1)).await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let metrics = Handle::current().metrics();
    let before = metrics.num_alive_tasks();
    for _ in 0..ROUNDS {
        // Answered, and ended by the caller.
        let (mut call, mut side) = phone.call(&mut world, &mut line).await;
        let bye = call.request("BYE");
        phone.ask(&bye).await;
        assert_eq!(side.ended().await, LegEnd::HungUp);
        side.gone().await;

        // Answered, and ended by us.
        let (_call, mut side) = phone.call(&mut world, &mut line).await;
        side.hang_up();
        phone.hung_up().await;
        assert_eq!(side.ended().await, LegEnd::HungUp);
        side.gone().await;

        // Refused at the door, and after it has rung.
        let invite = phone
            .request("INVITE")
            .sdp(line.describe(&["18 G729/8000"]));
        phone.refused(&invite).await;
        let invite = phone.invite(&line);
        phone.send(&invite).await;
        let mut side = world.leg().await;
        side.hang_up();
        let answer = phone.answer("INVITE").await;
        phone.send(&ack_of_refusal(&invite, &answer)).await;
        assert_eq!(side.ended().await, LegEnd::HungUp);
        side.gone().await;

        // Cancelled.
        let invite = phone.invite(&line);
        phone.send(&invite).await;
        phone.status(180).await;
        let mut side = world.leg().await;
        phone.send(&crate::calls::cancel(&invite)).await;
        let answer = phone.answer("INVITE").await;
        assert_eq!(answer.status(), Some(487));
        phone.send(&ack_of_refusal(&invite, &answer)).await;
        assert_eq!(side.ended().await, LegEnd::HungUp);
        side.gone().await;

        // Given up by the gateway's own side.
        let (_call, side) = phone.call(&mut world, &mut line).await;
        drop(side);
        phone.hung_up().await;
    }
    // Refused INVITEs stay for repetitions of their ACK (T4, RFC 3261 §17.2.1).
    let since = Instant::now();
    while metrics.num_alive_tasks() > before {
        let now = metrics.num_alive_tasks();
        assert!(
            since.elapsed() < Duration::from_secs(20),
            "{now} tasks, {before} before"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The stack repeats a 200 for 32 s (64·T1, RFC 3261 §13.3.1.4), so this takes as long.
#[tokio::test]
async fn calls_that_vanish_before_their_ack_are_ended_and_leave_nothing() {
    const CALLS: u16 = 24;
    let mut world = World::with(|_, rtp| {
        rtp.ports = free_ports(CALLS);
        rtp.initial_timeout = Duration::from_secs(600);
    })
    .await;
    let metrics = Handle::current().metrics();
    let before = metrics.num_alive_tasks();
    let mut phone = Phone::udp(&world).await;
    let mut line = Line::open().await;
    let mut sides = Vec::new();
    for _ in 0..CALLS {
        let invite = phone.invite(&line);
        phone.send(&invite).await;
        let mut side = world.leg().await;
        side.answer();
        sides.push(side);
    }
    let full = phone.invite(&line);
    phone.send(&full).await;
    // It has heard nothing of anything; what is sent to it is lost.
    let mut other = Phone::udp(&world).await;
    for side in &mut sides {
        let end = timeout(Duration::from_secs(60), side.0.input.recv()).await;
        let end = end.expect("in time").expect("the leg lives");
        assert!(matches!(end, LegInput::Ended(LegEnd::Lost)), "{end:?}");
        side.gone().await;
    }
    let mut calls = Vec::new();
    for _ in 0..CALLS {
        calls.push(other.call(&mut world, &mut line).await);
    }
    for (mut call, mut side) in calls {
        let bye = call.request("BYE");
        other.ask(&bye).await;
        side.ended().await;
    }
    // BYE to those who are gone is repeated for as long again.
    let since = Instant::now();
    while metrics.num_alive_tasks() > before {
        let now = metrics.num_alive_tasks();
        assert!(
            since.elapsed() < Duration::from_secs(60),
            "{now} tasks, {before} before"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
