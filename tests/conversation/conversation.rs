//! A conversation in virtual time: a call, a caller who is silent unless told to speak, the far end of their leg, and an agent
//! who says what the test makes it say.
//!
//! Checked in every conversation, whatever it is about: one stream is open at a time (facts §5.1); a stream gets no audio
//! before it is opened, after it is half-closed or over, nor faster than twice real time (facts §8.3); the far end takes what
//! it is given ([`FarEnd`]); nothing is done after the end; the playout is never late, since here nothing else takes time.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use serde_json::Value;
use tandem::engine::call::Call;
use tandem::engine::call::end::EndReason;
use tandem::engine::call::event::Action;
use tandem::engine::call::event::Answer;
use tandem::engine::call::event::Audio;
use tandem::engine::call::event::AudioFormat;
use tandem::engine::call::event::BackendEvent;
use tandem::engine::call::event::BargeInWindow;
use tandem::engine::call::event::ClipId;
use tandem::engine::call::event::Digit;
use tandem::engine::call::event::DigitSource;
use tandem::engine::call::event::Event;
use tandem::engine::call::event::Fault;
use tandem::engine::call::event::FaultKind;
use tandem::engine::call::event::OpenTurn;
use tandem::engine::call::event::StreamId;
use tandem::engine::call::event::ToolCall;
use tandem::engine::call::event::Transfer;
use tandem::engine::call::event::TurnInput;
use tandem::engine::call::notice::Measure;
use tandem::engine::call::notice::Notice;
use tandem::engine::call::notice::SegmentOutcome;
use tandem::engine::call::settings::CallSettings;
use tandem::engine::media::frame::FRAME_DURATION;
use tandem::engine::media::frame::Frame;
use tandem::engine::media::frame::SampleRate;

use crate::agent;
use crate::agent::Reply;
use crate::agent::says;
use crate::far_end::FarEnd;
use crate::ingress::Ingress;
use crate::sound;
use crate::sound::Recording;

/// The tone of the hold prompt.
pub(crate) const HOLD_HZ: f64 = 1_900.0;
/// How long it lasts.
pub(crate) const HOLD_PROMPT: Duration = Duration::from_millis(400);
/// The tone of the fallback prompt, which lasts one second.
pub(crate) const FALLBACK_HZ: f64 = 2_100.0;
/// The tone of the apology, which lasts half a second.
pub(crate) const APOLOGY_HZ: f64 = 2_300.0;
/// From our 200 OK until its ACK is here.
const ACK_DELAY: Duration = Duration::from_millis(80);
/// Where in the 20 ms of our own clock the caller's packets arrive.
const PHASE: Duration = Duration::from_millis(7);
/// Samples quieter than this are the pauses between words, which need not be found again.
const PAUSE_PEAK: u16 = 400;

/// A conversation.
pub(crate) struct Conversation {
    pub(crate) kind: Ingress,
    call: Call,
    format: AudioFormat,
    began: Instant,
    now: Instant,
    far_end: FarEnd,
    /// When the ACK arrives.
    ack: Option<Instant>,
    next_packet: Instant,
    /// What the caller says next.
    mouth: VecDeque<i16>,
    /// Where in the speech they are.
    spoken: Duration,
    /// Whether their packets are lost.
    pub(crate) muted: bool,
    /// Whether streams take no audio.
    pub(crate) stalled: bool,
    /// How much of what they hear comes back through their microphone: decibels down, and how late.
    pub(crate) echo: Option<(f64, Duration)>,
    streams: BTreeMap<StreamId, Stream>,
    log: Vec<(Duration, Did)>,
    /// Where in the log the test began to look.
    since: usize,
    ended: Option<EndReason>,
}

/// A stream as the agent sees it.
struct Stream {
    opened: Instant,
    audio: Vec<u8>,
    /// How many bytes each of its messages had, those aside that end an utterance.
    messages: Vec<usize>,
    takes_audio: bool,
    over: bool,
}

/// What the call did, as far as tests ask.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Did {
    Opened(OpenTurn),
    HalfClosed(StreamId),
    Cancelled(StreamId),
    Cleared,
    Answered,
    Transferred(Transfer),
    Fetched(ClipId, String),
    RanTool(ToolCall),
    Told(Notice),
    Measured(Measure),
    Ended(EndReason),
}

/// Something the caller said.
pub(crate) struct Phrase(Vec<i16>);

impl Phrase {
    /// Its last part.
    pub(crate) fn end(&self) -> Self {
        Self(self.0[self.0.len() * 2 / 3..].to_vec())
    }
}

impl Conversation {
    /// A call that begins now and greets with an event; hold prompt, fallback prompt and apology are tones.
    pub(crate) fn new(kind: Ingress) -> Self {
        Self::with(kind, |_| {})
    }

    /// The same with other settings.
    pub(crate) fn with(kind: Ingress, change: impl FnOnce(&mut CallSettings)) -> Self {
        let mut settings = CallSettings::new(kind.traits());
        settings.hold.prompt = prompt(settings.downlink, HOLD_HZ, HOLD_PROMPT);
        settings.fallback.prompt = prompt(settings.downlink, FALLBACK_HZ, secs(1.0));
        settings.fallback.apology = prompt(settings.downlink, APOLOGY_HZ, secs(0.5));
        change(&mut settings);
        let began = some_instant();
        let mut conversation = Self {
            kind,
            format: settings.uplink,
            call: Call::new(settings, began),
            began,
            now: began,
            far_end: FarEnd::new(kind, began),
            ack: None,
            next_packet: began + PHASE,
            mouth: VecDeque::new(),
            spoken: Duration::ZERO,
            muted: false,
            stalled: false,
            echo: None,
            streams: BTreeMap::new(),
            log: Vec::new(),
            since: 0,
            ended: None,
        };
        conversation.act();
        conversation
    }

    /// A call whose greeting begins to be heard at this moment.
    pub(crate) fn greeted(kind: Ingress, greeting: Reply) -> Self {
        Self::greeted_with(kind, greeting, |_| {})
    }

    /// The same with other settings.
    pub(crate) fn greeted_with(
        kind: Ingress,
        greeting: Reply,
        change: impl FnOnce(&mut CallSettings),
    ) -> Self {
        let mut conversation = Self::with(kind, change);
        conversation.run(ms(500));
        conversation.forget();
        conversation.answer(greeting);
        if !conversation.far_end.is_open() {
            conversation.run(ACK_DELAY);
        }
        conversation
    }

    /// A call whose greeting has been heard and whose caller is listened to.
    pub(crate) fn listening(kind: Ingress) -> Self {
        Self::listening_with(kind, |_| {})
    }

    /// The same with other settings.
    pub(crate) fn listening_with(kind: Ingress, change: impl FnOnce(&mut CallSettings)) -> Self {
        let mut conversation = Self::greeted_with(kind, says("Welcome", 0.3), change);
        conversation.run(ms(600));
        assert_eq!(conversation.outcomes(), [SegmentOutcome::Played]);
        assert!(conversation.is_listening(), "nobody listens");
        conversation.forget();
        conversation
    }

    // --- What happens -----------------------------------------------------------------------------------------------

    /// Something happens to the call.
    pub(crate) fn handle(&mut self, event: Event) {
        self.call.handle(event, self.now);
        self.act();
    }

    /// The agent's service says something on the newest stream.
    pub(crate) fn backend(&mut self, event: BackendEvent) {
        let stream = self.stream();
        self.backend_on(stream, event);
    }

    /// The same on another stream.
    pub(crate) fn backend_on(&mut self, stream: StreamId, event: BackendEvent) {
        if let BackendEvent::Closed(_) = event
            && let Some(stream) = self.streams.get_mut(&stream)
        {
            stream.over = true;
        }
        self.handle(Event::Backend(stream, event));
    }

    /// The agent answers on the newest stream; with a final answer the stream is over.
    pub(crate) fn answer(&mut self, reply: Reply) {
        self.answer_exactly(reply.answer(self.format));
    }

    /// The same with an answer that is already written.
    pub(crate) fn answer_exactly(&mut self, answer: Answer) {
        let stream = self.stream();
        let is_final = answer.partial.is_none();
        if is_final && let Some(stream) = self.streams.get_mut(&stream) {
            stream.over = true;
        }
        self.backend_on(stream, BackendEvent::Answer(Box::new(answer)));
        if is_final {
            self.backend_on(stream, BackendEvent::Closed(None));
        }
    }

    /// The newest stream breaks.
    pub(crate) fn fail(&mut self, kind: FaultKind) {
        let message = "as the test asked".to_owned();
        self.backend(BackendEvent::Closed(Some(Fault { kind, message })));
    }

    /// Words that may still change.
    pub(crate) fn interim(&mut self, text: &str) {
        let text = text.to_owned();
        self.backend(BackendEvent::Interim { text });
    }

    /// Words for good, which ended just now.
    pub(crate) fn final_words(&mut self, text: &str) {
        let end_offset = Some(self.audio_time());
        self.final_words_at(text, end_offset);
    }

    /// Words for good that ended at a place in the stream's audio.
    pub(crate) fn final_words_at(&mut self, text: &str, end_offset: Option<Duration>) {
        let text = text.to_owned();
        self.backend(BackendEvent::Final { text, end_offset });
    }

    /// The recogniser thinks that the caller has stopped.
    pub(crate) fn endpoint(&mut self) {
        self.backend(BackendEvent::EndOfUtterance);
    }

    /// The caller has said something, and the recogniser understood it and found its end.
    pub(crate) fn understands(&mut self, text: &str) {
        self.interim(text);
        self.final_words(text);
        self.endpoint();
    }

    /// The caller presses a key, which reaches us by the leg's own way.
    pub(crate) fn press(&mut self, key: char) {
        self.press_by(key, self.kind.digit_sources()[0]);
    }

    /// A key reaches us by one of the ways.
    pub(crate) fn press_by(&mut self, key: char, source: DigitSource) {
        self.handle(Event::Digit(digit(key), source));
    }

    /// A clip is here.
    pub(crate) fn fetched(&mut self, clip: ClipId, hz: f64, seconds: f64) {
        let bytes = agent::clip(self.format, hz, seconds);
        self.handle(Event::Fetched(clip, Ok(bytes)));
    }

    /// The caller speaks for so long: real speech.
    pub(crate) fn speak(&mut self, duration: Duration) -> Phrase {
        let phrase = self.begin_to_speak(duration);
        self.run(duration);
        phrase
    }

    /// The caller begins to speak, and goes on while time passes.
    pub(crate) fn begin_to_speak(&mut self, duration: Duration) -> Phrase {
        let samples = sound::speech(self.format.rate, self.spoken, duration);
        self.spoken += duration;
        self.utter(&samples);
        Phrase(samples)
    }

    /// The caller makes a sound, after what they are still saying.
    pub(crate) fn utter(&mut self, samples: &[i16]) {
        self.mouth.extend(samples);
    }

    /// Lets time pass: every packet, mark and deadline at its own moment.
    pub(crate) fn run(&mut self, duration: Duration) {
        let until = self.now + duration;
        loop {
            let deadline = self.call.deadline().filter(|deadline| *deadline > self.now);
            let moments = [
                deadline,
                self.far_end.next_mark(),
                self.ack,
                Some(self.next_packet),
            ];
            let next = moments
                .into_iter()
                .flatten()
                .min()
                .expect("packets come for ever");
            if next > until {
                break;
            }
            self.now = self.now.max(next);
            if self.ack.take_if(|ack| *ack <= next).is_some() {
                self.far_end.open();
                self.call.handle(Event::Answered, self.now);
            }
            while let Some(segment) = self.far_end.returned(self.now) {
                self.call.handle(Event::MarkReached(segment), self.now);
            }
            if self.next_packet <= self.now {
                self.next_packet += FRAME_DURATION;
                let frame = self.microphone();
                if !self.muted {
                    self.call.hear(&frame, self.now);
                }
            }
            self.call.tick(self.now);
            self.act();
        }
        self.now = until;
    }

    /// Lets time pass until something is so, or fails when that takes longer than `longest`.
    pub(crate) fn run_until(&mut self, longest: Duration, is_so: impl Fn(&Self) -> bool) {
        let until = self.now + longest;
        while !is_so(self) {
            assert!(
                self.now < until,
                "not so after {longest:?}: {:#?}",
                self.recent()
            );
            self.run(ms(5));
        }
    }

    /// What the caller's microphone takes up in 20 ms.
    fn microphone(&mut self) -> Frame {
        let count = self.format.rate.frame_samples();
        let mut samples: Vec<i16> = (0..count)
            .map(|_| self.mouth.pop_front().unwrap_or(0))
            .collect();
        if let Some((decibels, delay)) = self.echo
            && let Some(then) = self.now.checked_sub(delay)
        {
            let heard = self.far_end.heard(then);
            let tail = &heard[heard.len().saturating_sub(count)..];
            // Nothing has been played since: what lies before is older.
            let elapsed = self
                .format
                .rate
                .samples_in(then.saturating_duration_since(self.began));
            let missing = (elapsed as usize).saturating_sub(heard.len());
            if missing < count {
                for (sample, echo) in samples.iter_mut().zip(sound::quieter(tail, decibels)) {
                    *sample = sample.saturating_add(echo);
                }
            }
        }
        Frame::new(self.format.rate, &samples)
    }

    fn act(&mut self) {
        while let Some(action) = self.call.poll() {
            assert_eq!(self.ended, None, "{action:?} after the end");
            let did = match action {
                Action::Play(frame) => {
                    self.far_end.play(frame, self.now);
                    continue;
                }
                Action::Mark(segment) => {
                    self.far_end.mark(segment, self.now);
                    continue;
                }
                Action::Clear => {
                    self.far_end.clear(self.now);
                    Did::Cleared
                }
                Action::Open(turn) => {
                    let open = self.streams.values().filter(|stream| !stream.over).count();
                    assert_eq!(
                        open, 0,
                        "two turns at once would race on the agent's session"
                    );
                    let stream = Stream {
                        opened: self.now,
                        audio: Vec::new(),
                        messages: Vec::new(),
                        takes_audio: matches!(turn.input, TurnInput::Speech { .. }),
                        over: false,
                    };
                    let before = self.streams.insert(turn.stream, stream);
                    assert!(before.is_none(), "a stream's name is used again");
                    Did::Opened(turn)
                }
                Action::SendAudio(stream, bytes) => {
                    let bytes = bytes.to_vec();
                    if self.stalled {
                        self.call.not_taken(stream, bytes.len(), self.now);
                        continue;
                    }
                    self.send(stream, &bytes);
                    let of_it = self.streams.get_mut(&stream).expect("it was opened");
                    of_it.messages.push(bytes.len());
                    self.check_pace(stream);
                    continue;
                }
                Action::SendRest(stream, bytes) => {
                    self.send(stream, &bytes);
                    continue;
                }
                Action::HalfClose(stream) => {
                    self.streams
                        .get_mut(&stream)
                        .expect("it was opened")
                        .takes_audio = false;
                    Did::HalfClosed(stream)
                }
                Action::Cancel(stream) => {
                    let of_it = self.streams.get_mut(&stream).expect("it was opened");
                    (of_it.takes_audio, of_it.over) = (false, true);
                    Did::Cancelled(stream)
                }
                Action::Answer => {
                    assert!(self.kind.traits().rings.is_some(), "the line is open");
                    assert_eq!(self.ack, None, "answered twice");
                    self.ack = Some(self.now + ACK_DELAY);
                    Did::Answered
                }
                Action::Transfer(transfer) => {
                    assert!(self.kind.traits().transfers, "this leg cannot transfer");
                    Did::Transferred(transfer)
                }
                Action::Fetch(clip, uri) => Did::Fetched(clip, uri),
                Action::RunTool(call) => Did::RanTool(call),
                Action::Tell(notice) => Did::Told(notice),
                Action::Measure(Measure::TickLateness(lateness)) => {
                    assert!(lateness.is_zero(), "late in virtual time: {lateness:?}");
                    continue;
                }
                Action::Measure(measure) => Did::Measured(measure),
                Action::End(reason) => {
                    self.ended = Some(reason);
                    Did::Ended(reason)
                }
            };
            self.log.push((self.now - self.began, did));
        }
        if self.ended.is_some() {
            assert_eq!(
                self.call.deadline(),
                None,
                "a call that is over waits for nothing"
            );
        }
    }

    fn send(&mut self, stream: StreamId, bytes: &[u8]) {
        let stream = self.streams.get_mut(&stream).expect("it was opened");
        assert!(
            stream.takes_audio && !stream.over,
            "audio on a stream that takes none"
        );
        stream.audio.extend(bytes);
    }

    /// At most twice real time, and two messages more (facts §8.3).
    fn check_pace(&self, stream: StreamId) {
        let stream = &self.streams[&stream];
        let sent = self.duration_of(stream.audio.len());
        let most = 2 * (self.now - stream.opened) + ms(200);
        assert!(
            sent <= most,
            "{sent:?} sent within {:?}",
            self.now - stream.opened
        );
    }

    // --- What can be asked ------------------------------------------------------------------------------------------

    /// From here on, only what comes is looked at.
    pub(crate) fn forget(&mut self) {
        self.since = self.log.len();
    }

    /// What was done since, oldest first.
    pub(crate) fn recent(&self) -> Vec<&Did> {
        self.log[self.since..].iter().map(|(_, did)| did).collect()
    }

    /// Everything of one kind since.
    pub(crate) fn all<T>(&self, of_kind: impl Fn(&Did) -> Option<T>) -> Vec<T> {
        self.log[self.since..]
            .iter()
            .filter_map(|(_, did)| of_kind(did))
            .collect()
    }

    /// How often something was done since.
    pub(crate) fn count(&self, is_it: impl Fn(&Did) -> bool) -> usize {
        self.recent().into_iter().filter(|did| is_it(did)).count()
    }

    /// How long after the call's beginning something was first done since.
    pub(crate) fn when(&self, is_it: impl Fn(&Did) -> bool) -> Option<Duration> {
        let mut recent = self.log[self.since..].iter();
        recent.find(|(_, did)| is_it(did)).map(|(at, _)| *at)
    }

    /// When each of the turns since was opened.
    pub(crate) fn opened_at(&self) -> Vec<Duration> {
        let recent = self.log[self.since..].iter();
        recent
            .filter(|(_, did)| matches!(did, Did::Opened(_)))
            .map(|(at, _)| *at)
            .collect()
    }

    /// The turns since, oldest first.
    pub(crate) fn turns(&self) -> Vec<OpenTurn> {
        self.all(|did| match did {
            Did::Opened(turn) => Some(turn.clone()),
            _ => None,
        })
    }

    /// What the turns since were about, oldest first.
    pub(crate) fn inputs(&self) -> Vec<TurnInput> {
        self.turns().into_iter().map(|turn| turn.input).collect()
    }

    /// The turns since that are not the caller's voice.
    pub(crate) fn inputs_but_speech(&self) -> Vec<TurnInput> {
        let mut inputs = self.inputs();
        inputs.retain(|input| !matches!(input, TurnInput::Speech { .. }));
        inputs
    }

    /// The newest stream.
    pub(crate) fn stream(&self) -> StreamId {
        *self
            .streams
            .keys()
            .next_back()
            .expect("a stream was opened")
    }

    /// Whether the newest stream takes the caller's voice.
    pub(crate) fn is_listening(&self) -> bool {
        let stream = &self.streams[&self.stream()];
        stream.takes_audio && !stream.over
    }

    /// Streams half-closed since.
    pub(crate) fn half_closed(&self) -> Vec<StreamId> {
        self.all(|did| match did {
            Did::HalfClosed(stream) => Some(*stream),
            _ => None,
        })
    }

    /// Streams cancelled since.
    pub(crate) fn cancelled(&self) -> Vec<StreamId> {
        self.all(|did| match did {
            Did::Cancelled(stream) => Some(*stream),
            _ => None,
        })
    }

    /// How the segments that are over since have ended.
    pub(crate) fn outcomes(&self) -> Vec<SegmentOutcome> {
        self.all(|did| match did {
            Did::Measured(Measure::Segment(outcome)) => Some(*outcome),
            _ => None,
        })
    }

    /// What was told since.
    pub(crate) fn notices(&self) -> Vec<Notice> {
        self.all(|did| match did {
            Did::Told(notice) => Some(notice.clone()),
            _ => None,
        })
    }

    /// How often this was told since.
    pub(crate) fn told(&self, notice: &Notice) -> usize {
        self.count(|did| matches!(did, Did::Told(told) if told == notice))
    }

    /// How often this was counted since.
    pub(crate) fn measured(&self, measure: &Measure) -> usize {
        self.count(|did| matches!(did, Did::Measured(measured) if measured == measure))
    }

    /// How often the caller took the floor since.
    pub(crate) fn barge_ins(&self) -> usize {
        self.count(|did| matches!(did, Did::Told(Notice::BargeIn { .. })))
    }

    /// Clips asked for since.
    pub(crate) fn clips(&self) -> Vec<(ClipId, String)> {
        self.all(|did| match did {
            Did::Fetched(clip, uri) => Some((*clip, uri.clone())),
            _ => None,
        })
    }

    /// Transfers asked of the leg since.
    pub(crate) fn transfers(&self) -> Vec<Transfer> {
        self.all(|did| match did {
            Did::Transferred(transfer) => Some(transfer.clone()),
            _ => None,
        })
    }

    /// How much caller audio was lost.
    pub(crate) fn unheard(&self) -> Duration {
        let lost = self.log.iter().filter_map(|(_, did)| match did {
            Did::Measured(Measure::Unheard(lost)) => Some(*lost),
            _ => None,
        });
        lost.sum()
    }

    /// Why the call ended, if it has.
    pub(crate) const fn ended(&self) -> Option<EndReason> {
        self.ended
    }

    /// How old the call is.
    pub(crate) fn age(&self) -> Duration {
        self.now - self.began
    }

    /// How the leg's audio is written on both ways.
    pub(crate) const fn format(&self) -> AudioFormat {
        self.format
    }

    /// What the caller has heard so far.
    pub(crate) fn ear(&self) -> Recording {
        Recording::new(self.format.rate, self.far_end.heard(self.now).to_vec())
    }

    /// The other end of the leg.
    pub(crate) const fn far_end(&mut self) -> &mut FarEnd {
        &mut self.far_end
    }

    /// How much audio a stream was given.
    pub(crate) fn sent_to(&self, stream: StreamId) -> Duration {
        self.duration_of(self.streams[&stream].audio.len())
    }

    /// How long each of a stream's messages is.
    pub(crate) fn messages_to(&self, stream: StreamId) -> Vec<Duration> {
        let messages = self.streams[&stream].messages.iter();
        messages.map(|bytes| self.duration_of(*bytes)).collect()
    }

    /// How much of the newest stream's audio lies before the moment at which it was opened.
    pub(crate) fn replayed(&self) -> Duration {
        let stream = &self.streams[&self.stream()];
        self.duration_of(stream.audio.len())
            .saturating_sub(self.now - stream.opened)
    }

    /// The window in which the newest stream may be spoken into.
    pub(crate) fn window(&self) -> BargeInWindow {
        match self.turns().pop().map(|turn| turn.input) {
            Some(TurnInput::Speech { barge_in, .. }) => barge_in,
            other => panic!("not a listening turn: {other:?}"),
        }
    }

    /// How much of a phrase a stream was given: the share of its frames that are found in the audio, unchanged.
    pub(crate) fn share_in(&self, stream: StreamId, phrase: &Phrase) -> f64 {
        let audio = &self.streams[&stream].audio;
        let frames = phrase.0.chunks_exact(self.format.rate.frame_samples());
        let voiced = frames.filter(|frame| {
            frame
                .iter()
                .any(|sample| sample.unsigned_abs() > PAUSE_PEAK)
        });
        let (mut all, mut found) = (0_u32, 0_u32);
        for frame in voiced {
            let bytes = sound::encode_bare(self.format, frame);
            all += 1;
            found += u32::from(contains(audio, &bytes));
        }
        assert!(all > 0, "there is nothing to find");
        f64::from(found) / f64::from(all)
    }

    /// Asserts that a stream was given all of a phrase.
    pub(crate) fn assert_heard(&self, stream: StreamId, phrase: &Phrase) {
        let share = self.share_in(stream, phrase);
        assert!(share >= 0.99, "{share:.2} of it reached {stream:?}");
    }

    /// Asserts that a stream was given nothing of a phrase.
    pub(crate) fn assert_not_heard(&self, stream: StreamId, phrase: &Phrase) {
        let share = self.share_in(stream, phrase);
        assert!(share <= 0.01, "{share:.2} of it reached {stream:?}");
    }

    /// How far the newest stream's audio has come, by wall time and what was replayed.
    pub(crate) fn audio_time(&self) -> Duration {
        self.sent_to(self.stream())
    }

    fn duration_of(&self, bytes: usize) -> Duration {
        let samples = bytes / self.format.encoding.bytes_per_sample();
        self.format.rate.duration_of(samples as u64)
    }
}

fn contains(audio: &[u8], part: &[u8]) -> bool {
    let first = part[0];
    let mut at = 0;
    while let Some(next) = audio[at..].iter().position(|byte| *byte == first) {
        at += next;
        if audio[at..].starts_with(part) {
            return true;
        }
        at += 1;
    }
    false
}

/// A prompt of our own: a tone.
fn prompt(format: AudioFormat, hz: f64, duration: Duration) -> Audio {
    let samples = sound::tone(format.rate, hz, duration);
    Audio {
        bytes: Bytes::from(sound::encode_bare(format, &samples)),
        format: Some(format),
    }
}

/// Any moment will do: the engine only ever compares. It lies a little after the clock's beginning, so that one may look back.
fn some_instant() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// The key of this name.
pub(crate) fn digit(key: char) -> Digit {
    Digit::from_char(key).expect("a key")
}

/// So many seconds.
pub(crate) fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// So many milliseconds.
pub(crate) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// An event turn.
pub(crate) fn event(name: &str) -> TurnInput {
    TurnInput::Event(name.to_owned())
}

/// Asserts that a duration is as long as expected, give or take.
#[track_caller]
pub(crate) fn assert_about(what: Duration, expected: Duration, tolerance: Duration) {
    assert!(
        what.abs_diff(expected) <= tolerance,
        "{what:?} instead of {expected:?} ± {tolerance:?}"
    );
}

/// A transfer to this target that says nothing more.
pub(crate) fn transfer(to: &str) -> Transfer {
    Transfer {
        to: to.to_owned(),
        metadata: Value::Null,
    }
}

/// Asserts that what was done is empty, showing it.
#[track_caller]
pub(crate) fn assert_none<T: Debug>(what: &[T]) {
    assert!(what.is_empty(), "{what:?}");
}

/// The telephone's rate, at which one leg speaks and another does not.
pub(crate) const TELEPHONE: SampleRate = SampleRate::HZ_8000;
