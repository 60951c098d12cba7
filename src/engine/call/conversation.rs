//! The decisions that join the concerns: when to listen, when to half-close, when to cut, when to end.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::call::Call;
use crate::engine::call::answer;
use crate::engine::call::dtmf::Collected;
use crate::engine::call::end::EndReason;
use crate::engine::call::event::Action;
use crate::engine::call::event::Answer;
use crate::engine::call::event::BackendEvent;
use crate::engine::call::event::BargeInWindow;
use crate::engine::call::event::Digit;
use crate::engine::call::event::DigitSource;
use crate::engine::call::event::Fault;
use crate::engine::call::event::FaultKind;
use crate::engine::call::event::MatchKind;
use crate::engine::call::event::OpenTurn;
use crate::engine::call::event::StreamId;
use crate::engine::call::event::TurnInput;
use crate::engine::call::line::Line;
use crate::engine::call::notice::Measure;
use crate::engine::call::notice::Notice;
use crate::engine::call::notice::TurnKind;
use crate::engine::call::notice::TurnResult;
use crate::engine::call::playout::Finished;
use crate::engine::call::settings::BargeInMode;
use crate::engine::call::timers::Timer;
use crate::engine::call::turn::Phase;
use crate::engine::call::turn::Turn;

/// The longest wait for an answer. Agents with slow webhooks take many seconds; nobody waits longer than this.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Added to the no-input time, so that a backend which watches the silence itself goes first.
const NO_INPUT_GRACE: Duration = Duration::from_millis(700);
/// How long voice must last over a prompt to cut it, in the mode that goes by voice.
const VOICE_TO_CUT: Duration = Duration::from_millis(300);
/// Assumed between the end of speech and its final transcript when the backend does not say where speech ended.
const FINAL_DELAY: Duration = Duration::from_millis(300);

impl Call {
    /// The first turn.
    pub(super) fn begin(&mut self) {
        match self.settings.greeting.clone() {
            Some(input) => self.open(input),
            None => self.listen(),
        }
    }

    /// Opens a stream for an input that is complete.
    pub(super) fn open(&mut self, input: TurnInput) {
        let stream = StreamId(self.next_stream);
        self.next_stream += 1;
        let turn = Turn::new(stream, input.clone());
        self.tell(Notice::TurnStarted { input: turn.kind() });
        if turn.phase == Phase::Answering {
            self.timers.set(Timer::Answer, self.now + ANSWER_TIMEOUT);
        }
        self.turn = Some(turn);
        self.act(Action::Open(OpenTurn {
            stream,
            input,
            parameters: BTreeMap::new(),
            model: None,
        }));
    }

    /// Opens a stream for the caller's voice.
    fn listen(&mut self) {
        self.open_line();
        let opened = self.uplink.open_feed(self.heard_to, self.now);
        if !opened.lost.is_zero() {
            self.measure(Measure::Unheard(opened.lost));
        }
        let prompt = self.playout.remaining(self.now);
        let protected = match self.settings.barge_in.mode {
            BargeInMode::Off => prompt,
            BargeInMode::Words | BargeInMode::Voice => self.playout.uninterruptible(self.now),
        };
        // Windows count the stream's own audio, of which the replayed part lies before the prompt (facts §4). Speech
        // inside `no_barge_in` is never recognised, so replayed words would be lost there: then nothing is protected
        // by the backend, and we alone refuse to cut.
        let protected = if opened.has_voice {
            Duration::ZERO
        } else {
            protected
        };
        let no_barge_in = if protected.is_zero() {
            protected
        } else {
            protected + opened.replayed
        };
        let total = if prompt.is_zero() {
            prompt
        } else {
            prompt + opened.replayed
        };
        let barge_in = BargeInWindow { no_barge_in, total };
        self.open(TurnInput::Speech {
            format: self.settings.uplink,
            barge_in,
        });
        self.timers.set(
            Timer::StreamCeiling,
            self.now + self.settings.stream_ceiling,
        );
        self.watch_for_silence();
    }

    /// Does what comes next when no turn is open.
    pub(super) fn proceed(&mut self) {
        if self.turn.is_some() || self.timers.is_set(Timer::Retry) || self.line == Line::Held {
            return;
        }
        if let Some(reason) = self.ending {
            if !self.playout.is_playing() {
                self.leave(reason);
            }
        } else if let Some(digits) = self.digits.take() {
            self.open(digits);
        } else if !self.playout.is_waiting() {
            self.listen();
        }
    }

    /// Starts the no-input timer if the caller is expected to speak and the prompt is over.
    pub(super) fn watch_for_silence(&mut self) {
        let expected = self.line == Line::Open
            && self
                .turn
                .as_ref()
                .is_some_and(|turn| turn.phase == Phase::Listening && !turn.words);
        if expected && !self.playout.is_playing() && !self.digits.is_pending() {
            self.timers.set(
                Timer::NoInput,
                self.now + self.no_input_timeout + NO_INPUT_GRACE,
            );
        }
    }

    pub(super) fn on_backend(&mut self, stream: StreamId, event: BackendEvent) {
        if self.turn.as_ref().is_none_or(|turn| turn.stream != stream) {
            return;
        }
        match event {
            BackendEvent::Interim { text } => {
                self.on_words(&text);
                self.tell(Notice::Interim { text });
            }
            BackendEvent::Final { text, end_offset } => {
                self.on_words(&text);
                self.on_final(end_offset);
                self.tell(Notice::Final { text });
            }
            BackendEvent::EndOfUtterance => self.stop_listening(),
            BackendEvent::Answer(answer) => self.on_answer(&answer),
            BackendEvent::Closed(fault) => self.on_closed(fault),
        }
    }

    /// The caller has been heard to say something.
    fn on_words(&mut self, text: &str) {
        if text.trim().is_empty() {
            return;
        }
        if let Some(turn) = &mut self.turn {
            turn.words = true;
        }
        self.timers.stop(Timer::NoInput);
        if self.settings.barge_in.mode != BargeInMode::Off {
            self.barge_in();
        }
    }

    fn on_final(&mut self, end_offset: Option<Duration>) {
        let Some(fed) = self.uplink.fed_or_last() else {
            return;
        };
        let end = match end_offset {
            Some(offset) => fed.begin + self.uplink.samples_in(offset),
            None => self
                .uplink
                .captured()
                .saturating_sub(self.uplink.samples_in(FINAL_DELAY)),
        };
        if let Some(turn) = &mut self.turn {
            turn.final_end = Some(end.clamp(fed.begin, self.uplink.captured()));
        }
    }

    /// The utterance is over: half-close and wait for the answer. What the caller says from here on is kept.
    fn stop_listening(&mut self) {
        let Some(turn) = self
            .turn
            .as_mut()
            .filter(|turn| turn.phase == Phase::Listening)
        else {
            return;
        };
        turn.phase = Phase::Answering;
        let stream = turn.stream;
        self.uplink.close_feed();
        self.timers.stop(Timer::NoInput);
        self.timers.stop(Timer::StreamCeiling);
        self.timers.set(Timer::Answer, self.now + ANSWER_TIMEOUT);
        self.act(Action::HalfClose(stream));
    }

    /// We end the utterance ourselves, so the rest of it must be sent first.
    pub(super) fn cut_off_listening(&mut self) {
        let Some(stream) = self.listening() else {
            return;
        };
        while let Some(bytes) = self.uplink.rest() {
            let bytes = bytes.to_vec();
            self.actions
                .push_back(Action::SendRest(stream, bytes.into()));
        }
        self.stop_listening();
    }

    fn on_answer(&mut self, answer: &Answer) {
        self.stop_listening();
        if let Some(turn) = &mut self.turn {
            turn.answered = true;
        }
        // A later response replaces what may be cancelled (facts §3.2).
        if self.playout.is_playing() && self.playout.is_all_cancellable() {
            self.cut_playout();
        }
        let plan = answer::plan(answer, self.settings.downlink);
        if !plan.speech.is_empty() {
            self.await_audio();
        }
        for notice in plan.notices {
            self.tell(notice);
        }
        for speech in plan.speech {
            self.playout.push(speech, self.now);
        }
        for request in plan.transfers {
            self.want_hand_off(request.to, request.metadata);
        }
        if self.playout.is_playing() {
            self.open_line();
        }
        // A transfer asked for by any response of the turn wins over a hang-up.
        if self.ending != Some(EndReason::Transferred) {
            self.ending = plan.ending.or(self.ending);
        }
        if answer.partial.is_some() {
            self.timers.set(Timer::Answer, self.now + ANSWER_TIMEOUT);
        } else {
            self.on_final_answer(answer);
        }
    }

    fn on_final_answer(&mut self, answer: &Answer) {
        let Some(turn) = self.turn.take() else { return };
        self.timers.stop(Timer::Answer);
        self.failures.clear();
        let result = match answer.match_kind {
            MatchKind::NoMatch => TurnResult::NoMatch,
            MatchKind::NoInput => TurnResult::NoInput,
            MatchKind::Other | MatchKind::Intent | MatchKind::Event => TurnResult::Answered,
        };
        self.measure(Measure::Turn(turn.kind(), result));
        self.note_understood(&turn);
        self.digits.configure(answer.settings.dtmf.clone());
        self.no_input_timeout = answer
            .settings
            .no_speech_timeout
            .unwrap_or(self.settings.no_input.timeout);
        self.no_input_turns = if result == TurnResult::NoInput {
            self.no_input_turns + 1
        } else {
            0
        };
        if self.no_input_turns >= self.settings.no_input.limit {
            self.ending = self.ending.or(Some(EndReason::NoInput));
        }
        self.proceed();
    }

    /// Remembers how far the agent has understood the caller.
    fn note_understood(&mut self, turn: &Turn) {
        if turn.kind() == TurnKind::Speech {
            let fed_to = self.uplink.fed_or_last().map(|fed| fed.end);
            self.heard_to = turn.final_end.or(fed_to).unwrap_or(self.heard_to);
        } else {
            // Listening becomes due with the prompt that follows; voice before it answered nothing.
            self.heard_to = self.uplink.captured();
        }
    }

    /// The first speech of an answer to the caller's words is about to be played: its delay is measured from their end.
    fn await_audio(&mut self) {
        let Some(turn) = self.turn.as_mut().filter(|turn| !turn.spoken) else {
            return;
        };
        turn.spoken = true;
        if turn.kind() == TurnKind::Speech && turn.words {
            let end_of_speech = turn.final_end.or_else(|| self.uplink.last_voice());
            self.awaiting_audio = end_of_speech.map(|sample| self.uplink.wall_time(sample));
        }
    }

    /// The stream is over without a final answer.
    fn on_closed(&mut self, fault: Option<Fault>) {
        let Some(turn) = self.turn.take() else { return };
        let message = || "the stream was closed without an answer".to_owned();
        let fault = fault.unwrap_or_else(|| Fault {
            kind: FaultKind::Other,
            message: message(),
        });
        self.timers.stop(Timer::Answer);
        self.timers.stop(Timer::NoInput);
        self.timers.stop(Timer::StreamCeiling);
        self.measure(Measure::Turn(turn.kind(), TurnResult::Failed));
        self.uplink.close_feed();
        let fed = self.uplink.fed_or_last();
        let delay = self.failures.retry_after(&fault);
        self.tell(Notice::BackendFault {
            fault: fault.kind,
            message: fault.message,
        });
        match (delay, turn.answered) {
            // The agent may have acted on it: what is left is to hear the caller again.
            (Some(_), true) => {
                self.note_understood(&turn);
                self.proceed();
            }
            (Some(delay), false) => {
                if let Some(fed) = fed.filter(|_| turn.kind() == TurnKind::Speech) {
                    self.heard_to = turn.final_end.unwrap_or(fed.begin);
                }
                self.retry = (turn.kind() != TurnKind::Speech).then_some(turn.input);
                self.timers.set(Timer::Retry, self.now + delay);
            }
            (None, _) => {
                if let Some(fed) = fed.filter(|_| turn.kind() == TurnKind::Speech && !turn.answered)
                {
                    let from = turn.final_end.unwrap_or(fed.begin);
                    let unheard = self.uplink.captured().saturating_sub(from);
                    self.measure(Measure::Unheard(self.uplink.duration_of(unheard)));
                }
                self.end(EndReason::BackendFailed);
            }
        }
    }

    pub(super) fn on_digit(&mut self, digit: Digit, source: DigitSource) {
        if !self.presses.is_new(digit, source, self.now) {
            return;
        }
        self.measure(Measure::Digit(source));
        self.tell(Notice::Dtmf {
            digit: digit.as_char(),
        });
        if self.ending.is_some() {
            return;
        }
        self.timers.stop(Timer::NoInput);
        self.barge_in();
        match self.digits.press(digit) {
            Collected::More(pause) => self.timers.set(Timer::Interdigit, self.now + pause),
            Collected::Complete => self.send_digits(),
        }
    }

    /// Gives complete digits their turn: at once when we are listening, else after the answer that is awaited.
    fn send_digits(&mut self) {
        self.timers.stop(Timer::Interdigit);
        let Some(turn) = self.turn.take_if(|turn| turn.phase == Phase::Listening) else {
            self.proceed();
            return;
        };
        // Half-closing would make the agent answer an empty utterance, so this stream is cancelled (facts §5.1).
        self.uplink.close_feed();
        self.heard_to = self.uplink.captured();
        self.timers.stop(Timer::StreamCeiling);
        self.measure(Measure::Turn(turn.kind(), TurnResult::Cancelled));
        self.act(Action::Cancel(turn.stream));
        self.proceed();
    }

    /// The caller's voice has changed; in the mode that goes by voice it may cut the prompt.
    pub(super) fn on_voice(&mut self) {
        if self.settings.barge_in.mode != BargeInMode::Voice {
            return;
        }
        if !self.uplink.is_voice_active() {
            self.voice_since = None;
            return;
        }
        let since = *self.voice_since.get_or_insert(self.now);
        if self.now.saturating_duration_since(since) >= VOICE_TO_CUT && self.listening().is_some() {
            self.barge_in();
        }
    }

    /// The caller takes the floor, if the prompt lets them. A refusal has no side effect but being counted.
    fn barge_in(&mut self) {
        if !self.playout.is_audible(self.now) || self.ending.is_some() {
            return;
        }
        if !self.playout.is_interruptible(self.now) {
            if let Some(turn) = self.turn.as_mut().filter(|turn| !turn.refused) {
                turn.refused = true;
                self.measure(Measure::BargeInRefused);
            }
            return;
        }
        let heard = self.cut_playout();
        self.tell(Notice::BargeIn {
            heard_ms: heard.as_millis() as u64,
        });
        self.measure(Measure::BargeIn(self.now));
        self.watch_for_silence();
        self.proceed();
    }

    /// Empties every queue between the agent and the caller's ear; returns how much of the cut segment was heard.
    fn cut_playout(&mut self) -> Duration {
        self.act(Action::Clear);
        let mut heard = Duration::ZERO;
        while let Some(finished) = self.playout.cut(self.now) {
            heard += finished.heard;
            self.report(finished);
        }
        heard
    }

    pub(super) fn on_segment_began(&mut self) {
        if !self.audio_began {
            self.audio_began = true;
            self.measure(Measure::AnswerToFirstAudio(
                self.now.saturating_duration_since(self.began),
            ));
        }
        if let Some(end_of_speech) = self.awaiting_audio.take() {
            let latency = self.now.saturating_duration_since(end_of_speech);
            self.tell(Notice::TurnLatency {
                latency_ms: latency.as_millis() as u64,
            });
            self.measure(Measure::TurnLatency(latency));
        }
        self.proceed();
    }

    pub(super) fn on_segment_over(&mut self, finished: Finished) {
        self.report(finished);
        if !self.playout.is_playing() {
            self.watch_for_silence();
            self.proceed();
        }
    }

    fn report(&mut self, finished: Finished) {
        let Finished { id, outcome, heard } = finished;
        self.tell(Notice::Playback {
            segment: id.0,
            outcome,
            heard_ms: heard.as_millis() as u64,
        });
        self.measure(Measure::Segment(outcome));
    }

    pub(super) fn on_timer(&mut self, timer: Timer) {
        match timer {
            Timer::Ringing => self.open_line(),
            Timer::CallDuration => self.end(EndReason::DurationLimit),
            // Someone who has just begun to speak is not silent.
            Timer::NoInput if self.uplink.is_voice_active() => {
                self.timers.set(Timer::NoInput, self.now + NO_INPUT_GRACE);
            }
            Timer::NoInput | Timer::StreamCeiling => self.cut_off_listening(),
            Timer::Interdigit => {
                self.digits.time_out();
                self.send_digits();
            }
            Timer::Answer => {
                if let Some(stream) = self.turn.as_ref().map(|turn| turn.stream) {
                    self.act(Action::Cancel(stream));
                }
                let message = "the agent did not answer in time".to_owned();
                self.on_closed(Some(Fault {
                    kind: FaultKind::DeadlineExceeded,
                    message,
                }));
            }
            Timer::Retry => match self.retry.take() {
                Some(input) => self.open(input),
                None => self.proceed(),
            },
        }
    }

    /// Ends the call, once.
    pub(super) fn end(&mut self, reason: EndReason) {
        if self.ended {
            return;
        }
        self.ended = true;
        while let Some(finished) = self.playout.cut(self.now) {
            self.report(finished);
        }
        if let Some(turn) = self.turn.take() {
            self.measure(Measure::Turn(turn.kind(), TurnResult::Cancelled));
            self.act(Action::Cancel(turn.stream));
        }
        self.act(Action::End(reason));
    }

    pub(super) fn act(&mut self, action: Action<'static>) {
        self.actions.push_back(action);
    }

    pub(super) fn tell(&mut self, notice: Notice) {
        self.act(Action::Tell(notice));
    }

    pub(super) fn measure(&mut self, measure: Measure) {
        self.act(Action::Measure(measure));
    }
}
