//! The agent behind the service: what it answers, in up to five partial responses and a final one.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use serde_json::json;
use tandem::engine::call::event::AgentSettings;
use tandem::engine::call::event::Answer;
use tandem::engine::call::event::Audio;
use tandem::engine::call::event::AudioFormat;
use tandem::engine::call::event::Cancellation;
use tandem::engine::call::event::Digit;
use tandem::engine::call::event::DtmfSettings;
use tandem::engine::call::event::MatchKind;
use tandem::engine::call::event::Message;
use tandem::engine::call::event::MixedContent;
use tandem::engine::call::event::MixedSegment;
use tandem::engine::call::event::ToolCall;
use tandem::engine::call::event::TurnInput;

use crate::dice::Dice;
use crate::history::At;
use crate::sound;

/// The agent.
pub(crate) struct Agent {
    dice: Dice,
    format: AudioFormat,
    next_tag: u32,
    /// Turns answered so far.
    turns: u32,
    /// Whether it uses more than speech: clips, commands, tools.
    elaborate: bool,
    /// Whether it asks for pauses.
    pauses: bool,
}

/// One response.
pub(crate) struct Reply {
    /// How long the agent takes for it.
    pub(crate) after: At,
    /// The response.
    pub(crate) answer: Answer,
    /// The segments in it, in the order in which they are to be played.
    pub(crate) tags: Vec<u32>,
    /// How much silence it asks for.
    pub(crate) pause: Duration,
    /// Whether the call is to end after it.
    pub(crate) ends: bool,
}

impl Agent {
    /// An agent that speaks in `format`. Tags below `first_tag` belong to others.
    pub(crate) fn new(seed: u64, format: AudioFormat, first_tag: u32) -> Self {
        let mut dice = Dice::new(seed, "agent");
        let elaborate = dice.chance(0.4);
        Self {
            elaborate,
            pauses: elaborate && dice.chance(0.4),
            dice,
            format,
            next_tag: first_tag,
            turns: 0,
        }
    }

    /// How it writes its speech.
    pub(crate) const fn format(&self) -> AudioFormat {
        self.format
    }

    /// Whether it asks for pauses.
    pub(crate) const fn pauses(&self) -> bool {
        self.pauses
    }

    /// What it answers to an input, in which the caller `spoke` or did not.
    pub(crate) fn reply(&mut self, input: &TurnInput, spoke: bool) -> Vec<Reply> {
        self.turns += 1;
        let mut replies = Vec::new();
        while replies.len() < 5 && self.dice.chance(0.15) {
            let allowed = self.dice.chance(0.4);
            let cancellation = if allowed {
                Cancellation::Allowed
            } else {
                Cancellation::Forbidden
            };
            replies.push(self.response(Some(cancellation)));
        }
        let mut last = self.response(None);
        let silent = matches!(input, TurnInput::Speech { .. }) && !spoke;
        last.answer.match_kind = if silent {
            MatchKind::NoInput
        } else {
            self.dice
                .pick(&[MatchKind::Intent, MatchKind::Intent, MatchKind::NoMatch])
        };
        if silent && self.dice.chance(0.4) {
            // An agent without a word for silence.
            last.answer.output_audio = Audio::default();
            last.answer.messages.clear();
            last.tags.clear();
            last.pause = Duration::ZERO;
        } else {
            self.conclude(&mut last);
        }
        last.answer.settings = self.settings();
        replies.push(last);
        replies
    }

    fn response(&mut self, partial: Option<Cancellation>) -> Reply {
        let mut reply = Reply {
            after: self.thinking_time(),
            answer: Answer {
                partial,
                ..Answer::default()
            },
            tags: Vec::new(),
            pause: Duration::ZERO,
            ends: false,
        };
        let interruptible = self.dice.chance(0.75);
        match self.dice.between(0, 99) {
            0..=9 => {}
            10..=24 if self.elaborate => self.speak_in_pieces(&mut reply),
            25..=34 if self.elaborate => {
                self.speak(&mut reply, interruptible);
                let uri = self.clip(&mut reply);
                reply
                    .answer
                    .messages
                    .push(Message::PlayAudio { uri, interruptible });
            }
            35..=44 if self.elaborate => {
                self.speak(&mut reply, interruptible);
                let command = self.command(&mut reply);
                reply
                    .answer
                    .messages
                    .push(Message::Payload(json!({"tandem": command})));
            }
            _ => self.speak(&mut reply, interruptible),
        }
        reply
    }

    fn thinking_time(&mut self) -> At {
        match self.dice.between(0, 99) {
            0..=74 => self.dice.ms(20, 600),
            75..=94 => self.dice.ms(600, 3_500),
            _ => self.dice.ms(3_500, 9_000),
        }
    }

    fn tag(&mut self) -> u32 {
        self.next_tag += 1;
        self.next_tag - 1
    }

    fn audio(&mut self, reply: &mut Reply) -> Bytes {
        let tag = self.tag();
        let frames = if self.dice.chance(0.1) {
            self.dice.between(150, 400)
        } else {
            self.dice.between(10, 90)
        };
        reply.tags.push(tag);
        sound::prompt(self.format, tag, frames as u32)
    }

    fn speak(&mut self, reply: &mut Reply, interruptible: bool) {
        let bytes = self.audio(reply);
        reply.answer.output_audio = Audio {
            bytes,
            format: Some(self.format),
        };
        reply.answer.messages.push(Message::Text {
            text: "something".to_owned(),
            interruptible,
        });
    }

    fn speak_in_pieces(&mut self, reply: &mut Reply) {
        let mut segments = Vec::new();
        for _ in 0..self.dice.between(1, 4) {
            let interruptible = self.dice.chance(0.5);
            let content = if self.dice.chance(0.3) {
                MixedContent::Uri(self.clip(reply))
            } else {
                MixedContent::Audio(self.audio(reply))
            };
            segments.push(MixedSegment {
                content,
                interruptible,
            });
        }
        reply.answer.messages.push(Message::MixedAudio(segments));
    }

    fn clip(&mut self, reply: &mut Reply) -> String {
        let tag = self.tag();
        reply.tags.push(tag);
        format!("https://clips.example/{tag}.wav")
    }

    /// One of our own commands.
    fn command(&mut self, reply: &mut Reply) -> Value {
        match self.dice.between(0, 5) {
            0 | 1 if self.pauses => {
                let pause = self.dice.between(1, 20) * 100;
                reply.pause = Duration::from_millis(pause);
                json!({"pause": format!("{pause}ms")})
            }
            2 => json!({"play": self.clip(reply)}),
            3 => json!({"collect_digits": {"max": 2, "finish": "#", "timeout": "2s"}}),
            4 => json!({"turn": {"barge_in": self.dice.pick(&["off", "words", "voice"])}}),
            _ => json!({"turn": {"no_input_timeout": "3s", "interrupt_partials": true}}),
        }
    }

    /// What only a final response asks for. A call goes on for a few turns before it ends.
    fn conclude(&mut self, reply: &mut Reply) {
        let weary = 0.02 * f64::from(self.turns.min(6));
        if self.dice.chance(weary) {
            reply.ends = true;
            let message = match self.dice.between(0, 3) {
                0 => Message::TransferCall("+15550100".to_owned()),
                1 => Message::LiveAgentHandoff(json!({"skill": "billing"})),
                _ => Message::EndInteraction,
            };
            reply.answer.messages.push(message);
        } else if self.elaborate && self.dice.chance(0.06) {
            reply.answer.messages.push(Message::ToolCall(ToolCall {
                tool: self.dice.pick(&["weather", "unknown"]).to_owned(),
                action: "look".to_owned(),
                parameters: json!({"city": "Trieste"}),
            }));
        }
    }

    fn settings(&mut self) -> AgentSettings {
        let dtmf = self.dice.chance(0.3).then(|| DtmfSettings {
            max_digits: Some(self.dice.between(1, 4) as u32),
            finish_digit: Digit::from_char('#'),
            interdigit_timeout: Some(self.dice.ms(500, 2_000)),
        });
        AgentSettings {
            no_speech_timeout: self.dice.chance(0.3).then(|| self.dice.ms(2_000, 6_000)),
            dtmf,
            model: self.dice.chance(0.2).then(|| "telephony".to_owned()),
            keeps_transcripts: None,
            unsupported: Vec::new(),
        }
    }
}
