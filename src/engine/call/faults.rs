//! What to do when a backend stream fails (facts §9, design §4, rule 10).
//!
//! What a stream did not finish is sent again, as long as the agent has answered nothing of it; how soon and how often
//! depends on the fault. When it is hopeless the caller hears the fallback prompt and goes where the fallback says.

use std::time::Duration;
use std::time::Instant;

use crate::engine::call::Call;
use crate::engine::call::end::EndReason;
use crate::engine::call::event::Fault;
use crate::engine::call::event::FaultKind;
use crate::engine::call::event::StreamId;
use crate::engine::call::hand_off::HandOff;
use crate::engine::call::notice::Measure;
use crate::engine::call::notice::Notice;
use crate::engine::call::notice::TurnKind;
use crate::engine::call::notice::TurnResult;
use crate::engine::call::timers::Timer;
use crate::engine::call::turn::Turn;

/// The first delay before a stream is opened again, and the factor between delays.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const DELAY_FACTOR: f64 = 1.3;
/// The first delay when the quota is used up, and the longest (Google asks for a second, doubling to 32).
const QUOTA_DELAY: Duration = Duration::from_secs(1);
const LONGEST_QUOTA_DELAY: Duration = Duration::from_secs(32);
/// How long a caller waits for quota when there is somebody else to answer.
const QUOTA_PATIENCE: Duration = Duration::from_secs(4);
/// This many faults in a row that another try should have mended are no accident.
const LIMIT: u32 = 2;
/// Streams that lived for long, with words and without an answer, after which an agent that still cannot be reached is given up: an
/// utterance that never comes to its end must.
const LONG_LIVES: u32 = 3;

/// The failures since the agent last answered.
#[derive(Debug, Default)]
pub(super) struct Failures {
    since: Option<Instant>,
    in_a_row: u32,
    /// Of these, the faults that another try may mend, but not many tries.
    limited: u32,
    /// Streams since then that lived for long, and with words.
    long_lives: u32,
    /// Whether the caller has said something to which no stream has answered with anything yet.
    pub(super) owes: bool,
    /// Whether the agent has ever answered in this call.
    pub(super) was_answered: bool,
    /// Whether the caller has been given to the fallback.
    pub(super) is_hopeless: bool,
}

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The same once more, after this time.
    Again(Duration),
    /// Not the same: the caller is asked to say it again.
    AskAgain,
    /// Give the agent up.
    GiveUp,
}

/// What is known when a stream has failed.
#[derive(Clone, Copy, Debug)]
struct Circumstances {
    now: Instant,
    give_up_after: Duration,
    has_transfer: bool,
    /// Between 0 and 1, to spread calls that fail together.
    jitter: f64,
}

impl Failures {
    /// The agent has answered: all is well.
    pub(super) const fn clear(&mut self) {
        self.forget();
        self.long_lives = 0;
        self.was_answered = true;
        self.owes = false;
    }

    /// A stream has lived for long: what fails now is something new.
    const fn outlived(&mut self, words: bool) {
        if words {
            self.long_lives += 1;
        }
        if self.long_lives <= LONG_LIVES {
            self.forget();
        }
    }

    const fn forget(&mut self) {
        self.since = None;
        self.in_a_row = 0;
        self.limited = 0;
    }

    /// Counts a failure of a turn that nothing had answered.
    fn judge(&mut self, fault: FaultKind, circumstances: Circumstances) -> Verdict {
        let since = *self.since.get_or_insert(circumstances.now);
        let lasts = circumstances.now.saturating_duration_since(since);
        let exponent = f64::from(self.in_a_row.min(16));
        self.in_a_row += 1;
        if matches!(
            fault,
            FaultKind::OutOfRange
                | FaultKind::Aborted
                | FaultKind::Internal
                | FaultKind::Cancelled
                | FaultKind::Unauthenticated
                | FaultKind::DeadlineExceeded
        ) {
            self.limited += 1;
        }
        let again = |delay: Duration, patience: Duration| {
            if lasts + delay <= patience {
                Verdict::Again(delay)
            } else {
                Verdict::GiveUp
            }
        };
        let give_up_after = circumstances.give_up_after;
        let soon = FIRST_DELAY.mul_f64(DELAY_FACTOR.powf(exponent));
        match fault {
            FaultKind::CircuitOpen if !self.was_answered => Verdict::GiveUp,
            FaultKind::Unavailable | FaultKind::CircuitOpen | FaultKind::Other => {
                again(soon, give_up_after)
            }
            FaultKind::ResourceExhausted => {
                let delay = QUOTA_DELAY.mul_f64(2_f64.powf(exponent));
                let spread = 1.0 + circumstances.jitter / 4.0;
                let patience = match circumstances.has_transfer {
                    true => QUOTA_PATIENCE.min(give_up_after),
                    false => give_up_after,
                };
                again(delay.min(LONGEST_QUOTA_DELAY).mul_f64(spread), patience)
            }
            FaultKind::OutOfRange | FaultKind::Aborted if self.limited < LIMIT => {
                Verdict::Again(Duration::ZERO)
            }
            // Not our own cancelling, of which nobody tells: a server or a proxy that lost what is behind it.
            FaultKind::Internal | FaultKind::Cancelled | FaultKind::Unauthenticated
                if self.limited < LIMIT =>
            {
                Verdict::Again(FIRST_DELAY)
            }
            FaultKind::DeadlineExceeded if self.limited < LIMIT => Verdict::AskAgain,
            FaultKind::OutOfRange
            | FaultKind::Aborted
            | FaultKind::Internal
            | FaultKind::Unauthenticated
            | FaultKind::DeadlineExceeded
            | FaultKind::Cancelled
            | FaultKind::InvalidArgument
            | FaultKind::NotFound
            | FaultKind::PermissionDenied
            | FaultKind::FailedPrecondition => Verdict::GiveUp,
        }
    }
}

impl Call {
    /// The stream is over without a final answer.
    pub(super) fn on_closed(&mut self, fault: Option<Fault>) {
        let Some(turn) = self.turn.take() else { return };
        let message = || "the stream was closed without an answer".to_owned();
        let fault = fault.unwrap_or_else(|| Fault {
            kind: FaultKind::Internal,
            message: message(),
        });
        self.stop_turn_timers();
        self.measure(Measure::Turn(turn.kind(), TurnResult::Failed));
        self.uplink.close_feed();
        self.tell(Notice::BackendFault {
            fault: fault.kind,
            message: fault.message,
        });
        let lived = self.now.saturating_duration_since(turn.opened);
        if turn.kind() == TurnKind::Speech && lived >= self.settings.fallback.give_up_after {
            self.failures.outlived(turn.words);
        }
        let verdict = self.failures.judge(
            fault.kind,
            Circumstances {
                now: self.now,
                give_up_after: self.settings.fallback.give_up_after,
                has_transfer: self.settings.fallback.transfer.is_some(),
                jitter: self.jitter(turn.stream),
            },
        );
        match verdict {
            Verdict::GiveUp => {
                self.count_unheard(&turn);
                self.fall_back();
            }
            // The agent may have acted on it: what is left is to hear the caller again.
            Verdict::Again(_) | Verdict::AskAgain if turn.answered => {
                self.note_understood(&turn);
                self.proceed();
            }
            Verdict::Again(delay) => {
                self.failures.owes = true;
                self.hear_again_from(&turn);
                self.retry = match turn.kind() {
                    TurnKind::Speech => self.carry_words(&turn),
                    TurnKind::Text
                    | TurnKind::Event
                    | TurnKind::Intent
                    | TurnKind::Dtmf
                    | TurnKind::ToolResult => Some(turn.input),
                };
                self.timers.set(Timer::Retry, self.now + delay);
            }
            Verdict::AskAgain => {
                self.uplink.set_heard_to(self.uplink.voice_under_way());
                let apology = self.settings.fallback.apology.clone();
                self.say(&apology);
                self.proceed();
            }
        }
    }

    /// Between 0 and 1, and for each call something else.
    fn jitter(&self, stream: StreamId) -> f64 {
        let drawn = self.settings.seed.wrapping_add(stream.0);
        f64::from(drawn.wrapping_mul(2_654_435_761)) / f64::from(u32::MAX)
    }

    /// What the stream was not understood to have heard is due again.
    fn hear_again_from(&mut self, turn: &Turn) {
        if turn.kind() == TurnKind::Speech
            && let Some(fed) = self.uplink.fed_or_last()
        {
            self.uplink
                .set_heard_to(turn.final_end.unwrap_or(fed.begin));
        }
    }

    /// Counts what the caller said and nobody will hear.
    fn count_unheard(&mut self, turn: &Turn) {
        if turn.kind() == TurnKind::Speech
            && !turn.answered
            && let Some(fed) = self.uplink.fed_or_last()
        {
            let from = turn.final_end.unwrap_or(fed.begin);
            let unheard = self.uplink.captured().saturating_sub(from);
            self.measure(Measure::Unheard(self.uplink.duration_of(unheard)));
        }
    }

    /// The agent cannot be reached: the caller hears so, and is transferred if there is somewhere to go.
    pub(super) fn fall_back(&mut self) {
        if self.failures.is_hopeless {
            self.end(EndReason::BackendFailed);
            return;
        }
        self.failures.is_hopeless = true;
        self.tell(Notice::Fallback);
        self.end_hold();
        self.tools.clear();
        let prompt = self.settings.fallback.prompt.clone();
        self.say(&prompt);
        self.ending = Some(EndReason::BackendFailed);
        self.hand_off = HandOff::None;
        if let Some(to) = self.settings.fallback.transfer.clone() {
            self.want_hand_off(Some(to), serde_json::Value::Null);
            self.ending = Some(EndReason::Transferred);
        }
        if self.playout.is_playing() {
            self.open_line();
        }
        self.proceed();
    }

    /// The pause before a stream is opened again is over.
    pub(super) fn on_retry(&mut self) {
        match self.retry.take() {
            Some(input) => self.open(input),
            None => self.proceed(),
        }
    }
}
