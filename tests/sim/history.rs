//! All that happened in a run, seen from outside the engine: what the properties judge and what a failure tells.

use std::fmt;
use std::time::Duration;

use tandem::engine::call::end::EndReason;
use tandem::engine::call::event::BargeInWindow;
use tandem::engine::call::event::ClipId;
use tandem::engine::call::event::DigitSource;
use tandem::engine::call::event::FaultKind;
use tandem::engine::call::event::LegEnd;
use tandem::engine::call::event::SegmentId;
use tandem::engine::call::event::StreamId;
use tandem::engine::call::notice::Measure;
use tandem::engine::call::notice::Notice;
use tandem::engine::call::notice::TurnKind;
use tandem::engine::media::frame::SampleRate;

use crate::sound::Piece;

/// A moment: the time since the call began.
pub(crate) type At = Duration;

/// What a run was, and what happened in it.
pub(crate) struct History {
    /// In words, for the story.
    pub(crate) setting: String,
    /// Whether the far end buffers and confirms.
    pub(crate) buffers: bool,
    /// Whether the caller's line rings at first.
    pub(crate) rings: bool,
    /// Samples per second of what the agent hears.
    pub(crate) rate: SampleRate,
    /// How much caller audio goes into a message.
    pub(crate) chunk: Duration,
    /// Tags of segments that the engine may play more than once: hold, apology and fallback prompts.
    pub(crate) shared_tags: Vec<u32>,
    /// Whether the agent's segments reach the caller sample by sample, so that each frame can be told.
    pub(crate) traceable: bool,
    /// Everything that the caller uttered, frame by frame; a frame's number is its place.
    pub(crate) frames: Vec<Spoken>,
    /// What happened, in order.
    pub(crate) entries: Vec<Entry>,
}

/// A frame with a sound of the caller's side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spoken {
    /// Which sound it is part of.
    pub(crate) utterance: u32,
    /// What it is.
    pub(crate) sound: Sound,
    /// Whether it is loud enough that nothing may take it for silence.
    pub(crate) loud: bool,
}

/// What comes from the caller's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sound {
    /// Words that mean something.
    Words,
    /// What people say while they listen.
    BackChannel,
    /// No words.
    Cough,
    /// Our own voice.
    Echo,
}

/// Something that happened.
#[derive(Debug)]
pub(crate) struct Entry {
    /// When.
    pub(crate) at: At,
    /// What.
    pub(crate) what: What,
}

/// Something that happened. Numbers of frames are places in [`History::frames`].
#[derive(Debug)]
#[expect(dead_code, reason = "some of it is only told in the story")]
pub(crate) enum What {
    /// The caller begins to make a sound.
    Utters {
        /// Its number.
        utterance: u32,
        /// What it is.
        sound: Sound,
        /// How long it is, in frames.
        frames: u32,
    },
    /// The call hears a frame with a sound.
    Captured(u32),
    /// The caller presses a key.
    Pressed(char, DigitSource),
    /// The caller's side holds the call, or comes back.
    Held(bool),
    /// The caller's line is open.
    Answered,
    /// The leg is over.
    LegEnded(LegEnd),
    /// An operator transfers the caller.
    OperatorTransfers,
    /// A frame is sent to the caller.
    Played {
        /// Whether it is more than silence.
        audible: bool,
        /// What it is a piece of, if that can be told.
        piece: Option<Piece>,
    },
    /// A mark follows a segment.
    Marked(SegmentId),
    /// A mark comes back; `played` if everything before it was played rather than thrown away.
    MarkReturned {
        /// Whose mark.
        segment: SegmentId,
        /// Whether all of it was played.
        played: bool,
    },
    /// The far end's buffer is emptied.
    Cleared,
    /// A stream is opened.
    Opened {
        /// Its name.
        stream: StreamId,
        /// Its input.
        kind: TurnKind,
        /// What is said or pressed or named.
        input: String,
        /// For speech.
        window: BargeInWindow,
    },
    /// Samples are sent on a stream.
    Sent {
        /// Whose.
        stream: StreamId,
        /// How many.
        samples: u64,
        /// Whether they are the rest of an utterance that was cut off.
        rest: bool,
    },
    /// A frame with a sound is in them, beginning at this sample of the stream.
    Delivered {
        /// Whose.
        stream: StreamId,
        /// Which frame.
        frame: u32,
        /// Where.
        place: u64,
    },
    /// No more input comes on a stream.
    HalfClosed(StreamId),
    /// A stream is given up.
    Cancelled(StreamId),
    /// The agent has heard words so far.
    Interim(StreamId, String),
    /// The agent has heard words for good.
    Final {
        /// Where.
        stream: StreamId,
        /// The words.
        text: String,
        /// Where they end, if the agent says so.
        end_offset: Option<Duration>,
        /// The frames that it has understood.
        understood: Vec<u32>,
    },
    /// The recogniser says that the utterance is over.
    EndOfUtterance(StreamId),
    /// The agent answers.
    AnswerCame {
        /// Where.
        stream: StreamId,
        /// Whether it is the FINAL answer.
        last: bool,
        /// The segments that it says, in order.
        tags: Vec<u32>,
        /// Silence that it asks for.
        pause: Duration,
        /// Whether the call is to end after it.
        ends: bool,
        /// What is in it, for the story.
        contents: String,
    },
    /// A stream is over.
    Closed(StreamId, Option<FaultKind>),
    /// The agent got no audio for ten seconds on a stream that was open.
    Starved(StreamId),
    /// The call wants its line opened.
    WantsLine,
    /// The call wants the caller transferred.
    Transfers(String),
    /// The transfer worked, or not.
    TransferEnded(bool),
    /// The call wants a clip.
    Fetches(ClipId, String),
    /// It is here, or will never be.
    Fetched(ClipId, bool),
    /// The call runs a tool.
    RunsTool(String),
    /// The tool has ended.
    ToolEnded(bool),
    /// The call says something.
    Told(Notice),
    /// The call measures something.
    Measured(Measure),
    /// The clock was woken for the call's own deadline.
    Woke,
    /// The deadline stays where it is, however often it is obeyed.
    Stuck,
    /// The call did so much at one moment.
    Burst(usize),
    /// The call is over.
    Ended(EndReason),
    /// The call still has a deadline, though it is over.
    Undead,
}

impl History {
    /// Something happens.
    pub(crate) fn add(&mut self, at: At, what: What) {
        self.entries.push(Entry { at, what });
    }
}

/// The story: what happened, without what happens all the time.
impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.setting)?;
        let mut playing: Option<Piece> = None;
        let mut delivering: Option<(StreamId, u32)> = None;
        for Entry { at, what } in &self.entries {
            let at = at.as_secs_f64();
            match what {
                What::Captured(_) | What::Woke | What::Burst(0..=100) => {}
                What::Sent { rest: false, .. } => {}
                What::Played { piece, .. } => {
                    let goes_on = matches!((piece, playing), (Some(this), Some(last))
                        if this.tag == last.tag && this.frame == last.frame + 1)
                        || (piece.is_none() && playing.is_none());
                    match (playing, piece) {
                        _ if goes_on => {}
                        (Some(last), None) => {
                            writeln!(f, "{at:9.3}  <- silence after {last:?}")?;
                        }
                        (last, Some(piece)) => {
                            writeln!(f, "{at:9.3}  <- plays {piece:?} after {last:?}")?;
                        }
                        (None, None) => {}
                    }
                    playing = *piece;
                }
                What::Delivered {
                    stream,
                    frame,
                    place,
                } => {
                    let spoken = self.frames[*frame as usize];
                    if delivering != Some((*stream, spoken.utterance)) {
                        delivering = Some((*stream, spoken.utterance));
                        let utterance = spoken.utterance;
                        writeln!(
                            f,
                            "{at:9.3}  -> {stream:?} gets utterance {utterance} from frame {frame}, at {:.3} s",
                            self.rate.duration_of(*place).as_secs_f64()
                        )?;
                    }
                }
                What::Final {
                    stream,
                    text,
                    end_offset,
                    understood,
                } => {
                    let frames = (understood.first(), understood.last());
                    writeln!(
                        f,
                        "{at:9.3}  Final({stream:?}) {text:?} to {end_offset:?}, frames {frames:?}"
                    )?;
                }
                other => writeln!(f, "{at:9.3}  {other:?}")?,
            }
        }
        Ok(())
    }
}
