//! The configuration: what loads, what is refused, and how it is told.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tandem::config::AgentKind;
use tandem::config::BargeIn;
use tandem::config::Config;
use tandem::config::Greeting;
use tandem::config::problem::Problems;

#[test]
fn without_a_file_there_is_one_local_agent_on_loopback() {
    let config = load("", &[]).expect("the defaults are valid");
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:9090");
    assert_eq!(config.http.public_base(), "http://127.0.0.1:8080");
    assert_eq!(config.agents["local"].kind, AgentKind::Local);
    assert_eq!(config.routes.len(), 1);
    assert_eq!(config.routes[0].agent, "local");
    assert!(!config.twilio.require_signature);
    assert_eq!(config, defaults());
}

#[test]
fn the_documented_file_says_what_the_defaults_are() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/tandem.toml");
    let documented = Config::load(Some(&path), &BTreeMap::new()).expect("it loads");
    assert_eq!(documented, defaults());
}

#[test]
fn the_documented_file_names_every_key_that_is_known() {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/tandem.toml"))
            .expect("it is there");
    // An unknown key's problem lists what is known beside it.
    let broken = r"
        http.x = 1
        admin.x = 1
        limits.x = 1
        drain.x = 1
        twilio.x = 1
        audio.x = 1
        turn.x = 1
        log.x = 1
        [[routes]]
        x = 1
        agent = 'a'
        [agents.a]
        x = 1
        kind = 'local'
    ";
    let problems = problems(broken, &[]);
    assert_eq!(problems.len(), 10, "{problems:#?}");
    for line in problems {
        let (_, known) = line.split_once("known here: ").expect("the known keys");
        for key in known.split(", ") {
            let documented = text.lines().any(|line| {
                line.trim_start_matches("# ")
                    .starts_with(&format!("{key} = "))
            });
            assert!(documented, "{key} is not in config/tandem.toml");
        }
    }
}

#[test]
fn every_problem_is_told_at_once_with_its_place() {
    let broken = r#"
        colour = "blue"
        [http]
        listen = "somewhere"
        public_url = "voice.example.com"
        [limits]
        calls = "many"
        calls_per_second = 0
        call_duration = 7200
        [drain]
        timeout = "a while"
        [audio]
        uplink = "mp3"
        chunk = "1s"
        [turn]
        barge-in = "words"
        barge_in = "shout"
        [log]
        filter = "tandem=loud"
        json = "yes"
        [[routes]]
        agent = "nobody"
        ingress = "pigeon"
        [agents.support]
        kind = "dialogflow-cx"
        endpoint = "ftp://example.com"
        language = "English, please"
        greeting = { event = "A", text = "B" }
        [agents.sales]
        name = "agents/sales"
        script = "nowhere.toml"
        credentials = "nowhere.json"
    "#;
    assert_eq!(
        problems(broken, &[("TANDEM__TURN__NO_INPUT_LIMIT", "none")]),
        [
            r#"FILE: http.listen: must be an address and a port such as "127.0.0.1:8080""#,
            r#"FILE: http.public_url: must be a URL such as "https://voice.example.com""#,
            "FILE: limits.calls: must be a whole number",
            "FILE: limits.calls_per_second: must be from 1 to 10000",
            r#"FILE: limits.call_duration: must be a duration such as "5s", "100ms" or "2h""#,
            r#"FILE: drain.timeout: must be a duration such as "5s", "100ms" or "2h""#,
            r#"FILE: audio.uplink: "mp3" is none of auto, mulaw-8000, linear16-8000, linear16-16000"#,
            "FILE: audio.chunk: must be from 20ms to 200ms",
            r#"FILE: turn.barge_in: "shout" is none of words, voice, off"#,
            "environment: TANDEM__TURN__NO_INPUT_LIMIT: must be a whole number",
            "FILE: turn.barge-in: unknown key; known here: barge_in, no_input_timeout, no_input_limit, stream_ceiling, interdigit_timeout, max_digits",
            r#"FILE: log.filter: must be a log filter such as "info" or "warn,tandem=debug""#,
            "FILE: log.json: must be true or false",
            "FILE: agents.sales.kind: missing; one of dialogflow-cx, dialogflow-cx-v3beta1, local",
            "FILE: agents.sales.name: must be projects/P/locations/L/agents/A",
            r#"FILE: agents.sales.credentials: there is no file "nowhere.json""#,
            r#"FILE: agents.sales.script: there is no file "nowhere.toml""#,
            "FILE: agents.support.name: missing; projects/P/locations/L/agents/A",
            r#"FILE: agents.support.endpoint: must be a URL such as "https://voice.example.com""#,
            r#"FILE: agents.support.language: must be a language tag such as "en-US""#,
            r#"FILE: agents.support.greeting: must be "none" or exactly one of { event = … }, { text = … }, { intent = … }"#,
            r#"FILE: routes[0].agent: there is no agent "nobody"; known: sales, support"#,
            r#"FILE: routes[0].ingress: "pigeon" is none of twilio"#,
            "FILE: colour: unknown section; known: http, admin, limits, drain, twilio, audio, turn, log, routes, agents",
        ]
    );
}

#[test]
fn what_this_version_cannot_do_is_refused_rather_than_ignored() {
    let broken = r#"
        [sip]
        listen = ["udp:0.0.0.0:5060"]
        [rtp]
        ports = "10000-19999"
        [webrtc]
        listen = "0.0.0.0:10443"
        [[routes]]
        ingress = "sip"
        agent = "old"
        [agents.old]
        kind = "dialogflow-es"
        name = "projects/p/locations/global/agents/a"
    "#;
    assert_eq!(
        problems(broken, &[("TANDEM__FALLBACK__PROMPT", "sorry.wav")]),
        [
            "FILE: sip: not supported yet by this version",
            "FILE: rtp: not supported yet by this version",
            "FILE: webrtc: not supported yet by this version",
            "environment: TANDEM__FALLBACK__PROMPT: not supported yet by this version",
            r#"FILE: agents.old.kind: "dialogflow-es" is not supported yet by this version"#,
            r#"FILE: routes[0].ingress: "sip" is not supported yet by this version"#,
        ]
    );
}

#[test]
fn a_file_that_is_no_toml_is_told_with_its_line() {
    let [problem] = &problems("[http]\nlisten = \n", &[])[..] else {
        panic!("one problem");
    };
    assert!(problem.starts_with("FILE: line 2: "), "{problem}");
    let missing = Config::load(Some(Path::new("nowhere.toml")), &BTreeMap::new());
    let told = missing.expect_err("no such file").to_string();
    assert!(
        told.starts_with("nowhere.toml: file: cannot be read: "),
        "{told}"
    );
}

#[test]
fn variables_reach_every_scalar_and_win_over_the_file() {
    let file = r#"
        [limits]
        calls = 7
        [agents.Support]
        kind = "dialogflow-cx"
        name = "projects/p/locations/global/agents/a"
        greeting = { event = "HELLO" }
    "#;
    let environment = [
        ("TANDEM__LIMITS__CALLS", "8"),
        ("tandem__log__json", "true"),
        ("TANDEM__TURN__BARGE_IN", "off"),
        ("TANDEM__TURN__NO_INPUT_TIMEOUT", "1500ms"),
        ("TANDEM__TWILIO__PARAMETERS", "CallerName, campaign"),
        (
            "TANDEM__AGENTS__SUPPORT__ENDPOINT",
            "http://127.0.0.1:50051",
        ),
        ("TANDEM__AGENTS__SUPPORT__GREETING__TEXT", "hi"),
        // Kubernetes sets such a one for a service called tandem.
        ("TANDEM_SERVICE_HOST", "10.0.0.1"),
    ];
    let config = load(file, &environment).expect("valid");
    assert_eq!(config.limits.calls, 8);
    assert!(config.log.json);
    assert_eq!(config.turn.barge_in, BargeIn::Off);
    assert_eq!(config.turn.no_input_timeout, Duration::from_millis(1_500));
    assert_eq!(config.twilio.parameters, ["CallerName", "campaign"]);
    let agent = &config.agents["support"];
    assert_eq!(agent.endpoint.as_deref(), Some("http://127.0.0.1:50051"));
    assert_eq!(agent.greeting, Greeting::Text("hi".to_owned()));
    assert_eq!(agent.name.project, "p");
    assert_eq!(config.routes[0].agent, "support");
}

#[test]
fn variables_alone_make_an_agent() {
    let environment = [
        ("TANDEM__AGENTS__CX__KIND", "dialogflow-cx-v3beta1"),
        (
            "TANDEM__AGENTS__CX__NAME",
            "projects/p/locations/us/agents/a",
        ),
        ("TANDEM__AGENTS__CX__GREETING", "none"),
    ];
    let config = load("", &environment).expect("valid");
    assert_eq!(config.agents.len(), 1);
    assert_eq!(config.agents["cx"].greeting, Greeting::None);
    assert_eq!(config.agents["cx"].kind, AgentKind::DialogflowCxV3beta1);
    assert_eq!(config.routes[0].agent, "cx");
}

#[test]
fn variables_with_unknown_names_are_told() {
    let environment = [
        ("TANDEM__LIMITS__CALL", "8"),
        ("TANDEM__ROUTES__0__AGENT", "local"),
        ("TANDEM__TWILLIO__PARAMETERS", "x"),
    ];
    assert_eq!(
        problems("", &environment),
        [
            "environment: TANDEM__LIMITS__CALL: unknown key; known here: calls, calls_per_second, call_duration",
            "environment: TANDEM__ROUTES__0__AGENT: must be tables in a file: [[routes]]",
            "environment: TANDEM__TWILLIO__PARAMETERS: unknown section; known: http, admin, limits, drain, twilio, audio, turn, log, routes, agents",
        ]
    );
}

#[test]
fn the_signature_is_required_wherever_others_can_call() {
    let token = ("TWILIO_AUTH_TOKEN", "12345");
    let open = "[http]\nlisten = '0.0.0.0:8080'\n";
    let tunnel = "[http]\npublic_url = 'https://voice.example.com/'\n";
    let missing =
        "FILE: twilio.require_signature: set TWILIO_AUTH_TOKEN or require_signature = false";
    assert_eq!(problems(open, &[]), [missing]);
    assert_eq!(problems(tunnel, &[]), [missing]);
    assert_eq!(problems(open, &[("TWILIO_AUTH_TOKEN", "")]), [missing]);

    let signed = load(open, &[token]).expect("valid");
    assert!(signed.twilio.require_signature);
    let tunnel = load(tunnel, &[token]).expect("valid");
    assert_eq!(tunnel.http.public_base(), "https://voice.example.com");

    let allowed = format!("{open}[twilio]\nrequire_signature = false\n");
    assert!(!load(&allowed, &[]).expect("valid").twilio.require_signature);
    assert_eq!(
        problems("[twilio]\nrequire_signature = true", &[]),
        ["FILE: twilio.require_signature: needs the auth token: set TWILIO_AUTH_TOKEN"]
    );
    assert_eq!(
        problems("[twilio]\nauth_token_env = 'OTHER'", &[token]),
        ["FILE: twilio.auth_token_env: the environment variable OTHER is not set"]
    );
}

#[test]
fn several_agents_need_routes() {
    let two = r"
        [agents.a]
        kind = 'local'
        [agents.b]
        kind = 'local'
    ";
    assert_eq!(
        problems(two, &[]),
        ["FILE: routes: missing: with more than one agent, [[routes]] must say which takes a call"]
    );
    let routed = format!("{two}\n[[routes]]\nagent = 'B'\nto = '+1'\n[[routes]]\nagent = 'a'");
    let config = load(&routed, &[]).expect("valid");
    let agents: Vec<&str> = config.routes.iter().map(|r| r.agent.as_str()).collect();
    assert_eq!(agents, ["b", "a"]);
    assert_eq!(config.routes[1].name, "route-2");
}

#[test]
fn agents_that_differ_in_case_alone_are_refused() {
    let two = "[agents.a]\nkind = 'local'\n[agents.A]\nkind = 'local'\n";
    assert_eq!(
        problems(two, &[]),
        ["FILE: agents.a: there is another agent of this name (case does not count)"]
    );
}

#[test]
fn credentials_are_not_for_plain_text_nor_for_the_local_agent() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let credentials = file.path().display();
    let broken = format!(
        r"
        [[routes]]
        agent = 'a'
        [agents.a]
        kind = 'dialogflow-cx'
        name = 'projects/p/locations/global/agents/a'
        endpoint = 'http://127.0.0.1:1'
        credentials = '{credentials}'
        [agents.b]
        kind = 'local'
        endpoint = 'http://127.0.0.1:1'
        "
    );
    assert_eq!(
        problems(&broken, &[]),
        [
            "FILE: agents.a.credentials: an http:// endpoint is plain text: credentials are never sent to it",
            "FILE: agents.b.endpoint: means nothing to the local agent",
        ]
    );
}

#[test]
fn what_is_printed_loads_to_the_same_and_holds_no_secret() {
    let file = r#"
        [http]
        listen = "0.0.0.0:80"
        public_url = "https://voice.example.com/calls"
        [twilio]
        parameters = ["A \"quoted\" name"]
        [[routes]]
        ingress = "twilio"
        to = "+1"
        from = "+2"
        agent = "cx"
        [agents.cx]
        kind = "dialogflow-cx"
        name = "projects/example.com:p/locations/eu/agents/a"
        environment = "prod"
        greeting = { text = "line one\nline two" }
        endpoint = "https://localhost:1"
        model = "telephony"
        [agents.local]
        kind = "local"
        greeting = "none"
    "#;
    let environment = [("TWILIO_AUTH_TOKEN", "hush-hush")];
    let config = load(file, &environment).expect("valid");
    let printed = config.to_string();
    assert_eq!(load(&printed, &environment).expect("it loads"), config);
    assert!(printed.contains("<secret>"), "{printed}");
    let debugged = format!("{config:?}");
    assert!(!printed.contains("hush-hush") && !debugged.contains("hush-hush"));
}

fn defaults() -> Config {
    Config::load(None, &BTreeMap::new()).expect("the defaults are valid")
}

/// Loads a file with this text and these variables.
fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, Problems> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("written");
    Config::load(Some(file.path()), &environment(variables)).map_err(|mut problems| {
        let name = file.path().display().to_string();
        for problem in &mut problems.0 {
            problem.source = problem.source.replace(&name, "FILE");
        }
        problems
    })
}

/// The lines that loading tells; the file is called FILE.
fn problems(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let problems = load(text, variables).expect_err("it is broken");
    problems.to_string().lines().map(str::to_owned).collect()
}

fn environment(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
    variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}
