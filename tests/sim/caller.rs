//! The caller: says things at all the moments at which people say things, coughs, presses keys, holds, and hangs up.

use std::collections::VecDeque;

use tandem::engine::call::event::DigitSource;
use tandem::engine::call::event::LegEnd;
use tandem::engine::media::frame::FRAME_DURATION;
use tandem::engine::media::frame::Frame;
use tandem::engine::media::frame::SampleRate;

use crate::dice::Dice;
use crate::far_end::Cue;
use crate::history::At;
use crate::history::Sound;
use crate::history::Spoken;
use crate::sound;
use crate::watermark;
use crate::watermark::Side;

/// How loud a voice is at least, beside a full one: 6 dB less.
const QUIETEST: f64 = 0.5;

/// Something that the caller does, sound aside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Act {
    /// Makes a sound of so many frames.
    Utter(Sound, u32),
    /// Presses a key.
    Press(char, DigitSource),
    /// Holds the call, or comes back.
    Hold(bool),
    /// An operator transfers them.
    BeTransferred,
    /// The leg ends.
    Leave(LegEnd),
}

/// The caller.
pub(crate) struct Caller {
    dice: Dice,
    rate: SampleRate,
    character: Character,
    /// What is to be done, the earliest first.
    acts: VecDeque<(At, Act)>,
    uttering: Option<Uttering>,
    utterances: u32,
    /// Everything uttered so far.
    pub(crate) frames: Vec<Spoken>,
}

/// How a caller is.
struct Character {
    /// How often they answer a prompt.
    answers: f64,
    /// How often they speak over one.
    interrupts: f64,
    /// How often they murmur or cough over one.
    murmurs: f64,
    /// How often they go on when the agent has begun to think.
    goes_on: f64,
    /// How often they press keys rather than speak.
    presses: f64,
    /// How loud they are.
    gain: f64,
    /// How loud the prompt comes back.
    echo: Option<f64>,
    keys: DigitSource,
}

struct Uttering {
    number: u32,
    sound: Sound,
    left: u32,
    /// Where in the track the voice goes on.
    track: usize,
}

impl Caller {
    /// A caller whose call lasts at most so long, on a leg of this rate; `holds` if the leg can.
    pub(crate) fn new(
        seed: u64,
        rate: SampleRate,
        length: At,
        holds: bool,
        keys: &[DigitSource],
    ) -> Self {
        let mut dice = Dice::new(seed, "caller");
        let character = Character {
            answers: dice.pick(&[0.4, 0.8, 0.9]),
            interrupts: dice.pick(&[0.0, 0.2, 0.5]),
            murmurs: dice.pick(&[0.0, 0.1, 0.3]),
            goes_on: dice.pick(&[0.0, 0.2, 0.4]),
            presses: dice.pick(&[0.0, 0.0, 0.1, 0.3]),
            gain: QUIETEST + (1.0 - QUIETEST) * dice.between(0, 100) as f64 / 100.0,
            echo: dice
                .chance(0.12)
                .then(|| 10_f64.powf(-(dice.between(15, 40) as f64) / 20.0)),
            keys: dice.pick(keys),
        };
        let mut caller = Self {
            dice,
            rate,
            character,
            acts: VecDeque::new(),
            uttering: None,
            utterances: 0,
            frames: Vec::new(),
        };
        caller.plan(length, holds);
        caller
    }

    /// What happens whatever the agent does.
    fn plan(&mut self, length: At, holds: bool) {
        let end = length.as_millis() as u64;
        let leave = self.dice.pick(&[
            LegEnd::HungUp,
            LegEnd::HungUp,
            LegEnd::HungUp,
            LegEnd::Lost,
            LegEnd::ConsentLost,
        ]);
        self.will(length, Act::Leave(leave));
        while holds && self.dice.chance(0.12) {
            let at = self.dice.ms(500, end);
            let back = at + self.dice.ms(50, 6_000);
            self.will(at, Act::Hold(true));
            self.will(back, Act::Hold(false));
        }
        while self.dice.chance(0.3) {
            let at = self.dice.ms(0, end);
            let frames = self.words();
            self.will(at, Act::Utter(Sound::Words, frames));
        }
        while self.dice.chance(0.2) {
            let at = self.dice.ms(0, end);
            let frames = self.dice.between(5, 18) as u32;
            self.will(at, Act::Utter(Sound::Cough, frames));
        }
        if self.dice.chance(0.02) {
            let at = self.dice.ms(0, end);
            self.will(at, Act::BeTransferred);
        }
    }

    /// In words, for the story.
    pub(crate) fn describe(&self) -> String {
        let Character { gain, echo, .. } = &self.character;
        format!("voice x{gain:.2}, echo {echo:.3?}")
    }

    /// Whether what is played comes back to the microphone.
    pub(crate) const fn has_echo(&self) -> bool {
        self.character.echo.is_some()
    }

    /// How long the next thing said is: words of a second or two, now and then a speech.
    fn words(&mut self) -> u32 {
        if self.dice.chance(0.04) {
            self.dice.between(120, 400) as u32
        } else {
            self.dice.between(22, 65) as u32
        }
    }

    fn will(&mut self, at: At, act: Act) {
        let place = self.acts.partition_point(|(other, _)| *other <= at);
        self.acts.insert(place, (at, act));
    }

    /// The caller notices something, and may do something about it.
    pub(crate) fn notice(&mut self, cue: Cue, now: At) {
        match cue {
            Cue::PromptBegan => {
                if self.dice.chance(self.character.interrupts) {
                    let at = now + self.dice.ms(50, 2_000);
                    self.speak_or_press(at);
                } else if self.dice.chance(self.character.murmurs) {
                    let at = now + self.dice.ms(50, 2_000);
                    let frames = self.dice.between(12, 30) as u32;
                    let sound = self.dice.pick(&[Sound::BackChannel, Sound::Cough]);
                    self.will(at, Act::Utter(sound, frames));
                }
            }
            Cue::PromptEnded => {
                if self.dice.chance(self.character.answers) {
                    let at = now + self.dice.ms(50, 1_800);
                    self.speak_or_press(at);
                }
            }
            Cue::Thinking => {
                if self.dice.chance(self.character.goes_on) {
                    let at = now + self.dice.ms(20, 900);
                    let frames = self.words();
                    self.will(at, Act::Utter(Sound::Words, frames));
                }
            }
        }
    }

    fn speak_or_press(&mut self, at: At) {
        if !self.dice.chance(self.character.presses) {
            let frames = self.words();
            self.will(at, Act::Utter(Sound::Words, frames));
            return;
        }
        let mut at = at;
        for _ in 0..self.dice.between(1, 4) {
            let key = self.dice.pick(&['1', '2', '3', '9', '0', '#', '*']);
            self.will(at, Act::Press(key, self.character.keys));
            // Many networks tell of the same key twice.
            if self.character.keys == DigitSource::Rtp && self.dice.chance(0.2) {
                let again = at + self.dice.ms(20, 300);
                self.will(again, Act::Press(key, DigitSource::InBand));
            }
            at += self.dice.ms(250, 900);
        }
    }

    /// When the next act is due.
    pub(crate) fn next_act(&self) -> Option<At> {
        self.acts.front().map(|(at, _)| *at)
    }

    /// What the caller does now.
    pub(crate) fn take_act(&mut self, now: At) -> Option<Act> {
        self.acts
            .pop_front_if(|(at, _)| *at <= now)
            .map(|(_, act)| act)
    }

    /// Begins to make a sound, unless one is being made; its number.
    pub(crate) fn utter(&mut self, sound: Sound, frames: u32) -> Option<u32> {
        if self.uttering.is_some() {
            return None;
        }
        let number = self.utterances;
        self.utterances += 1;
        self.uttering = Some(Uttering {
            number,
            sound,
            left: frames,
            track: self.dice.between(0, 177) as usize,
        });
        Some(number)
    }

    /// The next frame of the caller's side, while this is heard there; with its number if there is a sound in it.
    pub(crate) fn frame(&mut self, heard: Option<&Frame>) -> (Frame, Option<u32>) {
        let mut frame = Frame::silence(self.rate);
        let echo = heard.zip(self.character.echo);
        if let Some((heard, gain)) = echo {
            for (sample, heard) in frame.samples_mut().iter_mut().zip(heard.samples()) {
                *sample = (f64::from(*heard) * gain) as i16;
            }
        }
        let (utterance, sound) = match &mut self.uttering {
            Some(uttering) => {
                let gain = self.character.gain;
                match uttering.sound {
                    Sound::Words | Sound::BackChannel | Sound::Echo => {
                        let voice = sound::speech(self.rate, uttering.track);
                        for (sample, voice) in frame.samples_mut().iter_mut().zip(voice) {
                            *sample = sample.saturating_add((f64::from(*voice) * gain) as i16);
                        }
                    }
                    Sound::Cough => {
                        for sample in frame.samples_mut() {
                            *sample =
                                sample.saturating_add(self.dice.between(0, 6_000) as i16 - 3_000);
                        }
                    }
                }
                uttering.track += 1;
                uttering.left -= 1;
                (uttering.number, uttering.sound)
            }
            None if echo.is_some() => (u32::MAX, Sound::Echo),
            None => return (frame, None),
        };
        if self.uttering.as_ref().is_some_and(|said| said.left == 0) {
            self.uttering = None;
        }
        let number = self.frames.len() as u32;
        let loud = sound::is_loud(frame.samples());
        watermark::write(frame.samples_mut(), Side::Caller, number);
        self.frames.push(Spoken {
            utterance,
            sound,
            loud,
        });
        (frame, Some(number))
    }

    /// How long the echo takes beyond the network's own delay.
    pub(crate) fn echo_delay(&mut self) -> At {
        self.dice.ms(40, 250).max(FRAME_DURATION)
    }
}
