//! The three kinds of ingress, with the traits that they give their legs.

use tandem::config::Sip;
use tandem::engine::call::event::DigitSource;
use tandem::engine::call::settings::LegTraits;
use tandem::engine::media::frame::SampleRate;
use tandem::io::ingress::sip;
use tandem::io::ingress::twilio;
use tandem::io::ingress::whip;

/// By which kind of ingress the caller came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ingress {
    /// A telephone with G.711.
    Sip,
    /// A media websocket.
    Twilio,
    /// A browser with Opus.
    Whip,
}

impl Ingress {
    /// How its legs behave.
    pub(crate) fn traits(self) -> LegTraits {
        match self {
            Self::Sip => sip::traits(SampleRate::HZ_8000, Sip::default().answer_within),
            Self::Twilio => twilio::traits(),
            Self::Whip => whip::traits(SampleRate::HZ_16000),
        }
    }

    /// The ways by which one press may reach us: its own, and tones.
    pub(crate) const fn digit_sources(self) -> &'static [DigitSource] {
        match self {
            Self::Sip => &[DigitSource::Rtp, DigitSource::InBand, DigitSource::Info],
            Self::Twilio => &[DigitSource::Twilio, DigitSource::InBand],
            Self::Whip => &[DigitSource::Rtp, DigitSource::InBand],
        }
    }
}
