//! The programs: an agent, gateways in front of it, and callers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::UdpSocket;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncReadExt;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::account::Account;
use crate::sound;
use crate::too_busy;

/// The agent loads its recogniser before it listens, and a caller has its sentences synthesised before it calls.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// The longest call here takes a little more than a minute.
const CALL_PATIENCE: Duration = Duration::from_secs(180);
/// For what should happen at once.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often something that should happen is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Names under which a gateway can be called, so that the calls of a test can be told apart.
const NAMES: usize = 12;

const SCRIPT: &str = include_str!("agent.toml");
const SCRIPT_FILE: &str = "agent.toml";

/// How a caller reaches a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ingress {
    Sip,
    Twilio,
    Whip,
}

impl Ingress {
    pub(crate) const ALL: [Self; 3] = [Self::Sip, Self::Twilio, Self::Whip];
}

/// Shows something on every ingress at the same time.
pub(crate) async fn on_every_ingress<S: Future<Output = ()>>(show: impl Fn(Ingress) -> S) {
    let shows = Ingress::ALL.map(show).map(AssertUnwindSafe);
    let outcomes = join_all(shows.map(FutureExt::catch_unwind)).await;
    let outcomes = Ingress::ALL.iter().zip(outcomes);
    let failed: Vec<_> = outcomes
        .filter(|(_, outcome)| outcome.is_err())
        .map(|(ingress, _)| ingress)
        .collect();
    assert!(
        failed.is_empty() || too_busy::excuses(),
        "not so by {failed:?}; what happened is above"
    );
}

/// `tandem agent`, until it is dropped or killed.
pub(crate) struct Agent {
    program: Child,
    pub(crate) address: SocketAddr,
    directory: TempDir,
}

impl Agent {
    /// Calls of a test speak at the same time, and so many at once are understood; others wait, which is the agent's own time.
    pub(crate) async fn start(decoders: usize) -> Self {
        let directory = TempDir::new().expect("a directory");
        let script = format!("{SCRIPT}\n[hearing]\ndecoders = {decoders}\n");
        written(&directory, SCRIPT_FILE, &script);
        Self::start_at(free_tcp(), directory).await
    }

    async fn start_at(address: SocketAddr, directory: TempDir) -> Self {
        let script = directory.path().join(SCRIPT_FILE);
        let program = tandem("agent")
            .args(["--listen", &address.to_string(), "--script"])
            .arg(script)
            .stdout(Stdio::null())
            .stderr(log(&directory, "agent.log"))
            .spawn()
            .expect("tandem runs");
        let mut agent = Self {
            program,
            address,
            directory,
        };
        let listens = async || {
            let gone = agent.program.try_wait().expect("its state");
            assert_eq!(gone, None, "the agent ended before it was ready");
            TcpStream::connect(address).await.is_ok()
        };
        eventually("the agent listens", START_PATIENCE, listens).await;
        agent
    }

    /// SIGKILL: no goodbye of any kind.
    pub(crate) async fn kill(&mut self) {
        self.program.kill().await.expect("it ran");
    }

    /// Starts it again where it was.
    pub(crate) async fn restart(self) -> Self {
        let Self {
            address, directory, ..
        } = self;
        Self::start_at(address, directory).await
    }
}

/// `tandem serve` with one ingress, until it is dropped.
pub(crate) struct Gateway {
    _program: Child,
    ingress: Ingress,
    public: SocketAddr,
    admin: SocketAddr,
    sip: SocketAddr,
    client: reqwest::Client,
    directory: TempDir,
}

impl Gateway {
    /// A gateway whose calls begin with this event for the agent at `agent`.
    pub(crate) async fn start(ingress: Ingress, agent: SocketAddr, greeting: &str) -> Self {
        let directory = TempDir::new().expect("a directory");
        let (public, admin, sip, webrtc) = (free_tcp(), free_tcp(), free_udp(), free_udp());
        let (sip_listen, webrtc_listen) = match ingress {
            Ingress::Sip => (format!("'udp:{sip}'"), String::new()),
            Ingress::Twilio => (String::new(), String::new()),
            Ingress::Whip => (String::new(), format!("'{webrtc}'")),
        };
        let mut config = format!(
            "[http]\nlisten = '{public}'\n[admin]\nlisten = '{admin}'\n[sip]\nlisten = [{sip_listen}]\n\
             [webrtc]\nlisten = [{webrtc_listen}]\n[limits]\ncalls = 100\n[log]\nfilter = 'info,tandem=debug'\n\
             [agents.local]\nkind = 'dialogflow-cx'\nname = 'projects/p/locations/global/agents/bistro'\n\
             endpoint = 'http://{agent}'\ngreeting = {{ event = '{greeting}' }}\n"
        );
        for name in 0..NAMES {
            config.push_str(&format!(
                "[[routes]]\nname = '{}'\nagent = 'local'\n",
                self::name(name)
            ));
        }
        let config = written(&directory, "tandem.toml", &config);
        let program = tandem("serve")
            .arg("--config")
            .arg(config)
            .stdout(log(&directory, "gateway.out"))
            .stderr(log(&directory, "gateway.log"))
            .spawn()
            .expect("tandem runs");
        let gateway = Self {
            _program: program,
            ingress,
            public,
            admin,
            sip,
            client: reqwest::Client::builder()
                .timeout(PATIENCE)
                .build()
                .expect("a client"),
            directory,
        };
        let ready = async || {
            let url = format!("http://{admin}/readyz");
            let answer = gateway.client.get(url).send().await;
            answer.is_ok_and(|answer| answer.status().is_success())
        };
        eventually("the gateway is ready", START_PATIENCE, ready).await;
        gateway
    }

    /// A file for a scenario of this gateway's.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A caller dials the `number`th name and takes the steps. `more` goes into the scenario's `[gateway]`.
    pub(crate) async fn call(&self, number: usize, steps: &str, more: &str) -> Called {
        self.dial(number, steps, more).await.hold().await
    }

    /// The same, and the caller is left alone with it.
    pub(crate) async fn dial(&self, number: usize, steps: &str, more: &str) -> Calling {
        let name = name(number);
        let target = match self.ingress {
            Ingress::Sip => format!("sip:{name}@{}", self.sip),
            Ingress::Twilio => format!("ws://{}/twilio/media", self.public),
            Ingress::Whip => format!("http://{}/whip/{name}", self.public),
        };
        let scenario = format!(
            "steps = [{steps}]\n[gateway]\ntarget = '{target}'\nadmin = 'http://{}'\nto = '{name}'\n{more}\n",
            self.admin
        );
        let scenario = written(&self.directory, &format!("{name}.toml"), &scenario);
        let (recording, account) = (
            self.file(&format!("{name}.wav")),
            self.file(&format!("{name}.json")),
        );
        let mut program = Command::new(tandem_load())
            .env_remove("TWILIO_AUTH_TOKEN")
            .arg("run")
            .arg(scenario)
            .arg("--record")
            .arg(&recording)
            .arg("--account")
            .arg(&account)
            .arg("--verbose")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("tandem-load runs");
        let (sender, lines) = mpsc::unbounded_channel();
        let stdout = program.stdout.take().expect("it is piped");
        tokio::spawn(async move {
            let mut lines = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                // Nobody may be left to read.
                let _ = sender.send(line);
            }
        });
        Calling {
            title: format!("{:?} {name}", self.ingress),
            program,
            lines,
            text: String::new(),
            recording,
            account,
        }
    }

    /// All series with this name, by their labels as written.
    pub(crate) async fn metric(&self, name: &str) -> BTreeMap<String, f64> {
        let url = format!("http://{}/metrics", self.admin);
        let page = self.client.get(url).send().await.expect("an answer");
        let page = page.text().await.expect("a page");
        let series = page.lines().filter_map(|line| line.rsplit_once(' '));
        series
            .filter_map(|(series, value)| {
                let labels = series.strip_prefix(name)?;
                let is_whole = labels.is_empty() || labels.starts_with('{');
                is_whole.then(|| (labels.to_owned(), value.parse().expect("a number")))
            })
            .collect()
    }

    /// The sum of all series with this name whose labels contain `label`.
    pub(crate) async fn total(&self, name: &str, label: &str) -> f64 {
        let series = self.metric(name).await;
        let fitting = series.iter().filter(|(labels, _)| labels.contains(label));
        fitting.map(|(_, value)| value).sum()
    }

    /// How many interruptions came out like this.
    pub(crate) async fn barge_ins(&self, outcome: &str) -> usize {
        self.total("tandem_barge_ins_total", &format!("\"{outcome}\""))
            .await as usize
    }

    /// That nothing the callers said was lost.
    pub(crate) async fn heard_everything(&self) {
        let unheard = self
            .total("tandem_caller_audio_unheard_seconds_total", "")
            .await;
        assert_eq!(unheard, 0.0, "so much went unheard");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read(self.file("gateway.log")).unwrap_or_default();
            let out = std::fs::read(self.file("gateway.out")).unwrap_or_default();
            println!(
                "---- the gateway of {:?}\n{}{}",
                self.ingress,
                String::from_utf8_lossy(&out),
                String::from_utf8_lossy(&log)
            );
        }
    }
}

/// A caller in a call.
pub(crate) struct Calling {
    title: String,
    program: Child,
    lines: mpsc::UnboundedReceiver<String>,
    text: String,
    recording: PathBuf,
    account: PathBuf,
}

impl Calling {
    /// Waits until the caller's account has a line that contains this.
    pub(crate) async fn tells(&mut self, what: &str) {
        let waiting = async {
            while let Some(line) = self.lines.recv().await {
                self.text.push_str(&line);
                self.text.push('\n');
                if line.contains(what) {
                    return;
                }
            }
            panic!(
                "{}: the call was over before “{what}”\n{}",
                self.title, self.text
            );
        };
        timeout(CALL_PATIENCE, waiting).await.unwrap_or_else(|_| {
            panic!("{what} did not come about");
        });
    }

    /// Waits for the end of the call, which must have gone as the steps say.
    pub(crate) async fn hold(mut self) -> Called {
        let rest = async {
            while let Some(line) = self.lines.recv().await {
                self.text.push_str(&line);
                self.text.push('\n');
            }
            let mut complaints = String::new();
            let mut stderr = self.program.stderr.take().expect("it is piped");
            stderr
                .read_to_string(&mut complaints)
                .await
                .expect("it is readable");
            self.text.push_str(&complaints);
            self.program.wait().await.expect("its exit status")
        };
        let status = timeout(CALL_PATIENCE, rest)
            .await
            .expect("the call comes to an end");
        println!("---- {}\n{}", self.title, self.text);
        too_busy::read(&self.text);
        assert!(
            status.success(),
            "{}: the call did not go as it should; its account is above",
            self.title
        );
        let account = std::fs::read(&self.account).expect("an account");
        Called {
            account: serde_json::from_slice(&account).expect("an account"),
            heard: sound::heard(&self.recording),
        }
    }
}

/// A call that is over.
pub(crate) struct Called {
    pub(crate) account: Account,
    /// What the caller heard: samples at 8 kHz.
    pub(crate) heard: Vec<i16>,
}

/// Waits until something is so, and panics if it does not come about.
pub(crate) async fn eventually(
    what: &str,
    patience: Duration,
    mut holds: impl AsyncFnMut() -> bool,
) {
    let looking = async {
        while !holds().await {
            sleep(LOOK_INTERVAL).await;
        }
    };
    if timeout(patience, looking).await.is_err() {
        panic!("it did not come about within {patience:?}: {what}");
    }
}

/// The name that the `number`th caller dials.
pub(crate) fn name(number: usize) -> String {
    format!("line{number}")
}

fn tandem(command: &str) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_tandem"));
    // The developer's own settings are not these tests'.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.to_uppercase().starts_with("TANDEM__") || name == "TWILIO_AUTH_TOKEN" {
            program.env_remove(&*name);
        }
    }
    program.arg(command).stdin(Stdio::null()).kill_on_drop(true);
    program
}

fn tandem_load() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_tandem")).with_file_name("tandem-load");
    assert!(
        program.is_file(),
        "{} is missing: run `cargo build -p tandem-load`, or all tests with `cargo nextest run --workspace`",
        program.display()
    );
    program
}

fn log(directory: &TempDir, name: &str) -> std::fs::File {
    std::fs::File::create(directory.path().join(name)).expect("a log")
}

fn free_tcp() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address")
}

fn free_udp() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("its address")
}

fn written(directory: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = directory.path().join(name);
    std::fs::write(&path, text).expect("a file");
    path
}
