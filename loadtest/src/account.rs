//! What a call has to tell, for programs: one JSON object. Times are in seconds since the call's beginning, which is given in seconds of
//! the Unix epoch, so that the accounts of several programs on one machine can be laid side by side.

use std::fs;
use std::path::Path;
use std::time::Duration;
use std::time::SystemTime;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use crate::call::Outcome;

#[derive(Serialize)]
struct Account<'a> {
    began_at: f64,
    set_up: f64,
    lasted: f64,
    answers: Vec<Answer>,
    cuts: Vec<Cut>,
    prompts_cut: usize,
    clears: u32,
    agent_heard: &'a [String],
    agent_said: &'a [String],
    events: Vec<Told<'a>>,
}

/// A turn on the wire.
#[derive(Serialize)]
struct Answer {
    /// The caller's last voiced frame left.
    asked: f64,
    /// The first sound of the answer arrived.
    answered: f64,
}

/// A prompt that was cut.
#[derive(Serialize)]
struct Cut {
    /// The gateway told so.
    told: f64,
    /// The prompt was last heard.
    silent: f64,
}

/// Something that the gateway told.
#[derive(Serialize)]
struct Told<'a> {
    at: f64,
    event: &'a Value,
}

/// Writes the account.
pub(crate) fn write(outcome: &Outcome, path: &Path) -> Result<()> {
    let pair = |(first, second): &(Duration, Duration)| (first.as_secs_f64(), second.as_secs_f64());
    let answers = outcome.tally.answers.iter().map(pair);
    let cuts = outcome.tally.cuts.iter().map(pair);
    let events = outcome.told.events.iter();
    let account = Account {
        began_at: outcome
            .began_at
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64(),
        set_up: outcome.set_up.as_secs_f64(),
        lasted: outcome.lasted.as_secs_f64(),
        answers: answers
            .map(|(asked, answered)| Answer { asked, answered })
            .collect(),
        cuts: cuts.map(|(told, silent)| Cut { told, silent }).collect(),
        prompts_cut: outcome.tally.prompts_cut,
        clears: outcome.tally.clears,
        agent_heard: &outcome.told.agent_heard,
        agent_said: &outcome.told.agent_said,
        events: events
            .map(|(at, event)| Told {
                at: at.as_secs_f64(),
                event,
            })
            .collect(),
    };
    Ok(fs::write(path, serde_json::to_vec_pretty(&account)?)?)
}
