//! The metrics of every call, declared once: name, unit, buckets and labels. What only one ingress counts is declared where
//! it is counted, in `measure.rs` of its folder and in `ingress/whip/ignored.rs`; what RTP counts, in `ingress/tally.rs`.
//!
//! Labels come from closed enums, and [`describe`] touches every series, so that a rate over a counter works from the
//! first scrape on. The engine returns numbers ([`Measure`]); [`record`] turns them into series.

use std::fmt::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use metrics::Histogram;
use metrics::Unit;
use metrics::counter;
use metrics::describe_counter;
use metrics::describe_gauge;
use metrics::describe_histogram;
use metrics::gauge;
use metrics::histogram;
use metrics_exporter_prometheus::BuildError;
use metrics_exporter_prometheus::Matcher;
use metrics_exporter_prometheus::PrometheusBuilder;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::engine::call::end::EndReason;
use crate::engine::call::event::DigitSource;
use crate::engine::call::event::FaultKind;
use crate::engine::call::notice::Direction;
use crate::engine::call::notice::Measure;
use crate::engine::call::notice::SegmentOutcome;
use crate::engine::call::notice::TurnKind;
use crate::engine::call::notice::TurnResult;
use crate::io::leg::IngressKind;

const CALLS_ACTIVE: &str = "tandem_calls_active";
const CALLS_TOTAL: &str = "tandem_calls_total";
const CALLS_REFUSED: &str = "tandem_calls_refused_total";
const CALLS_HEADROOM: &str = "tandem_calls_headroom";
const CALL_SETUP: &str = "tandem_call_setup_seconds";
const CALL_DURATION: &str = "tandem_call_duration_seconds";
const TURNS: &str = "tandem_turns_total";
const TURN_LATENCY: &str = "tandem_turn_latency_seconds";
const FIRST_AUDIO: &str = "tandem_answer_to_first_audio_seconds";
const BARGE_INS: &str = "tandem_barge_ins_total";
const BARGE_IN: &str = "tandem_barge_in_seconds";
const SEGMENTS: &str = "tandem_segments_total";
const STREAMS_ACTIVE: &str = "tandem_backend_streams_active";
const STREAMS: &str = "tandem_backend_streams_total";
const STREAM: &str = "tandem_backend_stream_seconds";
const CIRCUIT: &str = "tandem_backend_circuit_open";
const UNHEARD: &str = "tandem_caller_audio_unheard_seconds_total";
const DROPPED: &str = "tandem_audio_dropped_seconds_total";
const DIGITS: &str = "tandem_dtmf_digits_total";
const TICK_LATENESS: &str = "tandem_tick_lateness_seconds";
/// Interarrival jitter of a call's packets, of whichever ingress.
pub const RTP_JITTER: &str = "tandem_rtp_jitter_seconds";
const CLIPS: &str = "tandem_clips_total";
const OBJECTS: &str = "tandem_objects_alive";
const BUILD_INFO: &str = "tandem_build_info";

/// Seconds that grow by fractions. The `metrics` crate counts in whole numbers only, and a second of lost speech is far
/// too coarse a unit, so these few are kept in microseconds and rendered here.
struct Seconds(AtomicU64);

static UNHEARD_SECONDS: Seconds = Seconds(AtomicU64::new(0));
static DROPPED_UPLINK_SECONDS: Seconds = Seconds(AtomicU64::new(0));
static DROPPED_DOWNLINK_SECONDS: Seconds = Seconds(AtomicU64::new(0));

impl Seconds {
    fn add(&self, duration: Duration) {
        self.0
            .fetch_add(duration.as_micros() as u64, Ordering::Relaxed);
    }

    fn value(&self) -> f64 {
        self.0.load(Ordering::Relaxed) as f64 / 1e6
    }
}

/// Delays that a caller feels: from nothing to much too long.
const DELAYS: [f64; 13] = [
    0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0,
];
/// Delays inside the gateway, around the 20 ms of a frame.
const TICKS: [f64; 11] = [
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.5,
];
/// Lengths of streams and calls.
const LENGTHS: [f64; 12] = [
    0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 900.0, 1800.0, 7200.0,
];

labels! {
    /// Why a call was refused before it began.
    pub enum Refused {
        /// As many calls as `limits.calls` allows.
        Full => "full",
        /// More than `limits.calls_per_second`.
        TooFast => "too_fast",
        /// The gateway is stopping.
        Draining => "draining",
        /// No route fits.
        NoRoute => "no_route",
    }
}

labels! {
    /// What came of a clip that a call wanted.
    pub enum ClipResult {
        /// It was fetched.
        Fetched => "fetched",
        /// It was there already, or another call was fetching it.
        Cached => "cached",
        /// It is nothing that we fetch, or lies where nobody may be sent.
        Refused => "refused",
        /// It was not to be had.
        Failed => "failed",
    }
}

labels! {
    /// What came of an interruption.
    enum BargeIn {
        /// The prompt was cut.
        Cut => "cut",
        /// The prompt may not be interrupted.
        Refused => "refused",
        /// It was none: the prompt goes on from where it was ducked.
        Restored => "restored",
        /// It was our own prompt.
        Echo => "echo",
    }
}

labels! {
    /// Things that live as long as a call and must go with it.
    pub enum Object {
        /// A call's driver.
        Call => "call",
        /// An ingress's side of a call.
        Leg => "leg",
        /// A backend stream.
        Stream => "stream",
    }
}

/// Counts an object as alive until it is dropped.
#[derive(Debug)]
pub struct Alive(Object);

impl Alive {
    /// An object has come to life.
    pub fn new(object: Object) -> Self {
        gauge!(OBJECTS, "type" => object.label()).increment(1.0);
        Self(object)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        gauge!(OBJECTS, "type" => self.0.label()).decrement(1.0);
    }
}

/// Installs the recorder for the whole process. The handle renders; its upkeep must run every few seconds.
///
/// # Errors
/// If a recorder is installed already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for name in [TURN_LATENCY, FIRST_AUDIO, CALL_SETUP] {
        builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), &DELAYS)?;
    }
    for name in [BARGE_IN, TICK_LATENESS, RTP_JITTER] {
        builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), &TICKS)?;
    }
    for name in [STREAM, CALL_DURATION] {
        builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), &LENGTHS)?;
    }
    let handle = builder.install_recorder()?;
    metrics_process::Collector::default().describe();
    Ok(handle)
}

/// Declares every metric and touches every series. `agents` are the configured agents' names.
pub fn describe<'a>(agents: impl Iterator<Item = &'a str>, call_limit: usize) {
    describe_words();
    for ingress in IngressKind::ALL {
        gauge!(CALLS_ACTIVE, "ingress" => ingress.label()).set(0.0);
        for reason in EndReason::ALL {
            counter!(CALLS_TOTAL, "ingress" => ingress.label(), "end_reason" => reason.label())
                .increment(0);
        }
        for reason in Refused::ALL {
            counter!(CALLS_REFUSED, "ingress" => ingress.label(), "reason" => reason.label())
                .increment(0);
        }
    }
    for input in TurnKind::ALL {
        for result in TurnResult::ALL {
            counter!(TURNS, "input" => input.label(), "result" => result.label()).increment(0);
        }
    }
    for outcome in BargeIn::ALL {
        counter!(BARGE_INS, "outcome" => outcome.label()).increment(0);
    }
    for outcome in SegmentOutcome::ALL {
        counter!(SEGMENTS, "outcome" => outcome.label()).increment(0);
    }
    for agent in agents {
        let codes = FaultKind::ALL.map(FaultKind::label);
        for code in codes.into_iter().chain(["ok"]) {
            counter!(STREAMS, "agent" => agent.to_owned(), "code" => code).increment(0);
        }
        circuit(agent, false);
    }
    for source in DigitSource::ALL {
        counter!(DIGITS, "source" => source.label()).increment(0);
    }
    for result in ClipResult::ALL {
        counter!(CLIPS, "result" => result.label()).increment(0);
    }
    for object in Object::ALL {
        gauge!(OBJECTS, "type" => object.label()).set(0.0);
    }
    // Merely to be named is enough for these.
    for histogram in [
        histogram!(CALL_SETUP),
        histogram!(CALL_DURATION),
        histogram!(TURN_LATENCY),
        histogram!(FIRST_AUDIO),
        histogram!(BARGE_IN),
        histogram!(TICK_LATENESS),
        histogram!(STREAM),
    ] {
        drop(histogram);
    }
    gauge!(STREAMS_ACTIVE).set(0.0);
    headroom(call_limit);
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

fn describe_words() {
    let gauges = [
        (CALLS_ACTIVE, "Calls in progress"),
        (CALLS_HEADROOM, "Calls that would still be admitted"),
        (STREAMS_ACTIVE, "Backend streams that are open"),
        (
            CIRCUIT,
            "Whether an agent's endpoint is left alone because it fails: 1 or 0",
        ),
        (OBJECTS, "Objects that live as long as a call"),
        (BUILD_INFO, "The version that runs; always 1"),
    ];
    for (name, words) in gauges {
        describe_gauge!(name, words);
    }
    let counters = [
        (CALLS_TOTAL, "Calls that have ended"),
        (CALLS_REFUSED, "Calls that were refused before they began"),
        (TURNS, "Turns that have ended"),
        (BARGE_INS, "Interruptions by callers, taken or refused"),
        (SEGMENTS, "Pieces of agent speech, by how they ended"),
        (STREAMS, "Backend streams that have ended"),
        (DIGITS, "Digits pressed by callers"),
        (CLIPS, "Clips that agents wanted played"),
    ];
    for (name, words) in counters {
        describe_counter!(name, words);
    }
    let histograms = [
        (
            CALL_SETUP,
            "From an INVITE, an offer or a media websocket to the caller's open line",
        ),
        (CALL_DURATION, "How long calls lasted"),
        (
            TURN_LATENCY,
            "From the caller's end of speech to the agent's first audio",
        ),
        (
            FIRST_AUDIO,
            "From the caller's open line to the agent's first audio",
        ),
        (
            BARGE_IN,
            "From the decision to cut a prompt to when the leg has cut it",
        ),
        (STREAM, "How long backend streams lasted"),
        (TICK_LATENESS, "How late frames were sent"),
    ];
    for (name, words) in histograms {
        describe_histogram!(name, Unit::Seconds, words);
    }
}

/// A number that a call reported.
pub fn record(measure: &Measure) {
    match measure {
        Measure::Turn(input, result) => {
            counter!(TURNS, "input" => input.label(), "result" => result.label()).increment(1);
        }
        Measure::TurnLatency(latency) => histogram!(TURN_LATENCY).record(latency.as_secs_f64()),
        Measure::AnswerToFirstAudio(delay) => histogram!(FIRST_AUDIO).record(delay.as_secs_f64()),
        // How long it took, its leg knows.
        Measure::BargeIn(_) => barge_in_ended(BargeIn::Cut),
        Measure::BargeInRefused => barge_in_ended(BargeIn::Refused),
        Measure::BargeInRestored => barge_in_ended(BargeIn::Restored),
        Measure::BargeInEcho => barge_in_ended(BargeIn::Echo),
        Measure::Unheard(duration) => UNHEARD_SECONDS.add(*duration),
        Measure::TickLateness(lateness) => tick_lateness().record(lateness.as_secs_f64()),
        Measure::Digit(source) => counter!(DIGITS, "source" => source.label()).increment(1),
        Measure::Segment(outcome) => counter!(SEGMENTS, "outcome" => outcome.label()).increment(1),
    }
}

fn barge_in_ended(outcome: BargeIn) {
    counter!(BARGE_INS, "outcome" => outcome.label()).increment(1);
}

/// The one histogram that every frame touches: looked up once, for a look-up takes a lock.
fn tick_lateness() -> &'static Histogram {
    static HANDLE: OnceLock<Histogram> = OnceLock::new();
    HANDLE.get_or_init(|| histogram!(TICK_LATENESS))
}

/// Audio was thrown away because a queue was full.
pub fn audio_dropped(direction: Direction, duration: Duration) {
    match direction {
        Direction::Uplink => DROPPED_UPLINK_SECONDS.add(duration),
        Direction::Downlink => DROPPED_DOWNLINK_SECONDS.add(duration),
    }
}

/// A call has been refused before it began.
pub fn call_refused(ingress: IngressKind, reason: Refused) {
    counter!(CALLS_REFUSED, "ingress" => ingress.label(), "reason" => reason.label()).increment(1);
}

/// A call has begun.
pub fn call_began(ingress: IngressKind) {
    gauge!(CALLS_ACTIVE, "ingress" => ingress.label()).increment(1.0);
}

/// A caller's line is open, this long after the first sign of the call.
pub fn call_set_up(took: Duration) {
    histogram!(CALL_SETUP).record(took.as_secs_f64());
}

/// A leg has cut a prompt, this long after it was decided.
pub fn barge_in(took: Duration) {
    histogram!(BARGE_IN).record(took.as_secs_f64());
}

/// A call has ended.
pub fn call_ended(ingress: IngressKind, reason: EndReason, lasted: Duration) {
    gauge!(CALLS_ACTIVE, "ingress" => ingress.label()).decrement(1.0);
    counter!(CALLS_TOTAL, "ingress" => ingress.label(), "end_reason" => reason.label())
        .increment(1);
    histogram!(CALL_DURATION).record(lasted.as_secs_f64());
}

/// A call has its clip, or knows that it does not get it.
pub fn clip(result: ClipResult) {
    counter!(CLIPS, "result" => result.label()).increment(1);
}

/// How many more calls would be admitted.
pub fn headroom(calls: usize) {
    gauge!(CALLS_HEADROOM).set(calls as f64);
}

/// A backend stream has been opened.
pub fn stream_opened() {
    gauge!(STREAMS_ACTIVE).increment(1.0);
}

/// A backend stream is over: in order (`None`), or by a fault.
pub fn stream_closed(agent: &str, fault: Option<FaultKind>, lasted: Duration) {
    let code = fault.map_or("ok", FaultKind::label);
    gauge!(STREAMS_ACTIVE).decrement(1.0);
    counter!(STREAMS, "agent" => agent.to_owned(), "code" => code).increment(1);
    histogram!(STREAM).record(lasted.as_secs_f64());
}

/// An agent's endpoint is left alone from now on, or not any more.
pub fn circuit(agent: &str, is_open: bool) {
    gauge!(CIRCUIT, "agent" => agent.to_owned()).set(if is_open { 1.0 } else { 0.0 });
}

/// The page at `/metrics`, in the Prometheus text format.
pub fn render(handle: &PrometheusHandle) -> String {
    metrics_process::Collector::default().collect();
    let mut page = handle.render();
    let unheard = UNHEARD_SECONDS.value();
    let (uplink, downlink) = (
        DROPPED_UPLINK_SECONDS.value(),
        DROPPED_DOWNLINK_SECONDS.value(),
    );
    // Writing to a string cannot fail.
    let _ = write!(
        page,
        "# HELP {UNHEARD} Caller audio that the agent should have heard and no stream was given\n\
         # TYPE {UNHEARD} counter\n\
         {UNHEARD} {unheard}\n\n\
         # HELP {DROPPED} Audio thrown away because a queue was full\n\
         # TYPE {DROPPED} counter\n\
         {DROPPED}{{direction=\"uplink\"}} {uplink}\n\
         {DROPPED}{{direction=\"downlink\"}} {downlink}\n"
    );
    page
}
