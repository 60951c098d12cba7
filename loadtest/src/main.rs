//! `tandem-load`: a telephone in a terminal, and a load.
//!
//! One call is a [`handset`] (pure: what is said, what is heard, what a listener would note) and a [`dialogue`] (pure: what to do when),
//! turned by [`call`] with the clock, a [`mod@line`] to the gateway and the gateway's own news from [`admin`]. A [`load`] is many such calls.
//! The program knows the gateway from outside only: by its protocols and its admin listener.

mod scenario;
mod target;

mod call;
mod dialogue;
mod handset;

mod echo;
mod far_end;
mod mouth;
mod playout;
mod record;
mod voice;

mod bad_network;
mod line;
mod rtp;
mod sip;
mod twilio;
mod whip;

mod admin;
mod gateway_event;
mod scrape;

mod account;
mod goals;
mod load;
mod report;
mod stats;
mod timeline;

mod alaw;
mod mulaw;
mod noise;
mod resample;
mod speech;
mod tone;

use std::hash::BuildHasher;
use std::hash::Hasher;
use std::hash::RandomState;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use clap::Args;
use clap::Parser;
use clap::Subcommand;
use reqwest::Url;

use crate::admin::Admin;
use crate::bad_network::Faults;
use crate::call::Farewell;
use crate::call::Plan;
use crate::dialogue::Dialogue;
use crate::dialogue::QUIET;
use crate::dialogue::Step;
use crate::dialogue::When;
use crate::line::Network;
use crate::line::Placing;
use crate::scenario::DialogueScenario;
use crate::scenario::Gateway;
use crate::scenario::LoadScenario;
use crate::scenario::Scenario;
use crate::speech::Speech;
use crate::target::Target;
use crate::timeline::Timeline;
use crate::timeline::print;
use crate::whip::Codec;

/// A call without `--seconds` ends when the agent has answered and has been silent this long.
const LAST_LISTEN: Duration = Duration::from_secs(2);
/// A say waits for its moment as long as the call lasts.
const WHOLE_CALL: Duration = Duration::from_secs(3600);

/// A telephone in a terminal, and a load, for a voice gateway.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes one call and prints what happens, with seconds since its start.
    ///
    /// Says are spoken one after another, each when the agent has spoken and has then been silent for 0.7 s (or has said nothing for
    /// 6 s). Keys are pressed after the last say, at such a moment too. Then the call goes on until the agent has answered and has been
    /// silent for 2 s. With --seconds it is over then, whatever is left to say. With nothing to do it lasts until the gateway ends it or you press Ctrl-C.
    ///
    /// The exit code is 0 if the call was set up and ended properly, whoever ended it.
    Call(Box<CallArgs>),
    /// Runs a scenario: a dialogue with goals, or a load of many calls.
    ///
    /// The exit code is 0 if all goals were met.
    Run(Box<RunArgs>),
}

#[derive(Args)]
struct CallArgs {
    /// ws(s)://HOST/twilio/media, where this program is Twilio, sip:USER@HOST:PORT (;transport=tcp), where it is a telephone, or
    /// http(s)://HOST/whip/ROUTE (?PARAMETER=VALUE), where it is a browser.
    target: Target,
    /// A WAV file to say: 16-bit mono at 8 or 16 kHz. Repeat it to say more.
    #[arg(long, value_name = "FILE.wav")]
    say: Vec<PathBuf>,
    /// A WAV file to say at a moment of the call, whatever the agent does: 3.5=FILE.wav.
    #[arg(long, value_name = "SECONDS=FILE.wav", value_parser = parse_say_at)]
    say_at: Vec<(Duration, PathBuf)>,
    /// Keys to press after the last say.
    #[arg(long, value_name = "12#")]
    dtmf: Option<String>,
    /// Record the call in stereo: caller left, agent as heard right.
    #[arg(long, value_name = "OUT.wav")]
    record: Option<PathBuf>,
    /// Hang up after this time, whatever is left to say.
    #[arg(long, value_name = "N", value_parser = parse_seconds)]
    seconds: Option<Duration>,
    /// The gateway's admin listener (http://127.0.0.1:9090): adds what the agent heard and said to the timeline. By WHIP the call
    /// itself brings that.
    #[arg(long, value_name = "URL")]
    admin: Option<Url>,
    /// The environment variable with Twilio's auth token; if it is set, requests are signed.
    #[arg(long, value_name = "NAME", default_value = "TWILIO_AUTH_TOKEN")]
    auth_token_env: String,
    /// The name that answers a SIP gateway's challenge (401, 407).
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The environment variable with its password.
    #[arg(long, value_name = "VAR", default_value = "SIP_PASSWORD")]
    password_env: String,
    /// The token that a WHIP gateway asks for, rather than that of the environment.
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// The environment variable with that token; other users of this machine can read a command line.
    #[arg(long, value_name = "VAR", default_value = "WHIP_TOKEN")]
    token_env: String,
    /// What is spoken by WHIP.
    #[arg(long, value_enum, default_value_t)]
    codec: Codec,
    /// The caller's number.
    #[arg(long, default_value = "+15550100")]
    from: String,
    /// The dialled number; on SIP, where TARGET names no user.
    #[arg(long, default_value = "+15550199")]
    to: String,
    /// Connect to TARGET's host, whatever host the gateway's TwiML names.
    #[arg(long)]
    direct: bool,
    /// The gateway's own public URL (`https://voice.example.com`), where it is not TARGET's: signatures are made for it.
    #[arg(long, value_name = "URL")]
    public_url: Option<Url>,
    /// Put a noise floor under the caller, as a live line has.
    #[arg(long)]
    line_noise: bool,
    /// Print marks, guesses and unknown events too.
    #[arg(short, long)]
    verbose: bool,
}

#[derive(Args)]
struct RunArgs {
    /// The scenario file; the ones that come with this program explain the format.
    scenario: PathBuf,
    /// Use this target rather than the file's.
    #[arg(long)]
    target: Option<String>,
    /// Use this admin listener rather than the file's.
    #[arg(long, value_name = "URL")]
    admin: Option<Url>,
    /// The token that a WHIP gateway asks for, rather than that of the file's token_env.
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Record a dialogue here.
    #[arg(long, value_name = "OUT.wav")]
    record: Option<PathBuf>,
    /// Write here what was measured in a dialogue and what the gateway told, for programs.
    #[arg(long, value_name = "OUT.json")]
    account: Option<PathBuf>,
    /// Print marks, guesses and unknown events too.
    #[arg(short, long)]
    verbose: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    // Several TLS users live in this program; they share one provider, chosen before any of them asks.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .expect("nobody has chosen a provider before main");
    let command = Cli::parse().command;
    let done = match command {
        Command::Call(args) => make_call(*args).await,
        Command::Run(args) => run_scenario(*args).await,
    };
    match done {
        Ok(faults) if faults.is_empty() => ExitCode::SUCCESS,
        Ok(faults) => {
            faults
                .iter()
                .for_each(|fault| eprintln!("not as it should be: {fault}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Makes one call; the faults it had.
async fn make_call(args: CallArgs) -> Result<Vec<String>> {
    let network = network();
    let dialogue = Dialogue::new(args.steps()?, args.timed()?).until(args.seconds);
    let plan = Plan {
        target: args.target,
        placing: Placing {
            from: args.from,
            to: args.to,
            auth_token: std::env::var(&args.auth_token_env).ok(),
            direct: args.direct,
            public_url: args.public_url,
            credentials: args
                .user
                .map(|user| credentials(user, &args.password_env))
                .transpose()?,
            token: args.token.or_else(|| std::env::var(&args.token_env).ok()),
            codec: args.codec,
            faults: Faults::default(),
        },
        dialogue,
        admin: args
            .admin
            .map(|base| Admin::new(base, network.http.clone())),
        record: args.record,
        line_noise: args.line_noise,
        echo: None,
        interruptible: true,
        farewell: Farewell::HangUp,
    };
    let outcome = call::hold(plan, timeline(args.verbose), &network).await?;
    print("");
    print(&goals::summary(&outcome, None));
    Ok(goals::faults(&outcome))
}

impl CallArgs {
    fn steps(&self) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        for path in &self.say {
            let speech = Arc::new(Speech::from_file(path)?);
            steps.push(Step::Say {
                speech,
                when: When::AgentSilent(QUIET),
                within: WHOLE_CALL,
            });
        }
        if let Some(keys) = &self.dtmf {
            scenario::check_keys(keys)?;
            steps.extend([Step::Listen(QUIET), Step::Press(keys.clone())]);
        }
        let idle = steps.is_empty() && self.say_at.is_empty();
        // With --seconds, or with nothing to do, something else ends the call.
        steps.push(if idle || self.seconds.is_some() {
            Step::Wait(Duration::MAX)
        } else {
            Step::Listen(LAST_LISTEN)
        });
        Ok(steps)
    }

    fn timed(&self) -> Result<Vec<(Duration, Arc<Speech>)>> {
        self.say_at
            .iter()
            .map(|(at, path)| Ok((*at, Arc::new(Speech::from_file(path)?))))
            .collect()
    }
}

/// Runs a scenario; the goals it missed.
async fn run_scenario(args: RunArgs) -> Result<Vec<String>> {
    let mut scenario = Scenario::read(&args.scenario)?;
    let gateway = scenario.gateway_mut();
    if let Some(target) = args.target {
        gateway.target = scenario::OneOrMany::One(target);
    }
    gateway.admin = args.admin.or(gateway.admin.take());
    let network = network();
    let admin = gateway
        .admin
        .clone()
        .map(|base| Admin::new(base, network.http.clone()));
    let mut placing = placing(gateway)?;
    placing.token = args.token.or(placing.token.take());
    match scenario {
        Scenario::Dialogue(mut scenario) => {
            scenario.record = args.record.or(scenario.record.take());
            let timeline = timeline(args.verbose);
            let account = args.account.as_deref();
            run_dialogue(&scenario, placing, admin, timeline, account, &network).await
        }
        Scenario::Load(scenario) => run_load(&scenario, &placing, admin.as_ref(), &network).await,
    }
}

async fn run_dialogue(
    scenario: &DialogueScenario,
    placing: Placing,
    admin: Option<Admin>,
    timeline: Timeline,
    account: Option<&Path>,
    network: &Network,
) -> Result<Vec<String>> {
    let target = scenario
        .gateway
        .target
        .all()
        .first()
        .context("there is no target")?;
    let before = read_metrics(admin.as_ref()).await;
    let plan = Plan {
        target: target.parse().map_err(|why: String| anyhow!(why))?,
        placing,
        dialogue: Dialogue::new(scenario.steps()?, Vec::new()),
        admin: admin.clone(),
        record: scenario.record.clone(),
        line_noise: scenario.gateway.line_noise,
        echo: scenario.gateway.echo,
        interruptible: true,
        farewell: Farewell::HangUp,
    };
    let outcome = call::hold(plan, timeline, network).await?;
    let after = read_metrics(admin.as_ref()).await;
    let unheard = before
        .zip(after)
        .and_then(|(before, after)| report::unheard(&before, &after));
    print("");
    print(&goals::summary(&outcome, unheard));
    let mut missed = goals::faults(&outcome);
    missed.extend(goals::missed(&scenario.goal, &outcome, unheard));
    if let Some(path) = account {
        account::write(&outcome, path)
            .with_context(|| format!("{} was not written", path.display()))?;
    }
    print(if missed.is_empty() {
        "\nall goals were met"
    } else {
        "\nnot all goals were met"
    });
    Ok(missed)
}

async fn run_load(
    scenario: &LoadScenario,
    placing: &Placing,
    admin: Option<&Admin>,
    network: &Network,
) -> Result<Vec<String>> {
    let results = load::run(scenario, placing, admin, network).await?;
    let report = report::Report::new(scenario, &results);
    print(&report.text());
    Ok(report.missed(scenario))
}

async fn read_metrics(admin: Option<&Admin>) -> Option<scrape::Scrape> {
    // A goal that needs them fails by itself when they are not there.
    admin?.scrape().await.ok()
}

fn network() -> Network {
    Network {
        http: reqwest::Client::new(),
        phones: Arc::default(),
        identity: Arc::default(),
    }
}

fn credentials(user: String, password_env: &str) -> Result<(String, String)> {
    let password = std::env::var(password_env)
        .with_context(|| format!("the environment variable {password_env} holds no password"))?;
    Ok((user, password))
}

fn placing(gateway: &Gateway) -> Result<Placing> {
    Ok(Placing {
        from: gateway.from.clone(),
        to: gateway.to.clone(),
        auth_token: std::env::var(&gateway.auth_token_env).ok(),
        direct: gateway.direct,
        public_url: gateway.public_url.clone(),
        credentials: gateway
            .user
            .clone()
            .map(|user| credentials(user, &gateway.password_env))
            .transpose()?,
        token: std::env::var(&gateway.token_env).ok(),
        codec: gateway.codec,
        faults: Faults {
            loss: gateway.loss,
            duplicates: gateway.duplicates,
            jitter: gateway.jitter,
        },
    })
}

fn timeline(verbose: bool) -> Timeline {
    if verbose {
        Timeline::Verbose
    } else {
        Timeline::Normal
    }
}

/// A number that no other call has: the standard library seeds each of these from the system's randomness.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| format!("“{text}” is not a number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn parse_say_at(text: &str) -> Result<(Duration, PathBuf), String> {
    let (seconds, path) = text
        .split_once('=')
        .ok_or("it should read SECONDS=FILE.wav")?;
    Ok((parse_seconds(seconds)?, path.into()))
}
