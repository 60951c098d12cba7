//! What a caller does and when: a list of steps, taken one after another. Pure; asked once per tick.
//!
//! A turn is taken as a polite person takes it: when the agent has spoken since the caller's last words and has then been silent for a
//! while. An agent that says nothing at all is spoken to after [`PATIENCE`].

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::handset::Handset;
use crate::speech::Speech;

/// How long an agent's silence tells that it is the caller's turn.
pub(crate) const QUIET: Duration = Duration::from_millis(700);
/// How long a caller waits for an agent that does not speak.
const PATIENCE: Duration = Duration::from_secs(6);
/// From one key to the next: how fast a person dials.
const KEY_INTERVAL: Duration = Duration::from_millis(250);

/// One thing to do.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Wait until the agent has said this.
    Hear { text: String, within: Duration },
    /// Say this and wait for its end.
    Say {
        speech: Arc<Speech>,
        when: When,
        within: Duration,
    },
    /// Say this again and again from now on.
    Repeat(Arc<Speech>),
    /// Press these keys.
    Press(String),
    /// Wait until it would be our turn to speak and the agent has been silent this long.
    Listen(Duration),
    /// Wait.
    Wait(Duration),
    /// Wait for the agent to end the call, for a reason that contains this.
    ExpectEnd { reason: String, within: Duration },
}

/// When to begin to speak.
#[derive(Debug, Clone, Copy)]
pub(crate) enum When {
    /// When it is our turn: the agent has been silent this long.
    AgentSilent(Duration),
    /// Our first voiced sample comes this long after the agent's.
    AgentSpeaking(Duration),
    /// Our first voiced sample comes this long after our last one, whatever the agent does.
    OwnSilence(Duration),
}

/// What the call's loop is to do.
#[derive(Debug)]
pub(crate) enum Act {
    /// Start to say this.
    Say { speech: Arc<Speech>, repeated: bool },
    /// Press this key.
    Press(char),
    /// Everything is done.
    HangUp,
    /// A step did not come about.
    Fail(String),
}

/// Where the script stood when the call was over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ScriptEnd {
    /// Every step was taken.
    Done,
    /// The call ended before this.
    Cut(String),
    /// This went wrong.
    Failed(String),
}

/// The steps and where we are in them.
#[derive(Debug)]
pub(crate) struct Dialogue {
    steps: VecDeque<Step>,
    /// Says that come at their moment, whatever the steps do.
    timed: Vec<(Duration, Arc<Speech>)>,
    /// When the present step began; `None` until it is first looked at.
    began: Option<Duration>,
    /// The present step's speech has started.
    speaking: bool,
    keys_pressed: usize,
    /// The agent has spoken since the caller last did something.
    agent_spoke: bool,
    /// What the agent has said and no `Hear` has matched yet, as [`plain`] text.
    unmatched: String,
    failure: Option<String>,
    /// Hang up then, whatever is left to do.
    hang_up_at: Option<Duration>,
}

enum Progress {
    Stay,
    Next,
}

impl Dialogue {
    /// Takes the steps in order; `timed` says come at their moments.
    pub(crate) fn new(steps: Vec<Step>, timed: Vec<(Duration, Arc<Speech>)>) -> Self {
        Self {
            steps: steps.into(),
            timed,
            began: None,
            speaking: false,
            keys_pressed: 0,
            agent_spoke: false,
            unmatched: String::new(),
            failure: None,
            hang_up_at: None,
        }
    }

    /// The same, but over at this moment whatever is left to do.
    pub(crate) fn until(self, moment: Option<Duration>) -> Self {
        Self {
            hang_up_at: moment,
            ..self
        }
    }

    /// The agent said this, as the gateway tells.
    pub(crate) fn agent_said(&mut self, text: &str) {
        self.unmatched.push_str(&plain(text));
        self.unmatched.push(' ');
    }

    /// What to do now.
    pub(crate) fn next(&mut self, handset: &Handset, at: Duration) -> Vec<Act> {
        if self.hang_up_at.is_some_and(|moment| at >= moment) {
            return vec![Act::HangUp];
        }
        let mut acts = Vec::new();
        self.agent_spoke |= handset.agent_since().is_some() && !handset.is_speaking();
        self.timed.retain(|(moment, speech)| {
            let due = at >= *moment;
            if due {
                acts.push(Act::Say {
                    speech: Arc::clone(speech),
                    repeated: false,
                });
            }
            !due
        });
        let Some(step) = self.steps.front().cloned() else {
            if self.timed.is_empty() && !handset.is_speaking() {
                acts.push(Act::HangUp);
            }
            return acts;
        };
        let began = *self.began.get_or_insert(at);
        match self.take(&step, handset, began, at, &mut acts) {
            Progress::Stay => {}
            Progress::Next => {
                self.steps.pop_front();
                self.began = None;
                self.speaking = false;
                self.keys_pressed = 0;
            }
        }
        acts
    }

    /// The call is over. `gateway_ended` with the reason it told, if any.
    pub(crate) fn end(self, gateway_ended: bool, reason: Option<&str>) -> ScriptEnd {
        if let Some(failure) = self.failure {
            return ScriptEnd::Failed(failure);
        }
        match self.steps.front() {
            None => ScriptEnd::Done,
            Some(Step::ExpectEnd {
                reason: expected, ..
            }) if gateway_ended => match reason {
                _ if expected.is_empty() => ScriptEnd::Done,
                Some(reason) if reason.contains(expected.as_str()) => ScriptEnd::Done,
                Some(reason) => {
                    ScriptEnd::Failed(format!("the call ended with “{reason}”, not “{expected}”"))
                }
                None => ScriptEnd::Failed(format!(
                    "the call ended; the gateway did not tell that it was “{expected}”"
                )),
            },
            Some(step) => ScriptEnd::Cut(step.to_string()),
        }
    }

    fn take(
        &mut self,
        step: &Step,
        handset: &Handset,
        began: Duration,
        at: Duration,
        acts: &mut Vec<Act>,
    ) -> Progress {
        let waited = at.saturating_sub(began);
        match step {
            Step::Hear { text, within } => {
                if let Some(end) = find_end(&self.unmatched, &plain(text)) {
                    self.unmatched.drain(..end);
                    return Progress::Next;
                }
                self.give_up_after(
                    *within,
                    waited,
                    || format!("the agent did not say “{text}” within {within:?}"),
                    acts,
                )
            }
            Step::Say {
                speech,
                when,
                within,
            } => {
                if self.speaking {
                    return self.finish_speaking(handset);
                }
                if self.is_time(*when, speech, handset, waited, at) {
                    self.speaking = true;
                    acts.push(Act::Say {
                        speech: Arc::clone(speech),
                        repeated: false,
                    });
                    return Progress::Stay;
                }
                let failure = || {
                    format!(
                        "there was no moment to say “{}” within {within:?}",
                        speech.label
                    )
                };
                self.give_up_after(*within, waited, failure, acts)
            }
            Step::Repeat(speech) => {
                acts.push(Act::Say {
                    speech: Arc::clone(speech),
                    repeated: true,
                });
                Progress::Next
            }
            Step::Press(keys) => {
                let Some(key) = keys.chars().nth(self.keys_pressed) else {
                    return Progress::Next;
                };
                if waited >= KEY_INTERVAL * self.keys_pressed as u32 {
                    self.keys_pressed += 1;
                    self.agent_spoke = false;
                    acts.push(Act::Press(key));
                }
                Progress::Stay
            }
            Step::Listen(quiet) => next_if(self.is_our_turn(*quiet, handset, waited, at)),
            Step::Wait(duration) => next_if(waited >= *duration),
            // Only the call's end takes this step.
            Step::ExpectEnd { within, .. } => self.give_up_after(
                *within,
                waited,
                || format!("the agent did not end the call within {within:?}"),
                acts,
            ),
        }
    }

    fn finish_speaking(&mut self, handset: &Handset) -> Progress {
        if handset.is_speaking() {
            return Progress::Stay;
        }
        self.agent_spoke = false;
        Progress::Next
    }

    fn is_time(
        &self,
        when: When,
        speech: &Speech,
        handset: &Handset,
        waited: Duration,
        at: Duration,
    ) -> bool {
        match when {
            When::AgentSilent(quiet) => self.is_our_turn(quiet, handset, waited, at),
            When::AgentSpeaking(delay) => handset.agent_since().is_some_and(|since| {
                let lead = crate::far_end::length(speech.voiced.start);
                at + lead >= since + delay
            }),
            When::OwnSilence(delay) => handset.silent_since().is_none_or(|since| {
                let lead = crate::far_end::length(speech.voiced.start);
                at + lead >= since + delay
            }),
        }
    }

    fn is_our_turn(
        &self,
        quiet: Duration,
        handset: &Handset,
        waited: Duration,
        at: Duration,
    ) -> bool {
        (self.agent_spoke || waited >= PATIENCE) && handset.agent_silent_for(at) >= quiet
    }

    fn give_up_after(
        &mut self,
        within: Duration,
        waited: Duration,
        failure: impl Fn() -> String,
        acts: &mut Vec<Act>,
    ) -> Progress {
        if waited >= within && self.failure.is_none() {
            self.failure = Some(failure());
            acts.push(Act::Fail(failure()));
        }
        Progress::Stay
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hear { text, .. } => write!(formatter, "hear “{text}”"),
            Self::Say { speech, .. } | Self::Repeat(speech) => {
                write!(formatter, "say “{}”", speech.label)
            }
            Self::Press(keys) => write!(formatter, "press {keys}"),
            Self::Listen(_) => write!(formatter, "listen to the agent"),
            Self::Wait(duration) => write!(formatter, "wait {duration:?}"),
            Self::ExpectEnd { .. } => write!(formatter, "the agent ends the call"),
        }
    }
}

/// Text as it is compared: lower case, words and single spaces only.
pub(crate) fn plain(text: &str) -> String {
    let words = text.split(|character: char| !character.is_alphanumeric() && character != '\'');
    words
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect::<Vec<_>>()
        .join(" ")
}

fn find_end(text: &str, wanted: &str) -> Option<usize> {
    text.find(wanted).map(|start| start + wanted.len())
}

fn next_if(condition: bool) -> Progress {
    if condition {
        Progress::Next
    } else {
        Progress::Stay
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::far_end::TICK;
    use crate::mulaw;

    #[test]
    fn a_say_waits_until_the_agent_has_spoken_and_is_silent() {
        let mut scene = Scene::new(vec![say("hello", When::AgentSilent(QUIET))]);
        scene.run(50);
        scene.agent_talks(50);
        scene.run(200);
        // The agent is heard from 1.0 to 2.0 s.
        assert_eq!(
            scene.log,
            [
                (ms(2700), "say hello".to_owned()),
                (ms(3220), "hang up".to_owned())
            ]
        );
    }

    #[test]
    fn a_silent_agent_is_spoken_to_when_patience_ends() {
        let mut scene = Scene::new(vec![say("hello", When::AgentSilent(QUIET))]);
        scene.run(310);
        assert_eq!(scene.log, [(PATIENCE, "say hello".to_owned())]);
    }

    #[test]
    fn a_barge_in_is_voiced_at_its_moment_whatever_silence_the_file_begins_with() {
        let mut scene = Scene::new(vec![say("stop", When::AgentSpeaking(ms(1500)))]);
        scene.agent_talks(150);
        scene.run(100);
        // Heard from 0 on; the speech begins with 300 ms of silence.
        assert_eq!(scene.log[0], (ms(1200), "say stop".to_owned()));
    }

    #[test]
    fn a_say_after_a_pause_does_not_wait_for_the_agent() {
        let pause = When::OwnSilence(ms(740));
        let mut scene = Scene::new(vec![
            say("one", When::OwnSilence(ms(0))),
            say("and two", pause),
        ]);
        scene.run(100);
        // "one" is voiced from 0.3 to 0.5 s, and "and two" begins with 300 ms of silence.
        assert_eq!(
            scene.log[..2],
            [
                (Duration::ZERO, "say one".to_owned()),
                (ms(960), "say and two".to_owned())
            ]
        );
    }

    #[test]
    fn words_are_heard_across_texts_and_only_once() {
        let hear = |text: &str| Step::Hear {
            text: text.into(),
            within: ms(1000),
        };
        let mut scene = Scene::new(vec![hear("bistro. How"), hear("how can I")]);
        scene.dialogue.agent_said("Welcome to the Bistro!");
        scene.run(5);
        scene.dialogue.agent_said("How can I help?");
        scene.run(100);
        assert_eq!(
            scene.log[0].1,
            "fail: the agent did not say “how can I” within 1s"
        );
        assert_eq!(
            scene.dialogue.end(false, None),
            ScriptEnd::Failed("the agent did not say “how can I” within 1s".into())
        );
    }

    #[test]
    fn keys_are_pressed_as_a_person_does() {
        let mut scene = Scene::new(vec![Step::Press("12#".into())]);
        scene.run(40);
        let times: Vec<_> = scene
            .log
            .iter()
            .map(|(at, what)| (at.as_millis(), what.as_str()))
            .collect();
        assert_eq!(
            times,
            [
                (0, "press 1"),
                (260, "press 2"),
                (500, "press #"),
                (540, "hang up")
            ]
        );
    }

    #[test]
    fn an_expected_end_is_checked_against_its_reason() {
        let end = |gateway_ended, reason| {
            let step = Step::ExpectEnd {
                reason: "agent_ended".into(),
                within: ms(1000),
            };
            Dialogue::new(vec![step], Vec::new()).end(gateway_ended, reason)
        };
        assert_eq!(end(true, Some("agent_ended")), ScriptEnd::Done);
        assert!(matches!(
            end(true, Some("backend_lost")),
            ScriptEnd::Failed(_)
        ));
        assert!(matches!(end(true, None), ScriptEnd::Failed(_)));
        assert_eq!(
            end(false, None),
            ScriptEnd::Cut("the agent ends the call".into())
        );
    }

    struct Scene {
        dialogue: Dialogue,
        handset: Handset,
        tick: u32,
        log: Vec<(Duration, String)>,
    }

    impl Scene {
        fn new(steps: Vec<Step>) -> Self {
            let (dialogue, handset) =
                (Dialogue::new(steps, Vec::new()), Handset::new(false, false));
            Self {
                dialogue,
                handset,
                tick: 0,
                log: Vec::new(),
            }
        }

        fn agent_talks(&mut self, frames: usize) {
            self.handset
                .receive(
                    vec![mulaw::encode(6000); frames * mulaw::FRAME],
                    Duration::ZERO,
                )
                .expect("room");
        }

        /// Runs until the time is over or the caller hangs up.
        fn run(&mut self, ticks: u32) {
            for _ in 0..ticks {
                let at = TICK * self.tick;
                self.handset.tick(at);
                for act in self.dialogue.next(&self.handset, at) {
                    let text = match act {
                        Act::Say { speech, repeated } => {
                            self.handset.say(Arc::clone(&speech), repeated);
                            format!("say {}", speech.label)
                        }
                        Act::Press(key) => format!("press {key}"),
                        Act::HangUp => "hang up".to_owned(),
                        Act::Fail(why) => format!("fail: {why}"),
                    };
                    self.log.push((at, text));
                }
                self.tick += 1;
                if self.log.last().is_some_and(|(_, text)| text == "hang up") {
                    return;
                }
            }
        }
    }

    fn say(label: &str, when: When) -> Step {
        let mut audio = vec![mulaw::SILENCE; 15 * mulaw::FRAME];
        audio.extend([mulaw::encode(6000); 10 * mulaw::FRAME]);
        Step::Say {
            speech: Arc::new(Speech::new(label.into(), audio)),
            when,
            within: ms(20_000),
        }
    }

    fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }
}
