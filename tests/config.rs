//! The configuration: what loads, what is refused, and how it is told.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tandem::config::AdvertisedAddress;
use tandem::config::AgentKind;
use tandem::config::BargeIn;
use tandem::config::Clips;
use tandem::config::Config;
use tandem::config::DigestAlgorithm;
use tandem::config::Fallback;
use tandem::config::Greeting;
use tandem::config::Rtp;
use tandem::config::Secret;
use tandem::config::SecretSource;
use tandem::config::Sip;
use tandem::config::SipAuth;
use tandem::config::SipListen;
use tandem::config::SipRegister;
use tandem::config::SipTransport;
use tandem::config::SipUser;
use tandem::config::SrtpPolicy;
use tandem::config::Turn;
use tandem::config::WavFile;
use tandem::config::Webrtc;
use tandem::config::WhipToken;
use tandem::config::problem::Problems;
use tandem::engine::media::codec::AudioFormat;
use tandem::engine::media::codec::Encoding;
use tandem::engine::media::codec::packet::Codec;
use tandem::engine::media::frame::SampleRate;
use tandem::io::leg::IngressKind;

#[test]
fn without_a_file_there_is_one_local_agent_on_loopback() {
    let config = load("", &[]).expect("the defaults are valid");
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:9090");
    assert_eq!(config.http.public_base(), "http://127.0.0.1:8080");
    assert_eq!(config.agents["local"].kind, AgentKind::Local);
    assert_eq!(config.routes.len(), 1);
    assert_eq!(config.routes[0].agent, "local");
    let listen: Vec<String> = config.sip.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["udp:127.0.0.1:5060", "tcp:127.0.0.1:5060"]);
    assert_eq!(config.rtp.ports, 10_000..=19_999);
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
        sip.x = 1
        sip.auth.x = 1
        rtp.x = 1
        twilio.x = 1
        webrtc.x = 1
        audio.x = 1
        turn.x = 1
        fallback.x = 1
        clips.x = 1
        log.x = 1
        [[sip.auth.users]]
        x = 1
        username = 'u'
        password_env = 'PASSWORD'
        [[sip.register]]
        x = 1
        registrar = 'sip:pbx'
        username = 'u'
        password_env = 'PASSWORD'
        [[routes]]
        x = 1
        agent = 'a'
        [agents.a]
        x = 1
        kind = 'local'
    ";
    let problems = problems(broken, &[("PASSWORD", "hush-hush")]);
    assert_eq!(problems.len(), 18, "{problems:#?}");
    for line in problems {
        let (_, known) = line.split_once("known here: ").expect("the known keys");
        for key in known.split(", ") {
            let documented = text.lines().any(|line| {
                let line = line.trim_start_matches("# ");
                let is_value = line.starts_with(&format!("{key} = "));
                let is_table = line.starts_with('[')
                    && line.trim_end_matches(']').ends_with(&format!(".{key}"));
                is_value || is_table
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
            "FILE: turn.barge-in: unknown key; known here: barge_in, duck_db, barge_in_voice, barge_in_restore, interrupt_partials, back_channels, no_input_timeout, no_input_limit, no_input_event, no_input_transfer, hold_after, hold_prompt, endpoint_timeout, stream_ceiling, interdigit_timeout, max_digits, transfer_failed_event, report_heard",
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
            r#"FILE: routes[0].ingress: "pigeon" is none of sip, twilio, whip"#,
            "FILE: colour: unknown section; known: http, admin, limits, drain, sip, rtp, twilio, webrtc, audio, turn, clips, fallback, log, routes, agents",
        ]
    );
}

#[test]
fn what_this_version_cannot_do_is_refused_rather_than_ignored() {
    let broken = r#"
        [[routes]]
        agent = "old"
        [agents.old]
        kind = "dialogflow-es"
        name = "projects/p/locations/global/agents/a"
    "#;
    assert_eq!(
        problems(broken, &[]),
        [r#"FILE: agents.old.kind: "dialogflow-es" is not supported yet by this version"#]
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
            "environment: TANDEM__TWILLIO__PARAMETERS: unknown section; known: http, admin, limits, drain, sip, rtp, twilio, webrtc, audio, turn, clips, fallback, log, routes, agents",
        ]
    );
}

#[test]
fn the_signature_is_required_wherever_others_can_call() {
    let token = ("TWILIO_AUTH_TOKEN", "12345");
    let open = "webrtc.listen = []\n[http]\nlisten = '0.0.0.0:8080'\n";
    let tunnel = "webrtc.listen = []\n[http]\npublic_url = 'https://voice.example.com/'\n";
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
    // Not repeated: it may be the token itself.
    assert_eq!(
        problems("[twilio]\nauth_token_env = 'hush-hush'", &[token]),
        ["FILE: twilio.auth_token_env: must be the name of an environment variable"]
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
        [webrtc]
        require_token = false
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
        [agents.cx.tools]
        "projects/p/tools/a \"quoted\" one" = "https://tools.example.com/x?y=1"
        [agents.local]
        kind = "local"
        greeting = "none"
        [clips]
        directory = "a folder"
        cache_bytes = 0
    "#;
    let environment = [("TWILIO_AUTH_TOKEN", "hush-hush")];
    let config = load(file, &environment).expect("valid");
    let printed = config.to_string();
    assert_eq!(load(&printed, &environment).expect("it loads"), config);
    assert!(printed.contains("<secret>"), "{printed}");
    let debugged = format!("{config:?}");
    assert!(!printed.contains("hush-hush") && !debugged.contains("hush-hush"));
}

#[test]
fn everything_about_turns_and_the_fallback_is_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let pcm = wav(&directory, "pcm.wav", 1, 1, 16_000, 16, &[1, 2, 3, 4]);
    let mulaw = wav(&directory, "mulaw.wav", 7, 1, 8_000, 8, &[5, 6]);
    let alaw = wav(&directory, "alaw.wav", 6, 1, 8_000, 8, &[7]);
    let file = format!(
        r#"
        [turn]
        barge_in = "voice"
        duck_db = 0
        barge_in_voice = "100ms"
        barge_in_restore = "5s"
        interrupt_partials = true
        no_input_event = " "
        no_input_transfer = true
        hold_after = "3500ms"
        hold_prompt = "{pcm}"
        endpoint_timeout = "30s"
        report_heard = false
        [turn.back_channels]
        EN = ["Uh-huh", "I  see "]
        en-GB = ["quite"]
        de = []
        [fallback]
        prompt = "{mulaw}"
        apology = "{alaw}"
        transfer = "+15550100"
        give_up_after = "0s"
        breaker_failures = 0
        breaker_open = "10min"
        [agents.a]
        kind = "local"
        channel = "phone"
        "#
    );
    let config = load(&file, &[]).expect("valid");
    let prompt = |path: &str, samples: &'static [u8], encoding, rate| {
        Some(WavFile {
            path: path.into(),
            samples: Bytes::from_static(samples),
            format: AudioFormat { encoding, rate },
        })
    };
    let expected = Turn {
        barge_in: BargeIn::Voice,
        duck_db: 0,
        barge_in_voice: Duration::from_millis(100),
        barge_in_restore: Duration::from_secs(5),
        interrupt_partials: true,
        back_channels: [
            ("de".to_owned(), vec![]),
            (
                "en".to_owned(),
                vec!["uh-huh".to_owned(), "i see".to_owned()],
            ),
            ("en-gb".to_owned(), vec!["quite".to_owned()]),
        ]
        .into(),
        no_input_event: None,
        no_input_transfer: true,
        hold_after: Duration::from_millis(3_500),
        hold_prompt: prompt(
            &pcm,
            &[1, 2, 3, 4],
            Encoding::Linear16,
            SampleRate::HZ_16000,
        ),
        endpoint_timeout: Duration::from_secs(30),
        report_heard: false,
        ..Turn::default()
    };
    assert_eq!(config.turn, expected);
    let expected = Fallback {
        prompt: prompt(&mulaw, &[5, 6], Encoding::Mulaw, SampleRate::HZ_8000),
        apology: prompt(&alaw, &[7], Encoding::Alaw, SampleRate::HZ_8000),
        transfer: Some("+15550100".to_owned()),
        give_up_after: Duration::ZERO,
        breaker_failures: 0,
        breaker_open: Duration::from_secs(600),
    };
    assert_eq!(config.fallback, expected);
    assert_eq!(config.agents["a"].channel.as_deref(), Some("phone"));

    let printed = config.to_string();
    assert_eq!(load(&printed, &[]).expect("it loads"), config, "{printed}");
}

#[test]
fn back_channels_are_those_of_the_very_language_else_of_its_primary_one() {
    let file = "turn.back_channels = { en = ['mhm'], en-gb = ['quite'] }";
    let variables = [("TANDEM__TURN__BACK_CHANNELS__DE", "Ja, Genau")];
    let turn = load(file, &variables).expect("valid").turn;
    for (language, expected) in [
        ("en-US", &["mhm"][..]),
        ("EN", &["mhm"]),
        ("en-GB", &["quite"]),
        ("de-AT", &["ja", "genau"]),
        ("fr", &[]),
    ] {
        assert_eq!(turn.back_channels_in(language), expected, "{language}");
    }
}

#[test]
fn every_problem_with_turns_and_the_fallback_is_told_at_once_with_its_place() {
    let directory = tempfile::tempdir().expect("a directory");
    let stereo = wav(&directory, "stereo.wav", 1, 2, 8_000, 16, &[0; 8]);
    let wide = wav(&directory, "wide.wav", 1, 1, 44_100, 16, &[0; 8]);
    let empty = wav(&directory, "empty.wav", 7, 1, 8_000, 8, &[]);
    let long = wav(&directory, "long.wav", 7, 1, 8_000, 8, &[0; 60 * 8_000 + 1]);
    let minute = wav(&directory, "minute.wav", 7, 1, 8_000, 8, &[0; 60 * 8_000]);
    let huge = wav(&directory, "huge.wav", 1, 1, 16_000, 16, &[0; 3 << 20]);
    let text = written(&directory, "text.wav", "not a sound");
    let broken = format!(
        r#"
        [turn]
        duck_db = 61
        barge_in_voice = "99ms"
        barge_in_restore = "6s"
        interrupt_partials = 1
        no_input_event = 7
        no_input_transfer = "no"
        hold_after = "4s"
        hold_prompt = "{stereo}"
        endpoint_timeout = "900ms"
        report_heard = "x"
        [turn.back_channels]
        English = ["mhm"]
        de = "mhm"
        en = ["mhm"]
        EN = ["uh-huh"]
        fr = ["mhm", 1]
        [fallback]
        prompt = "{wide}"
        apology = "nowhere.wav"
        transfer = "the boss"
        give_up_after = "61s"
        breaker_failures = -1
        breaker_open = "0s"
        "#
    );
    assert_eq!(
        problems(&broken, &[]),
        [
            "FILE: turn.duck_db: must be from 0 to 60",
            "FILE: turn.barge_in_voice: must be from 100ms to 2s",
            "FILE: turn.barge_in_restore: must be from 200ms to 5s",
            "FILE: turn.interrupt_partials: must be true or false",
            r#"FILE: turn.back_channels.English: must be a language tag such as "en-US""#,
            "FILE: turn.back_channels.de: must be a list of strings",
            "FILE: turn.back_channels.en: is there twice (case does not count)",
            "FILE: turn.back_channels.fr: must be a string",
            "FILE: turn.no_input_event: must be a string",
            "FILE: turn.no_input_transfer: must be true or false",
            "FILE: turn.hold_after: must be from 500ms to 3s 500ms",
            &format!(
                "FILE: turn.hold_prompt: {stereo:?} cannot be played: only one channel can be played"
            ),
            "FILE: turn.endpoint_timeout: must be from 1s to 30s",
            "FILE: turn.report_heard: must be true or false",
            &format!(
                "FILE: fallback.prompt: {wide:?} cannot be played: it must be at 8 or 16 kHz, not 44100 Hz"
            ),
            r#"FILE: fallback.apology: "nowhere.wav" cannot be read: No such file or directory (os error 2)"#,
            r#"FILE: fallback.transfer: must be a telephone number such as "+18005551212" or a URI such as "sip:queue@pbx.example.com""#,
            "FILE: fallback.give_up_after: must be from 0s to 1m",
            "FILE: fallback.breaker_failures: must be from 0 to 1000",
            "FILE: fallback.breaker_open: must be from 1s to 10m",
        ]
    );
    let environment = |path: &str| problems("", &[("TANDEM__FALLBACK__PROMPT", path)]);
    let told = |reason: &str| [format!("environment: TANDEM__FALLBACK__PROMPT: {reason}")];
    for (path, reason) in [
        (&empty, "cannot be played: there is no sound in it"),
        (&long, "is longer than 60 s"),
        (&huge, "is longer than 3 MiB"),
        (&text, "cannot be played: not a WAV file"),
    ] {
        assert_eq!(environment(path), told(&format!("{path:?} {reason}")));
    }
    load("", &[("TANDEM__FALLBACK__PROMPT", &minute)]).expect("not too long");
}

#[test]
fn clips_and_tools_are_read_and_what_is_wrong_with_them_is_told() {
    let file = r#"
        [clips]
        directory = "/srv/prompts"
        timeout = "1s"
        max_bytes = 1024
        cache_bytes = 0
        allow_private = true
        [agents.local]
        kind = "local"
        [agents.local.tools]
        "projects/p/locations/l/agents/A/tools/T" = "http://10.0.0.1:8080/tool"
    "#;
    let config = load(file, &[("TANDEM__CLIPS__MAX_BYTES", "2048")]).expect("valid");
    let expected = Clips {
        directory: "/srv/prompts".into(),
        timeout: Duration::from_secs(1),
        max_bytes: 2048,
        cache_bytes: 0,
        allow_private: true,
    };
    assert_eq!(config.clips, expected);
    let tools = &config.agents["local"].tools;
    assert_eq!(
        tools["projects/p/locations/l/agents/A/tools/T"],
        "http://10.0.0.1:8080/tool"
    );

    let broken = r#"
        [clips]
        directory = ""
        timeout = "1m"
        max_bytes = 5
        cache_bytes = -1
        allow_private = "perhaps"
        [agents.local]
        kind = "local"
        [agents.local.tools]
        a = "http://10.0.0.1/tool"
        b = "https://user@tools.example.com/"
        c = "tools.example.com"
        d = 5
    "#;
    assert_eq!(
        problems(broken, &[]),
        [
            "FILE: clips.directory: must not be empty",
            "FILE: clips.timeout: must be from 100ms to 3s",
            "FILE: clips.max_bytes: must be from 1024 to 67108864",
            "FILE: clips.cache_bytes: must be from 0 to 4294967296",
            "FILE: clips.allow_private: must be true or false",
            "FILE: agents.local.tools.a: must be https://; http:// needs clips.allow_private",
            "FILE: agents.local.tools.b: must have no user or fragment",
            "FILE: agents.local.tools.c: must be a URL such as \"https://tools.example.com/weather\"",
            "FILE: agents.local.tools.d: must be a string",
        ]
    );
}

#[test]
fn everything_about_sip_is_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let certificate = written(&directory, "sip.crt", "");
    let key = written(&directory, "sip.key", "");
    let password = written(&directory, "password", "of-a-file\r\n");
    let file = format!(
        r#"
        [sip]
        listen = ["udp:0.0.0.0:5060", "TCP:[::1]:5060", "tls:[::]:0"]
        advertised_address = "[2001:DB8::7]"
        tls_certificate = '{certificate}'
        tls_key = '{key}'
        allow = ["10.1.2.3/8", "192.0.2.1", "2001:db8::/32"]
        parameters = ["X-Department", "User-to-User"]
        answer_within = "0s"
        session_expires = "20m"
        min_session_expires = "10s"
        transfer_timeout = "1m"
        connections = 5
        [sip.auth]
        realm = "pbx.example.com"
        algorithms = ["SHA-256"]
        users = [
            {{ username = "pbx", password_env = "PBX_PASSWORD" }},
            {{ username = "trunk@example.com", password_file = '{password}' }},
        ]
        [[sip.register]]
        registrar = "sip:pbx.example.com:5062;transport=tcp"
        username = "1000"
        auth_username = "1000-secret-name"
        password_env = "PBX_PASSWORD"
        expires = "1h"
        domain = "Example.com"
        [[sip.register]]
        registrar = "sips:[2001:db8::1]"
        username = "1001"
        password_file = '{password}'
        [rtp]
        ports = "20000-20001"
        advertised_address = "203.0.113.7"
        codecs = ["PCMA", "g722"]
        opus_complexity = 10
        srtp = "required"
        strict_source = true
        initial_timeout = "1s"
        timeout = "2s"
        hold_timeout = "3s"
        [turn]
        transfer_failed_event = "NOBODY_THERE"
        [[routes]]
        ingress = "sip"
        to = "1000"
        domain = "Support.Example.com"
        headers = {{ X-Department = "sales", "Call-Info" = "a b" }}
        handoff = "sip:queue@pbx.example.com:5070;transport=tcp"
        agent = "local"
        [[routes]]
        handoff = "+18005551212"
        agent = "local"
        [agents.local]
        kind = "local"
        "#
    );
    let environment = [("PBX_PASSWORD", "of a variable")];
    let config = load(&file, &environment).expect("valid");
    let of_file = (
        Secret::new("of-a-file".to_owned()),
        SecretSource::File(password.into()),
    );
    let of_variable = (
        Secret::new("of a variable".to_owned()),
        SecretSource::Environment("PBX_PASSWORD".to_owned()),
    );
    let listen = |transport, address: &str| SipListen {
        transport,
        address: address.parse().expect("an address"),
    };
    assert_eq!(
        config.sip,
        Sip {
            listen: vec![
                listen(SipTransport::Udp, "0.0.0.0:5060"),
                listen(SipTransport::Tcp, "[::1]:5060"),
                listen(SipTransport::Tls, "[::]:0"),
            ],
            advertised_address: Some("2001:db8::7".to_owned()),
            tls_certificate: Some(certificate.into()),
            tls_key: Some(key.into()),
            allow: ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"]
                .map(|network| network.parse().expect("a network"))
                .to_vec(),
            auth: SipAuth {
                realm: "pbx.example.com".to_owned(),
                algorithms: vec![DigestAlgorithm::Sha256],
                users: vec![
                    SipUser {
                        username: "pbx".to_owned(),
                        password: of_variable.0.clone(),
                        password_from: of_variable.1.clone(),
                    },
                    SipUser {
                        username: "trunk@example.com".to_owned(),
                        password: of_file.0.clone(),
                        password_from: of_file.1.clone(),
                    },
                ],
            },
            register: vec![
                SipRegister {
                    registrar: "sip:pbx.example.com:5062;transport=tcp".to_owned(),
                    username: "1000".to_owned(),
                    auth_username: Some("1000-secret-name".to_owned()),
                    password: of_variable.0,
                    password_from: of_variable.1,
                    expires: Duration::from_secs(3_600),
                    domain: Some("example.com".to_owned()),
                },
                SipRegister {
                    registrar: "sips:[2001:db8::1]".to_owned(),
                    username: "1001".to_owned(),
                    auth_username: None,
                    password: of_file.0,
                    password_from: of_file.1,
                    expires: Duration::from_secs(600),
                    domain: None,
                },
            ],
            parameters: vec!["X-Department".to_owned(), "User-to-User".to_owned()],
            answer_within: Duration::ZERO,
            session_expires: Duration::from_secs(1_200),
            min_session_expires: Duration::from_secs(10),
            transfer_timeout: Duration::from_secs(60),
            connections: 5,
        }
    );
    assert_eq!(
        config.rtp,
        Rtp {
            ports: 20_000..=20_001,
            advertised_address: Some([203, 0, 113, 7].into()),
            codecs: vec![Codec::Pcma, Codec::G722],
            opus_complexity: 10,
            srtp: SrtpPolicy::Required,
            strict_source: true,
            initial_timeout: Duration::from_secs(1),
            timeout: Duration::from_secs(2),
            hold_timeout: Duration::from_secs(3),
        }
    );
    assert_eq!(config.turn.transfer_failed_event, "NOBODY_THERE");
    let route = &config.routes[0];
    assert_eq!(route.ingress, Some(IngressKind::Sip));
    assert_eq!(route.domain.as_deref(), Some("support.example.com"));
    assert_eq!(route.headers["X-Department"], "sales");
    assert_eq!(route.headers["Call-Info"], "a b");
    assert_eq!(route.headers.len(), 2);
    let handoff = "sip:queue@pbx.example.com:5070;transport=tcp";
    assert_eq!(route.handoff.as_deref(), Some(handoff));
    assert_eq!(config.routes[1].handoff.as_deref(), Some("+18005551212"));

    let printed = config.to_string();
    assert_eq!(load(&printed, &environment).expect("it loads"), config);
    for text in [printed, format!("{config:?}")] {
        assert!(text.contains("<secret>"), "{text}");
        for secret in ["of-a-file", "of a variable"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

#[test]
fn every_problem_with_sip_is_told_at_once_with_its_place() {
    let directory = tempfile::tempdir().expect("a directory");
    let empty = written(&directory, "empty", "\n");
    let long = written(&directory, "long", &"x".repeat(1_025));
    let broken = format!(
        r#"
        [sip]
        listen = ["udp:127.0.0.1:5060", "sctp:127.0.0.1:5060", "tls:localhost:5061", "tcp:127.0.0.1:8080",
            "tcp:127.0.0.1:7000", "tls:127.0.0.1:7000", "udp:127.0.0.1:7000"]
        advertised_address = "203.0.113.7:5060"
        tls_key = "nowhere.key"
        allow = ["10.0.0.0/33", "192.0.2.1", "everybody", 7]
        parameters = ["X Department"]
        answer_within = "31s"
        session_expires = "90500ms"
        min_session_expires = "9s"
        transfer_timeout = "0s"
        connections = 0
        password = "hush-hush"
        [sip.auth]
        realm = 'a "b"'
        [[sip.auth.users]]
        username = "pbx"
        password_env = "NOT_SET"
        [[sip.auth.users]]
        username = "pbx"
        password_env = "PASSWORD"
        password_file = '{empty}'
        [[sip.auth.users]]
        password_env = "hush-hush"
        [[sip.auth.users]]
        username = 'a\b'
        [[sip.auth.users]]
        username = "empty"
        password_env = "EMPTY"
        [[sip.register]]
        username = "a b"
        password_file = '{long}'
        expires = "59s"
        domain = "example.com:5060"
        [[sip.register]]
        registrar = "pbx.example.com"
        username = "1000"
        password = "hush-hush"
        [rtp]
        ports = "10000"
        advertised_address = "voice.example.com"
        codecs = ["opus", "g729", "OPUS"]
        opus_complexity = 11
        srtp = "maybe"
        strict_source = "no"
        initial_timeout = "0s"
        timeout = 60
        hold_timeout = "2d"
        [turn]
        transfer_failed_event = ""
        [[routes]]
        domain = "a b"
        headers = {{ "X Department" = "sales", X-A = 1, X-B = "1", x-b = "2" }}
        handoff = "mailto:queue@pbx.example.com"
        agent = "local"
        [[routes]]
        ingress = "twilio"
        domain = "example.com"
        headers = {{ X-A = "1" }}
        agent = "local"
        [[routes]]
        headers = ["X-A"]
        agent = "local"
        [agents.local]
        kind = "local"
        "#
    );
    let environment = [("PASSWORD", "hush-hush"), ("EMPTY", "")];
    let problems = problems(&broken, &environment);
    assert_eq!(
        problems,
        [
            r#"FILE: sip.listen[1]: "sctp:127.0.0.1:5060" must be udp, tcp or tls with an address and a port, such as "udp:127.0.0.1:5060""#,
            r#"FILE: sip.listen[2]: "tls:localhost:5061" must be udp, tcp or tls with an address and a port, such as "udp:127.0.0.1:5060""#,
            "FILE: sip.listen: tcp:127.0.0.1:8080 must not be the same as http.listen",
            "FILE: sip.listen: tls:127.0.0.1:7000 has the same port as tcp:127.0.0.1:7000",
            "FILE: sip.advertised_address: must be an IP address or a host name, without a port",
            "FILE: sip.tls_certificate: missing; a tls: listener needs it",
            r#"FILE: sip.tls_key: there is no file "nowhere.key""#,
            r#"FILE: sip.allow[0]: "10.0.0.0/33" must be a network or an address, such as "10.0.0.0/8""#,
            r#"FILE: sip.allow[2]: "everybody" must be a network or an address, such as "10.0.0.0/8""#,
            "FILE: sip.allow[3]: must be a string",
            "FILE: sip.auth.realm: must have no quote, backslash or control character",
            "FILE: sip.auth.users[0].password_env: the environment variable NOT_SET is not set",
            "FILE: sip.auth.users[1].username: there is another user of this name",
            &format!("FILE: sip.auth.users[1].password_file: {empty:?} is empty"),
            "FILE: sip.auth.users[1].password_file: must not stand beside password_env",
            "FILE: sip.auth.users[2].username: missing",
            "FILE: sip.auth.users[2].password_env: must be the name of an environment variable",
            "FILE: sip.auth.users[3].username: must have no quote, backslash or control character",
            "FILE: sip.auth.users[3].password_env: missing; or password_file",
            "FILE: sip.auth.users[4].password_env: the environment variable EMPTY is not set",
            "FILE: sip.register[0].registrar: missing",
            r#"FILE: sip.register[0].username: must be the user of a SIP address, such as "1000""#,
            &format!("FILE: sip.register[0].password_file: {long:?} is longer than 1024 bytes"),
            "FILE: sip.register[0].expires: must be from 1m to 1day",
            "FILE: sip.register[0].domain: must be an IP address or a host name, without a port",
            r#"FILE: sip.register[1].registrar: must be a URI without a user, such as "sip:pbx.example.com:5060;transport=tcp""#,
            "FILE: sip.register[1].password_env: missing; or password_file",
            "FILE: sip.register[1].password: unknown key; known here: registrar, username, auth_username, password_env, password_file, expires, domain",
            r#"FILE: sip.parameters[0]: "X Department" must be the name of a SIP header field, such as "X-Department""#,
            "FILE: sip.answer_within: must be from 0s to 30s",
            "FILE: sip.session_expires: must be whole seconds",
            "FILE: sip.min_session_expires: must be from 10s to 1day",
            "FILE: sip.transfer_timeout: must be from 1s to 5m",
            "FILE: sip.connections: must be from 1 to 100000",
            "FILE: sip.password: unknown key; known here: listen, advertised_address, tls_certificate, tls_key, allow, auth, register, parameters, answer_within, session_expires, min_session_expires, transfer_timeout, connections",
            r#"FILE: rtp.ports: must be a range of ports such as "10000-19999""#,
            "FILE: rtp.advertised_address: must be an IP address",
            r#"FILE: rtp.codecs[1]: "g729" is none of opus, g722, pcmu, pcma"#,
            "FILE: rtp.codecs: opus is there twice",
            "FILE: rtp.opus_complexity: must be from 0 to 10",
            r#"FILE: rtp.srtp: "maybe" is none of off, optional, required"#,
            "FILE: rtp.strict_source: must be true or false",
            "FILE: rtp.initial_timeout: must be from 1s to 1day",
            r#"FILE: rtp.timeout: must be a duration such as "5s", "100ms" or "2h""#,
            "FILE: rtp.hold_timeout: must be from 1s to 1day",
            "FILE: turn.transfer_failed_event: must not be empty",
            "FILE: routes[0].domain: must be an IP address or a host name, without a port",
            r#"FILE: routes[0].headers.X Department: "X Department" must be the name of a SIP header field, such as "X-Department""#,
            "FILE: routes[0].headers.X-A: must be a string",
            "FILE: routes[0].headers.x-b: is there twice (case does not count)",
            r#"FILE: routes[0].handoff: must be a telephone number such as "+18005551212" or a URI such as "sip:queue@pbx.example.com""#,
            "FILE: routes[1].domain: only SIP calls can be told by it",
            "FILE: routes[1].headers: only SIP calls can be told by it",
            "FILE: routes[2].headers: must be a table",
        ]
    );
    assert!(!problems.concat().contains("hush-hush"));
}

#[test]
fn ports_are_pairs_that_anybody_may_open() {
    for (ports, reason) in [
        ("1022-2000", "must not have ports below 1024"),
        ("10001-20000", "must begin with an even port"),
        ("10000-10000", "must have two ports at least"),
        ("20000-10000", "must have two ports at least"),
        (
            "10000-65536",
            r#"must be a range of ports such as "10000-19999""#,
        ),
    ] {
        let file = format!("[rtp]\nports = '{ports}'");
        assert_eq!(problems(&file, &[]), [format!("FILE: rtp.ports: {reason}")]);
    }
    let config = load("[rtp]\nports = '1024 - 65535'", &[]).expect("valid");
    assert_eq!(config.rtp.ports, 1_024..=65_535);
}

#[test]
fn uris_that_lead_elsewhere_are_refused() {
    let load_with = |registrar: &str, handoff: &str| {
        let file = format!(
            "[[sip.register]]\nregistrar = '{registrar}'\nusername = 'u'\npassword_env = 'P'\n\
             [[routes]]\nagent = 'a'\nhandoff = '{handoff}'\n[agents.a]\nkind = 'local'"
        );
        load(&file, &[("P", "x")])
    };
    let (registrar, handoff) = ("sip:pbx", "100");
    for good in ["sip:10.0.0.1", "sip:[::1]:5060", "sips:pbx;transport=tls"] {
        load_with(good, handoff).unwrap_or_else(|problems| panic!("{good}: {problems}"));
    }
    for good in ["sip:pbx", "sips:a@b", "sip:+1555@[::1]", "1 800 555", "*72"] {
        load_with(registrar, good).unwrap_or_else(|problems| panic!("{good}: {problems}"));
    }
    for bad in [
        "sip:",
        "sip:me@pbx",
        "sip:pbx:0",
        "sip:pbx:+5060",
        "sip:pbx:65536",
        "sip:-pbx",
        "sip:1.2.3.4.5",
        "sip:[::1",
        "sip:pbx;transport=sctp",
        "sip:pbx;lr",
        "sips:pbx;transport=udp",
        "tel:100",
    ] {
        let problems = load_with(bad, handoff).expect_err(bad);
        assert_eq!(problems.0[0].key, "sip.register[0].registrar", "{bad}");
    }
    for bad in [
        "+",
        "1234567890123456",
        "sip:@pbx",
        "sip:a@b@c",
        "sip:a@",
        "sip:a b@pbx",
        "sip:a@pbx>;x=<b",
        "pbx.example.com",
    ] {
        let problems = load_with(registrar, bad).expect_err(bad);
        assert_eq!(problems.0[0].key, "routes[0].handoff", "{bad}");
    }
}

#[test]
fn where_callers_by_twilio_are_sent_is_something_that_twilio_dials() {
    const TOKEN: [(&str, &str); 1] = [("TWILIO_AUTH_TOKEN", "x")];
    let file = |ingress: &str, place: &str| {
        format!(
            "[fallback]\ntransfer = '{place}'\n\
             [[routes]]\nagent = 'a'\n{ingress}\nhandoff = '{place}'\n[agents.a]\nkind = 'local'"
        )
    };
    let keys = |ingress: &str, place: &str, variables: &[(&str, &str)]| {
        let problems = load(&file(ingress, place), variables)
            .err()
            .map_or(Vec::new(), |problems| problems.0);
        problems
            .into_iter()
            .map(|problem| problem.key)
            .collect::<Vec<_>>()
    };
    let (handoff, fallback) = ("routes[0].handoff", "fallback.transfer");
    for place in ["sip:pbx", "sips:people@pbx", "*72"] {
        assert_eq!(keys("", place, &[]), [""; 0], "no account: {place}");
        assert_eq!(keys("", place, &TOKEN), [fallback, handoff], "{place}");
        assert_eq!(keys("ingress = 'twilio'", place, &[]), [handoff], "{place}");
        assert_eq!(
            keys("ingress = 'sip'", place, &TOKEN),
            [fallback],
            "{place}"
        );
    }
    for place in ["sip:people@pbx", "+15550100"] {
        assert_eq!(
            keys("ingress = 'twilio'", place, &TOKEN),
            [""; 0],
            "{place}"
        );
    }
}

#[test]
fn a_session_is_never_shorter_than_its_shortest() {
    assert_eq!(
        problems("[sip]\nmin_session_expires = '1h'", &[]),
        ["FILE: sip.session_expires: must not be shorter than min_session_expires, 1h"]
    );
}

#[test]
fn an_address_that_is_no_address_is_not_advertised() {
    let broken = "sip.advertised_address = '0.0.0.0'\nrtp.advertised_address = '::'\n";
    assert_eq!(
        problems(broken, &[]),
        [
            "FILE: sip.advertised_address: must be an address that callers can reach",
            "FILE: rtp.advertised_address: must be an address that callers can reach",
        ]
    );
}

#[test]
fn variables_reach_sip_with_lists_of_either_kind() {
    let file = "[sip]\nlisten = ['udp:10.0.0.1:5060']\nallow = ['10.0.0.0/8']\n";
    let environment = [
        ("TANDEM__SIP__LISTEN", "udp:127.0.0.1:5070, tcp:[::1]:5070,"),
        ("TANDEM__SIP__ALLOW", ""),
        ("TANDEM__SIP__AUTH__REALM", "example.com"),
        ("TANDEM__RTP__PORTS", "30000-30999"),
        ("TANDEM__RTP__CODECS", r#"["pcma", 'pcmu']"#),
        ("TANDEM__RTP__STRICT_SOURCE", "true"),
    ];
    let config = load(file, &environment).expect("valid");
    let listen: Vec<String> = config.sip.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["udp:127.0.0.1:5070", "tcp:[::1]:5070"]);
    assert_eq!(config.sip.allow, []);
    assert_eq!(config.sip.auth.realm, "example.com");
    assert_eq!(config.rtp.ports, 30_000..=30_999);
    assert_eq!(config.rtp.codecs, [Codec::Pcma, Codec::Pcmu]);
    assert!(config.rtp.strict_source);

    for nothing in ["", "[]"] {
        let config = load(file, &[("TANDEM__SIP__LISTEN", nothing)]).expect("valid");
        assert_eq!(config.sip.listen, []);
    }
    let broken = [
        ("TANDEM__RTP__CODECS", "[]"),
        ("TANDEM__SIP__AUTH__USERS", "pbx"),
        ("TANDEM__SIP__LISTEN", "udp:here"),
    ];
    assert_eq!(
        problems(file, &broken),
        [
            r#"environment: TANDEM__SIP__LISTEN: "udp:here" must be udp, tcp or tls with an address and a port, such as "udp:127.0.0.1:5060""#,
            "environment: TANDEM__SIP__AUTH__USERS: must be tables in a file: [[sip.auth.users]]",
            "environment: TANDEM__RTP__CODECS: must have one at least",
        ]
    );
}

#[test]
fn everything_about_webrtc_is_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let text =
        "# for the shop\n  shop:of-a-file==  # until spring\r\n\nof-a-file-too, a:b:c/d+e~f\n";
    let tokens = written(&directory, "tokens", text);
    let file = format!(
        r#"
        [webrtc]
        listen = ["0.0.0.0:10443", "[::1]:10444", "127.0.0.1:0"]
        advertised_addresses = ["203.0.113.7", "203.0.113.7:30443", "2001:DB8::7", "[2001:db8::7]:30443"]
        tokens_env = "MY_TOKENS"
        tokens_file = '{tokens}'
        require_token = false
        allowed_origins = ["https://WWW.example.com:443", "http://localhost:3000", "https://[::1]:8443"]
        parameters = ["customer", "campaign"]
        stun_servers = ["stun:stun.example.com", "stun:203.0.113.9:3478"]
        turn_servers = ["turn:turn.example.com:3478?transport=udp", "turns:[2001:db8::9]:443?transport=tcp"]
        turn_secret_env = "MY_TURN_SECRET"
        turn_credential_life = "10m"
        codecs = ["PCMA", "opus"]
        opus_complexity = 10
        phone_page = false
        "#
    );
    let environment = [
        ("MY_TOKENS", " of-a-variable\tshop:of-a-variable-too,"),
        ("MY_TURN_SECRET", "hush-hush"),
    ];
    let token = |route: Option<&str>, token: &str| WhipToken {
        route: route.map(str::to_owned),
        token: Secret::new(token.to_owned()),
    };
    let advertised = |ip: &str, port| AdvertisedAddress {
        ip: ip.parse().expect("an address"),
        port,
    };
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let config = load(&file, &environment).expect("valid");
    assert_eq!(
        config.webrtc,
        Webrtc {
            listen: ["0.0.0.0:10443", "[::1]:10444", "127.0.0.1:0"]
                .map(|text| text.parse().expect("an address"))
                .to_vec(),
            advertised_addresses: vec![
                advertised("203.0.113.7", None),
                advertised("203.0.113.7", Some(30_443)),
                advertised("2001:db8::7", None),
                advertised("2001:db8::7", Some(30_443)),
            ],
            tokens_env: "MY_TOKENS".into(),
            tokens_file: Some(tokens.into()),
            tokens: vec![
                token(None, "of-a-variable"),
                token(Some("shop"), "of-a-variable-too"),
                token(Some("shop"), "of-a-file=="),
                token(None, "of-a-file-too"),
                token(Some("a:b"), "c/d+e~f"),
            ],
            require_token: false,
            allowed_origins: owned(&[
                "https://www.example.com",
                "http://localhost:3000",
                "https://[::1]:8443",
            ]),
            parameters: owned(&["customer", "campaign"]),
            stun_servers: owned(&["stun:stun.example.com", "stun:203.0.113.9:3478"]),
            turn_servers: owned(&[
                "turn:turn.example.com:3478?transport=udp",
                "turns:[2001:db8::9]:443?transport=tcp",
            ]),
            turn_secret_env: Some("MY_TURN_SECRET".into()),
            turn_secret: Some(Secret::new("hush-hush".into())),
            turn_credential_life: Duration::from_secs(600),
            codecs: vec![Codec::Pcma, Codec::Opus],
            opus_complexity: 10,
            phone_page: false,
        }
    );
    let printed = config.to_string();
    assert_eq!(load(&printed, &environment).expect("it loads"), config);
    for text in [printed, format!("{config:?}")] {
        assert!(text.contains("<secret>"), "{text}");
        for secret in ["of-a-file", "of-a-variable", "c/d+e~f", "hush-hush"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

#[test]
fn every_problem_with_webrtc_is_told_at_once_with_its_place() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = "shop:hush-hush\nhush:hush!\n:hush-hush\n#all\nhush-hush-1 hush=hush\nhush-hush-2";
    let tokens = written(&directory, "tokens", file);
    let broken = format!(
        r#"
        [sip]
        listen = ["udp:127.0.0.1:5060", "tcp:127.0.0.1:10443"]
        [webrtc]
        listen = ["127.0.0.1:10443", "0.0.0.0:10443", "0.0.0.0:5060", "localhost:1", "[::]:10443"]
        advertised_addresses = ["0.0.0.0", "[::]:1", "203.0.113.7:0", "voice.example.com"]
        tokens_file = '{tokens}'
        allowed_origins = ["*", "https://www.example.com/", "www.example.com", "ftp://a", "null", "https://a@b"]
        parameters = "customer"
        stun_servers = ["turn:a", "stun:", "stun:a:0", "stun:a?transport=udp"]
        turn_servers = ["turn:a?transport=tls", "stun:a", "turn:a"]
        turn_credential_life = "59s"
        codecs = ["opus", "G722", "vp8", "OPUS"]
        opus_complexity = 11
        phone_page = "no"
        token = "hush-hush"
        "#
    );
    let environment = [("TANDEM_WHIP_TOKENS", "hush-hush-1 hush\u{e4}hush")];
    let problems = problems(&broken, &environment);
    let entry = "must be TOKEN or ROUTE:TOKEN, the token of letters, digits and -._~+/, with = only at its end";
    assert_eq!(
        problems,
        [
            r#"FILE: webrtc.listen[3]: "localhost:1" must be an address and a port, such as "127.0.0.1:10443""#,
            "FILE: webrtc.listen: 0.0.0.0:10443 has the same port as 127.0.0.1:10443",
            "FILE: webrtc.listen: 0.0.0.0:5060 must not be the same as sip.listen, udp:127.0.0.1:5060",
            r#"FILE: webrtc.advertised_addresses[0]: "0.0.0.0" must be an address that callers can reach"#,
            r#"FILE: webrtc.advertised_addresses[1]: "[::]:1" must be an address that callers can reach"#,
            r#"FILE: webrtc.advertised_addresses[2]: "203.0.113.7:0" must be an address that callers can reach"#,
            r#"FILE: webrtc.advertised_addresses[3]: "voice.example.com" must be an IP address, perhaps with a port, such as "203.0.113.7""#,
            &format!("environment: TANDEM_WHIP_TOKENS: entry 2 {entry}"),
            &format!("FILE: webrtc.tokens_file: entry 2 {entry}"),
            &format!("FILE: webrtc.tokens_file: entry 3 {entry}"),
            "FILE: webrtc.tokens_file: entry 4 repeats an earlier token",
            &format!("FILE: webrtc.tokens_file: entry 5 {entry}"),
            r#"FILE: webrtc.stun_servers[0]: "turn:a" must be a URI such as "stun:stun.example.com:3478""#,
            r#"FILE: webrtc.stun_servers[1]: "stun:" must be a URI such as "stun:stun.example.com:3478""#,
            r#"FILE: webrtc.stun_servers[2]: "stun:a:0" must be a URI such as "stun:stun.example.com:3478""#,
            r#"FILE: webrtc.stun_servers[3]: "stun:a?transport=udp" must be a URI such as "stun:stun.example.com:3478""#,
            r#"FILE: webrtc.turn_servers[0]: "turn:a?transport=tls" must be a URI such as "turn:turn.example.com:3478?transport=udp""#,
            r#"FILE: webrtc.turn_servers[1]: "stun:a" must be a URI such as "turn:turn.example.com:3478?transport=udp""#,
            "FILE: webrtc.turn_secret_env: missing; turn_servers need it",
            r#"FILE: webrtc.allowed_origins[1]: "https://www.example.com/" must be "*" or an origin such as "https://www.example.com", without a path"#,
            r#"FILE: webrtc.allowed_origins[2]: "www.example.com" must be "*" or an origin such as "https://www.example.com", without a path"#,
            r#"FILE: webrtc.allowed_origins[3]: "ftp://a" must be "*" or an origin such as "https://www.example.com", without a path"#,
            r#"FILE: webrtc.allowed_origins[4]: "null" must be "*" or an origin such as "https://www.example.com", without a path"#,
            r#"FILE: webrtc.allowed_origins[5]: "https://a@b" must be "*" or an origin such as "https://www.example.com", without a path"#,
            "FILE: webrtc.parameters: must be a list of strings",
            "FILE: webrtc.turn_credential_life: must be from 1m to 1day",
            r#"FILE: webrtc.codecs[1]: "G722" is none of opus, pcmu, pcma: browsers do not offer it any more"#,
            r#"FILE: webrtc.codecs[2]: "vp8" is none of opus, pcmu, pcma"#,
            "FILE: webrtc.codecs: opus is there twice",
            "FILE: webrtc.opus_complexity: must be from 0 to 10",
            "FILE: webrtc.phone_page: must be true or false",
            "FILE: webrtc.token: unknown key; known here: listen, advertised_addresses, tokens_env, tokens_file, require_token, stun_servers, turn_servers, turn_secret_env, allowed_origins, parameters, turn_credential_life, codecs, opus_complexity, phone_page",
        ]
    );
    assert!(!problems.concat().contains("hush"));
}

#[test]
fn a_token_is_required_wherever_others_can_call_by_webrtc() {
    let tokens = ("TANDEM_WHIP_TOKENS", "12345");
    let signed = ("TWILIO_AUTH_TOKEN", "12345");
    let open = "[http]\nlisten = '0.0.0.0:8080'\n";
    let tunnel = "[http]\npublic_url = 'https://voice.example.com'\n";
    for file in [open, tunnel] {
        // Without tokens nobody can call; a gateway for telephones alone need not say anything about it.
        for none in [&[signed][..], &[signed, ("TANDEM_WHIP_TOKENS", " , ")]] {
            let webrtc = load(file, none).expect("valid").webrtc;
            assert!(webrtc.require_token && !webrtc.is_callable());
        }
        let webrtc = load(file, &[signed, tokens]).expect("valid").webrtc;
        assert!(webrtc.require_token && webrtc.is_callable());
        let without = format!("{file}[webrtc]\nlisten = []\n");
        assert!(
            !load(&without, &[signed])
                .expect("valid")
                .webrtc
                .is_callable()
        );
        let allowed = format!("{file}[webrtc]\nrequire_token = false\n");
        let webrtc = load(&allowed, &[signed, tokens]).expect("valid").webrtc;
        assert!(!webrtc.require_token && webrtc.is_callable());
    }
    assert!(load("", &[tokens]).expect("valid").webrtc.require_token);
    assert!(load("", &[]).expect("valid").webrtc.is_callable());
    assert_eq!(
        problems("[webrtc]\nrequire_token = true", &[]),
        ["FILE: webrtc.require_token: needs tokens: set TANDEM_WHIP_TOKENS or tokens_file"]
    );
}

#[test]
fn tokens_that_are_named_must_be_there() {
    let directory = tempfile::tempdir().expect("a directory");
    let comments = written(&directory, "comments", "# none yet\n \n");
    let long = written(&directory, "long", &"x".repeat(65_537));
    let problem = |key: &str, value: &str| {
        let file = format!("[webrtc]\n{key} = '{value}'");
        problems(&file, &[("TANDEM_WHIP_TOKENS", "12345")])
    };
    assert_eq!(
        problem("tokens_env", "OTHER"),
        ["FILE: webrtc.tokens_env: the environment variable OTHER is not set"]
    );
    assert_eq!(
        problem("tokens_env", "12-345"),
        ["FILE: webrtc.tokens_env: must be the name of an environment variable"]
    );
    assert_eq!(
        problem("tokens_file", &comments),
        ["FILE: webrtc.tokens_file: there is no token in it"]
    );
    assert_eq!(
        problem("tokens_file", &long),
        [format!(
            "FILE: webrtc.tokens_file: {long:?} is longer than 65536 bytes"
        )]
    );
    let [missing] = &problem("tokens_file", "nowhere")[..] else {
        panic!("one problem");
    };
    let begins = r#"FILE: webrtc.tokens_file: "nowhere" cannot be read: "#;
    assert!(missing.starts_with(begins), "{missing}");

    let turn = "[webrtc]\nturn_servers = ['turn:a']\nturn_secret_env = 'OTHER'";
    assert_eq!(
        problems(turn, &[("OTHER", "")]),
        ["FILE: webrtc.turn_secret_env: the environment variable OTHER is not set"]
    );
}

#[test]
fn one_token_may_be_good_for_two_routes_but_not_twice_for_one() {
    let with = |tokens: &str| load("", &[("TANDEM_WHIP_TOKENS", tokens)]);
    assert_eq!(with("a:T b:T").expect("valid").webrtc.tokens.len(), 2);
    for repeated in ["a:T a:T", "T T", "T a:T", "a:T T"] {
        let problems = with(repeated).expect_err(repeated).to_string();
        let told = "environment: TANDEM_WHIP_TOKENS: entry 2 repeats an earlier token";
        assert_eq!(problems, told, "{repeated}");
    }
    let many: Vec<String> = (0..1_001).map(|number| number.to_string()).collect();
    let problems = with(&many.join(",")).expect_err("too many").to_string();
    assert_eq!(
        problems,
        "environment: TANDEM_WHIP_TOKENS: there are more than 1000 tokens"
    );
}

#[test]
fn webrtc_listens_where_it_is_told_in_any_way_that_says_so() {
    let listen = |file: &str, environment: &[(&str, &str)]| {
        let config = load(file, environment).expect("valid");
        let listen = config.webrtc.listen.iter().map(ToString::to_string);
        listen.collect::<Vec<_>>()
    };
    let file = "[webrtc]\nlisten = '127.0.0.1:1'";
    assert_eq!(listen(file, &[]), ["127.0.0.1:1"]);
    let variable = |text| [("TANDEM__WEBRTC__LISTEN", text)];
    assert_eq!(listen(file, &variable("[::1]:2")), ["[::1]:2"]);
    assert_eq!(
        listen(file, &variable("[::1]:2, 127.0.0.1:2")),
        ["[::1]:2", "127.0.0.1:2"]
    );
    assert!(listen(file, &variable("")).is_empty());
    assert!(listen("[webrtc]\nlisten = []", &[]).is_empty());
    assert_eq!(
        problems("[webrtc]\nlisten = 10443", &[]),
        ["FILE: webrtc.listen: must be a list of strings"]
    );
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

/// Writes a file there; its path.
fn written(directory: &tempfile::TempDir, name: &str, text: &str) -> String {
    let path = directory.path().join(name);
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

/// The lines that loading tells; the file is called FILE.
/// A WAV file of this format tag, channels, rate and bits, and its path.
fn wav(
    directory: &tempfile::TempDir,
    name: &str,
    tag: u16,
    channels: u16,
    rate: u32,
    bits: u16,
    samples: &[u8],
) -> String {
    let block = channels * bits / 8;
    let mut bytes = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0".to_vec();
    bytes.extend([tag, channels].map(u16::to_le_bytes).concat());
    bytes.extend(
        [rate, rate * u32::from(block)]
            .map(u32::to_le_bytes)
            .concat(),
    );
    bytes.extend([block, bits].map(u16::to_le_bytes).concat());
    bytes.extend(b"data");
    bytes.extend((samples.len() as u32).to_le_bytes());
    bytes.extend(samples);
    let path = directory.path().join(name);
    std::fs::write(&path, bytes).expect("written");
    path.display().to_string()
}

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
