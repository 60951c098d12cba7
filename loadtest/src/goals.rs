//! What one call was worth: faults of the line, unfinished steps, goals not met, and the closing summary.

use std::time::Duration;

use crate::call::Outcome;
use crate::dialogue::ScriptEnd;
use crate::dialogue::plain;
use crate::far_end;
use crate::scenario::DialogueGoal;
use crate::stats::ms;
use crate::stats::spread;
use crate::twilio::twiml::Verb;

/// From this on a sentence comes in pieces.
const TOO_LATE: Duration = Duration::from_millis(250);

/// What was wrong with the call itself, whatever it was for.
pub(crate) fn faults(outcome: &Outcome) -> Vec<String> {
    let mut faults: Vec<String> = outcome.ending.fault().into_iter().collect();
    faults.extend(outcome.after.as_ref().err().cloned());
    faults.extend(
        outcome
            .complaints
            .first()
            .map(|what| format!("the gateway did what the real far end would refuse: {what}")),
    );
    if let ScriptEnd::Failed(why) = &outcome.script {
        faults.push(why.clone());
    }
    faults
}

/// The goals that were not met, as sentences. `unheard` is the growth of the unheard seconds, if it could be read.
pub(crate) fn missed(goal: &DialogueGoal, outcome: &Outcome, unheard: Option<f64>) -> Vec<String> {
    let mut missed = Vec::new();
    if let ScriptEnd::Cut(step) = &outcome.script {
        missed.push(format!("the call ended before the step: {step}"));
    }
    for (who, texts, wanted) in [
        (
            "the agent did not say",
            &outcome.told.agent_said,
            &goal.agent_said,
        ),
        (
            "the agent did not hear",
            &outcome.told.agent_heard,
            &goal.agent_heard,
        ),
    ] {
        let all = plain(&texts.join(" "));
        let absent = wanted.iter().filter(|wanted| !all.contains(&plain(wanted)));
        missed.extend(absent.map(|wanted| format!("{who} “{wanted}”")));
    }
    // What the far end saw is counted rather than the gateway's own word for it.
    let barge_ins = outcome.tally.prompts_cut;
    if let Some(least) = goal.barge_ins_at_least.filter(|least| barge_ins < *least) {
        missed.push(format!(
            "{barge_ins} prompts were cut by the caller, {least} were to be"
        ));
    }
    if let Some(most) = goal.unheard_seconds_at_most {
        match unheard {
            Some(unheard) if unheard <= most => {}
            Some(unheard) => missed.push(format!(
                "{unheard:.3} s of the caller's audio went unheard, {most} s may"
            )),
            None => {
                missed.push("the unheard seconds could not be read from the metrics".to_owned());
            }
        }
    }
    missed.extend(too_slow(
        "the agent's slowest answer",
        &outcome.tally.waits,
        goal.wait_at_most,
    ));
    let silences = &outcome.tally.barge_in_to_silence;
    missed.extend(too_slow(
        "the slowest silence after a barge-in",
        silences,
        goal.silence_after_barge_in_at_most,
    ));
    if let Some(wanted) = &goal.dialled {
        let verbs = outcome.after.as_deref().unwrap_or_default();
        if !verbs
            .iter()
            .any(|verb| matches!(verb, Verb::Dial(number) if number.contains(wanted.as_str())))
        {
            missed.push(format!("the call was not transferred to {wanted}"));
        }
    }
    missed
}

/// The closing summary of one call.
pub(crate) fn summary(outcome: &Outcome, unheard: Option<f64>) -> String {
    let Outcome {
        tally,
        far_end,
        told,
        ..
    } = outcome;
    let underruns: Duration = far_end.underruns.iter().sum();
    let mut lines = vec![
        format!("set-up              {}", ms(outcome.set_up)),
        format!("length              {:.1} s", outcome.lasted.as_secs_f64()),
        format!(
            "first word          {}",
            tally.first_voice.map_or("–".to_owned(), ms)
        ),
        format!("answers as heard    {}", spread(&tally.waits)),
        format!("answers as told     {}", spread(&told.turn_latencies)),
        format!("barge-in to silence {}", spread(&tally.barge_in_to_silence)),
        format!(
            "agent's audio       {:.1} s heard, {:.1} s cleared, {} underruns ({}), at most {} ahead",
            far_end::length(far_end.played as usize).as_secs_f64(),
            far_end::length(far_end.cleared as usize).as_secs_f64(),
            far_end.underruns.len(),
            ms(underruns),
            ms(far_end::length(far_end.deepest)),
        ),
    ];
    let latest = outcome.latest_frame;
    lines.push(format!("caller's frames     at most {} late", ms(latest)));
    if latest >= TOO_LATE {
        lines.push(
            "this machine was too busy to be a caller: what went wrong may be its fault".to_owned(),
        );
    }
    match &outcome.rtp {
        Some(rtp) => lines.push(format!("agent's RTP         {}", rtp.describe())),
        // Only a stream has clears.
        None => lines.push(format!(
            "barge-in to clear   {}",
            spread(&tally.barge_in_to_clear)
        )),
    }
    lines.extend(unheard.map(|unheard| format!("unheard by agent    {unheard:.3} s")));
    lines.extend(
        told.end_reason
            .iter()
            .map(|reason| format!("end reason          {reason}")),
    );
    lines.join("\n")
}

fn too_slow(what: &str, values: &[Duration], most: Option<Duration>) -> Option<String> {
    let (worst, most) = (values.iter().max()?, most?);
    (*worst > most).then(|| {
        format!(
            "{what} took {}, {} at most was the goal",
            ms(*worst),
            ms(most)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Ending;
    use crate::call::Told;
    use crate::far_end::FarEndTally;
    use crate::handset::Tally;

    #[test]
    fn a_call_that_did_all_has_no_faults() {
        let goal = DialogueGoal {
            agent_said: vec!["Confirmed!".into()],
            barge_ins_at_least: Some(1),
            unheard_seconds_at_most: Some(0.0),
            dialled: Some("desk".into()),
            ..DialogueGoal::default()
        };
        assert_eq!(faults(&outcome()), [""; 0]);
        assert_eq!(missed(&goal, &outcome(), Some(0.0)), [""; 0]);
    }

    #[test]
    fn each_goal_that_was_missed_is_named() {
        let goal = DialogueGoal {
            agent_said: vec!["goodbye".into()],
            agent_heard: vec!["two".into()],
            barge_ins_at_least: Some(2),
            unheard_seconds_at_most: Some(0.0),
            wait_at_most: Some(Duration::from_millis(500)),
            silence_after_barge_in_at_most: None,
            dialled: Some("+1555".into()),
        };
        assert_eq!(
            missed(&goal, &outcome(), Some(0.25)),
            [
                "the agent did not say “goodbye”",
                "the agent did not hear “two”",
                "1 prompts were cut by the caller, 2 were to be",
                "0.250 s of the caller's audio went unheard, 0 s may",
                "the agent's slowest answer took 800 ms, 500 ms at most was the goal",
                "the call was not transferred to +1555",
            ]
        );
    }

    #[test]
    fn a_machine_that_was_too_busy_says_so() {
        let after = |milliseconds| {
            let latest_frame = Duration::from_millis(milliseconds);
            summary(
                &Outcome {
                    latest_frame,
                    ..outcome()
                },
                None,
            )
        };
        assert!(
            after(900)
                .contains("caller's frames     at most 900 ms late\nthis machine was too busy")
        );
        assert!(!after(90).contains("too busy"));
    }

    #[test]
    fn a_close_with_a_code_is_a_fault() {
        let ending = Ending::Closed {
            code: Some(1011),
            reason: "backend lost".into(),
        };
        let found = faults(&Outcome {
            ending,
            ..outcome()
        });
        assert_eq!(
            found,
            ["the gateway closed the websocket: 1011 backend lost"]
        );
    }

    fn outcome() -> Outcome {
        Outcome {
            set_up: Duration::from_millis(3),
            began_at: std::time::SystemTime::UNIX_EPOCH,
            lasted: Duration::from_secs(20),
            latest_frame: Duration::ZERO,
            ending: Ending::HungUp,
            script: ScriptEnd::Done,
            tally: Tally {
                waits: vec![Duration::from_millis(800)],
                barge_in_to_clear: vec![Duration::from_millis(300)],
                prompts_cut: 1,
                ..Tally::default()
            },
            far_end: FarEndTally::default(),
            rtp: None,
            told: Told {
                agent_said: vec!["It is".into(), "confirmed.".into()],
                ..Told::default()
            },
            complaints: Vec::new(),
            after: Ok(vec![Verb::Dial("sip:desk@example.com".into())]),
        }
    }
}
