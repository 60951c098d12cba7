//! The command line, and the wiring of the gateway.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use clap::Subcommand;
use http::Uri;
use tandem::config::AgentKind;
use tandem::config::Config;
use tandem::config::Webrtc;
use tandem::io::agents::ConfiguredAgent;
use tandem::io::backend::cx::CxBackend;
use tandem::io::backend::endpoint::GoogleEnvironment;
use tandem::io::calls::Calls;
use tandem::io::clips::Account;
use tandem::io::clips::Clips;
use tandem::io::errands::Services;
use tandem::io::http::Listener;
use tandem::io::http::admin;
use tandem::io::http::admin::Admin;
use tandem::io::http::phone;
use tandem::io::http::phone::Phone;
use tandem::io::ingress::sip::SipIngress;
use tandem::io::ingress::twilio;
use tandem::io::ingress::twilio::TwilioIngress;
use tandem::io::ingress::whip::WhipIngress;
use tandem::io::leg::IngressKind;
use tandem::io::metrics;
use tandem::io::telemetry;
use tandem::io::tools::Tools;
use tandem::io::web::Web;
use tandem::io::web::WebSettings;
use tikv_jemallocator::Jemalloc;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio_util::sync::CancellationToken;

/// The C library's own keeps for ever what the most calls at once have taken.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// The exit code for a configuration that cannot be used, apart from failures while running.
const BAD_CONFIGURATION: u8 = 2;
/// How often histograms are summed up; without it they grow for ever.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// How long the listeners outlive the last call of a drain: Twilio asks what comes next only after the stream has closed,
/// and a caller who is to be transferred must not meet a closed door.
const LINGER: Duration = Duration::from_secs(3);

/// A real-time voice gateway: telephone, browser and Twilio calls to Dialogflow agents, full duplex.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway.
    Serve {
        /// The configuration. Default: config/tandem.toml if it is there, else built-in defaults.
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Check the configuration: print every problem at once, or what is in force (without secrets).
    Check {
        /// The configuration. Default: config/tandem.toml if it is there, else built-in defaults.
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Run the local agent alone, as a Dialogflow CX server over plain-text gRPC.
    #[cfg(feature = "local-agent")]
    Agent {
        /// Where to listen.
        #[arg(long)]
        listen: SocketAddr,
        /// The script. Default: the embedded one (config/local-agent.toml).
        #[arg(long)]
        script: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    // Two TLS stacks come with the dependencies; whoever uses one first must find this choice made.
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        eprintln!("tandem: TLS was set up twice");
        return ExitCode::FAILURE;
    }
    let outcome = match Cli::parse().command {
        Command::Serve { config } => load(config).and_then(|config| run(serve(config))),
        Command::Check { config } => load(config).map(|config| println!("{config}")),
        #[cfg(feature = "local-agent")]
        Command::Agent { listen, script } => run(local_agent(listen, script)),
    };
    outcome.err().unwrap_or(ExitCode::SUCCESS)
}

/// Reads the configuration; its problems go to standard error, all of them.
fn load(path: Option<PathBuf>) -> Result<Config, ExitCode> {
    Config::load(Config::find(path).as_deref(), &Config::environment()).map_err(|problems| {
        eprintln!("{problems}");
        ExitCode::from(BAD_CONFIGURATION)
    })
}

/// Runs to the end on a runtime of its own.
fn run(work: impl Future<Output = anyhow::Result<()>>) -> Result<(), ExitCode> {
    let outcome = tokio::runtime::Runtime::new()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(work));
    outcome.map_err(|error| {
        eprintln!("tandem: {error:#}");
        ExitCode::FAILURE
    })
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let filter = telemetry::install(&config.log)?;
    let metrics = metrics::install()?;
    metrics::describe(
        config.agents.keys().map(String::as_str),
        config.limits.calls,
    );
    let stopped = CancellationToken::new();

    let agents = agents(&config, &stopped).await?;
    let calls = Calls::new(config.limits.clone(), config.routes.clone(), agents);
    let started = Arc::new(AtomicBool::new(false));
    let operator = Admin {
        calls: calls.clone(),
        metrics: metrics.clone(),
        filter,
        started: started.clone(),
    };
    let admin_listener = Listener::bind(config.admin.listen)?;
    let public_listener = Listener::bind(config.http.listen)?;
    let (admin_address, public_address) = (admin_listener.address()?, public_listener.address()?);
    let public = twilio::routes(TwilioIngress {
        public_url: public_url(&config, public_address),
        config: config.twilio.clone(),
        exchange: Arc::new(calls.clone()),
        timings: twilio::Timings::default(),
    });
    let whip = WhipIngress {
        public_url: public_url(&config, public_address),
        config: config.webrtc.clone(),
        exchange: Arc::new(calls.clone()),
    };
    let whip = match whip.start(&stopped) {
        // Nobody has asked for this port, so that somebody else has it must not keep telephones from calling.
        Err(error) if config.webrtc.listen == Webrtc::default().listen => {
            tracing::warn!("no calls by WebRTC: {error:#}");
            None
        }
        started => started?,
    };
    let public = match whip {
        Some(whip) if config.webrtc.phone_page && config.webrtc.is_callable() => {
            public.merge(whip).merge(phone::routes(&phone(&config)))
        }
        Some(whip) => public.merge(whip),
        None => public,
    };
    let sip = SipIngress {
        sip: config.sip.clone(),
        rtp: config.rtp.clone(),
        calls_per_second: config.limits.calls_per_second,
        exchange: Arc::new(calls.clone()),
    };
    let sip_listeners = sip.start(&stopped).await?.join(", ");
    // Calls end before their listeners do, so these two outlive the drain.
    let servers = [
        tokio::spawn(admin_listener.serve(
            admin::routes(operator),
            config.limits.calls,
            stopped.clone(),
        )),
        tokio::spawn(public_listener.serve(public, config.limits.calls, stopped.clone())),
    ];
    tokio::spawn(async move {
        let mut upkeep = tokio::time::interval(METRICS_UPKEEP);
        loop {
            upkeep.tick().await;
            metrics.run_upkeep();
        }
    });
    started.store(true, Ordering::Release);
    tracing::info!(%public_address, %admin_address, sip = sip_listeners, version = env!("CARGO_PKG_VERSION"), "tandem is ready");

    wait_for_stop_signal().await?;
    let had_calls = !calls.list().is_empty();
    drain(&calls, config.drain.timeout).await?;
    if had_calls {
        tokio::time::sleep(LINGER).await;
    }
    stopped.cancel();
    // Watchers of calls that have ended are still connected; nobody waits for them.
    let goodbye = async {
        for server in servers {
            server.await?;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(1), goodbye)
        .await
        .unwrap_or(Ok(()))
}

/// How the outside sees the public listener: as configured, else by the address it listens on.
fn public_url(config: &Config, listening: SocketAddr) -> String {
    match &config.http.public_url {
        Some(_) => config.http.public_base(),
        None => format!("http://{listening}"),
    }
}

/// What the phone page is told.
fn phone(config: &Config) -> Phone {
    let by_whip = config
        .routes
        .iter()
        .filter(|route| route.ingress.is_none_or(|kind| kind == IngressKind::Whip));
    Phone {
        whip_routes: by_whip
            .map(|route| route.to.as_ref().unwrap_or(&route.name).clone())
            .collect(),
        asks_token: config.webrtc.require_token,
        base_path: base_path(config),
    }
}

/// The path of `http.public_url`, without a slash at the end.
fn base_path(config: &Config) -> String {
    let url = config.http.public_base();
    let uri: Option<Uri> = url.parse().ok();
    uri.map_or_else(String::new, |uri| {
        uri.path().trim_end_matches('/').to_owned()
    })
}

/// Lets calls come to their end after a stop signal; a second one ends them at once.
async fn drain(calls: &Calls, timeout: Duration) -> anyhow::Result<()> {
    let cut = tokio::select! {
        cut = calls.drain(timeout) => cut,
        again = wait_for_stop_signal() => {
            again?;
            calls.drain(Duration::ZERO).await
        }
    };
    if cut == 0 {
        tracing::info!("drained: every call had come to its end");
    } else {
        tracing::warn!(calls = cut, "drained: these calls were cut off");
    }
    Ok(())
}

async fn wait_for_stop_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Makes a backend for every configured agent, and checks that its credentials work before a caller needs them.
async fn agents(
    config: &Config,
    stopped: &CancellationToken,
) -> anyhow::Result<BTreeMap<String, ConfiguredAgent>> {
    let environment = Config::environment();
    let google = GoogleEnvironment::from_lookup(|name| environment.get(name).cloned());
    let web = Arc::new(Web::new(&WebSettings::new(config.clips.allow_private)));
    let clips = Clips::new(config.clips.clone(), web.clone());
    let mut agents = BTreeMap::new();
    for (name, agent) in &config.agents {
        let mut agent = agent.clone();
        if agent.kind == AgentKind::Local && agent.endpoint.is_none() {
            let address = start_local_agent(agent.script.clone(), stopped.clone())
                .await
                .with_context(|| format!("agents.{name}"))?;
            agent.endpoint = Some(format!("http://{address}"));
        }
        let backend = CxBackend::new(name, &agent, &config.fallback, &google)?;
        backend
            .check()
            .await
            .with_context(|| format!("agents.{name}"))?;
        let services = Services {
            clips: clips.clone(),
            tools: Tools::new(web.clone(), &agent.tools)
                .with_context(|| format!("agents.{name}"))?,
            account: Account {
                agent: name.clone(),
                auth: backend.auth(),
            },
        };
        let agent = ConfiguredAgent::new(Arc::new(backend), &agent, config, services);
        agents.insert(name.clone(), agent);
    }
    Ok(agents)
}

#[cfg(feature = "local-agent")]
async fn start_local_agent(
    script: Option<PathBuf>,
    stopped: CancellationToken,
) -> anyhow::Result<SocketAddr> {
    let server = local_agent_server(SocketAddr::from(([127, 0, 0, 1], 0)), script).await?;
    let address = server.local_addr();
    tokio::spawn(async move {
        if let Err(error) = server.serve(stopped.cancelled_owned()).await {
            tracing::error!(%error, "the local agent has stopped");
        }
    });
    Ok(address)
}

#[cfg(not(feature = "local-agent"))]
#[expect(clippy::unused_async, reason = "the same shape as with the agent")]
async fn start_local_agent(_: Option<PathBuf>, _: CancellationToken) -> anyhow::Result<SocketAddr> {
    anyhow::bail!(
        "this build has no local agent (cargo feature `local-agent`); configure a Dialogflow agent"
    )
}

#[cfg(feature = "local-agent")]
async fn local_agent_server(
    listen: SocketAddr,
    script: Option<PathBuf>,
) -> anyhow::Result<tandem::local_agent::Server> {
    use tandem::local_agent::Script;
    use tandem::local_agent::Server;

    let script = match script {
        None => Script::embedded(),
        Some(path) => Script::load(&path).map_err(|problems| {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            anyhow::anyhow!("{}:\n{}", path.display(), problems.join("\n"))
        })?,
    };
    Ok(Server::bind(script, listen).await?)
}

#[cfg(feature = "local-agent")]
async fn local_agent(listen: SocketAddr, script: Option<PathBuf>) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let server = local_agent_server(listen, script).await?;
    tracing::info!(address = %server.local_addr(), "the local agent is ready");
    server
        .serve(async { drop(wait_for_stop_signal().await) })
        .await?;
    Ok(())
}
