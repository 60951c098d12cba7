//! What a call is told about itself when it begins.

use std::time::Duration;

use crate::engine::call::event::Audio;
use crate::engine::call::event::TurnInput;
use crate::engine::media::chime::chime;
use crate::engine::media::codec::AudioFormat;
use crate::engine::media::codec::Encoding;
use crate::engine::media::frame::SampleRate;

/// What a call is told about itself when it begins.
#[derive(Clone, Debug)]
pub struct CallSettings {
    /// The leg's side.
    pub leg: LegTraits,
    /// How caller audio is written towards the agent.
    pub uplink: AudioFormat,
    /// How much caller audio goes into one message while the caller does not speak: 20–200 ms. Longer is cheaper.
    pub chunk: Duration,
    /// How the agent's audio is written when the agent does not say: what was asked for.
    pub downlink: AudioFormat,
    /// The opening turn; `None` when the caller speaks first.
    pub greeting: Option<TurnInput>,
    /// How callers interrupt.
    pub barge_in: BargeIn,
    /// What is done about callers who say nothing.
    pub no_input: NoInput,
    /// What callers hear when the agent is slow.
    pub hold: Hold,
    /// What happens when the agent cannot be reached.
    pub fallback: Fallback,
    /// The longest speech stream before it is half-closed.
    pub stream_ceiling: Duration,
    /// How long a caller who has said words may be silent before we end the utterance, should the recogniser not.
    pub endpoint_timeout: Duration,
    /// The longest pause between two digits, unless the agent says otherwise.
    pub interdigit_timeout: Duration,
    /// The most digits of one input, unless the agent says otherwise.
    pub max_digits: u32,
    /// The longest call.
    pub call_duration: Duration,
    /// Where a caller goes whom the agent hands off without saying where: a number or a `sip:` address.
    pub hand_off_to: Option<String>,
    /// The event by which the agent learns that a transfer was refused.
    pub transfer_failed_event: String,
    /// Whether the agent is told, with the next turn, what the caller heard of a prompt that was cut.
    pub reports_heard: bool,
    /// Resource names of the tools that can be run; calls of others are answered with an error.
    pub tools: Vec<String>,
    /// Random: calls that fail together must not come back together.
    pub seed: u32,
}

impl CallSettings {
    /// A call by this leg with defaults for everything else; audio is written as the leg speaks it.
    pub fn new(leg: LegTraits) -> Self {
        let encoding = if leg.rate == SampleRate::HZ_8000 {
            Encoding::Mulaw
        } else {
            Encoding::Linear16
        };
        let format = AudioFormat {
            encoding,
            rate: leg.rate,
        };
        Self {
            leg,
            uplink: format,
            chunk: Duration::from_millis(100),
            downlink: format,
            greeting: Some(TurnInput::Event("WELCOME".to_owned())),
            barge_in: BargeIn::default(),
            no_input: NoInput::default(),
            hold: Hold::default(),
            fallback: Fallback::default(),
            stream_ceiling: Duration::from_secs(55),
            endpoint_timeout: Duration::from_secs(4),
            interdigit_timeout: Duration::from_secs(3),
            max_digits: 20,
            call_duration: Duration::from_secs(2 * 60 * 60),
            hand_off_to: None,
            transfer_failed_event: "TRANSFER_FAILED".to_owned(),
            reports_heard: true,
            tools: Vec::new(),
            seed: 0,
        }
    }
}

/// How callers interrupt (design §4, rule 5).
#[derive(Clone, Debug)]
pub struct BargeIn {
    /// What cuts a prompt.
    pub mode: BargeInMode,
    /// How much quieter a prompt becomes while it is open whether the caller takes the floor, in decibels.
    pub duck_db: u8,
    /// How long voice must last to cut, where voice does.
    pub voice: Duration,
    /// How long after the last voice a prompt stays ducked when no words come.
    pub restore_after: Duration,
    /// Whether voice may cut PARTIAL answers too, which no recogniser listens to.
    pub cuts_partials: bool,
    /// What people say while they listen, in lower case; it cuts nothing. Empty: every word cuts.
    pub back_channels: Vec<String>,
}

impl Default for BargeIn {
    fn default() -> Self {
        Self {
            mode: BargeInMode::Words,
            duck_db: 15,
            voice: Duration::from_millis(300),
            restore_after: Duration::from_secs(1),
            cuts_partials: false,
            back_channels: Vec::new(),
        }
    }
}

/// What is done about callers who say nothing (design §4, rule 8).
#[derive(Clone, Debug)]
pub struct NoInput {
    /// How long a caller may be silent after a prompt, unless the agent says otherwise.
    pub timeout: Duration,
    /// Silent turns in a row that end the call.
    pub limit: u32,
    /// The event that is sent when the agent itself has nothing to say about silence.
    pub event: Option<String>,
    /// Whether a caller who was silent too often is handed to a person rather than let go.
    pub transfers: bool,
}

impl Default for NoInput {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            limit: 3,
            event: Some("sys.no-input-default".to_owned()),
            transfers: false,
        }
    }
}

/// What callers hear when the agent is slow.
#[derive(Clone, Debug)]
pub struct Hold {
    /// How long they hear nothing before it is played, and between two times.
    pub after: Duration,
    /// What is played: a WAV file's bytes, or samples.
    pub prompt: Audio,
}

impl Default for Hold {
    fn default() -> Self {
        Self {
            after: Duration::from_secs(3),
            prompt: Audio {
                bytes: chime(),
                format: Some(AudioFormat {
                    encoding: Encoding::Mulaw,
                    rate: SampleRate::HZ_8000,
                }),
            },
        }
    }
}

/// What happens when the agent cannot be reached (design §4, rule 10).
#[derive(Clone, Debug)]
pub struct Fallback {
    /// Played before the call is transferred or ended: a WAV file's bytes. Empty: nothing.
    pub prompt: Audio,
    /// Played when a caller must say something again. Empty: nothing.
    pub apology: Audio,
    /// Where the caller then goes: a number or a `sip:` address.
    pub transfer: Option<String>,
    /// How long a turn is tried again.
    pub give_up_after: Duration,
}

impl Default for Fallback {
    fn default() -> Self {
        Self {
            prompt: Audio::default(),
            apology: Audio::default(),
            transfer: None,
            give_up_after: Duration::from_secs(10),
        }
    }
}

/// How a leg behaves.
#[derive(Clone, Copy, Debug)]
pub struct LegTraits {
    /// The rate at which it speaks to the engine.
    pub rate: SampleRate,
    /// How far playout may run ahead of real time; zero where the far end does not buffer.
    pub lead: Duration,
    /// Whether the far end says when it has played a mark.
    pub confirms_playout: bool,
    /// Whether it wants a frame every 20 ms, silence included, as RTP does.
    pub continuous: bool,
    /// `Some` where the caller still hears ringing when the call begins: the longest that the agent's first words may
    /// keep them ringing.
    pub rings: Option<Duration>,
    /// Whether it can transfer its caller while the call goes on, and says how that went.
    pub transfers: bool,
    /// Whether its caller is transferred by dialling, after the call: then only what can be dialled is a place to go.
    pub dials: bool,
}

/// What lets a caller interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BargeInMode {
    /// Recognised words.
    Words,
    /// Voice that lasts.
    Voice,
    /// Nothing.
    Off,
}
