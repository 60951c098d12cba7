//! What the agent answers: replies are written without regard to the leg, and sound as the call asked.

use std::time::Duration;

use bytes::Bytes;
use tandem::engine::call::event::AgentSettings;
use tandem::engine::call::event::Answer;
use tandem::engine::call::event::Audio;
use tandem::engine::call::event::AudioFormat;
use tandem::engine::call::event::Cancellation;
use tandem::engine::call::event::MatchKind;
use tandem::engine::call::event::Message;
use tandem::engine::call::event::MixedContent;
use tandem::engine::call::event::MixedSegment;

use crate::conversation::secs;
use crate::sound;

/// The tone in which the agent speaks unless told otherwise.
pub(crate) const AGENT_HZ: f64 = 800.0;

/// One response of the agent.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    text: Option<String>,
    interruptible: bool,
    sound: Sound,
    partial: Option<Cancellation>,
    messages: Vec<Message>,
    pieces: Vec<Piece>,
    settings: AgentSettings,
    match_kind: MatchKind,
    query: String,
}

/// What `output_audio` sounds like.
#[derive(Clone, Debug)]
enum Sound {
    Tones(Vec<(f64, Duration)>),
    Speech(Duration),
}

/// A piece of `mixed_audio`.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    /// A tone of so many seconds.
    Tone(f64, f64),
    /// A clip.
    Uri(&'static str),
    /// What follows may be interrupted.
    Interruptible(Box<Piece>),
}

impl Piece {
    /// The same, and the caller may interrupt it.
    pub(crate) fn interruptible(self) -> Self {
        Self::Interruptible(Box::new(self))
    }
}

/// Says something for so many seconds; the caller may interrupt it.
pub(crate) fn says(text: &str, seconds: f64) -> Reply {
    Reply {
        text: Some(text.to_owned()),
        interruptible: true,
        sound: Sound::Tones(vec![(AGENT_HZ, secs(seconds))]),
        partial: None,
        messages: Vec::new(),
        pieces: Vec::new(),
        settings: AgentSettings::default(),
        match_kind: MatchKind::Other,
        query: String::new(),
    }
}

/// Says nothing.
pub(crate) fn silent() -> Reply {
    Reply {
        text: None,
        sound: Sound::Tones(Vec::new()),
        ..says("", 0.0)
    }
}

impl Reply {
    /// In another tone.
    pub(crate) fn hz(mut self, hz: f64) -> Self {
        if let Sound::Tones(tones) = &mut self.sound {
            for (of_tone, _) in tones {
                *of_tone = hz;
            }
        }
        self
    }

    /// In several tones, one after another, of so many seconds each.
    pub(crate) fn tones(mut self, hz: &[f64], seconds: f64) -> Self {
        self.sound = Sound::Tones(hz.iter().map(|hz| (*hz, secs(seconds))).collect());
        self
    }

    /// In a human voice.
    pub(crate) fn spoken(mut self, seconds: f64) -> Self {
        self.sound = Sound::Speech(secs(seconds));
        self
    }

    /// The caller may not interrupt it.
    pub(crate) const fn protected(mut self) -> Self {
        self.interruptible = false;
        self
    }

    /// More follows in this turn.
    pub(crate) const fn partial(mut self, cancellation: Cancellation) -> Self {
        self.partial = Some(cancellation);
        self
    }

    /// With another message.
    pub(crate) fn with(mut self, message: Message) -> Self {
        self.messages.push(message);
        self
    }

    /// With a payload of commands for the gateway.
    pub(crate) fn commanding(self, commands: &serde_json::Value) -> Self {
        self.with(Message::Payload(serde_json::json!({ "tandem": commands })))
    }

    /// With pieces that are played instead of the speech.
    pub(crate) fn mixed(mut self, pieces: Vec<Piece>) -> Self {
        self.pieces = pieces;
        self
    }

    /// With the page's settings.
    pub(crate) fn settings(mut self, settings: AgentSettings) -> Self {
        self.settings = settings;
        self
    }

    /// The agent understood it like this.
    pub(crate) const fn matched(mut self, kind: MatchKind) -> Self {
        self.match_kind = kind;
        self
    }

    /// In answer to these words of the caller's.
    pub(crate) fn to(mut self, words: &str) -> Self {
        words.clone_into(&mut self.query);
        self
    }

    /// As the backend hands it to the call, sounding in `format`.
    pub(crate) fn answer(self, format: AudioFormat) -> Answer {
        let mut messages = Vec::new();
        if let Some(text) = self.text {
            messages.push(Message::Text {
                text,
                interruptible: self.interruptible,
            });
        }
        if !self.pieces.is_empty() {
            let pieces = self.pieces.into_iter();
            messages.push(Message::MixedAudio(
                pieces.map(|piece| segment(piece, format)).collect(),
            ));
        }
        messages.extend(self.messages);
        let samples = match self.sound {
            Sound::Tones(tones) => tones
                .into_iter()
                .flat_map(|(hz, duration)| sound::tone(format.rate, hz, duration))
                .collect(),
            Sound::Speech(duration) => sound::speech(format.rate, Duration::ZERO, duration),
        };
        let bytes = if samples.is_empty() {
            Bytes::new()
        } else {
            sound::encode(format, &samples).into()
        };
        Answer {
            partial: self.partial,
            output_audio: Audio {
                bytes,
                format: Some(format),
            },
            messages,
            settings: self.settings,
            match_kind: self.match_kind,
            query: self.query,
            ..Answer::default()
        }
    }
}

fn segment(piece: Piece, format: AudioFormat) -> MixedSegment {
    match piece {
        Piece::Tone(hz, seconds) => MixedSegment {
            content: MixedContent::Audio(tone(format, hz, seconds)),
            interruptible: false,
        },
        Piece::Uri(uri) => MixedSegment {
            content: MixedContent::Uri(uri.to_owned()),
            interruptible: false,
        },
        Piece::Interruptible(piece) => MixedSegment {
            interruptible: true,
            ..segment(*piece, format)
        },
    }
}

/// A tone as an agent sends it.
fn tone(format: AudioFormat, hz: f64, seconds: f64) -> Bytes {
    sound::encode(format, &sound::tone(format.rate, hz, secs(seconds))).into()
}

/// A tone as it is stored where clips are.
pub(crate) fn clip(format: AudioFormat, hz: f64, seconds: f64) -> Bytes {
    sound::wav(format, &sound::tone(format.rate, hz, secs(seconds))).into()
}
