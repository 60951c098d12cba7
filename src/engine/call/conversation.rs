//! The decisions that join the concerns: when to listen, when to half-close, what an answer leads to.

use std::time::Duration;

use crate::engine::call::Call;
use crate::engine::call::answer;
use crate::engine::call::answer::Piece;
use crate::engine::call::carried;
use crate::engine::call::carried::append;
use crate::engine::call::command::TurnChange;
use crate::engine::call::dtmf::Collected;
use crate::engine::call::end::EndReason;
use crate::engine::call::event::Action;
use crate::engine::call::event::AgentSettings;
use crate::engine::call::event::Answer;
use crate::engine::call::event::BackendEvent;
use crate::engine::call::event::BargeInWindow;
use crate::engine::call::event::Digit;
use crate::engine::call::event::DigitSource;
use crate::engine::call::event::DtmfSettings;
use crate::engine::call::event::Fault;
use crate::engine::call::event::FaultKind;
use crate::engine::call::event::MatchKind;
use crate::engine::call::event::OpenTurn;
use crate::engine::call::event::StreamId;
use crate::engine::call::event::TurnInput;
use crate::engine::call::line::Line;
use crate::engine::call::notice::Measure;
use crate::engine::call::notice::Notice;
use crate::engine::call::notice::TakenFor;
use crate::engine::call::notice::TurnKind;
use crate::engine::call::notice::TurnResult;
use crate::engine::call::playout::Finished;
use crate::engine::call::settings::BargeInMode;
use crate::engine::call::timers::Timer;
use crate::engine::call::turn::Phase;
use crate::engine::call::turn::Turn;

/// The longest wait for an answer. Agents with slow webhooks take many seconds; nobody waits longer than this.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// How far back voice is sent again when a stream on which no words came is replaced by another.
const LOOK_BACK: Duration = Duration::from_secs(3);
/// How much longer an utterance may last whose end the recogniser does not tell, while there is voice.
const VOICE_GOES_ON: Duration = Duration::from_millis(500);
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
        let mut turn = Turn::new(stream, input.clone(), self.now);
        self.tell(Notice::TurnStarted { input: turn.kind() });
        if turn.phase == Phase::Answering {
            self.timers.set(Timer::Answer, self.now + ANSWER_TIMEOUT);
        }
        let (parameters, report) = self.heard.parameters(self.settings.reports_heard);
        turn.report = report;
        self.turn = Some(turn);
        self.act(Action::Open(OpenTurn {
            stream,
            input,
            parameters,
            model: self.agent.model.clone(),
        }));
    }

    /// Opens a stream for the caller's voice.
    fn listen(&mut self) {
        self.open_line();
        let opened = self.uplink.open_feed(self.now);
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
        // The ceiling is one of audio: what is sent again counts.
        let ceiling = self.settings.stream_ceiling;
        let ceiling = ceiling.saturating_sub(opened.replayed).max(ceiling / 2);
        self.timers.set(Timer::StreamCeiling, self.now + ceiling);
        self.watch_for_silence();
        if !self.carried.is_empty() {
            // The past is sent at twice its pace, so that it takes half its time.
            let caught_up = self.now + opened.replayed / 2;
            self.timers
                .set(Timer::Endpoint, caught_up + carried::MORE_WITHIN);
        }
    }

    /// Does what comes next when no turn is open.
    pub(super) fn proceed(&mut self) {
        if self.turn.is_some() || self.timers.is_set(Timer::Retry) || self.line == Line::Held {
            return;
        }
        if let Some(reason) = self.ending {
            if !self.playout.is_playing() || self.playout.is_only_holding() {
                self.leave(reason);
            }
        } else if self.run_next_tool() {
            // The agent waits for it; what the caller says meanwhile is kept.
        } else if let Some(digits) = self.digits.take() {
            self.open(digits);
        } else if !self.playout.is_waiting() {
            self.listen();
        }
    }

    pub(super) fn on_backend(&mut self, stream: StreamId, event: BackendEvent) {
        if self.turn.as_ref().is_none_or(|turn| turn.stream != stream) {
            return;
        }
        if !matches!(event, BackendEvent::Closed(_)) {
            self.failures.owes = false;
        }
        match event {
            BackendEvent::Interim { text } => {
                self.on_words(&text);
                if let Some(turn) = self.turn.as_mut().filter(|turn| turn.words) {
                    turn.interim_words.clone_from(&text);
                }
                self.tell(Notice::Interim { text });
            }
            BackendEvent::Final { text, end_offset } => {
                self.on_words(&text);
                self.on_final(&text, end_offset);
                self.tell(Notice::Final { text });
            }
            BackendEvent::EndOfUtterance => self.on_end_of_utterance(),
            BackendEvent::Answer(answer) => self.on_answer(&answer),
            BackendEvent::Closed(fault) => self.on_closed(fault),
        }
    }

    /// The caller has been heard to say something, or so it seems.
    fn on_words(&mut self, text: &str) {
        if text.trim().is_empty() {
            return;
        }
        let taken_for = self.judge_words(text);
        let Some(turn) = &mut self.turn else { return };
        if let Some(taken_for) = taken_for {
            let is_first = turn.dismissed.replace(taken_for) != Some(taken_for);
            if is_first {
                self.tell(Notice::WordsIgnored { taken_for });
            }
            if is_first && taken_for == TakenFor::Echo {
                self.measure(Measure::BargeInEcho);
            }
            return;
        }
        turn.words = true;
        // Transcripts may come late; what they say was said before the stream was half-closed.
        if turn.phase == Phase::Answering {
            return;
        }
        self.timers.stop(Timer::NoInput);
        self.timers
            .set(Timer::Endpoint, self.now + self.settings.endpoint_timeout);
        if self.settings.barge_in.mode != BargeInMode::Off {
            self.barge_in();
        }
    }

    /// Words that were told after the end of the utterance only, or with the answer, cut the prompt over which they were
    /// said if the agent makes something of them: what it does not may have been a cough.
    fn heed_late_words(&mut self, answer: &Answer) {
        let is_first = |turn: &&Turn| turn.kind() == TurnKind::Speech && !turn.answered;
        let Some(turn) = self.turn.as_ref().filter(is_first) else {
            return;
        };
        let is_understood = match answer.match_kind {
            MatchKind::NoMatch | MatchKind::NoInput => false,
            MatchKind::Other | MatchKind::Intent | MatchKind::Event => true,
        };
        if !turn.words && turn.dismissed.is_none() {
            self.on_words(&answer.query);
        }
        let has_words = self.turn.as_ref().is_some_and(|turn| turn.words);
        if has_words && is_understood && self.settings.barge_in.mode != BargeInMode::Off {
            self.barge_in();
        }
    }

    /// The recogniser thinks that the utterance is over.
    fn on_end_of_utterance(&mut self) {
        let dismissed = self
            .turn
            .as_ref()
            .filter(|turn| turn.phase == Phase::Listening && !turn.words)
            .and_then(|turn| turn.dismissed);
        match dismissed {
            // Neither is for the agent to answer. Half-closing would make it (facts §5.1).
            Some(TakenFor::Echo) if self.floor.is_certainly_echo() => self.listen_anew(),
            Some(TakenFor::BackChannel) if self.playout.is_audible(self.now) => self.listen_anew(),
            // The recogniser's time for the silence is over, but they are not silent, or it is not their turn yet.
            None if self.is_silence_expected() => self.listen_anew(),
            Some(TakenFor::Echo | TakenFor::BackChannel) | None => {
                if dismissed == Some(TakenFor::Echo)
                    && self.settings.barge_in.mode != BargeInMode::Off
                {
                    // By now it is clear that somebody spoke; better to hear an echo than to lose a caller.
                    self.barge_in_late();
                }
                if let Some(turn) = &mut self.turn {
                    turn.is_spoken_out = true;
                }
                if !self.end_carried_utterance(true) {
                    self.stop_listening();
                }
            }
        }
    }

    /// Whether the caller says nothing for a reason: they are pressing keys, or a prompt is still being played.
    fn is_silence_expected(&self) -> bool {
        let is_wordless = self
            .turn
            .as_ref()
            .is_some_and(|turn| turn.phase == Phase::Listening && !turn.words);
        let is_prompting = self.playout.is_playing() && !self.playout.is_holding();
        let is_prompted = is_prompting && !self.uplink.has_unheard_voice();
        is_wordless && (self.digits.is_pending() || is_prompted)
    }

    /// Gives the stream up, with all that was said on it, and opens the next.
    fn listen_anew(&mut self) {
        let final_end = self.turn.as_ref().and_then(|turn| turn.final_end);
        // The caller may have gone on already.
        self.uplink
            .set_heard_to(final_end.unwrap_or_else(|| self.uplink.voice_under_way()));
        self.give_turn_up();
        self.proceed();
    }

    /// The stream is as long as streams may be. One on which nothing was said goes on as another; of one with words the
    /// agent gets what there is.
    fn on_stream_ceiling(&mut self) {
        if let Some(turn) = self.turn.as_mut().filter(|turn| turn.words) {
            turn.is_cut_short = self.uplink.is_voice_active();
            self.cut_off_listening();
            return;
        }
        let silent_until = self.timers.get(Timer::NoInput);
        if let Some(fed) = self.uplink.fed_or_last() {
            let look_back = self.uplink.samples_in(LOOK_BACK);
            self.uplink
                .set_heard_to(fed.begin.max(fed.end.saturating_sub(look_back)));
        }
        self.give_turn_up();
        self.proceed();
        if let Some(until) = silent_until {
            self.timers.set(Timer::NoInput, until);
        }
    }

    /// Words came, and then nothing for a long time: the recogniser has missed the end.
    fn on_endpoint_missed(&mut self) {
        if self.uplink.is_voice_active() || self.uplink.is_behind() {
            self.timers.set(Timer::Endpoint, self.now + VOICE_GOES_ON);
        } else {
            self.cut_off_listening();
        }
    }

    /// Cancels the turn that is under way.
    pub(super) fn give_turn_up(&mut self) {
        let Some(turn) = self.turn.take() else { return };
        self.uplink.close_feed();
        self.stop_turn_timers();
        self.measure(Measure::Turn(turn.kind(), TurnResult::Cancelled));
        self.act(Action::Cancel(turn.stream));
    }

    /// What was waited for in the turn is not waited for any more.
    pub(super) fn stop_turn_timers(&mut self) {
        for timer in [
            Timer::NoInput,
            Timer::Endpoint,
            Timer::StreamCeiling,
            Timer::Answer,
        ] {
            self.timers.stop(timer);
        }
    }

    fn on_final(&mut self, text: &str, end_offset: Option<Duration>) {
        if let Some(turn) = self.turn.as_mut().filter(|turn| turn.words) {
            append(&mut turn.final_words, text);
            turn.interim_words.clear();
        }
        let Some(fed) = self.uplink.fed_or_last() else {
            return;
        };
        let end = match end_offset {
            Some(offset) => fed.begin.saturating_add(self.uplink.samples_in(offset)),
            None => fed.end.saturating_sub(self.uplink.samples_in(FINAL_DELAY)),
        };
        // What the stream has not been given it cannot have understood.
        if let Some(turn) = &mut self.turn {
            turn.final_end = Some(end.clamp(fed.begin, fed.end));
        }
        if self.turn.as_ref().is_some_and(|turn| turn.is_spoken_out) {
            self.end_carried_utterance(false);
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
        self.stop_turn_timers();
        self.timers.set(Timer::Answer, self.now + ANSWER_TIMEOUT);
        self.act(Action::HalfClose(stream));
    }

    /// We end the utterance ourselves, so the rest of it must be sent first.
    pub(super) fn cut_off_listening(&mut self) {
        if self.end_carried_utterance(false) {
            return;
        }
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
        self.heed_late_words(answer);
        if let Some(turn) = &mut self.turn {
            turn.answered = true;
        }
        let plan = answer::plan(
            answer,
            self.settings.downlink,
            self.settings.barge_in.cuts_partials,
        );
        self.end_hold();
        // A later response replaces what may be cancelled (facts §3.2).
        if self.playout.is_playing() && self.playout.is_all_cancellable() {
            self.cut_playout();
        }
        while let Some(dropped) = self.playout.drop_cancellable() {
            self.report(dropped);
        }
        if plan.speaks() {
            self.await_audio();
        }
        for notice in plan.notices {
            self.tell_of_answer(notice);
        }
        self.play(plan.pieces, &plan.texts);
        let is_speech = |turn: &Turn| turn.kind() == TurnKind::Speech;
        if self.playout.is_playing() && !self.turn.as_ref().is_some_and(is_speech) {
            self.note_prompted();
        }
        for request in plan.transfers {
            self.want_hand_off(request.to, request.metadata);
        }
        for tool in plan.tools {
            self.tools.want(tool);
        }
        for change in plan.changes {
            self.change(change);
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
            self.on_final_answer(answer, plan.digits);
        }
    }

    /// Queues what an answer says.
    fn play(&mut self, pieces: Vec<Piece>, texts: &[String]) {
        if !self.playout.is_playing() {
            self.heard.begin();
        }
        for text in texts {
            self.heard.add_text(text);
        }
        for piece in pieces {
            match piece {
                Piece::Speech(speech) => {
                    let duration = speech.duration();
                    if self.playout.push(speech, self.now).is_some() {
                        self.heard.add_audio(duration);
                    } else {
                        let message = "more speech than can wait to be played".to_owned();
                        self.tell_of_answer(Notice::Unsupported { message });
                    }
                }
                Piece::Clip(uri, speech) => self.play_clip(uri, speech),
            }
        }
    }

    /// An agent asks for the same unsupported thing with every answer; once is enough.
    fn tell_of_answer(&mut self, notice: Notice) {
        if let Notice::Unsupported { message } = &notice
            && !self.agent.is_news(message)
        {
            return;
        }
        self.tell(notice);
    }

    /// The agent changes how its caller is listened to.
    fn change(&mut self, change: TurnChange) {
        if let Some(mode) = change.barge_in {
            self.settings.barge_in.mode = mode;
        }
        if let Some(timeout) = change.no_input_timeout {
            self.settings.no_input.timeout = timeout;
        }
        if let Some(cuts) = change.cuts_partials {
            self.settings.barge_in.cuts_partials = cuts;
        }
    }

    fn on_final_answer(&mut self, answer: &Answer, digits: Option<DtmfSettings>) {
        let Some(turn) = self.turn.take() else { return };
        self.timers.stop(Timer::Answer);
        if let Some(report) = turn.report {
            self.heard.told(report);
        }
        let result = match answer.match_kind {
            MatchKind::NoMatch => TurnResult::NoMatch,
            MatchKind::NoInput => TurnResult::NoInput,
            MatchKind::Other | MatchKind::Intent | MatchKind::Event => TurnResult::Answered,
        };
        self.measure(Measure::Turn(turn.kind(), result));
        self.note_understood(&turn);
        self.failures.clear();
        self.obey(&answer.settings, digits);
        if !self.count_silence(&turn, answer) {
            self.proceed();
        }
    }

    /// Takes over what the agent's page asks of us (facts §7.5).
    fn obey(&mut self, settings: &AgentSettings, digits: Option<DtmfSettings>) {
        self.digits
            .configure(digits.or_else(|| settings.dtmf.clone()));
        self.no_input_timeout = settings
            .no_speech_timeout
            .unwrap_or(self.settings.no_input.timeout);
        self.agent.model.clone_from(&settings.model);
        if let Some(kept) = settings.keeps_transcripts
            && self.agent.keeps_transcripts != kept
        {
            self.agent.keeps_transcripts = kept;
            self.tell(Notice::Transcripts { kept });
        }
        for name in &settings.unsupported {
            self.tell_of_answer(Notice::Unsupported {
                message: format!("advanced_settings.{name}"),
            });
        }
    }

    /// Remembers how far the agent has understood the caller.
    pub(super) fn note_understood(&mut self, turn: &Turn) {
        if turn.kind() == TurnKind::Speech {
            let fed_to = self.uplink.fed_or_last().map(|fed| fed.end);
            self.uplink
                .set_heard_to(turn.final_end.or(fed_to).unwrap_or(self.uplink.heard_to()));
            if turn.is_cut_short {
                self.uplink.expect_more();
            }
        } else {
            self.note_prompted();
        }
    }

    /// Listening becomes due with the first prompt; voice before it answered nothing, unless it is still going on. Later turns
    /// without speech take nothing from the caller: what they have said since goes on counting.
    fn note_prompted(&mut self) {
        if !self.failures.was_answered {
            self.failures.was_answered = true;
            self.uplink.set_heard_to(self.uplink.voice_under_way());
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
        self.barge_in();
        let collected = self.digits.press(digit);
        self.timers.stop(Timer::NoInput);
        match collected {
            Collected::More(pause) => self.timers.set(Timer::Interdigit, self.now + pause),
            Collected::Complete => self.send_digits(),
        }
    }

    /// Gives complete digits their turn: at once when we are listening, else after the answer that is awaited.
    fn send_digits(&mut self) {
        self.timers.stop(Timer::Interdigit);
        if self.listening().is_some() {
            // Half-closing would make the agent answer an empty utterance, so this stream is cancelled (facts §5.1).
            self.uplink.set_heard_to(self.uplink.captured());
            self.give_turn_up();
        }
        self.proceed();
    }

    pub(super) fn on_segment_began(&mut self) {
        if self.playout.is_holding() {
            return;
        }
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

    pub(super) fn report(&mut self, finished: Finished) {
        let Finished { id, outcome, heard } = finished;
        self.heard.add_heard(heard);
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
            Timer::NoInput => self.on_silence(),
            Timer::StreamCeiling => self.on_stream_ceiling(),
            Timer::Endpoint => self.on_endpoint_missed(),
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
            Timer::Retry => self.on_retry(),
            Timer::Restore => self.restore_prompt(),
            Timer::Hold => self.hold(),
            Timer::Clip => self.on_clips_late(),
            Timer::Tool => self.on_tool_late(),
        }
    }

    /// Ends the call, once.
    pub(super) fn end(&mut self, reason: EndReason) {
        if self.ended {
            return;
        }
        self.ended = true;
        self.forget_clips();
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
