//! The caller's handset: mouth, ear and the notes of an attentive listener. Pure; a call's loop feeds it and does what it says.
//!
//! Times are since the call's start. What the caller says is timed when its frame leaves, what it hears when its frame begins to play:
//! both are exact to the 20 ms of a frame.

use std::sync::Arc;
use std::time::Duration;

use crate::echo::Echo;
use crate::echo::EchoPath;
use crate::far_end::Cleared;
use crate::far_end::FarEnd;
use crate::far_end::FarEndTally;
use crate::far_end::Overflow;
use crate::far_end::Played;
use crate::far_end::TICK;
use crate::mouth::Mouth;
use crate::mulaw;
use crate::playout::Packet;
use crate::playout::Playout;
use crate::playout::RtpTally;
use crate::record::Recording;
use crate::speech::Speech;
use crate::tone;
use crate::voice;
use crate::voice::Change;

/// Without a clear, a prompt that ends this soon after the caller spoke over it was cut; one that ends later came to its own end. An agent
/// that waits for words takes a second or two.
const CUT_WITHIN: Duration = Duration::from_secs(3);

/// What a listener on the line would note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    /// The caller's first voiced sample has left.
    CallerSpeaks { what: String },
    /// The caller's last voiced sample has left.
    CallerStops,
    /// The agent's first voiced sample is heard; `waited` is the time since the caller's last one.
    AgentSpeaks { waited: Option<Duration> },
    /// The agent was last heard at `end`; `after_barge_in` is the time since the caller spoke over it.
    AgentStops {
        end: Duration,
        after_barge_in: Option<Duration>,
    },
    /// The gateway emptied our buffer.
    Cleared {
        unheard: Duration,
        marks: usize,
        after_barge_in: Option<Duration>,
    },
    /// A mark goes back to the gateway.
    MarkReturned { name: String },
}

/// What was measured over the call.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tally {
    /// Call start to the agent's first voiced sample.
    pub(crate) first_voice: Option<Duration>,
    /// Caller's last voiced sample to the agent's first, per turn.
    pub(crate) waits: Vec<Duration>,
    /// Caller's first voiced sample over the agent to the clear.
    pub(crate) barge_in_to_clear: Vec<Duration>,
    /// Caller's first voiced sample over the agent to the agent's last.
    pub(crate) barge_in_to_silence: Vec<Duration>,
    /// Prompts that ended because the caller spoke over them: by a clear, or where there is none by their silence.
    pub(crate) prompts_cut: usize,
    /// When the caller's last voiced sample left and when the first sound of the answer arrived, per turn: on the wire, without the
    /// telephone's own delay. On a stream that is the first audio, of packets the first with voice.
    pub(crate) answers: Vec<(Duration, Duration)>,
    /// When the gateway told that it had cut a prompt, and when the prompt was last heard.
    pub(crate) cuts: Vec<(Duration, Duration)>,
    /// Clears received.
    pub(crate) clears: u32,
    /// Round trips of tone bursts.
    pub(crate) round_trips: Vec<Duration>,
    /// Frames sent.
    pub(crate) frames_sent: u64,
}

/// One tick's doings.
#[derive(Debug)]
pub(crate) struct Tick {
    /// To the gateway.
    pub(crate) frame: [u8; mulaw::FRAME],
    /// Marks to return to the gateway.
    pub(crate) marks: Vec<String>,
    /// What was noted.
    pub(crate) notes: Vec<Note>,
}

/// What the call left behind.
#[derive(Debug)]
pub(crate) struct Remains {
    pub(crate) tally: Tally,
    pub(crate) far_end: FarEndTally,
    /// On a line with packets.
    pub(crate) rtp: Option<RtpTally>,
    /// If one was made.
    pub(crate) recording: Option<Recording>,
}

/// What plays the gateway's audio.
#[derive(Debug)]
enum Ear {
    /// A stream with marks and clears.
    Stream(FarEnd),
    /// Packets with timestamps.
    Packets(Playout),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Handset {
    mouth: Mouth,
    ear: Ear,
    agent: voice::Tracker,
    tones: tone::Detector,
    recording: Option<Recording>,
    /// The caller's last voiced sample, until the agent answers it.
    unanswered_since: Option<Duration>,
    /// The caller's first voiced sample over the agent, until the agent is silent.
    barge_in_since: Option<Duration>,
    /// When the caller's last voiced sample left.
    silent_since: Option<Duration>,
    /// When the frame with the caller's last voiced sample left, until the answer arrives.
    unanswered_on_wire: Option<Duration>,
    /// When the gateway told that it had cut the prompt that is heard.
    cut_at: Option<Duration>,
    echo: Option<Echo>,
    tally: Tally,
}

impl Handset {
    /// A handset that has just been picked up.
    pub(crate) fn new(line_noise: bool, record: bool) -> Self {
        Self {
            mouth: Mouth::new(line_noise),
            ear: Ear::Stream(FarEnd::default()),
            agent: voice::Tracker::default(),
            tones: tone::Detector::default(),
            recording: record.then(Recording::default),
            unanswered_since: None,
            barge_in_since: None,
            silent_since: None,
            unanswered_on_wire: None,
            cut_at: None,
            echo: None,
            tally: Tally::default(),
        }
    }

    /// The same, for a line on which the gateway's audio comes in packets.
    pub(crate) fn for_packets(self) -> Self {
        Self {
            ear: Ear::Packets(Playout::default()),
            ..self
        }
    }

    /// The same, on a line with an echo.
    pub(crate) fn with_echo(self, path: EchoPath) -> Self {
        Self {
            echo: Some(Echo::new(path)),
            ..self
        }
    }

    /// The caller starts to speak, or repeats something until the end of the call.
    pub(crate) fn say(&mut self, speech: Arc<Speech>, repeated: bool) {
        self.mouth.say(speech, repeated);
    }

    /// Whether the caller is still saying something.
    pub(crate) fn is_speaking(&self) -> bool {
        self.mouth.saying().is_some()
    }

    /// When the caller's last word was over, if they have said one.
    pub(crate) fn silent_since(&self) -> Option<Duration> {
        self.silent_since.filter(|_| !self.is_speaking())
    }

    /// When the agent began the talk that is heard now.
    pub(crate) fn agent_since(&self) -> Option<Duration> {
        self.agent.speaking_since()
    }

    /// For how long the agent has been silent, with no voice waiting in the buffer.
    pub(crate) fn agent_silent_for(&self, at: Duration) -> Duration {
        let silent = at.saturating_sub(self.agent.last_voiced());
        let holds_voice = match &self.ear {
            Ear::Stream(far_end) => far_end.holds_voice(),
            Ear::Packets(playout) => playout.holds_voice(),
        };
        if holds_voice { Duration::ZERO } else { silent }
    }

    /// Audio from the gateway.
    pub(crate) fn receive(&mut self, audio: Vec<u8>, at: Duration) -> Result<(), Overflow> {
        match &mut self.ear {
            Ear::Stream(far_end) => {
                self.tally
                    .answers
                    .extend(self.unanswered_on_wire.take().map(|since| (since, at)));
                far_end.receive(audio)
            }
            Ear::Packets(_) => Ok(()),
        }
    }

    /// A packet from the gateway.
    pub(crate) fn receive_packet(&mut self, packet: &Packet, at: Duration) {
        match &mut self.ear {
            Ear::Stream(_) => {}
            Ear::Packets(playout) => {
                if voice::is_voiced(&packet.audio) {
                    self.tally
                        .answers
                        .extend(self.unanswered_on_wire.take().map(|since| (since, at)));
                }
                playout.receive(packet, at);
            }
        }
    }

    /// The gateway told that it has cut what the caller hears.
    pub(crate) fn told_of_cut(&mut self, at: Duration) {
        // A stream may have been cleared, and thus be silent, before the word of it is here.
        match self.agent.speaking_since() {
            Some(_) => self.cut_at = Some(at),
            None => self.tally.cuts.push((at, self.agent.last_voiced())),
        }
    }

    /// A mark from the gateway.
    pub(crate) fn mark(&mut self, name: String) {
        match &mut self.ear {
            Ear::Stream(far_end) => far_end.mark(name),
            Ear::Packets(_) => {}
        }
    }

    /// A clear from the gateway: the marks to return at once, and what was noted.
    pub(crate) fn clear(&mut self, at: Duration) -> (Vec<String>, Vec<Note>) {
        let Ear::Stream(far_end) = &mut self.ear else {
            return (Vec::new(), Vec::new());
        };
        let Cleared { marks, unheard } = far_end.clear();
        let after_barge_in = self.barge_in_since.map(|since| at.saturating_sub(since));
        self.tally.clears += 1;
        self.tally.prompts_cut += usize::from(after_barge_in.is_some());
        self.tally.barge_in_to_clear.extend(after_barge_in);
        let mut notes = vec![Note::Cleared {
            unheard,
            marks: marks.len(),
            after_barge_in,
        }];
        notes.extend(self.agent.cut(at).and_then(|change| self.note(change, at)));
        (marks, notes)
    }

    /// The next 20 ms of both directions.
    pub(crate) fn tick(&mut self, at: Duration) -> Tick {
        let saying = self.mouth.saying().map(|speech| speech.label.clone());
        let (mut frame, uttered) = self.mouth.frame();
        let played = match &mut self.ear {
            Ear::Stream(far_end) => far_end.tick(),
            Ear::Packets(playout) => Played {
                frame: playout.tick(),
                marks: Vec::new(),
            },
        };
        let mut notes = Vec::new();
        if uttered.started {
            self.unanswered_on_wire = None;
            self.barge_in_since = self.agent.speaking_since().map(|_| at);
            self.tones.sent(at);
            notes.push(Note::CallerSpeaks {
                what: saying.unwrap_or_default(),
            });
        }
        if uttered.stopped {
            self.unanswered_since = Some(at + TICK);
            self.unanswered_on_wire = Some(at);
            self.silent_since = Some(at + TICK);
            notes.push(Note::CallerStops);
        }
        if let Some(echo) = &mut self.echo {
            echo.add(&mut frame, &played.frame);
        }
        let change = self.agent.hear(&played.frame, at + TICK, at);
        notes.extend(change.and_then(|change| self.note(change, at)));
        self.tally
            .round_trips
            .extend(self.tones.hear(&played.frame, at));
        self.tally.frames_sent += 1;
        if let Some(recording) = &mut self.recording {
            recording.push(&frame, &played.frame);
        }
        notes.extend(
            played
                .marks
                .iter()
                .cloned()
                .map(|name| Note::MarkReturned { name }),
        );
        Tick {
            frame,
            marks: played.marks,
            notes,
        }
    }

    /// The call is over: what was measured, what went through the buffer, and the recording if one was made.
    pub(crate) fn hang_up(self) -> Remains {
        let (far_end, rtp) = match &self.ear {
            Ear::Stream(far_end) => (far_end.tally().clone(), None),
            Ear::Packets(playout) => {
                let (far_end, rtp) = playout.tally();
                (far_end, Some(rtp))
            }
        };
        Remains {
            tally: self.tally,
            far_end,
            rtp,
            recording: self.recording,
        }
    }

    fn note(&mut self, change: Change, at: Duration) -> Option<Note> {
        match change {
            Change::Started => {
                self.tally.first_voice.get_or_insert(at);
                let waited = self
                    .unanswered_since
                    .take()
                    .map(|since| at.saturating_sub(since));
                self.tally.waits.extend(waited);
                Some(Note::AgentSpeaks { waited })
            }
            Change::Stopped(end) => {
                let after_barge_in = self
                    .barge_in_since
                    .take()
                    .map(|since| end.saturating_sub(since));
                self.tally.barge_in_to_silence.extend(after_barge_in);
                self.tally
                    .cuts
                    .extend(self.cut_at.take().map(|told| (told, end)));
                if matches!(self.ear, Ear::Packets(_)) {
                    let cut = after_barge_in.is_some_and(|after| after <= CUT_WITHIN);
                    self.tally.prompts_cut += usize::from(cut);
                }
                Some(Note::AgentStops {
                    end,
                    after_barge_in,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_timed_from_the_callers_last_voice_to_the_agents_first() {
        let mut handset = Handset::new(false, false);
        handset.say(speech(25), false);
        run(&mut handset, 0..50);
        receive(&mut handset, 10);
        let notes = run(&mut handset, 50..60);
        assert_eq!(
            notes,
            [(
                ms(1000),
                Note::AgentSpeaks {
                    waited: Some(ms(500))
                }
            )]
        );
    }

    #[test]
    fn an_answer_is_timed_on_the_wire() {
        let mut handset = Handset::new(false, false);
        handset.say(speech(25), false);
        run(&mut handset, 0..50);
        handset
            .receive(vec![mulaw::SILENCE; mulaw::FRAME], ms(987))
            .expect("room");
        receive(&mut handset, 10);
        // The last voiced frame left at 480 ms.
        assert_eq!(handset.hang_up().tally.answers, [(ms(480), ms(987))]);
    }

    #[test]
    fn a_cut_is_timed_from_the_word_of_it_to_the_last_of_the_prompt() {
        let mut handset = Handset::new(false, false);
        receive(&mut handset, 100);
        run(&mut handset, 0..10);
        handset.told_of_cut(ms(190));
        handset.clear(ms(200));
        assert_eq!(handset.hang_up().tally.cuts, [(ms(190), ms(200))]);
    }

    #[test]
    fn a_barge_in_is_timed_to_the_clear_and_to_silence() {
        let mut handset = Handset::new(false, true);
        receive(&mut handset, 100);
        run(&mut handset, 0..10);
        handset.say(speech(50), false);
        run(&mut handset, 10..20);
        let (marks, notes) = handset.clear(ms(395));
        assert_eq!(marks, [""; 0]);
        assert_eq!(
            notes,
            [
                Note::Cleared {
                    unheard: ms(1600),
                    marks: 0,
                    after_barge_in: Some(ms(195))
                },
                Note::AgentStops {
                    end: ms(395),
                    after_barge_in: Some(ms(195))
                },
            ]
        );
    }

    #[test]
    fn audio_after_a_clear_is_not_in_the_record() {
        let mut handset = Handset::new(false, true);
        receive(&mut handset, 100);
        run(&mut handset, 0..10);
        handset.clear(ms(200));
        run(&mut handset, 10..50);
        let heard = handset
            .hang_up()
            .recording
            .expect("it was asked for")
            .agent()
            .to_vec();
        assert_eq!(heard.len(), 50 * mulaw::FRAME);
        assert!(
            heard[..10 * mulaw::FRAME]
                .iter()
                .all(|&byte| byte != mulaw::SILENCE)
        );
        assert!(
            heard[10 * mulaw::FRAME..]
                .iter()
                .all(|&byte| byte == mulaw::SILENCE)
        );
    }

    #[test]
    fn the_agent_is_not_silent_while_voice_waits_in_the_buffer() {
        let mut handset = Handset::new(false, false);
        handset
            .receive(vec![mulaw::SILENCE; 4000], Duration::ZERO)
            .expect("room");
        receive(&mut handset, 5);
        run(&mut handset, 0..20);
        assert_eq!(handset.agent_silent_for(ms(400)), Duration::ZERO);
    }

    #[test]
    fn without_a_clear_a_prompt_is_cut_when_it_ends_soon_after_the_barge_in() {
        // The agent talks for 2 s or for 6 s; the caller speaks over it from 1 s on.
        for (frames, cut) in [(100, 1), (300, 0)] {
            let mut handset = Handset::new(false, false).for_packets();
            for index in 0..frames + 50 {
                let byte = if index < frames {
                    mulaw::encode(6000)
                } else {
                    mulaw::SILENCE
                };
                let packet = Packet {
                    ssrc: 1,
                    sequence: index as u16,
                    timestamp: index * mulaw::FRAME as u32,
                    audio: vec![byte; mulaw::FRAME],
                };
                handset.receive_packet(&packet, TICK * index);
                if index == 50 {
                    handset.say(speech(25), false);
                }
                handset.tick(TICK * index);
            }
            let remains = handset.hang_up();
            // Three frames of the telephone's own delay.
            let silence = TICK * (frames - 50 + 3);
            assert_eq!(remains.tally.barge_in_to_silence, [silence]);
            assert_eq!(remains.tally.prompts_cut, cut);
        }
    }

    fn speech(frames: usize) -> Arc<Speech> {
        Arc::new(Speech::new(
            "hello".into(),
            vec![mulaw::encode(6000); frames * mulaw::FRAME],
        ))
    }

    fn receive(handset: &mut Handset, frames: usize) {
        handset
            .receive(
                vec![mulaw::encode(6000); frames * mulaw::FRAME],
                Duration::ZERO,
            )
            .expect("room");
    }

    fn run(handset: &mut Handset, ticks: std::ops::Range<u32>) -> Vec<(Duration, Note)> {
        ticks
            .flat_map(|tick| {
                let at = TICK * tick;
                handset
                    .tick(at)
                    .notes
                    .into_iter()
                    .map(move |note| (at, note))
            })
            .collect()
    }

    fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }
}
