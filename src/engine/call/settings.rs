//! What a call is told about itself when it begins.

use std::time::Duration;

use crate::engine::call::event::TurnInput;
use crate::engine::media::codec::AudioFormat;
use crate::engine::media::frame::SampleRate;

/// What a call is told about itself when it begins.
#[derive(Clone, Debug)]
pub struct CallSettings {
    /// The leg's side.
    pub leg: LegTraits,
    /// How caller audio is written towards the agent.
    pub uplink: AudioFormat,
    /// How much caller audio goes into one message: 20–200 ms. Longer is cheaper, shorter is heard sooner.
    pub chunk: Duration,
    /// How the agent's audio is written when the agent does not say: what was asked for.
    pub downlink: AudioFormat,
    /// The opening turn; `None` when the caller speaks first.
    pub greeting: Option<TurnInput>,
    /// What lets a caller interrupt.
    pub barge_in: BargeInMode,
    /// How long a caller may be silent after a prompt, unless the agent says otherwise.
    pub no_input_timeout: Duration,
    /// Silent turns in a row that end the call.
    pub no_input_limit: u32,
    /// The longest speech stream before it is half-closed.
    pub stream_ceiling: Duration,
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
