//! One call: the state machine that listens, answers, and lets itself be interrupted.
//!
//! [`Call`] is given what happens ([`Call::handle`], [`Call::hear`], [`Call::not_taken`], [`Call::tick`]) and asked what to do
//! ([`Call::poll`], until it says `None`) and when to be ticked next ([`Call::deadline`]). It never waits and never
//! reads a clock.
//!
//! The conversation goes round like this:
//!
//! ```text
//! greeting ──▶ Answering ──FINAL──▶ the answer's first sample is played ──▶ Listening
//!                 ▲                                                              │
//!                 └── END_OF_SINGLE_UTTERANCE, no input, ceiling: half-close ────┘
//! ```
//!
//! One turn is one backend stream. The listening stream opens with the prompt, so that the caller can interrupt it; a
//! turn whose stream fails before anything was answered is sent again from the last word that was understood.
//!
//! Each concern has its file. The caller's side: [`uplink`] keeps what they said ([`history`]), [`barge_in`] decides who has the floor
//! (with [`echo`]'s help), [`dtmf`] collects digits, [`no_input`] deals with silence, [`mod@line`] knows whether they hear us.
//! The agent's side: [`answer`] reads what it wants (and [`command`] what it wants of the gateway), [`playout`] plays it,
//! [`clips`] and [`tools`] get what is elsewhere, [`heard`] tells it what was heard, [`wishes`] keeps what it asked for.
//! When things go wrong: [`faults`] tries again or falls back, [`carried`] saves the words, [`hold`] passes the time. [`hand_off`] brings the caller
//! elsewhere, [`turn`] holds the open turn, `timers` what is waited for.
//! This file only routes; the decisions that join them are in `conversation`.

pub mod end;
pub mod event;
pub mod notice;
pub mod settings;

mod answer;
mod barge_in;
mod carried;
mod clips;
mod command;
mod conversation;
mod dtmf;
mod echo;
mod faults;
mod hand_off;
mod heard;
mod history;
mod hold;
mod line;
mod no_input;
mod playout;
mod timers;
mod tools;
mod turn;
mod uplink;
mod wishes;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Instant;

use crate::engine::call::barge_in::Floor;
use crate::engine::call::clips::Clips;
use crate::engine::call::dtmf::Digits;
use crate::engine::call::dtmf::Presses;
use crate::engine::call::end::EndReason;
use crate::engine::call::event::Action;
use crate::engine::call::event::Event;
use crate::engine::call::event::StreamId;
use crate::engine::call::event::TurnInput;
use crate::engine::call::faults::Failures;
use crate::engine::call::hand_off::HandOff;
use crate::engine::call::heard::Heard;
use crate::engine::call::line::Line;
use crate::engine::call::notice::Measure;
use crate::engine::call::playout::Playout;
use crate::engine::call::playout::Step;
use crate::engine::call::settings::CallSettings;
use crate::engine::call::timers::Timer;
use crate::engine::call::timers::Timers;
use crate::engine::call::tools::Tools;
use crate::engine::call::turn::Turn;
use crate::engine::call::uplink::Uplink;
use crate::engine::call::wishes::Wishes;
use crate::engine::media::frame::Frame;

/// Actions that may wait before the queue must grow: one answer's notices, a cut and a new stream.
const ACTIONS: usize = 64;

/// One call.
pub struct Call {
    settings: CallSettings,
    now: Instant,
    /// When the line was opened.
    began: Instant,
    line: Line,
    actions: VecDeque<Action<'static>>,
    timers: Timers,
    uplink: Uplink,
    playout: Playout,
    floor: Floor,
    heard: Heard,
    clips: Clips,
    tools: Tools,
    agent: Wishes,
    digits: Digits,
    presses: Presses,
    /// The turn whose stream is open.
    turn: Option<Turn>,
    next_stream: u32,
    failures: Failures,
    /// What is sent again when the retry timer fires; the caller's voice if nothing is here.
    retry: Option<TurnInput>,
    /// What was understood on streams that failed, and no agent has got yet.
    carried: String,
    /// How long the caller may be silent, by the agent's word or ours.
    no_input_timeout: std::time::Duration,
    /// Silent turns in a row.
    no_input_turns: u32,
    /// When the caller stopped speaking, until the agent's first audio follows.
    awaiting_audio: Option<Instant>,
    /// Whether the caller has heard anything yet.
    audio_began: bool,
    /// What to do once everything queued has been heard.
    ending: Option<EndReason>,
    hand_off: HandOff,
    ended: bool,
}

impl Call {
    /// A call that begins now. Poll it at once: it has a first turn to open.
    pub fn new(settings: CallSettings, now: Instant) -> Self {
        let mut call = Self {
            now,
            began: now,
            line: Line::Open,
            actions: VecDeque::with_capacity(ACTIONS),
            timers: Timers::default(),
            uplink: Uplink::new(settings.leg.rate, settings.uplink, settings.chunk, now),
            playout: Playout::new(settings.leg, now),
            floor: Floor::new(now),
            heard: Heard::default(),
            clips: Clips::default(),
            tools: Tools::default(),
            agent: Wishes::default(),
            digits: Digits::new(settings.max_digits, settings.interdigit_timeout),
            presses: Presses::default(),
            turn: None,
            next_stream: 1,
            failures: Failures::default(),
            retry: None,
            carried: String::new(),
            no_input_timeout: settings.no_input.timeout,
            no_input_turns: 0,
            awaiting_audio: None,
            audio_began: false,
            ending: None,
            hand_off: HandOff::None,
            ended: false,
            settings,
        };
        call.ring();
        call.timers
            .set(Timer::CallDuration, now + call.settings.call_duration);
        call.begin();
        call
    }

    /// Something happened.
    pub fn handle(&mut self, event: Event, now: Instant) {
        self.now = now;
        if self.ended {
            return;
        }
        match event {
            Event::Digit(digit, source) => self.on_digit(digit, source),
            Event::MarkReached(segment) => {
                while let Some(finished) = self.playout.mark_reached(segment) {
                    self.on_segment_over(finished);
                }
            }
            Event::Answered => self.on_answered(),
            Event::Held(held) => self.on_held(held),
            Event::TransferEnded(outcome) => self.on_transfer_ended(outcome),
            Event::LegEnded(end) => self.end(self.leg_ended_as(end.into())),
            Event::Backend(stream, event) => self.on_backend(stream, event),
            Event::Fetched(clip, outcome) => self.on_fetched(clip, outcome),
            Event::ToolEnded(result) => self.on_tool_ended(result),
            Event::Transfer(transfer) => self.on_transfer_ordered(transfer),
            Event::Stop(reason) => self.end(reason),
        }
        self.watch_for_waiting();
    }

    /// The caller's next frame.
    pub fn hear(&mut self, frame: &Frame, now: Instant) {
        self.now = now;
        if !self.ended {
            let before = self.uplink.duration_of(self.uplink.captured());
            let found = self.uplink.capture(frame, now);
            self.floor.heard(frame, found, before);
            self.on_voice();
        }
    }

    /// A stream did not take the last so many bytes of an [`Action::SendAudio`]: whole samples, which it is given again.
    pub fn not_taken(&mut self, stream: StreamId, bytes: usize, now: Instant) {
        self.now = now;
        if self.listening() == Some(stream) {
            let width = self.settings.uplink.encoding.bytes_per_sample();
            self.uplink.take_back((bytes / width) as u64, now);
        }
    }

    /// Time has passed. To be called at [`Call::deadline`], or at any other moment.
    pub fn tick(&mut self, now: Instant) {
        self.now = now;
        if self.ended {
            return;
        }
        self.uplink.fill_silence(now);
        while let Some(timer) = self.timers.expired(now) {
            self.on_timer(timer);
        }
        self.watch_for_waiting();
    }

    /// The next thing to do; `None` until something happens or [`Call::deadline`] comes.
    pub fn poll(&mut self) -> Option<Action<'_>> {
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Some(action);
            }
            if self.ended {
                return None;
            }
            match self.playout.step(self.now) {
                Some(Step::Frame { lateness, at }) => {
                    self.floor.played(self.playout.frame(), at);
                    self.actions
                        .push_back(Action::Measure(Measure::TickLateness(lateness)));
                    return Some(Action::Play(self.playout.frame()));
                }
                Some(Step::Began(_)) => self.on_segment_began(),
                Some(Step::Sent(id)) if self.settings.leg.confirms_playout => {
                    return Some(Action::Mark(id));
                }
                Some(Step::Sent(_)) => {}
                Some(Step::Over(finished)) => self.on_segment_over(finished),
                None => break,
            }
        }
        let stream = self.listening()?;
        self.uplink
            .next_chunk(self.now)
            .map(|bytes| Action::SendAudio(stream, bytes))
    }

    /// When to tick at the latest; `None` once the call is over.
    pub fn deadline(&self) -> Option<Instant> {
        if self.ended {
            return None;
        }
        [
            self.timers.next(),
            self.playout.deadline(),
            self.uplink.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Whether the call is over; [`Action::End`] has been or will be polled.
    pub const fn is_over(&self) -> bool {
        self.ended
    }

    /// The stream that takes the caller's voice now.
    fn listening(&self) -> Option<StreamId> {
        self.turn
            .as_ref()
            .filter(|turn| turn.phase == turn::Phase::Listening)
            .map(|turn| turn.stream)
    }
}
