//! Configured agents: each a backend and what a call should know of it.

use std::sync::Arc;
use std::time::Duration;

use crate::config;
use crate::engine::call::event::TurnInput;
use crate::engine::call::settings::BargeIn;
use crate::engine::call::settings::BargeInMode;
use crate::engine::call::settings::CallSettings;
use crate::engine::call::settings::NoInput;
use crate::engine::media::codec::AudioFormat;
use crate::engine::media::codec::Encoding;
use crate::engine::media::frame::SampleRate;
use crate::io::backend::Backend;
use crate::io::errands::Services;
use crate::io::leg::LegInfo;

/// An agent that calls can be routed to.
pub struct ConfiguredAgent {
    /// The service that answers.
    pub backend: Arc<dyn Backend>,
    /// Whom its calls send for clips and to run tools.
    pub services: Services,
    greeting: Option<TurnInput>,
    audio: config::Audio,
    turn: config::Turn,
}

impl ConfiguredAgent {
    /// Joins a backend with its configuration.
    pub fn new(
        backend: Arc<dyn Backend>,
        agent: &config::Agent,
        audio: &config::Audio,
        turn: &config::Turn,
        services: Services,
    ) -> Self {
        let greeting = match &agent.greeting {
            config::Greeting::Event(event) => Some(TurnInput::Event(event.clone())),
            config::Greeting::Text(text) => Some(TurnInput::Text(text.clone())),
            config::Greeting::Intent(intent) => Some(TurnInput::Intent(intent.clone())),
            config::Greeting::None => None,
        };
        Self {
            backend,
            services,
            greeting,
            audio: audio.clone(),
            turn: turn.clone(),
        }
    }

    /// How the agent's speech is asked for: as the leg speaks it, so that nothing is translated twice.
    pub fn downlink(&self, leg: SampleRate) -> AudioFormat {
        if leg == SampleRate::HZ_8000 {
            AudioFormat {
                encoding: Encoding::Mulaw,
                rate: leg,
            }
        } else {
            AudioFormat {
                encoding: Encoding::Linear16,
                rate: leg,
            }
        }
    }

    /// What a call over this leg is told. `hand_off_to` is where its route sends callers who want a person.
    pub fn call_settings(
        &self,
        leg: &LegInfo,
        call_duration: Duration,
        hand_off_to: Option<String>,
    ) -> CallSettings {
        CallSettings {
            leg: leg.traits,
            uplink: uplink(self.audio.uplink, leg.traits.rate),
            chunk: self.audio.chunk,
            downlink: self.downlink(leg.traits.rate),
            greeting: self.greeting.clone(),
            barge_in: BargeIn {
                mode: match self.turn.barge_in {
                    config::BargeIn::Words => BargeInMode::Words,
                    config::BargeIn::Voice => BargeInMode::Voice,
                    config::BargeIn::Off => BargeInMode::Off,
                },
                ..BargeIn::default()
            },
            no_input: NoInput {
                timeout: self.turn.no_input_timeout,
                limit: self.turn.no_input_limit,
                ..NoInput::default()
            },
            stream_ceiling: self.turn.stream_ceiling,
            interdigit_timeout: self.turn.interdigit_timeout,
            max_digits: self.turn.max_digits,
            call_duration,
            hand_off_to,
            transfer_failed_event: self.turn.transfer_failed_event.clone(),
            tools: self.services.tools.names(),
            ..CallSettings::new(leg.traits)
        }
    }
}

/// How caller audio is written: `auto` never resamples up (facts §7.1).
fn uplink(setting: config::Uplink, leg: SampleRate) -> AudioFormat {
    let (encoding, rate) = match setting {
        config::Uplink::Auto if leg == SampleRate::HZ_8000 => (Encoding::Mulaw, leg),
        config::Uplink::Auto => (Encoding::Linear16, leg),
        config::Uplink::Mulaw8000 => (Encoding::Mulaw, SampleRate::HZ_8000),
        config::Uplink::Linear16At8000 => (Encoding::Linear16, SampleRate::HZ_8000),
        config::Uplink::Linear16At16000 => (Encoding::Linear16, SampleRate::HZ_16000),
    };
    AudioFormat { encoding, rate }
}
