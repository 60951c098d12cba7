//! The agent's service, as facts §2–§9 describe it: it hears the bytes it is sent, in their own time, and answers, slowly,
//! in part, wrongly or not at all.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use tandem::engine::call::event::AudioFormat;
use tandem::engine::call::event::BargeInWindow;
use tandem::engine::call::event::Encoding;
use tandem::engine::call::event::FaultKind;
use tandem::engine::call::event::OpenTurn;
use tandem::engine::call::event::StreamId;
use tandem::engine::call::event::TurnInput;
use tandem::engine::media::codec::g711;
use tandem::engine::media::frame::FRAME_DURATION;

use crate::agent::Agent;
use crate::agent::Reply;
use crate::dice::Dice;
use crate::history::At;
use crate::history::Sound;
use crate::history::Spoken;
use crate::sound;
use crate::watermark::Finder;
use crate::watermark::Side;

/// A recogniser that gets no audio for this long gives up (facts §7.3).
const STARVED_AFTER: Duration = Duration::from_secs(10);
/// Frames of our own voice after which a recogniser takes them for words.
const ECHO_TO_WORDS: u32 = 15;

/// The service.
pub(crate) struct Backend {
    dice: Dice,
    format: AudioFormat,
    /// The agent behind it.
    pub(crate) agent: Agent,
    /// Whether streams fail now and then.
    faulty: bool,
    /// When it cannot be reached at all.
    outages: Vec<(At, At)>,
    /// Whether it is so much in a hurry that answers come before the utterance is over.
    hasty: bool,
    /// Whether it says where words end.
    tells_offsets: f64,
    streams: HashMap<StreamId, Stream>,
    /// What is on its way to us.
    outbox: BinaryHeap<Reverse<(At, u64, StreamId)>>,
    messages: HashMap<u64, Said>,
    sequence: u64,
}

/// Something a stream says.
pub(crate) enum Said {
    /// Words so far.
    Interim(String),
    /// Words for good.
    Final {
        /// The words.
        text: String,
        /// Where they end.
        end_offset: Option<Duration>,
        /// The numbers of the frames that were understood.
        understood: Vec<u32>,
    },
    /// The utterance is over.
    EndOfUtterance,
    /// A partial or final answer.
    Answer(Box<Reply>),
    /// The stream is over.
    Closed(Option<FaultKind>),
}

struct Stream {
    input: TurnInput,
    /// When it begins to hear, be headers ever so late.
    live_at: At,
    phase: Phase,
    cancelled: bool,
    /// Whether it goes on talking after being cancelled.
    chatty: bool,
    ear: Finder,
    /// Samples got so far.
    samples: u64,
    /// Windows in samples.
    no_barge_in: u64,
    prompt: u64,
    /// How much silence ends an utterance, in samples.
    endpoint: u64,
    /// After how much silence it gives the caller up, in samples, if it watches for that at all.
    no_speech: Option<u64>,
    /// A recogniser that never finds the end of an utterance.
    endless: bool,
    last_audio: At,
    /// Where the last words ended.
    speech_end: Option<u64>,
    /// What was understood since the last final.
    understood: Vec<u32>,
    echo: u32,
    words: u32,
    spoke: bool,
    finals_until: At,
}

/// How far a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It hears.
    Hearing,
    /// It has said that the utterance is over.
    Ended,
    /// Half-closed: the answer is on its way.
    Answering,
    /// It has said its last.
    Over,
}

impl Backend {
    /// A service for a call of this length, which is sent audio in `format`.
    pub(crate) fn new(seed: u64, length: At, format: AudioFormat, agent: Agent) -> Self {
        let mut dice = Dice::new(seed, "backend");
        let mut outages = Vec::new();
        if dice.chance(0.15) {
            let from = dice.ms(0, length.as_millis() as u64);
            let to = if dice.chance(0.1) {
                At::MAX
            } else {
                from + dice.ms(200, 6_000)
            };
            outages.push((from, to));
        }
        Self {
            faulty: dice.chance(0.35),
            hasty: dice.chance(0.1),
            tells_offsets: dice.pick(&[1.0, 1.0, 1.0, 0.5, 0.0]),
            dice,
            format,
            agent,
            outages,
            streams: HashMap::new(),
            outbox: BinaryHeap::new(),
            messages: HashMap::new(),
            sequence: 0,
        }
    }

    /// In words, for the story.
    pub(crate) fn describe(&self) -> String {
        format!(
            "faulty {}, hasty {}, offsets {}, down {:?}",
            self.faulty, self.hasty, self.tells_offsets, self.outages
        )
    }

    /// A stream is opened.
    pub(crate) fn open(&mut self, turn: &OpenTurn, now: At) {
        let dice = &mut self.dice;
        let rate = self.format.rate;
        let window = match &turn.input {
            TurnInput::Speech { barge_in, .. } => *barge_in,
            TurnInput::Text(_)
            | TurnInput::Event(_)
            | TurnInput::Intent(_)
            | TurnInput::Dtmf { .. }
            | TurnInput::ToolResult(_) => BargeInWindow::default(),
        };
        // Headers come with the first message (facts §11.3); now and then that takes long.
        let live_at = now
            + if dice.chance(0.05) {
                dice.ms(500, 2_500)
            } else {
                dice.ms(5, 120)
            };
        let no_speech = dice.chance(0.6).then(|| dice.ms(3_000, 8_000));
        let stream = Stream {
            input: turn.input.clone(),
            live_at,
            phase: Phase::Hearing,
            cancelled: false,
            chatty: dice.chance(0.3),
            ear: Finder::new(Side::Caller),
            samples: 0,
            no_barge_in: rate.samples_in(window.no_barge_in),
            prompt: rate.samples_in(window.total),
            endpoint: rate.samples_in(dice.ms(400, 1_200)),
            no_speech: no_speech.map(|silence| rate.samples_in(silence)),
            endless: dice.chance(0.03),
            last_audio: now,
            speech_end: None,
            understood: Vec::new(),
            echo: 0,
            words: 0,
            spoke: false,
            finals_until: live_at,
        };
        self.streams.insert(turn.stream, stream);
        self.plan_faults(turn.stream, now);
        let is_speech = matches!(turn.input, TurnInput::Speech { .. });
        if !is_speech {
            self.answer(turn.stream, live_at);
        }
    }

    fn plan_faults(&mut self, stream: StreamId, now: At) {
        for (from, to) in self.outages.clone() {
            if (from..to).contains(&now) {
                let at = now + self.dice.ms(2, 60);
                self.say(at, stream, Said::Closed(Some(FaultKind::Unavailable)));
            } else if from > now {
                self.say(from, stream, Said::Closed(Some(FaultKind::Unavailable)));
            }
        }
        if self.faulty && self.dice.chance(0.2) {
            let at = now + self.dice.pick(&[0, 1, 2, 4]) * self.dice.ms(5, 1_000);
            let fault = self.fault();
            self.say(at + At::from_millis(2), stream, Said::Closed(fault));
        }
    }

    /// How a stream fails; `None` is to close it in order, without an answer.
    fn fault(&mut self) -> Option<FaultKind> {
        self.dice.pick(&[
            None,
            Some(FaultKind::Unavailable),
            Some(FaultKind::Unavailable),
            Some(FaultKind::Unavailable),
            Some(FaultKind::Internal),
            Some(FaultKind::Aborted),
            Some(FaultKind::OutOfRange),
            Some(FaultKind::ResourceExhausted),
            Some(FaultKind::DeadlineExceeded),
            Some(FaultKind::Unauthenticated),
            Some(FaultKind::InvalidArgument),
            Some(FaultKind::NotFound),
            Some(FaultKind::PermissionDenied),
            Some(FaultKind::FailedPrecondition),
            Some(FaultKind::Cancelled),
            Some(FaultKind::CircuitOpen),
            Some(FaultKind::Other),
        ])
    }

    /// Audio comes on a stream. What is found in it is added to `found`, with its place; the answer is whether the
    /// recogniser had been left without audio for so long that it has given up.
    pub(crate) fn hear(
        &mut self,
        stream: StreamId,
        bytes: &[u8],
        frames: &[Spoken],
        found: &mut Vec<(u32, u64)>,
        now: At,
    ) -> bool {
        let Some(this) = self.streams.get_mut(&stream) else {
            return false;
        };
        let starved = now > this.last_audio + STARVED_AFTER;
        this.last_audio = now;
        let from = found.len();
        this.listen(self.format.encoding, bytes, found);
        if starved {
            self.say(now, stream, Said::Closed(Some(FaultKind::OutOfRange)));
        }
        for (number, place) in found[from..].iter().copied() {
            self.recognise(stream, number, frames[number as usize], place, now);
        }
        self.watch(stream, now);
        starved
    }

    /// A frame with a sound in it has come.
    fn recognise(&mut self, stream: StreamId, number: u32, spoken: Spoken, place: u64, now: At) {
        let frame = self.format.rate.samples_in(FRAME_DURATION);
        let this = self.streams.get_mut(&stream).expect("it hears");
        if this.phase == Phase::Hearing && this.is_ended_before(place) {
            self.end_utterance(stream, now);
        }
        let this = self.streams.get_mut(&stream).expect("it hears");
        if !matches!(this.phase, Phase::Hearing | Phase::Answering) || place < this.no_barge_in {
            return;
        }
        match spoken.sound {
            Sound::Words | Sound::BackChannel => {}
            Sound::Cough => return,
            Sound::Echo => {
                this.echo += u32::from(spoken.loud);
                if this.echo < ECHO_TO_WORDS {
                    return;
                }
            }
        }
        this.speech_end = Some(place + frame);
        this.words += 1;
        this.spoke = true;
        if spoken.sound != Sound::Echo {
            this.understood.push(number);
        }
        if this.words % 12 == 6 && this.phase == Phase::Hearing {
            let at = this.live_at.max(now) + self.dice.ms(60, 400);
            let text = words(spoken.sound, spoken.utterance, this.words / 12);
            self.say(at, stream, Said::Interim(text));
        }
    }

    /// Audio time has gone on: is the utterance over, or the patience?
    fn watch(&mut self, stream: StreamId, now: At) {
        let this = self.streams.get(&stream).expect("it hears");
        if this.phase != Phase::Hearing {
            return;
        }
        let impatient = this.no_speech.is_some_and(|silence| {
            this.speech_end.is_none() && this.samples > this.prompt + silence
        });
        if this.is_ended_before(this.samples) || impatient {
            self.end_utterance(stream, now);
        }
    }

    /// The recogniser finds that the caller has stopped.
    fn end_utterance(&mut self, stream: StreamId, now: At) {
        let this = self.streams.get_mut(&stream).expect("it hears");
        this.phase = Phase::Ended;
        let live_at = this.live_at.max(now);
        let at = live_at + self.dice.ms(20, 300);
        self.finish_words(stream, live_at);
        self.say(at, stream, Said::EndOfUtterance);
        if self.hasty && self.dice.chance(0.3) {
            self.answer(stream, live_at);
        }
    }

    /// What has been heard since the last final becomes one.
    fn finish_words(&mut self, stream: StreamId, now: At) {
        let this = self.streams.get_mut(&stream).expect("it hears");
        let Some(end) = this.speech_end.filter(|_| this.words > 0) else {
            return;
        };
        let understood = std::mem::take(&mut this.understood);
        let text = format!("{} words", this.words / 12 + 1);
        this.words = 0;
        let at = now + self.dice.ms(10, 350);
        this.finals_until = this.finals_until.max(at);
        let murmur = understood.is_empty();
        // Recognisers are a little early or late about it.
        let rate = self.format.rate;
        let end = end + rate.samples_in(self.dice.ms(0, 100));
        let end = end.saturating_sub(rate.samples_in(self.dice.ms(0, 60)));
        let end_offset = self
            .dice
            .chance(self.tells_offsets)
            .then(|| rate.duration_of(end));
        self.say(
            at,
            stream,
            Said::Final {
                text: if murmur { "mhm".to_owned() } else { text },
                end_offset,
                understood,
            },
        );
    }

    /// No more input comes: what was heard is understood, and answered.
    pub(crate) fn half_close(&mut self, stream: StreamId, now: At) {
        let Some(this) = self.streams.get(&stream) else {
            return;
        };
        if matches!(this.phase, Phase::Answering | Phase::Over) {
            return;
        }
        let live_at = this.live_at.max(now);
        self.finish_words(stream, live_at);
        self.answer(stream, live_at);
    }

    /// The agent thinks, and answers.
    fn answer(&mut self, stream: StreamId, now: At) {
        let this = self.streams.get_mut(&stream).expect("it is open");
        this.phase = Phase::Answering;
        let spoke = this.spoke;
        let input = this.input.clone();
        let mut at = now.max(this.finals_until);
        if self.faulty && self.dice.chance(0.15) {
            let at = at + self.dice.ms(0, 3_000);
            let fault = self.fault();
            self.say(at, stream, Said::Closed(fault));
        }
        for reply in self.agent.reply(&input, spoke) {
            at += reply.after;
            self.say(at, stream, Said::Answer(Box::new(reply)));
        }
        let at = at + self.dice.ms(0, 80);
        self.say(at, stream, Said::Closed(None));
    }

    /// The stream is given up.
    pub(crate) fn cancel(&mut self, stream: StreamId) {
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.cancelled = true;
        }
    }

    fn say(&mut self, at: At, stream: StreamId, said: Said) {
        let this = self.streams.get(&stream).expect("it is open");
        let at = if matches!(said, Said::Closed(_)) {
            at
        } else {
            at.max(this.live_at)
        };
        self.sequence += 1;
        self.messages.insert(self.sequence, said);
        self.outbox.push(Reverse((at, self.sequence, stream)));
    }

    /// When something comes from it next.
    pub(crate) fn next(&self) -> Option<At> {
        self.outbox.peek().map(|Reverse((at, ..))| *at)
    }

    /// What comes from it now. Streams that are over say nothing more; cancelled ones may still.
    pub(crate) fn take(&mut self, now: At) -> Option<(StreamId, Said)> {
        while self.next().is_some_and(|at| at <= now) {
            let Reverse((_, sequence, stream)) = self.outbox.pop()?;
            let said = self.messages.remove(&sequence)?;
            let this = self.streams.get_mut(&stream)?;
            if this.phase == Phase::Over || (this.cancelled && !this.chatty) {
                continue;
            }
            if matches!(said, Said::Closed(_)) {
                this.phase = Phase::Over;
            }
            return Some((stream, said));
        }
        None
    }

    /// The bytes of a clip, and when they come; or why they do not.
    pub(crate) fn fetch(&mut self, uri: &str, now: At) -> (At, Result<Bytes, String>) {
        let after = if self.dice.chance(0.1) {
            self.dice.ms(1_500, 4_500)
        } else {
            self.dice.ms(1, 400)
        };
        let tag = uri
            .rsplit_once('/')
            .and_then(|(_, name)| name.strip_suffix(".wav")?.parse().ok());
        let clip = match tag {
            Some(tag) if !self.dice.chance(0.1) => {
                let frames = self.dice.between(5, 80) as u32;
                Ok(sound::clip(self.agent.format(), tag, frames))
            }
            Some(_) => Err("404 Not Found".to_owned()),
            None => Err("no such clip".to_owned()),
        };
        (now + after, clip)
    }
}

impl Stream {
    /// Finds the names in new audio.
    fn listen(&mut self, encoding: Encoding, bytes: &[u8], found: &mut Vec<(u32, u64)>) {
        // Most of what a caller says is nothing, and no name is in it.
        let silence = match encoding {
            Encoding::Linear16 => 0,
            Encoding::Mulaw => g711::MULAW_SILENCE,
            Encoding::Alaw => g711::ALAW_SILENCE,
        };
        if bytes.first() == Some(&silence) && bytes[1..] == bytes[..bytes.len() - 1] {
            self.samples += (bytes.len() / encoding.bytes_per_sample()) as u64;
            self.ear.forget();
            return;
        }
        let mut see = |negative: bool| {
            self.samples += 1;
            if let Some(number) = self.ear.see(negative) {
                found.push((number, Finder::begin(self.samples)));
            }
        };
        match encoding {
            Encoding::Linear16 => bytes.chunks_exact(2).for_each(|pair| see(pair[1] >= 0x80)),
            // Both laws keep the sign in the highest bit; zero is positive in both.
            Encoding::Mulaw | Encoding::Alaw => bytes.iter().for_each(|byte| see(*byte < 0x80)),
        }
    }

    /// Whether there was so much silence before `place` that the utterance is over.
    fn is_ended_before(&self, place: u64) -> bool {
        !self.endless
            && self
                .speech_end
                .is_some_and(|end| place > end + self.endpoint)
    }
}

fn words(sound: Sound, utterance: u32, count: u32) -> String {
    match sound {
        Sound::Words => format!("utterance {utterance} word {count}"),
        Sound::BackChannel => "mhm".to_owned(),
        Sound::Cough | Sound::Echo => "what the agent says".to_owned(),
    }
}
