//! Whole calls between whole programs, over loopback: `tandem serve` with its embedded agent, and `tandem-load` as the
//! caller, with real speech in real time.
//!
//! What is asserted is what an operator sees: exit codes, `/metrics`, `/readyz`, TwiML and the caller's own account, which
//! is printed so that a failed test tells what was said and when. Thresholds on wall time are patience, not goals.
#![cfg(feature = "local-agent")]

mod too_busy;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::panic::AssertUnwindSafe;
use std::panic::resume_unwind;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::process::Stdio;
use std::time::Duration;

use futures_util::FutureExt as _;
use tempfile::TempDir;
use tokio::process::Child;
use tokio::process::Command;
use tokio::time::sleep;
use tokio::time::timeout;

/// The gateway loads its agent's recogniser before it is ready, the caller has its sentences synthesised before it calls.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// The longest call here takes a little over a minute.
const CALL_PATIENCE: Duration = Duration::from_secs(90);
/// For what should happen at once.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often something that should happen is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

const UNHEARD: &str = "tandem_caller_audio_unheard_seconds_total";

/// Long enough that the stream which hears it breaks in the middle, [`FAULT_AFTER`] its opening.
const A_LONG_SENTENCE: &str = "i would like to book a table for two people please";
/// The second stream of a call opens with the welcome, and the sentence lasts from about 0.8 s to 3.4 s of it.
const FAULT_AFTER: &str = "2s";

/// Shows something, unless this machine cannot.
async fn unless_too_busy(show: impl Future<Output = ()>) {
    let shown = AssertUnwindSafe(show).catch_unwind().await;
    if let Err(panic) = shown
        && !too_busy::excuses()
    {
        resume_unwind(panic);
    }
}

// ---- calls

#[tokio::test]
async fn in_a_call_of_ten_turns_nothing_the_caller_says_is_lost() {
    unless_too_busy(ten_turns()).await;
}

async fn ten_turns() {
    let gateway = Gateway::start(None).await;
    let scenario = repository("loadtest/scenarios/ten-turns.toml");
    gateway.call(&scenario).await.met_every_goal();

    let metrics = gateway.metrics().await;
    assert_eq!(metrics.value(UNHEARD), 0.0);
    assert_eq!(metrics.calls_ended("agent_ended"), 1.0);
    let turns = metrics.turns("answered") + metrics.turns("no_match");
    assert!(turns >= 11.0, "the welcome and ten turns are not {turns}");
    assert_eq!(metrics.turns("failed"), 0.0);
    gateway.forgets_its_calls().await;
    gateway.stop().await;
}

#[tokio::test]
async fn every_histogram_is_there_before_its_first_value() {
    let gateway = Gateway::start(None).await;
    let metrics = gateway.metrics().await;
    for name in [
        "call_setup",
        "call_duration",
        "turn_latency",
        "answer_to_first_audio",
        "barge_in",
        "backend_stream",
        "rtp_jitter",
        "tick_lateness",
    ] {
        let count = metrics.value(&format!("tandem_{name}_seconds_count"));
        assert_eq!(count, 0.0, "{name}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn two_callers_at_once_do_not_disturb_each_other() {
    unless_too_busy(two_callers()).await;
}

async fn two_callers() {
    let gateway = Gateway::start(None).await;
    let first = gateway.scenario(
        "first",
        r#"
        steps = [
          { hear = "how can i help" },
          { barge_in_after = "1500ms", say = "book a table for two" },
          { hear = "a table for 2. for which day" },
          { say = "tomorrow please" },
          { hear = "a table for 2, tomorrow. is that correct" },
          { say = "yes please" },
          { hear = "your table for 2, tomorrow, is confirmed" },
          { hear = "anything else" },
          { say = "no thank you" },
          { expect_end = "agent_ended" },
        ]
        goal = { barge_ins_at_least = 1, unheard_seconds_at_most = 0 }
        "#,
    );
    let second = gateway.scenario(
        "second",
        r#"
        steps = [
          { hear = "how can i help" },
          { barge_in_after = "1s", say = "book a table for six" },
          { hear = "a table for 6. for which day" },
          { say = "on friday" },
          { hear = "a table for 6, friday. is that correct" },
          { say = "yes please" },
          { hear = "your table for 6, friday, is confirmed" },
          { hear = "anything else" },
          { say = "no thank you" },
          { expect_end = "agent_ended" },
        ]
        goal = { barge_ins_at_least = 1, unheard_seconds_at_most = 0 }
        "#,
    );
    let (first, second) = tokio::join!(gateway.call(&first), gateway.call(&second));
    first.met_every_goal();
    second.met_every_goal();

    assert_eq!(gateway.metrics().await.calls_ended("agent_ended"), 2.0);
    gateway.forgets_its_calls().await;
    gateway.stop().await;
}

// ---- faults of the agent

#[tokio::test]
async fn a_stream_that_fails_for_good_is_counted_as_unheard_and_ends_the_call() {
    let gateway = Gateway::start(Some("PERMISSION_DENIED")).await;
    let steps = format!(
        r#"steps = [{{ barge_in_after = "300ms", say = "{A_LONG_SENTENCE}" }}, {{ expect_end = "" }}]"#
    );
    // The call ends in the middle of the sentence, which to the scenario is a step that was cut.
    let report = gateway.call(&gateway.scenario("failing", &steps)).await;
    report.tells("gateway ended the call: backend_failed");

    let metrics = gateway.metrics().await;
    assert_eq!(metrics.calls_ended("backend_failed"), 1.0);
    assert_eq!(metrics.turns("failed"), 1.0);
    // What the stream had been given before it failed, at the least a part of the sentence.
    let unheard = metrics.value(UNHEARD);
    assert!((0.2..5.0).contains(&unheard), "{unheard} s were unheard");
    gateway.forgets_its_calls().await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_stream_that_breaks_is_opened_again_and_the_words_are_understood() {
    unless_too_busy(a_stream_that_breaks()).await;
}

async fn a_stream_that_breaks() {
    let gateway = Gateway::start(Some("UNAVAILABLE")).await;
    let scenario = format!(
        r#"
        steps = [
          {{ barge_in_after = "300ms", say = "{A_LONG_SENTENCE}" }},
          {{ hear = "a table for 2. for which day" }},
        ]
        [goal]
        agent_heard = ["{A_LONG_SENTENCE}"]
        barge_ins_at_least = 1
        unheard_seconds_at_most = 0
        "#
    );
    let report = gateway.call(&gateway.scenario("breaking", &scenario)).await;
    report.met_every_goal();

    let metrics = gateway.metrics().await;
    assert_eq!(
        metrics.value(r#"tandem_backend_streams_total{agent="local",code="unavailable"}"#),
        1.0
    );
    assert_eq!(metrics.turns("failed"), 1.0);
    assert_eq!(metrics.turns("no_match"), 0.0);
    assert_eq!(metrics.value(UNHEARD), 0.0);
    gateway.forgets_its_calls().await;
    gateway.stop().await;
}

// ---- stopping

#[tokio::test]
async fn on_sigterm_a_call_goes_on_to_its_end_and_no_new_one_is_let_in() {
    unless_too_busy(drain()).await;
}

async fn drain() {
    let mut gateway = Gateway::start(None).await;
    let scenario = gateway.scenario(
        "drained",
        r#"steps = [
          { hear = "how can i help" },
          { barge_in_after = "1500ms", say = "what are your opening hours" },
          { hear = "from noon to eleven" },
          { say = "no thank you" },
          { expect_end = "agent_ended" },
        ]"#,
    );
    let operator = async {
        let active = r#"tandem_calls_active{ingress="twilio"}"#;
        let begun = async || gateway.metrics().await.value(active) == 1.0;
        eventually("the call has begun", START_PATIENCE, begun).await;
        gateway.terminate().await;
        let draining = async || gateway.readiness().await == Some(503);
        eventually("the gateway drains", PATIENCE, draining).await;
        let twiml = gateway.webhook("CAtoolate").await;
        assert!(twiml.contains("<Reject"), "{twiml}");
    };
    let (report, ()) = tokio::join!(gateway.call(&scenario), operator);
    report.met_every_goal();
    assert_eq!(gateway.exit().await.code(), Some(0));
}

// ---- the configuration

#[tokio::test]
async fn check_lists_every_problem_and_exits_with_2() {
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("broken.toml");
    let broken = r#"
        [http]
        listen = "nowhere"
        [limits]
        calls = 0
        [audio]
        chunk = "1h"
        [turn]
        barge_in = "shouts"
        no_imput_timeout = "5s"
        [[routes]]
        agent = "nobody"
        "#;
    std::fs::write(&file, broken).expect("a file");

    let checked = tandem(["check", "--config"])
        .arg(&file)
        .output()
        .await
        .expect("tandem runs");
    assert_eq!(checked.status.code(), Some(2));
    assert_eq!(text(&checked.stdout), "");
    let told = text(&checked.stderr);
    let mut wrong: Vec<&str> = told
        .lines()
        .map(|line| {
            line.strip_prefix(&format!("{}: ", file.display()))
                .and_then(|problem| Some(problem.split_once(": ")?.0))
                .unwrap_or_else(|| panic!("“{line}” does not name the file and the key"))
        })
        .collect();
    wrong.sort_unstable();
    assert_eq!(
        wrong,
        [
            "audio.chunk",
            "http.listen",
            "limits.calls",
            "routes[0].agent",
            "turn.barge_in",
            "turn.no_imput_timeout",
        ],
        "{told}"
    );
}

#[tokio::test]
async fn check_of_the_shipped_configuration_is_content_and_prints_no_secret() {
    let secret = "a-token-that-nobody-may-read";
    let checked = tandem(["check", "--config"])
        .arg(repository("config/tandem.toml"))
        .env("TWILIO_AUTH_TOKEN", secret)
        .output()
        .await
        .expect("tandem runs");
    let printed = text(&checked.stdout) + &text(&checked.stderr);
    assert_eq!(checked.status.code(), Some(0), "{printed}");
    assert!(printed.contains("auth_token_env"), "{printed}");
    assert!(!printed.contains(secret), "{printed}");
}

// ---- helpers

/// A gateway that runs, and is killed with the test that started it.
struct Gateway {
    program: Child,
    public: SocketAddr,
    admin: SocketAddr,
    client: reqwest::Client,
    directory: TempDir,
}

impl Gateway {
    /// Starts it and waits until it is ready. With a fault, the second stream of every call breaks off with that status.
    async fn start(fault: Option<&str>) -> Self {
        let directory = TempDir::new().expect("a directory");
        let mut script = std::fs::read_to_string(repository("config/local-agent.toml"))
            .expect("the embedded agent's script");
        if let Some(status) = fault {
            script.push_str(&format!(
                "\n[[faults]]\nstream = 2\nstatus = \"{status}\"\nafter = \"{FAULT_AFTER}\"\n"
            ));
        }
        let (public, admin) = free_addresses();
        let script_file = written(&directory, "agent.toml", &script);
        let config = format!(
            "[http]\nlisten = '{public}'\n[admin]\nlisten = '{admin}'\n\
             [sip]\nlisten = []\n[agents.local]\nkind = 'local'\nscript = '{}'\n",
            script_file.display()
        );
        let config_file = written(&directory, "tandem.toml", &config);
        let log = std::fs::File::create(directory.path().join("log")).expect("a log");
        let program = tandem(["serve", "--config"])
            .arg(config_file)
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("tandem runs");
        let mut gateway = Self {
            program,
            public,
            admin,
            client: reqwest::Client::builder()
                .timeout(PATIENCE)
                .build()
                .expect("a client"),
            directory,
        };
        gateway.becomes_ready().await;
        gateway
    }

    async fn becomes_ready(&mut self) {
        let ready = async || {
            let gone = self.program.try_wait().expect("its state");
            assert_eq!(gone, None, "the gateway ended before it was ready");
            self.readiness().await == Some(200)
        };
        eventually("the gateway is ready", START_PATIENCE, ready).await;
    }

    /// Writes a scenario, whose `[gateway]` is this one.
    fn scenario(&self, name: &str, text: &str) -> PathBuf {
        let target = self.target();
        let text = format!("{text}\n[gateway]\ntarget = '{target}'\n");
        written(&self.directory, &format!("{name}.toml"), &text)
    }

    /// A caller takes a scenario's steps.
    async fn call(&self, scenario: &Path) -> Report {
        let program = Path::new(env!("CARGO_BIN_EXE_tandem")).with_file_name("tandem-load");
        assert!(
            program.is_file(),
            "{} is missing: run `cargo build -p tandem-load`, or all tests with `cargo nextest run --workspace`",
            program.display()
        );
        let calling = undisturbed(&program)
            .arg("run")
            .arg(scenario)
            .args(["--target", &self.target()])
            .args(["--admin", &format!("http://{}", self.admin)])
            .output();
        let done = timeout(CALL_PATIENCE, calling)
            .await
            .expect("the call comes to an end")
            .expect("tandem-load runs");
        let text = text(&done.stdout) + &text(&done.stderr);
        println!("---- {}\n{text}", scenario.display());
        too_busy::read(&text);
        Report {
            met: done.status.success(),
            text,
        }
    }

    /// Twilio asks what to do with a new call.
    async fn webhook(&self, call_sid: &str) -> String {
        let form = [
            ("CallSid", call_sid),
            ("From", "+15550100"),
            ("To", "+15550199"),
        ];
        let url = format!("http://{}/twilio/voice", self.public);
        let answer = self.client.post(url).form(&form).send().await;
        let answer = answer.expect("an answer");
        answer.text().await.expect("TwiML")
    }

    /// The status of `/readyz`, if there is anybody who answers.
    async fn readiness(&self) -> Option<u16> {
        let url = format!("http://{}/readyz", self.admin);
        Some(self.client.get(url).send().await.ok()?.status().as_u16())
    }

    async fn metrics(&self) -> Metrics {
        let url = format!("http://{}/metrics", self.admin);
        let page = self.client.get(url).send().await.expect("an answer");
        Metrics::parse(&page.text().await.expect("a page"))
    }

    /// Nothing that lives as long as a call outlives it.
    async fn forgets_its_calls(&self) {
        for object in ["call", "leg", "stream"] {
            let alive = format!(r#"tandem_objects_alive{{type="{object}"}}"#);
            let gone = async || self.metrics().await.value(&alive) == 0.0;
            eventually(&format!("no {object} is alive"), PATIENCE, gone).await;
        }
    }

    async fn terminate(&self) {
        let id = self.program.id().expect("it runs");
        // The shell's own `kill`: the program of that name is not on every machine.
        let told = Command::new("sh")
            .args(["-c", &format!("kill -TERM {id}")])
            .status()
            .await
            .expect("a shell");
        assert!(told.success());
    }

    async fn exit(&mut self) -> ExitStatus {
        timeout(PATIENCE, self.program.wait())
            .await
            .expect("the gateway ends")
            .expect("its exit status")
    }

    async fn stop(mut self) {
        self.terminate().await;
        assert_eq!(self.exit().await.code(), Some(0));
    }

    fn target(&self) -> String {
        format!("ws://{}/twilio/media", self.public)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read(self.directory.path().join("log"));
            println!("---- the gateway's log\n{}", text(&log.unwrap_or_default()));
        }
    }
}

/// What the caller has to tell of a call.
struct Report {
    met: bool,
    text: String,
}

impl Report {
    fn met_every_goal(&self) {
        assert!(self.met, "the call missed its goals; its account is above");
    }

    fn tells(&self, what: &str) {
        assert!(self.text.contains(what), "the account lacks “{what}”");
    }
}

/// A page of metrics: series with their labels, as written, and values.
struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    fn parse(page: &str) -> Self {
        let series = page.lines().filter(|line| !line.starts_with('#'));
        Self(
            series
                .filter_map(|line| line.rsplit_once(' '))
                .map(|(series, value)| (series.to_owned(), value.parse().expect("a number")))
                .collect(),
        )
    }

    fn value(&self, series: &str) -> f64 {
        *self
            .0
            .get(series)
            .unwrap_or_else(|| panic!("{series} is not among the metrics"))
    }

    fn calls_ended(&self, reason: &str) -> f64 {
        self.value(&format!(
            r#"tandem_calls_total{{ingress="twilio",end_reason="{reason}"}}"#
        ))
    }

    /// Turns of every kind of input with this result.
    fn turns(&self, result: &str) -> f64 {
        ["speech", "text", "event", "intent", "dtmf"]
            .map(|input| {
                self.value(&format!(
                    r#"tandem_turns_total{{input="{input}",result="{result}"}}"#
                ))
            })
            .iter()
            .sum()
    }
}

/// Waits until something is so, and panics if it does not come about.
async fn eventually(what: &str, patience: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !holds().await {
            sleep(LOOK_INTERVAL).await;
        }
    };
    if timeout(patience, looking).await.is_err() {
        panic!("it did not come about within {patience:?}: {what}");
    }
}

fn tandem(arguments: [&str; 2]) -> Command {
    let mut command = undisturbed(Path::new(env!("CARGO_BIN_EXE_tandem")));
    command.args(arguments);
    command
}

/// A program that does not see the developer's own settings, and ends with the test.
fn undisturbed(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.to_uppercase().starts_with("TANDEM__") || name == "TWILIO_AUTH_TOKEN" {
            command.env_remove(&*name);
        }
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Two addresses that were free a moment ago, and are not the same.
fn free_addresses() -> (SocketAddr, SocketAddr) {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let [first, second] = listeners.map(|listener| listener.local_addr().expect("its address"));
    (first, second)
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn written(directory: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = directory.path().join(name);
    std::fs::write(&path, text).expect("a file");
    path
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
