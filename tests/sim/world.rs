//! One run: a call, its caller, the ways between them and the service, turned in virtual time as the driver turns a call.

use std::ops::Range;
use std::sync::LazyLock;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use serde_json::Value;
use serde_json::json;
use tandem::engine::call::Call;
use tandem::engine::call::event::Action;
use tandem::engine::call::event::Audio;
use tandem::engine::call::event::AudioFormat;
use tandem::engine::call::event::BackendEvent;
use tandem::engine::call::event::BargeInWindow;
use tandem::engine::call::event::ClipId;
use tandem::engine::call::event::Digit;
use tandem::engine::call::event::DigitSource;
use tandem::engine::call::event::Encoding;
use tandem::engine::call::event::Event;
use tandem::engine::call::event::Fault;
use tandem::engine::call::event::LegEnd;
use tandem::engine::call::event::OpenTurn;
use tandem::engine::call::event::StreamId;
use tandem::engine::call::event::ToolResult;
use tandem::engine::call::event::Transfer;
use tandem::engine::call::event::TurnInput;
use tandem::engine::call::notice::Measure;
use tandem::engine::call::settings::BargeInMode;
use tandem::engine::call::settings::CallSettings;
use tandem::engine::call::settings::LegTraits;
use tandem::engine::media::frame::FRAME_DURATION;
use tandem::engine::media::frame::Frame;
use tandem::engine::media::frame::SampleRate;
use tandem::io::ingress::sip;
use tandem::io::ingress::twilio;
use tandem::io::ingress::whip;

use crate::agent::Agent;
use crate::backend::Backend;
use crate::backend::Said;
use crate::caller::Act;
use crate::caller::Caller;
use crate::dice::Dice;
use crate::far_end::Cue;
use crate::far_end::FarEnd;
use crate::history::At;
use crate::history::History;
use crate::history::What;
use crate::network::Uplink;
use crate::sound;
use crate::sound::Piece;
use crate::watermark::Finder;
use crate::watermark::Side;

/// The segments that are no agent's.
const HOLD_TAG: u32 = 0;
const FALLBACK_TAG: u32 = 1;
const APOLOGY_TAG: u32 = 2;
const FIRST_TAG: u32 = 3;
/// How often a deadline may be obeyed without moving on before the call is stuck.
const PATIENCE: u32 = 3;
/// Actions at one moment after which nothing good can come.
const RUNAWAY: usize = 20_000;

/// A run.
struct World {
    call: Call,
    began: Instant,
    now: At,
    caller: Caller,
    next_frame: At,
    echo_delay: At,
    uplink: Uplink,
    far_end: FarEnd,
    /// When streams take no audio.
    stall: Range<At>,
    backend: Backend,
    /// What else is to happen, the earliest first.
    agenda: Vec<(At, Later)>,
    dice: Dice,
    rate: SampleRate,
    encoding: Encoding,
    stuck: u32,
    ended: bool,
    /// Recognises what is played.
    ear: Finder,
    found: Vec<(u32, u64)>,
    history: History,
}

/// Something that happens later.
enum Later {
    Answered,
    Fetched(ClipId, Result<Bytes, String>),
    ToolEnded(ToolResult),
    TransferEnded(bool),
}

/// Runs the call of this seed to its end.
pub(crate) fn run(seed: u64) -> History {
    let mut world = World::new(seed);
    world.act();
    while !world.ended && world.stuck <= PATIENCE {
        world.step();
    }
    world.haunt();
    world.history.frames = world.caller.frames;
    world.history
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed, "world");
        // Short, so that there can be many; long enough for a few turns.
        let length = match dice.between(0, 199) {
            0 => dice.ms(20_000, 60_000),
            1..=12 => dice.ms(8_000, 20_000),
            _ => dice.ms(2_000, 8_000),
        };
        // Twice the samples cost twice the time, and hardly anything in the engine depends on the rate.
        let rate = if dice.chance(0.15) {
            SampleRate::HZ_16000
        } else {
            SampleRate::HZ_8000
        };
        let (name, leg, keys): (_, _, &[DigitSource]) = match dice.between(0, 2) {
            0 => ("twilio", twilio::traits(), &[DigitSource::Twilio]),
            1 => (
                "sip",
                sip::traits(rate, Duration::from_secs(3)),
                &[DigitSource::Rtp, DigitSource::Info],
            ),
            _ => ("whip", whip::traits(rate), &[DigitSource::Rtp]),
        };
        let settings = settings(&mut dice, leg);
        let traceable = settings.downlink.rate == leg.rate;
        let agent = Agent::new(seed, settings.downlink, FIRST_TAG);
        let pauses = agent.pauses();
        let backend = Backend::new(seed, length, settings.uplink, agent);
        let mut caller = Caller::new(seed, leg.rate, length, leg.transfers, keys);
        let history = History {
            setting: format!(
                "{name} at {} Hz, {:?} up, {:?}, greeting {:?}, ceiling {:?}, no input {:?}, give up {:?}, chunk {:?}\n\
                 caller: {}\nbackend: {}",
                leg.rate.hz(),
                settings.uplink.encoding,
                settings.barge_in,
                settings.greeting,
                settings.stream_ceiling,
                settings.no_input.timeout,
                settings.fallback.give_up_after,
                settings.chunk,
                caller.describe(),
                backend.describe(),
            ),
            buffers: leg.confirms_playout,
            rings: leg.rings.is_some(),
            rate: settings.uplink.rate,
            chunk: settings.chunk,
            shared_tags: vec![HOLD_TAG, FALLBACK_TAG, APOLOGY_TAG],
            traceable: traceable && !pauses,
            frames: Vec::new(),
            entries: Vec::with_capacity(4_096),
        };
        let began = Instant::now();
        let mut stalls = Dice::new(seed, "stalls");
        let stall = if stalls.chance(0.15) {
            let from = stalls.ms(0, length.as_millis() as u64);
            from..from + stalls.ms(100, 6_000)
        } else {
            At::ZERO..At::ZERO
        };
        Self {
            stall,
            echo_delay: caller.echo_delay(),
            caller,
            next_frame: At::ZERO,
            uplink: Uplink::new(seed, length, !leg.confirms_playout),
            far_end: FarEnd::new(seed, leg.confirms_playout, length),
            backend,
            agenda: Vec::new(),
            rate: settings.uplink.rate,
            encoding: settings.uplink.encoding,
            call: Call::new(settings, began),
            began,
            now: At::ZERO,
            dice,
            stuck: 0,
            ended: false,
            ear: Finder::new(Side::Agent),
            found: Vec::new(),
            history,
        }
    }

    fn clock(&self) -> Instant {
        self.began + self.now
    }

    fn deadline(&self) -> Option<At> {
        let deadline = self.call.deadline()?;
        Some(deadline.saturating_duration_since(self.began))
    }

    /// Goes to the next moment at which something happens, and lets it.
    fn step(&mut self) {
        let agenda = self.agenda.first().map(|(at, _)| *at);
        let from_outside = [
            Some(self.next_frame),
            self.uplink.next(),
            self.far_end.next_mark(),
            self.caller.next_act(),
            self.backend.next(),
            agenda,
        ];
        let outside = from_outside
            .into_iter()
            .flatten()
            .min()
            .expect("there is always a next frame");
        let deadline = self.deadline();
        if let Some(deadline) = deadline.filter(|deadline| *deadline < outside) {
            self.now = self.now.max(deadline);
            self.note(What::Woke);
        } else {
            self.now = self.now.max(outside);
            self.happen();
        }
        if self.ended {
            return;
        }
        self.call.tick(self.clock());
        self.act();
        if self.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.stuck += 1;
            if self.stuck > PATIENCE {
                self.note(What::Stuck);
            }
        } else {
            self.stuck = 0;
        }
    }

    fn note(&mut self, what: What) {
        self.history.add(self.now, what);
    }

    fn handle(&mut self, event: Event) {
        self.call.handle(event, self.clock());
        self.act();
    }

    /// Lets happen what comes from outside at this moment.
    fn happen(&mut self) {
        if self.next_frame <= self.now {
            self.next_frame += FRAME_DURATION;
            self.be_the_caller();
        }
        while let Some(act) = self.caller.take_act(self.now) {
            self.on_act(act);
        }
        while let Some((segment, played)) = self.far_end.take_mark(self.now) {
            self.note(What::MarkReturned { segment, played });
            self.handle(Event::MarkReached(segment));
        }
        while let Some((stream, said)) = self.backend.take(self.now) {
            self.on_said(stream, said);
        }
        while let Some((frame, number)) = self.uplink.take(self.now) {
            if let Some(number) = number {
                self.note(What::Captured(number));
            }
            self.call.hear(&frame, self.clock());
        }
        while self.agenda.first().is_some_and(|(at, _)| *at <= self.now) {
            let (_, later) = self.agenda.remove(0);
            self.on_later(later);
        }
    }

    fn be_the_caller(&mut self) {
        if let Some(cue) = self.far_end.listen(self.now) {
            self.caller.notice(cue, self.now);
        }
        let heard = if self.caller.has_echo() {
            let at = self.now.saturating_sub(self.echo_delay);
            self.far_end.sound_at(at)
        } else {
            None
        };
        let (frame, number) = self.caller.frame(heard);
        self.uplink.send(frame, number, self.now);
    }

    fn on_act(&mut self, act: Act) {
        match act {
            Act::Utter(sound, frames) => {
                if let Some(utterance) = self.caller.utter(sound, frames) {
                    self.note(What::Utters {
                        utterance,
                        sound,
                        frames,
                    });
                }
            }
            Act::Press(key, source) => {
                self.note(What::Pressed(key, source));
                let digit = Digit::from_char(key).expect("a key");
                self.handle(Event::Digit(digit, source));
            }
            Act::Hold(held) => {
                self.note(What::Held(held));
                self.handle(Event::Held(held));
            }
            Act::BeTransferred => {
                self.note(What::OperatorTransfers);
                self.handle(Event::Transfer(Transfer {
                    to: "sip:operator@pbx".to_owned(),
                    metadata: Value::Null,
                }));
            }
            Act::Leave(end) => {
                self.note(What::LegEnded(end));
                self.handle(Event::LegEnded(end));
            }
        }
    }

    fn on_said(&mut self, stream: StreamId, said: Said) {
        let (what, event) = match said {
            Said::Interim(text) => (
                What::Interim(stream, text.clone()),
                BackendEvent::Interim { text },
            ),
            Said::Final {
                text,
                end_offset,
                understood,
            } => (
                What::Final {
                    stream,
                    text: text.clone(),
                    end_offset,
                    understood,
                },
                BackendEvent::Final { text, end_offset },
            ),
            Said::EndOfUtterance => (What::EndOfUtterance(stream), BackendEvent::EndOfUtterance),
            Said::Answer(reply) => (
                What::AnswerCame {
                    stream,
                    last: reply.answer.partial.is_none(),
                    tags: reply.tags,
                    pause: reply.pause,
                    ends: reply.ends,
                    contents: describe(&reply.answer),
                },
                BackendEvent::Answer(Box::new(reply.answer)),
            ),
            Said::Closed(fault) => (
                What::Closed(stream, fault),
                BackendEvent::Closed(fault.map(|kind| Fault {
                    kind,
                    message: "as the dice would have it".to_owned(),
                })),
            ),
        };
        self.note(what);
        self.handle(Event::Backend(stream, event));
    }

    fn on_later(&mut self, later: Later) {
        match later {
            Later::Answered => {
                self.note(What::Answered);
                self.handle(Event::Answered);
            }
            Later::Fetched(clip, result) => {
                self.note(What::Fetched(clip, result.is_ok()));
                self.handle(Event::Fetched(clip, result));
            }
            Later::ToolEnded(result) => {
                self.note(What::ToolEnded(result.outcome.is_ok()));
                self.handle(Event::ToolEnded(result));
            }
            Later::TransferEnded(worked) => {
                self.note(What::TransferEnded(worked));
                let outcome = if worked {
                    Ok(())
                } else {
                    Err("603 Decline".to_owned())
                };
                self.handle(Event::TransferEnded(outcome));
            }
        }
    }

    fn later(&mut self, after: At, later: Later) {
        let at = self.now + after;
        let place = self.agenda.partition_point(|(other, _)| *other <= at);
        self.agenda.insert(place, (at, later));
    }

    /// Does what the call wants.
    fn act(&mut self) {
        let mut count = 0;
        loop {
            let Some(action) = self.call.poll() else {
                break;
            };
            count += 1;
            if self.ended {
                let action = format!("{action:?} after the end");
                self.note(What::Told(
                    tandem::engine::call::notice::Notice::AgentText {
                        text: action,
                        partial: false,
                    },
                ));
                break;
            }
            match action {
                Action::Play(frame) => {
                    let audible = frame.samples().iter().any(|sample| *sample != 0);
                    let piece = if audible {
                        find_piece(&mut self.ear, frame)
                    } else {
                        self.ear.forget();
                        None
                    };
                    self.far_end.play(frame, audible, self.now);
                    self.history.add(self.now, What::Played { audible, piece });
                }
                Action::Mark(segment) => {
                    self.far_end.mark(segment, self.now);
                    self.note(What::Marked(segment));
                }
                Action::Clear => {
                    self.far_end.clear(self.now);
                    self.note(What::Cleared);
                }
                Action::Open(turn) => self.open(&turn),
                Action::SendAudio(stream, bytes) if self.stall.contains(&self.now) => {
                    let left = bytes.len();
                    self.call.not_taken(stream, left, self.began + self.now);
                }
                Action::SendAudio(stream, bytes) => {
                    let width = self.encoding.bytes_per_sample();
                    self.found.clear();
                    let samples = (bytes.len() / width) as u64;
                    let frames = &self.caller.frames;
                    let starved =
                        self.backend
                            .hear(stream, bytes, frames, &mut self.found, self.now);
                    self.sent(stream, samples, false, starved);
                }
                Action::SendRest(stream, bytes) => {
                    let width = self.encoding.bytes_per_sample();
                    self.found.clear();
                    let samples = (bytes.len() / width) as u64;
                    let frames = &self.caller.frames;
                    let starved =
                        self.backend
                            .hear(stream, &bytes, frames, &mut self.found, self.now);
                    self.sent(stream, samples, true, starved);
                }
                Action::HalfClose(stream) => {
                    self.note(What::HalfClosed(stream));
                    self.backend.half_close(stream, self.now);
                    self.caller.notice(Cue::Thinking, self.now);
                }
                Action::Cancel(stream) => {
                    self.note(What::Cancelled(stream));
                    self.backend.cancel(stream);
                }
                Action::Answer => {
                    self.note(What::WantsLine);
                    let after = self.dice.ms(5, 300);
                    self.later(after, Later::Answered);
                }
                Action::Transfer(transfer) => {
                    self.note(What::Transfers(transfer.to));
                    let worked = self.dice.chance(0.5);
                    let after = self.dice.ms(100, 6_000);
                    self.later(after, Later::TransferEnded(worked));
                }
                Action::Fetch(clip, uri) => {
                    let (at, result) = self.backend.fetch(&uri, self.now);
                    self.note(What::Fetches(clip, uri));
                    self.later(at - self.now, Later::Fetched(clip, result));
                }
                Action::RunTool(tool) => {
                    self.note(What::RunsTool(tool.tool.clone()));
                    let outcome = if self.dice.chance(0.7) {
                        Ok(json!({"degrees": 20}))
                    } else {
                        Err("no such city".to_owned())
                    };
                    let after = self.dice.ms(10, 4_000);
                    if !self.dice.chance(0.1) {
                        self.later(
                            after,
                            Later::ToolEnded(ToolResult {
                                tool: tool.tool,
                                action: tool.action,
                                outcome,
                            }),
                        );
                    }
                }
                Action::Tell(notice) => self.note(What::Told(notice)),
                Action::Measure(Measure::TickLateness(_)) => {}
                Action::Measure(measure) => self.note(What::Measured(measure)),
                Action::End(reason) => {
                    self.note(What::Ended(reason));
                    self.ended = true;
                }
            }
            if count > RUNAWAY {
                break;
            }
        }
        if count > 0 {
            self.note(What::Burst(count));
        }
    }

    fn open(&mut self, turn: &OpenTurn) {
        let (input, window) = describe_input(&turn.input);
        self.note(What::Opened {
            stream: turn.stream,
            kind: turn.input.kind(),
            input,
            window,
        });
        self.backend.open(turn, self.now);
    }

    fn sent(&mut self, stream: StreamId, samples: u64, rest: bool, starved: bool) {
        self.note(What::Sent {
            stream,
            samples,
            rest,
        });
        for index in 0..self.found.len() {
            let (frame, place) = self.found[index];
            self.note(What::Delivered {
                stream,
                frame,
                place,
            });
        }
        if starved {
            self.note(What::Starved(stream));
        }
    }

    /// What still comes after the end must change nothing.
    fn haunt(&mut self) {
        if !self.ended {
            return;
        }
        self.now += At::from_millis(20);
        let clock = self.clock();
        self.call.hear(&Frame::silence(self.rate), clock);
        let digit = Digit::from_char('1').expect("a key");
        self.call
            .handle(Event::Digit(digit, DigitSource::Rtp), clock);
        self.call.handle(Event::LegEnded(LegEnd::HungUp), clock);
        self.call.handle(Event::TransferEnded(Ok(())), clock);
        self.act();
        for _ in 0..20 {
            let Some((stream, said)) = self.backend.take(At::MAX) else {
                break;
            };
            self.on_said(stream, said);
        }
        self.now += At::from_secs(60);
        self.call.tick(self.clock());
        self.act();
        if self.call.deadline().is_some() || !self.call.is_over() {
            self.note(What::Undead);
        }
    }
}

/// The settings of a run.
fn settings(dice: &mut Dice, leg: LegTraits) -> CallSettings {
    // The defaults hold the sound of a chime, which is made anew each time.
    static WIDE: LazyLock<CallSettings> =
        LazyLock::new(|| CallSettings::new(whip::traits(SampleRate::HZ_16000)));
    static NARROW: LazyLock<CallSettings> =
        LazyLock::new(|| CallSettings::new(whip::traits(SampleRate::HZ_8000)));
    let defaults: &CallSettings = if leg.rate == SampleRate::HZ_8000 {
        &NARROW
    } else {
        &WIDE
    };
    let mut settings = CallSettings {
        leg,
        ..defaults.clone()
    };
    if leg.rate == SampleRate::HZ_8000 {
        settings.uplink.encoding = dice.pick(&[
            Encoding::Mulaw,
            Encoding::Mulaw,
            Encoding::Alaw,
            Encoding::Linear16,
        ]);
    }
    if dice.chance(0.03) && leg.rate == SampleRate::HZ_16000 {
        settings.downlink = AudioFormat {
            encoding: Encoding::Mulaw,
            rate: SampleRate::HZ_8000,
        };
    }
    settings.chunk = Duration::from_millis(dice.pick(&[20, 40, 100, 100, 200]));
    if dice.chance(0.1) {
        settings.greeting = None;
    }
    settings.barge_in.mode = match dice.between(0, 9) {
        0..=6 => BargeInMode::Words,
        7..=8 => BargeInMode::Voice,
        _ => BargeInMode::Off,
    };
    settings.barge_in.cuts_partials = dice.chance(0.2);
    if dice.chance(0.5) {
        settings.barge_in.back_channels = vec!["mhm".to_owned(), "right".to_owned()];
    }
    settings.no_input.timeout = dice.ms(2_000, 5_000);
    settings.no_input.limit = dice.between(2, 3) as u32;
    settings.no_input.transfers = dice.chance(0.3);
    if dice.chance(0.2) {
        settings.no_input.event = None;
    }
    if dice.chance(0.2) {
        settings.stream_ceiling = dice.ms(4_000, 12_000);
    }
    settings.endpoint_timeout = dice.ms(2_000, 4_000);
    settings.interdigit_timeout = dice.ms(1_000, 3_000);
    settings.hand_off_to = dice.chance(0.5).then(|| "sip:people@pbx".to_owned());
    settings.tools = vec!["weather".to_owned()];
    settings.hold.prompt = audio(settings.downlink, HOLD_TAG, 40);
    if dice.chance(0.5) {
        settings.fallback.prompt = audio(settings.downlink, FALLBACK_TAG, 60);
        settings.fallback.apology = audio(settings.downlink, APOLOGY_TAG, 50);
    }
    settings.fallback.transfer = dice.chance(0.5).then(|| "+15550199".to_owned());
    settings.fallback.give_up_after = dice.ms(3_000, 10_000);
    settings
}

fn audio(format: AudioFormat, tag: u32, frames: u32) -> Audio {
    Audio {
        bytes: sound::prompt(format, tag, frames),
        format: Some(format),
    }
}

/// What a frame that is played is a piece of, if its name is whole.
fn find_piece(ear: &mut Finder, frame: &Frame) -> Option<Piece> {
    let mut found = None;
    for sample in frame.samples() {
        found = ear.see(*sample < 0).or(found);
    }
    found.map(Piece::from_number)
}

fn describe(answer: &tandem::engine::call::event::Answer) -> String {
    let partial = answer.partial;
    let kind = answer.match_kind;
    format!(
        "{partial:?} {kind:?} {} bytes {}",
        answer.output_audio.bytes.len(),
        answer.messages.len()
    )
}

fn describe_input(input: &TurnInput) -> (String, BargeInWindow) {
    let none = BargeInWindow::default();
    match input {
        TurnInput::Speech { barge_in, .. } => (String::new(), *barge_in),
        TurnInput::Text(text) => (text.clone(), none),
        TurnInput::Event(name) | TurnInput::Intent(name) => (name.clone(), none),
        TurnInput::Dtmf { digits, .. } => (digits.clone(), none),
        TurnInput::ToolResult(result) => (result.tool.clone(), none),
    }
}
