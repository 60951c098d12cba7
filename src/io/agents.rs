//! Configured agents: each a backend and what a call should know of it.

use std::sync::Arc;
use std::time::Duration;

use crate::config;
use crate::engine::call::event::Audio;
use crate::engine::call::event::TurnInput;
use crate::engine::call::settings::BargeIn;
use crate::engine::call::settings::BargeInMode;
use crate::engine::call::settings::CallSettings;
use crate::engine::call::settings::Fallback;
use crate::engine::call::settings::Hold;
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
    /// What this agent's callers say while they listen.
    back_channels: Vec<String>,
    /// The prompts are made once: calls share their bytes.
    hold: Hold,
    fallback: Fallback,
}

impl ConfiguredAgent {
    /// Joins a backend with its configuration.
    pub fn new(
        backend: Arc<dyn Backend>,
        agent: &config::Agent,
        config: &config::Config,
        services: Services,
    ) -> Self {
        let greeting = match &agent.greeting {
            config::Greeting::Event(event) => Some(TurnInput::Event(event.clone())),
            config::Greeting::Text(text) => Some(TurnInput::Text(text.clone())),
            config::Greeting::Intent(intent) => Some(TurnInput::Intent(intent.clone())),
            config::Greeting::None => None,
        };
        let config::Config {
            audio,
            turn,
            fallback,
            ..
        } = config;
        Self {
            backend,
            services,
            greeting,
            audio: audio.clone(),
            turn: turn.clone(),
            back_channels: turn.back_channels_in(&agent.language).to_vec(),
            hold: match &turn.hold_prompt {
                Some(prompt) => Hold {
                    after: turn.hold_after,
                    prompt: sound(prompt),
                },
                None => Hold {
                    after: turn.hold_after,
                    ..Hold::default()
                },
            },
            fallback: Fallback {
                prompt: fallback.prompt.as_ref().map(sound).unwrap_or_default(),
                apology: fallback.apology.as_ref().map(sound).unwrap_or_default(),
                transfer: fallback.transfer.clone(),
                give_up_after: fallback.give_up_after,
            },
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
                duck_db: self.turn.duck_db,
                voice: self.turn.barge_in_voice,
                restore_after: self.turn.barge_in_restore,
                cuts_partials: self.turn.interrupt_partials,
                back_channels: self.back_channels.clone(),
            },
            no_input: NoInput {
                timeout: self.turn.no_input_timeout,
                limit: self.turn.no_input_limit,
                event: self.turn.no_input_event.clone(),
                transfers: self.turn.no_input_transfer,
            },
            hold: self.hold.clone(),
            fallback: self.fallback.clone(),
            stream_ceiling: self.turn.stream_ceiling,
            endpoint_timeout: self.turn.endpoint_timeout,
            interdigit_timeout: self.turn.interdigit_timeout,
            max_digits: self.turn.max_digits,
            seed: 0,
            call_duration,
            hand_off_to,
            transfer_failed_event: self.turn.transfer_failed_event.clone(),
            reports_heard: self.turn.report_heard,
            tools: self.services.tools.names(),
        }
    }
}

/// A prompt of the configuration as calls play it.
fn sound(file: &config::WavFile) -> Audio {
    Audio {
        bytes: file.samples.clone(),
        format: Some(file.format),
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::sync::mpsc;

    use super::*;
    use crate::engine::call::event::BackendEvent;
    use crate::engine::call::event::OpenTurn;
    use crate::engine::call::event::StreamId;
    use crate::io::backend::Session;
    use crate::io::backend::SessionStart;
    use crate::io::backend::TurnStream;

    #[test]
    fn the_defaults_of_the_configuration_are_those_of_the_engine() {
        for rate in [SampleRate::HZ_8000, SampleRate::HZ_16000] {
            let leg = LegInfo::of_telephone(rate);
            let expected = CallSettings::new(leg.traits);
            let settings = settings(&config(""), &leg);
            assert_eq!(format!("{settings:?}"), format!("{expected:?}"));
        }
    }

    #[test]
    fn what_is_configured_reaches_the_call() {
        let mut config = config(
            "[turn]
            barge_in = 'voice'
            duck_db = 1
            barge_in_voice = '200ms'
            barge_in_restore = '300ms'
            interrupt_partials = true
            back_channels = { en = ['mhm'], de = ['ja'] }
            no_input_timeout = '4s'
            no_input_limit = 5
            no_input_event = ''
            no_input_transfer = true
            hold_after = '600ms'
            endpoint_timeout = '7s'
            stream_ceiling = '8s'
            interdigit_timeout = '9s'
            max_digits = 10
            transfer_failed_event = 'FAILED'
            report_heard = false
            [fallback]
            transfer = '100'
            give_up_after = '11s'",
        );
        config.turn.hold_prompt = Some(file(b"hold"));
        config.fallback.prompt = Some(file(b"prompt"));
        config.fallback.apology = Some(file(b"apology"));
        let heard = settings(&config, &LegInfo::of_telephone(SampleRate::HZ_8000));

        let expected = CallSettings {
            barge_in: BargeIn {
                mode: BargeInMode::Voice,
                duck_db: 1,
                voice: Duration::from_millis(200),
                restore_after: Duration::from_millis(300),
                cuts_partials: true,
                back_channels: vec!["mhm".to_owned()],
            },
            no_input: NoInput {
                timeout: Duration::from_secs(4),
                limit: 5,
                event: None,
                transfers: true,
            },
            hold: Hold {
                after: Duration::from_millis(600),
                prompt: sound(&file(b"hold")),
            },
            fallback: Fallback {
                prompt: sound(&file(b"prompt")),
                apology: sound(&file(b"apology")),
                transfer: Some("100".to_owned()),
                give_up_after: Duration::from_secs(11),
            },
            stream_ceiling: Duration::from_secs(8),
            endpoint_timeout: Duration::from_secs(7),
            interdigit_timeout: Duration::from_secs(9),
            max_digits: 10,
            transfer_failed_event: "FAILED".to_owned(),
            reports_heard: false,
            ..CallSettings::new(LegInfo::of_telephone(SampleRate::HZ_8000).traits)
        };
        assert_eq!(format!("{heard:?}"), format!("{expected:?}"));
    }

    #[test]
    fn calls_share_the_bytes_of_their_prompts() {
        let agent = configured(&config(""));
        let [one, other] = [SampleRate::HZ_8000; 2].map(|rate| {
            let settings = agent.call_settings(&LegInfo::of_telephone(rate), Duration::ZERO, None);
            settings.hold.prompt.bytes.as_ptr()
        });
        assert_eq!(one, other);
    }

    fn settings(config: &config::Config, leg: &LegInfo) -> CallSettings {
        configured(config).call_settings(leg, config.limits.call_duration, None)
    }

    fn configured(config: &config::Config) -> ConfiguredAgent {
        let agent = &config.agents["local"];
        ConfiguredAgent::new(Arc::new(Nobody), agent, config, Services::unused())
    }

    fn config(text: &str) -> config::Config {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        config::Config::load(Some(file.path()), &[].into()).expect("valid")
    }

    fn file(samples: &'static [u8]) -> config::WavFile {
        config::WavFile {
            path: "prompt.wav".into(),
            samples: Bytes::from_static(samples),
            format: AudioFormat {
                encoding: Encoding::Alaw,
                rate: SampleRate::HZ_16000,
            },
        }
    }

    /// A backend that no test speaks to.
    struct Nobody;

    impl Backend for Nobody {
        fn session(&self, _: SessionStart) -> Box<dyn Session> {
            Box::new(Self)
        }
    }

    impl Session for Nobody {
        fn open(&mut self, _: OpenTurn, _: mpsc::Sender<(StreamId, BackendEvent)>) -> TurnStream {
            unreachable!("no turn is opened")
        }
    }
}
