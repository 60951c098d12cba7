//! Scenario files: a dialogue with one caller, or a load of many. Both name the gateway in `[gateway]` and their goals in `[goal]`.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use reqwest::Url;
use serde::Deserialize;
use serde::Deserializer;

use crate::dialogue::QUIET;
use crate::dialogue::Step;
use crate::dialogue::When;
use crate::echo::EchoPath;
use crate::noise;
use crate::speech::Speech;
use crate::speech::Synthesiser;
use crate::whip::Codec;

/// How long a step waits for the agent before it has failed.
const STEP_TIMEOUT: Duration = Duration::from_secs(15);
/// Nobody coughs for longer, and it must fit into memory.
const LONGEST_NOISE: Duration = Duration::from_secs(60);

/// Weights are small numbers; this keeps their sum one too.
const MOST_WEIGHT: u32 = 1000;

/// A scenario file.
#[derive(Debug)]
pub(crate) enum Scenario {
    /// It has `[[steps]]`.
    Dialogue(Box<DialogueScenario>),
    /// It has `calls`.
    Load(Box<LoadScenario>),
}

/// Where the gateway is and who calls it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Gateway {
    /// One TARGET, or several that take turns.
    pub(crate) target: OneOrMany,
    /// Its admin listener.
    #[serde(default, deserialize_with = "url")]
    pub(crate) admin: Option<Url>,
    /// The environment variable that holds Twilio's auth token.
    #[serde(default = "default_token_env")]
    pub(crate) auth_token_env: String,
    #[serde(default = "default_from")]
    pub(crate) from: String,
    #[serde(default = "default_to")]
    pub(crate) to: String,
    /// Connect to the target's host whatever host the TwiML names.
    #[serde(default)]
    pub(crate) direct: bool,
    /// What the gateway believes its own URL to be.
    #[serde(default, deserialize_with = "url")]
    pub(crate) public_url: Option<Url>,
    /// A live line has a noise floor.
    #[serde(default)]
    pub(crate) line_noise: bool,
    /// What the caller hears comes back with what they say: { level_db = -20, delay = "150ms" }.
    pub(crate) echo: Option<EchoPath>,
    /// The name that answers a SIP gateway's challenge.
    pub(crate) user: Option<String>,
    /// The environment variable that holds its password.
    #[serde(default = "default_password_env")]
    pub(crate) password_env: String,
    /// The environment variable that holds the token a WHIP gateway asks for.
    #[serde(default = "default_whip_token_env")]
    pub(crate) token_env: String,
    /// What is spoken by WHIP: opus, pcmu or pcma.
    #[serde(default)]
    pub(crate) codec: Codec,
    /// Which share of our RTP packets is lost, from 0 to 1 (SIP, WHIP).
    #[serde(default)]
    pub(crate) loss: f64,
    /// Which share of the rest comes twice, from 0 to 1 (SIP, WHIP).
    #[serde(default)]
    pub(crate) duplicates: f64,
    /// Each of them is late by a random time of up to twice this (SIP, WHIP).
    #[serde(default, with = "humantime_serde")]
    pub(crate) jitter: Duration,
}

/// A string or a list of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    /// All of them.
    pub(crate) fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// One caller's conversation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DialogueScenario {
    pub(crate) gateway: Gateway,
    steps: Vec<WrittenStep>,
    /// Write a recording here.
    pub(crate) record: Option<PathBuf>,
    #[serde(default)]
    pub(crate) goal: DialogueGoal,
}

/// When a dialogue has succeeded, beside all its steps having been taken.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DialogueGoal {
    /// Each of these was said by the agent, in any order.
    #[serde(default)]
    pub(crate) agent_said: Vec<String>,
    /// Each of these was understood by the agent.
    #[serde(default)]
    pub(crate) agent_heard: Vec<String>,
    /// Prompts that were cut while the caller spoke over them.
    pub(crate) barge_ins_at_least: Option<usize>,
    /// Growth of `tandem_caller_audio_unheard_seconds_total`.
    pub(crate) unheard_seconds_at_most: Option<f64>,
    /// Caller's last sound to agent's first, the slowest turn.
    #[serde(default, with = "humantime_serde")]
    pub(crate) wait_at_most: Option<Duration>,
    /// Caller's first sound over a prompt to the prompt's last, the slowest barge-in.
    #[serde(default, with = "humantime_serde")]
    pub(crate) silence_after_barge_in_at_most: Option<Duration>,
    /// Where the call was to be transferred: `<Dial>` of the action callback contains this.
    pub(crate) dialled: Option<String>,
}

/// Many callers at once.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoadScenario {
    pub(crate) gateway: Gateway,
    /// How many calls.
    pub(crate) calls: u32,
    /// Calls begun per second.
    pub(crate) ramp_per_second: f64,
    /// How long each call lasts.
    #[serde(with = "humantime_serde")]
    pub(crate) hold: Duration,
    /// `tone` (bursts that an echo returns), `silence`, `say:TEXT`, or a WAV file; repeated.
    #[serde(default = "default_audio")]
    pub(crate) audio: String,
    /// The most calls in progress at once; a call for which there is no room begins later.
    pub(crate) at_most: Option<usize>,
    /// Kinds of calls, by SIP or WHIP; without it all are answered.
    pub(crate) mix: Option<Mix>,
    /// The share of the calls that warms the gateway up: when they are over its memory is read, to be compared with the end.
    #[serde(default)]
    pub(crate) warm_up: f64,
    /// How long the gateway may take, after the warm-up and after the last call, until nothing of any call is left
    /// (`tandem_objects_alive`). Vanished calls take as long as its RTP timeout, or the consent of WebRTC.
    #[serde(default, with = "humantime_serde")]
    pub(crate) settle: Option<Duration>,
    #[serde(default)]
    pub(crate) goal: LoadGoal,
}

/// How often each kind of call is made, as weights.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mix {
    /// Answered, held, and ended by us.
    #[serde(default)]
    pub(crate) answered: u32,
    /// Refused by the gateway.
    #[serde(default)]
    pub(crate) refused: u32,
    /// Cancelled at the first provisional response; by WHIP, deleted when the answer has come.
    #[serde(default)]
    pub(crate) cancelled: u32,
    /// Answered, and then nothing more is heard of the caller.
    #[serde(default)]
    pub(crate) vanished: u32,
    /// The user who has no route; by WHIP, the route that there is not.
    #[serde(default = "default_refused_user")]
    pub(crate) refused_user: String,
    /// What dialling them is answered with.
    #[serde(default = "default_refused_status")]
    pub(crate) refused_status: u16,
    /// The user whose call is cancelled, if it is not the target's: one who is not answered at once.
    pub(crate) cancelled_user: Option<String>,
    /// From the answer to the caller's end.
    #[serde(default = "default_vanish_after", with = "humantime_serde")]
    pub(crate) vanish_after: Duration,
}

/// When a load has succeeded.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoadGoal {
    /// Calls that were refused, broke, or were ended by the gateway before their time.
    #[serde(default)]
    pub(crate) failed_calls_at_most: usize,
    /// Times a caller's buffer starved in the middle of a talk, per 1000 frames received.
    pub(crate) underruns_per_1000_frames_at_most: Option<f64>,
    /// Growth of `tandem_caller_audio_unheard_seconds_total`.
    pub(crate) unheard_seconds_at_most: Option<f64>,
    /// 99.9th percentile of `tandem_tick_lateness_seconds`.
    #[serde(default, with = "humantime_serde")]
    pub(crate) tick_lateness_at_most: Option<Duration>,
    /// The gateway's resident memory at the end, as a multiple of what it was after the warm-up.
    pub(crate) resident_ratio_at_most: Option<f64>,
    /// Share of one core that a call costs the gateway, in percent.
    pub(crate) cpu_percent_per_call_at_most: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenStep {
    hear: Option<String>,
    say: Option<String>,
    play: Option<PathBuf>,
    /// A cough of this length.
    #[serde(default, with = "humantime_serde")]
    noise: Option<Duration>,
    #[serde(default, with = "humantime_serde")]
    barge_in_after: Option<Duration>,
    #[serde(default, with = "humantime_serde")]
    after_silence: Option<Duration>,
    #[serde(default, with = "humantime_serde")]
    pause: Option<Duration>,
    dtmf: Option<String>,
    #[serde(default, with = "humantime_serde")]
    wait: Option<Duration>,
    #[serde(default, with = "humantime_serde")]
    listen: Option<Duration>,
    expect_end: Option<String>,
    #[serde(default, with = "humantime_serde")]
    timeout: Option<Duration>,
}

impl Scenario {
    /// Reads the file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is not a scenario", path.display()))
    }

    /// Mutable access to the part both kinds have, for the command line to override.
    pub(crate) fn gateway_mut(&mut self) -> &mut Gateway {
        match self {
            Self::Dialogue(scenario) => &mut scenario.gateway,
            Self::Load(scenario) => &mut scenario.gateway,
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let table: toml::Table = text.parse()?;
        match (table.contains_key("steps"), table.contains_key("calls")) {
            (true, false) => Ok(Self::Dialogue(Box::new(toml::from_str(text)?))),
            (false, true) => {
                let load: LoadScenario = toml::from_str(text)?;
                ensure!(
                    load.calls > 0 && load.ramp_per_second > 0.0,
                    "calls and ramp_per_second must be more than 0"
                );
                ensure!(
                    (0.0..1.0).contains(&load.warm_up),
                    "warm_up is a share of the calls: 0 to less than 1"
                );
                ensure!(load.at_most != Some(0), "at_most must be more than 0");
                let needs_admin = load.settle.is_some() || load.warm_up > 0.0;
                ensure!(
                    !needs_admin || load.gateway.admin.is_some(),
                    "settle and warm_up need gateway.admin, which tells what is left"
                );
                if let Some(mix) = &load.mix {
                    let weights = [mix.answered, mix.refused, mix.cancelled, mix.vanished];
                    ensure!(
                        weights.iter().any(|&weight| weight > 0)
                            && weights.iter().all(|&weight| weight <= MOST_WEIGHT),
                        "a mix needs weights, none over {MOST_WEIGHT}"
                    );
                    let rings = |target: &String| !target.starts_with("ws");
                    ensure!(
                        load.gateway.target.all().iter().all(rings),
                        "a mix is for sip: and http(s)://HOST/whip/ targets"
                    );
                }
                Ok(Self::Load(Box::new(load)))
            }
            _ => bail!("it needs either [[steps]], for a dialogue, or calls, for a load"),
        }
    }
}

impl DialogueScenario {
    /// The steps, with everything synthesised.
    pub(crate) fn steps(&self) -> Result<Vec<Step>> {
        let mut synthesiser = Synthesiser::default();
        let numbered = self.steps.iter().enumerate();
        let hears = self.steps.iter().any(|step| step.hear.is_some());
        // By WHIP the call itself tells.
        let told = |target: &String| target.starts_with("http");
        ensure!(
            !hears || self.gateway.admin.is_some() || self.gateway.target.all().iter().all(told),
            "steps that hear need gateway.admin, which tells what the agent says"
        );
        numbered
            .map(|(index, step)| {
                step.compile(&mut synthesiser)
                    .with_context(|| format!("step {}", index + 1))
            })
            .collect()
    }
}

impl WrittenStep {
    fn compile(&self, synthesiser: &mut Synthesiser) -> Result<Step> {
        let within = self.timeout.unwrap_or(STEP_TIMEOUT);
        let mut steps = Vec::new();
        if let Some(text) = &self.hear {
            steps.push(Step::Hear {
                text: text.clone(),
                within,
            });
        }
        let speech = match (&self.say, &self.play, self.noise) {
            (Some(text), None, None) => Some(synthesiser.say(text)?),
            (None, Some(path), None) => Some(Arc::new(Speech::from_file(path)?)),
            (None, None, Some(length)) => {
                ensure!(
                    length <= LONGEST_NOISE,
                    "a noise is at most {LONGEST_NOISE:?} long"
                );
                let label = format!("a noise of {length:?}");
                Some(Arc::new(Speech::new(label, noise::burst(length))))
            }
            (None, None, None) => None,
            _ => bail!("either say a text, play a file or make a noise"),
        };
        let when = match (self.barge_in_after, self.after_silence, self.pause) {
            (Some(delay), None, None) => Some(When::AgentSpeaking(delay)),
            (None, Some(quiet), None) => Some(When::AgentSilent(quiet)),
            (None, None, Some(pause)) => Some(When::OwnSilence(pause)),
            (None, None, None) => None,
            _ => bail!("either barge in, wait for silence, or pause"),
        };
        ensure!(
            when.is_none() || speech.is_some(),
            "barge_in_after, after_silence and pause go with say, play or noise"
        );
        if let Some(speech) = speech {
            steps.push(Step::Say {
                speech,
                when: when.unwrap_or(When::AgentSilent(QUIET)),
                within,
            });
        }
        if let Some(keys) = &self.dtmf {
            check_keys(keys)?;
            steps.push(Step::Press(keys.clone()));
        }
        steps.extend(self.wait.map(Step::Wait));
        steps.extend(self.listen.map(Step::Listen));
        if let Some(reason) = &self.expect_end {
            steps.push(Step::ExpectEnd {
                reason: reason.clone(),
                within,
            });
        }
        let count = steps.len();
        match steps.pop() {
            Some(step) if count == 1 => Ok(step),
            _ => {
                bail!("a step does one of: hear, say, play, noise, dtmf, wait, listen, expect_end")
            }
        }
    }
}

/// A telephone's keys, and those of DTMF that telephones lost.
pub(crate) fn check_keys(keys: &str) -> Result<()> {
    let known = |key: char| key.is_ascii_digit() || matches!(key, '*' | '#' | 'A'..='D');
    ensure!(
        !keys.is_empty() && keys.chars().all(known),
        "“{keys}” are not keys: 0–9 * # A–D"
    );
    Ok(())
}

fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Url::parse(&text)
        .map(Some)
        .map_err(serde::de::Error::custom)
}

fn default_token_env() -> String {
    "TWILIO_AUTH_TOKEN".to_owned()
}

fn default_from() -> String {
    "+15550100".to_owned()
}

fn default_to() -> String {
    "+15550199".to_owned()
}

fn default_password_env() -> String {
    "SIP_PASSWORD".to_owned()
}

fn default_whip_token_env() -> String {
    "WHIP_TOKEN".to_owned()
}

fn default_refused_user() -> String {
    "nobody".to_owned()
}

fn default_refused_status() -> u16 {
    404
}

fn default_vanish_after() -> Duration {
    Duration::from_secs(2)
}

fn default_audio() -> String {
    "tone".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: &str =
        "[gateway]\ntarget = 'ws://127.0.0.1:8080/twilio/media'\nadmin = 'http://127.0.0.1:9090'\n";

    #[test]
    fn the_shipped_scenarios_are_scenarios() {
        for dialogue in [
            include_str!("../scenarios/demo.toml"),
            include_str!("../scenarios/ten-turns.toml"),
            include_str!("../scenarios/sip-bad-network.toml"),
            include_str!("../scenarios/whip-bad-network.toml"),
        ] {
            assert!(matches!(
                Scenario::parse(dialogue),
                Ok(Scenario::Dialogue(_))
            ));
        }
        for load in [
            include_str!("../scenarios/twilio-200.toml"),
            include_str!("../scenarios/sip-200.toml"),
            include_str!("../scenarios/sip-churn.toml"),
            include_str!("../scenarios/whip-100.toml"),
            include_str!("../scenarios/whip-churn.toml"),
        ] {
            assert!(matches!(Scenario::parse(load), Ok(Scenario::Load(_))));
        }
    }

    #[test]
    fn steps_become_what_they_say() {
        let steps = compile("steps = [{ hear = 'help' }, { dtmf = '2#' }, { expect_end = 'agent', timeout = '3s' }]").expect("steps");
        assert!(
            matches!(&steps[0], Step::Hear { text, within } if text == "help" && *within == STEP_TIMEOUT)
        );
        assert!(matches!(&steps[1], Step::Press(keys) if keys == "2#"));
        assert!(
            matches!(&steps[2], Step::ExpectEnd { within, .. } if *within == Duration::from_secs(3))
        );
    }

    #[test]
    fn a_step_that_does_two_things_or_none_is_refused() {
        for steps in [
            "[{ hear = 'a', dtmf = '1' }]",
            "[{ timeout = '1s' }]",
            "[{ dtmf = 'x' }]",
            "[{ barge_in_after = '1s' }]",
            "[{ pause = '1s' }]",
            "[{ say = 'a', noise = '200ms' }]",
            "[{ noise = '200ms', pause = '1s', after_silence = '1s' }]",
            "[{ noise = '2h' }]",
        ] {
            assert!(compile(&format!("steps = {steps}")).is_err(), "{steps}");
        }
    }

    #[test]
    fn a_noise_is_made_at_its_moment() {
        let steps = compile("steps = [{ barge_in_after = '2s', noise = '200ms' }, { pause = '740ms', noise = '1s' }]").expect("steps");
        assert!(
            matches!(&steps[0], Step::Say { speech, when: When::AgentSpeaking(_), .. } if speech.audio.len() == 1600)
        );
        assert!(
            matches!(&steps[1], Step::Say { when: When::OwnSilence(pause), .. } if *pause == Duration::from_millis(740))
        );
    }

    #[test]
    fn a_misspelt_key_is_refused() {
        let text = format!("calls = 1\nramp_per_second = 1\nhold = '1s'\nhlod = '2s'\n{GATEWAY}");
        assert!(Scenario::parse(&text).is_err());
    }

    #[test]
    fn a_mix_needs_weights_and_calls_that_ring() {
        let load = |target: &str, mix: &str| {
            Scenario::parse(&format!(
                "calls = 1\nramp_per_second = 1\nhold = '1s'\n[gateway]\ntarget = '{target}'\n[mix]\n{mix}"
            ))
        };
        assert!(load("sip:1@127.0.0.1", "refused = 1").is_ok());
        assert!(load("http://127.0.0.1/whip/demo", "refused = 1").is_ok());
        assert!(load("sip:1@127.0.0.1", "").is_err());
        assert!(load("sip:1@127.0.0.1", "refused = 100000").is_err());
        assert!(load("ws://127.0.0.1/media", "refused = 1").is_err());
    }

    fn compile(steps: &str) -> Result<Vec<Step>> {
        match Scenario::parse(&format!("{steps}\n{GATEWAY}"))? {
            Scenario::Dialogue(scenario) => scenario.steps(),
            Scenario::Load(_) => bail!("a load"),
        }
    }
}
