//! One call from dialling to its end: the loop that turns a [`Handset`] and a [`Dialogue`] with the clock, the line and the gateway's news.
//!
//! Every call has a tick of its own rather than one tick for all: real callers do not speak in step, and a gateway should not see 200
//! frames in the same millisecond. The runtime's timer wakes all calls of one millisecond together, so it costs no more.

use std::future;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;
use tokio::time::timeout;

use crate::admin::Admin;
use crate::admin::News;
use crate::dialogue::Act;
use crate::dialogue::Dialogue;
use crate::dialogue::ScriptEnd;
use crate::echo::EchoPath;
use crate::far_end::FarEndTally;
use crate::far_end::TICK;
use crate::gateway_event::GatewayEvent;
use crate::gateway_event::What;
use crate::handset::Handset;
use crate::handset::Remains;
use crate::handset::Tally;
use crate::line::FromGateway;
use crate::line::Line;
use crate::line::Network;
use crate::line::Placing;
use crate::line::SetupError;
use crate::line::ToGateway;
use crate::playout::RtpTally;
use crate::target::Target;
use crate::timeline::Timeline;
use crate::timeline::print;
use crate::twilio::CallIds;
use crate::twilio::twiml::Verb;

/// How long the gateway may take, after the call, to tell why it ended.
const LAST_NEWS: Duration = Duration::from_secs(2);
/// Improper messages that are kept to be shown; the first says enough.
const COMPLAINTS: usize = 10;
/// Events that are kept for the account; as many as a gateway would tell of an hour.
const EVENTS: usize = 10_000;

/// Packets taken before one tick: a second's, so that a flood cannot stop the clock.
const PACKETS_AT_ONCE: usize = 50;

/// One call to make.
pub(crate) struct Plan {
    pub(crate) target: Target,
    pub(crate) placing: Placing,
    pub(crate) dialogue: Dialogue,
    pub(crate) admin: Option<Admin>,
    pub(crate) record: Option<PathBuf>,
    pub(crate) line_noise: bool,
    pub(crate) echo: Option<EchoPath>,
    /// Hang up on Ctrl-C rather than vanish.
    pub(crate) interruptible: bool,
    /// How the caller goes when everything is done.
    pub(crate) farewell: Farewell,
}

/// How a caller goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// Says so.
    HangUp,
    /// Is gone, and sends and answers nothing any more.
    Vanish,
}

/// Why the media ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The caller hung up.
    HungUp,
    /// The gateway closed the line.
    Closed { code: Option<u16>, reason: String },
    /// The gateway hung up.
    FarEndHungUp,
    /// The line broke.
    Lost(String),
}

impl Ending {
    /// What was wrong with it, as a sentence.
    pub(crate) fn fault(&self) -> Option<String> {
        match self {
            Self::HungUp
            | Self::FarEndHungUp
            | Self::Closed {
                code: None | Some(1000),
                ..
            } => None,
            Self::Closed {
                code: Some(code),
                reason,
            } => Some(format!("the gateway closed the websocket: {code} {reason}")),
            Self::Lost(why) => Some(format!("the line broke: {why}")),
        }
    }
}

/// All that is known of a call that came about.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// From dialling to `start`, to the 200, or to the moment when media may flow.
    pub(crate) set_up: Duration,
    /// The moment after that, from which all times of the call are counted.
    pub(crate) began_at: SystemTime,
    /// From then to the end of the media.
    pub(crate) lasted: Duration,
    /// How late the latest of the caller's frames left: what this machine had no time for.
    pub(crate) latest_frame: Duration,
    pub(crate) ending: Ending,
    pub(crate) script: ScriptEnd,
    pub(crate) tally: Tally,
    pub(crate) far_end: FarEndTally,
    /// On a line with packets.
    pub(crate) rtp: Option<RtpTally>,
    pub(crate) told: Told,
    /// What the real far end would have refused.
    pub(crate) complaints: Vec<String>,
    /// What was to happen after the stream, or why that is not known.
    pub(crate) after: Result<Vec<Verb>, String>,
}

/// What the gateway told on its admin side, or by data channel.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) agent_said: Vec<String>,
    pub(crate) agent_heard: Vec<String>,
    pub(crate) turn_latencies: Vec<Duration>,
    pub(crate) barge_ins: u32,
    pub(crate) end_reason: Option<String>,
    /// Everything, with the moments at which it was told.
    pub(crate) events: Vec<(Duration, Value)>,
}

/// A call in progress.
struct Call {
    line: Line,
    handset: Handset,
    dialogue: Dialogue,
    timeline: Timeline,
    started: Instant,
    told: Told,
    complaints: Vec<String>,
    latest_frame: Duration,
}

/// Makes the call and holds it to its end.
pub(crate) async fn hold(
    plan: Plan,
    timeline: Timeline,
    network: &Network,
) -> Result<Outcome, SetupError> {
    let ids = CallIds::fresh();
    let call_sid = ids.call.clone();
    // A WHIP line brings the news itself.
    let asks_admin = !matches!(plan.target, Target::Whip(_));
    let mut news = plan
        .admin
        .as_ref()
        .filter(|_| asks_admin)
        .map(|admin| admin.follow(call_sid.clone()));
    let dialled = Instant::now();
    let line = Line::place(
        &plan.target,
        &plan.placing,
        ids,
        network,
        plan.interruptible,
    )
    .await?;
    let set_up = dialled.elapsed();
    let mut handset = Handset::new(plan.line_noise, plan.record.is_some());
    if line.has_packets() {
        handset = handset.for_packets();
    }
    if let Some(echo) = plan.echo {
        handset = handset.with_echo(echo);
    }
    let began_at = SystemTime::now();
    let mut call = Call {
        line,
        handset,
        dialogue: plan.dialogue,
        timeline,
        started: Instant::now(),
        told: Told::default(),
        complaints: Vec::new(),
        latest_frame: Duration::ZERO,
    };
    timeline.line(
        &format!(
            "call {call_sid} is up, {} after dialling",
            crate::stats::ms(set_up)
        ),
        Duration::ZERO,
    );
    let ending = call.run(&mut news, plan.interruptible).await;
    if ending == Ending::HungUp {
        call.leave(plan.farewell).await;
    }
    let lasted = call.started.elapsed();
    timeline.line(&call.describe_ending(&ending), lasted);
    let after = call
        .line
        .after_call(&network.http, lasted)
        .await
        .map_err(|error| error.to_string());
    call.print_after(&after);
    call.read_last_news(&mut news).await;

    let gateway_ended = matches!(ending, Ending::Closed { .. } | Ending::FarEndHungUp);
    let script = call
        .dialogue
        .end(gateway_ended, call.told.end_reason.as_deref());
    let Remains {
        tally,
        far_end,
        rtp,
        recording,
    } = call.handset.hang_up();
    if let (Some(recording), Some(path)) = (recording, plan.record) {
        match recording.write(&path) {
            Ok(()) => print(&format!(
                "recorded in {}: caller left, agent as heard right",
                path.display()
            )),
            Err(error) => print(&format!("{} was not written: {error:#}", path.display())),
        }
    }
    Ok(Outcome {
        set_up,
        began_at,
        lasted,
        latest_frame: call.latest_frame,
        ending,
        script,
        tally,
        far_end,
        rtp,
        told: call.told,
        complaints: call.complaints,
        after,
    })
}

impl Call {
    /// The loop. Time first, since a late frame is a fault of ours; then the line; the gateway's news can wait.
    async fn run(
        &mut self,
        news: &mut Option<mpsc::Receiver<News>>,
        interruptible: bool,
    ) -> Ending {
        let mut ticks = interval(TICK);
        // A late tick is made up for, as a telephone network would: the number of frames is the time.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut interrupt = Box::pin(async move {
            let interrupted = interruptible && tokio::signal::ctrl_c().await.is_ok();
            if !interrupted {
                future::pending::<()>().await;
            }
        });
        loop {
            let ending = tokio::select! {
                biased;
                due = ticks.tick() => {
                    self.latest_frame = self.latest_frame.max(due.elapsed());
                    self.tick().await
                }
                message = self.line.receive() => self.hear(message).await,
                Some(news) = next_news(news) => self.learn(news),
                () = &mut interrupt => Some(Ending::HungUp),
            };
            if let Some(ending) = ending {
                return ending;
            }
        }
    }

    /// The caller goes.
    async fn leave(&mut self, farewell: Farewell) {
        match farewell {
            Farewell::HangUp => {
                if let Err(why) = self.line.hang_up().await {
                    self.complain(why);
                }
                let at = self.started.elapsed();
                for event in self.line.last_events() {
                    self.timeline.event(&event, at);
                    self.keep(event);
                }
            }
            Farewell::Vanish => self.line.vanish(),
        }
    }

    async fn tick(&mut self) -> Option<Ending> {
        for _ in 0..PACKETS_AT_ONCE {
            let Some(message) = self.line.received() else {
                break;
            };
            if let Some(ending) = self.hear(message).await {
                return Some(ending);
            }
        }
        let at = self.started.elapsed();
        let tick = self.handset.tick(at);
        let mut messages: Vec<ToGateway> = tick.marks.into_iter().map(ToGateway::Mark).collect();
        messages.push(ToGateway::Frame(tick.frame));
        tick.notes
            .iter()
            .for_each(|note| self.timeline.note(note, at));
        let mut ending = None;
        for act in self.dialogue.next(&self.handset, at) {
            match act {
                Act::Say { speech, repeated } => self.handset.say(speech, repeated),
                Act::Press(key) => {
                    self.timeline.line(&format!("caller presses {key}"), at);
                    messages.push(ToGateway::Digit(key));
                }
                Act::HangUp => ending = Some(Ending::HungUp),
                Act::Fail(why) => {
                    self.timeline.line(&format!("FAILED: {why}"), at);
                    ending = Some(Ending::HungUp);
                }
            }
        }
        self.send(messages).await.or(ending)
    }

    async fn hear(&mut self, message: FromGateway) -> Option<Ending> {
        let at = self.started.elapsed();
        match message {
            FromGateway::Audio(audio) => {
                if self.handset.receive(audio, at).is_err() {
                    self.complain(
                        "more than ten minutes of audio are waiting to be played".to_owned(),
                    );
                }
            }
            FromGateway::Packet(packet) => self.handset.receive_packet(&packet, at),
            FromGateway::Note(text) => self.timeline.line(&text, at),
            FromGateway::Event(event) => {
                self.timeline.event(&event, at);
                self.keep(event);
            }
            FromGateway::Mark(name) => self.handset.mark(name),
            FromGateway::Clear => {
                let (marks, notes) = self.handset.clear(at);
                notes.iter().for_each(|note| self.timeline.note(note, at));
                return self
                    .send(marks.into_iter().map(ToGateway::Mark).collect())
                    .await;
            }
            FromGateway::Improper(what) => self.complain(what),
            FromGateway::Closed { code, reason } => return Some(Ending::Closed { code, reason }),
            FromGateway::HungUp => return Some(Ending::FarEndHungUp),
            FromGateway::Lost(why) => return Some(Ending::Lost(why)),
        }
        None
    }

    async fn send(&mut self, messages: Vec<ToGateway>) -> Option<Ending> {
        let sent = self.line.send(messages).await;
        match sent {
            Ok(()) => None,
            // The gateway may have closed while we wrote: its close, if it waits to be read, tells more than our failure.
            Err(why) => match timeout(TICK, self.line.receive()).await {
                Ok(FromGateway::Closed { code, reason }) => Some(Ending::Closed { code, reason }),
                _ => Some(Ending::Lost(why)),
            },
        }
    }

    fn learn(&mut self, news: News) -> Option<Ending> {
        let at = self.started.elapsed();
        match news {
            News::Found(id) if self.timeline == Timeline::Verbose => self
                .timeline
                .line(&format!("the gateway calls it {id}"), at),
            News::Found(_) => {}
            News::Silent(why) => self
                .timeline
                .line(&format!("no events from the gateway: {why}"), at),
            News::Event(event) => {
                self.timeline.event(&event, at);
                self.keep(event);
            }
        }
        None
    }

    fn keep(&mut self, event: GatewayEvent) {
        let at = self.started.elapsed();
        if self.told.events.len() < EVENTS {
            self.told.events.push((at, event.data));
        }
        match event.what {
            What::AgentSays(text) => {
                self.dialogue.agent_said(&text);
                self.told.agent_said.push(text);
            }
            What::AgentHeard(text) => self.told.agent_heard.push(text),
            What::TurnLatency(latency) => self.told.turn_latencies.push(latency),
            What::BargeIn => {
                self.told.barge_ins += 1;
                self.handset.told_of_cut(at);
            }
            What::Ended(reason) => self.told.end_reason = Some(reason),
            What::Interim(_) | What::Digit(_) | What::Other(_) => {}
        }
    }

    async fn read_last_news(&mut self, news: &mut Option<mpsc::Receiver<News>>) {
        let rest = async {
            while self.told.end_reason.is_none() {
                let Some(news) = next_news(news).await else {
                    break;
                };
                self.learn(news);
            }
        };
        // Without a reason in time, the reason stays unknown.
        let _ = timeout(LAST_NEWS, rest).await;
    }

    fn complain(&mut self, what: String) {
        if self.complaints.len() < COMPLAINTS {
            self.timeline
                .line(&format!("IMPROPER: {what}"), self.started.elapsed());
            self.complaints.push(what);
        }
    }

    fn describe_ending(&self, ending: &Ending) -> String {
        match ending {
            Ending::HungUp => "caller hangs up".to_owned(),
            Ending::Closed { code, reason } => {
                let code = code
                    .map(|code| format!(" ({code} {reason})"))
                    .unwrap_or_default();
                format!("gateway closes the line{}", code.replace(" )", ")"))
            }
            Ending::FarEndHungUp => "far end hung up".to_owned(),
            Ending::Lost(why) => format!("the line broke: {why}"),
        }
    }

    fn print_after(&self, after: &Result<Vec<Verb>, String>) {
        let at = self.started.elapsed();
        match after {
            Err(why) => self.timeline.line(why, at),
            Ok(verbs) => {
                for verb in verbs {
                    self.timeline
                        .line(&format!("then: {}", describe_verb(verb)), at);
                }
            }
        }
    }
}

fn describe_verb(verb: &Verb) -> String {
    match verb {
        Verb::Dial(number) => format!("dial {number}"),
        Verb::HangUp => "hang up".to_owned(),
        Verb::Reject(reason) => format!("reject ({reason})"),
        Verb::Redirect(url) => format!("ask {url}"),
        Verb::Connect { stream, .. } => format!("connect {stream}"),
        Verb::Other(name) => format!("<{name}>"),
    }
}

/// The next news; `None`, for good, when there is nobody to bring any.
async fn next_news(news: &mut Option<mpsc::Receiver<News>>) -> Option<News> {
    let next = news.as_mut()?.recv().await;
    if next.is_none() {
        *news = None;
    }
    next
}
