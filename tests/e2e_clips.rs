//! Clips and tools over real sockets: a call's errands against servers on loopback ports, some of which mean ill.
//!
//! Loopback stands for a private network here, and is let in by `allow_private` where a test needs an answer.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;
use serde_json::json;
use tandem::config;
use tandem::engine::call::end::EndReason;
use tandem::engine::call::event::Answer;
use tandem::engine::call::event::BackendEvent;
use tandem::engine::call::event::ClipId;
use tandem::engine::call::event::Event;
use tandem::engine::call::event::Message;
use tandem::engine::call::event::OpenTurn;
use tandem::engine::call::event::StreamId;
use tandem::engine::call::event::ToolCall;
use tandem::engine::call::event::ToolResult;
use tandem::engine::call::event::TurnInput;
use tandem::engine::call::settings::CallSettings;
use tandem::engine::call::settings::LegTraits;
use tandem::engine::media::frame::SampleRate;
use tandem::engine::media::ring;
use tandem::io::backend::Session;
use tandem::io::backend::TurnStream;
use tandem::io::backend::auth::Auth;
use tandem::io::backend::endpoint::GoogleEnvironment;
use tandem::io::backend::endpoint::Trust;
use tandem::io::clips::Account;
use tandem::io::clips::Clips;
use tandem::io::driver;
use tandem::io::driver::Order;
use tandem::io::driver::Outcome;
use tandem::io::errands::Errands;
use tandem::io::errands::Services;
use tandem::io::journal::Journal;
use tandem::io::leg;
use tandem::io::leg::IngressKind;
use tandem::io::leg::LegInfo;
use tandem::io::leg::LegOutput;
use tandem::io::leg::LegPort;
use tandem::io::tools::Tools;
use tandem::io::web::Certificate;
use tandem::io::web::Lookup;
use tandem::io::web::SystemLookup;
use tandem::io::web::Web;
use tandem::io::web::WebSettings;
use tempfile::TempDir;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio::time::timeout;

/// What every wait of a test is limited by.
const PATIENCE: Duration = Duration::from_secs(10);
/// The tests' own limit for a clip, far below what is usual.
const MAX_BYTES: usize = 64 * 1024;

// ---- clips

#[tokio::test]
async fn a_clip_is_fetched_once_and_then_kept() {
    let server = Server::start(|_| ok("a clip")).await;
    let world = World::open();
    let uri = server.url("/x.wav?y=1");
    assert_eq!(world.fetch(&uri).await, Ok("a clip".into()));
    assert_eq!(world.fetch(&uri).await, Ok("a clip".into()));
    assert_eq!(server.requests(), ["GET /x.wav?y=1"]);
    // Another query is another clip.
    assert_eq!(
        world.fetch(&server.url("/x.wav?y=2")).await,
        Ok("a clip".into())
    );
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn what_may_not_be_stored_is_fetched_again() {
    let server = Server::start(|_| {
        "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 1\r\n\r\nx".into()
    })
    .await;
    let world = World::open();
    for _ in 0..2 {
        assert_eq!(world.fetch(&server.url("/x")).await, Ok("x".into()));
    }
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn calls_that_want_the_same_share_one_fetch() {
    let server = Server::slow(Duration::from_millis(300), |_| ok("a clip")).await;
    let world = World::open();
    let uri = server.url("/x.wav");
    let (mut first, mut second, mut third) = (world.call(), world.call(), world.call());
    for call in [&mut first, &mut second, &mut third] {
        call.fetch(ClipId(1), &uri);
    }
    server.has_been_asked().await;
    // The one that began it hangs up, and the others do not notice.
    drop(first);
    assert_eq!(fetched(&mut second).await, Ok("a clip".into()));
    assert_eq!(fetched(&mut third).await, Ok("a clip".into()));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_fetch_that_nobody_waits_for_any_more_is_given_up() {
    let server = Server::slow(PATIENCE, |_| ok("too late")).await;
    let world = World::open();
    let mut call = world.call();
    call.fetch(ClipId(1), &server.url("/x.wav"));
    server.has_been_asked().await;
    assert_eq!(server.open.load(Ordering::SeqCst), 1);
    drop(call);
    server.is_left().await;
}

#[tokio::test]
async fn a_server_that_is_too_slow_is_not_waited_for() {
    let world = World::open();
    // One does not answer, the other begins to and then stops.
    let silent = Server::slow(PATIENCE, |_| ok("too late")).await;
    let stuck =
        Server::start(|_| "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf".into()).await;
    for server in [silent, stuck] {
        let begun = Instant::now();
        let refused = world.fetch(&server.url("/x")).await;
        assert_eq!(refused, Err("not here within 1s".to_owned()));
        let took = begun.elapsed();
        assert!(took < Duration::from_millis(2_500), "{took:?}");
    }
}

#[tokio::test]
async fn a_clip_that_is_too_large_is_refused_whatever_its_server_says_of_it() {
    let largest = "x".repeat(MAX_BYTES);
    let large = format!("{largest}x");
    let chunked = |body: &str| {
        let length = body.len();
        format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"
        )
    };
    let until_close = |body: &str| format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}");
    let world = World::open();
    for (answer, fits) in [
        (ok(&largest), true),
        (chunked(&largest).into_bytes(), true),
        (ok(&large), false),
        (chunked(&large).into_bytes(), false),
        (until_close(&large).into_bytes(), false),
    ] {
        let head = String::from_utf8_lossy(&answer[..60]).into_owned();
        let server = Server::start(move |_| answer.clone()).await;
        let had = world.fetch(&server.url("/x")).await;
        if fits {
            assert_eq!(had.map(|clip| clip.len()), Ok(MAX_BYTES), "{head}");
        } else {
            assert_eq!(
                had,
                Err("it is larger than 65536 bytes".to_owned()),
                "{head}"
            );
        }
    }
}

#[tokio::test]
async fn errors_are_one_sentence_and_are_not_kept() {
    let broken = Arc::new(AtomicUsize::new(1));
    let is_broken = broken.clone();
    let server = Server::start(move |_| {
        if is_broken.swap(0, Ordering::SeqCst) == 1 {
            "HTTP/1.1 503 Sorry\r\nContent-Length: 0\r\n\r\n".into()
        } else {
            ok("a clip")
        }
    })
    .await;
    let world = World::open();
    let uri = server.url("/x?secret=1");
    assert_eq!(
        world.fetch(&uri).await,
        Err("the server answered 503".to_owned())
    );
    assert_eq!(world.fetch(&uri).await, Ok("a clip".into()));

    let nobody = "http://127.0.0.1:1/x?secret=1";
    let refused = world.fetch(nobody).await.expect_err("nobody is there");
    assert!(
        !refused.contains('\n') && !refused.contains("secret"),
        "{refused}"
    );
}

#[tokio::test]
async fn redirects_are_followed_three_times() {
    let server = Server::start(|request| {
        let hops: u32 = request
            .rsplit('/')
            .next()
            .expect("a path")
            .parse()
            .expect("a number");
        match hops {
            0 => ok("found"),
            hops => redirect(&format!("/{}", hops - 1)),
        }
    })
    .await;
    let world = World::open();
    assert_eq!(world.fetch(&server.url("/3")).await, Ok("found".into()));
    assert_eq!(
        world.fetch(&server.url("/4")).await,
        Err("more than 3 redirects".to_owned())
    );
    assert_eq!(server.requests().len(), 8);
}

#[tokio::test]
async fn a_redirect_leads_no_further_than_the_first_address_may() {
    let lookup = Names::new(|_, _| vec![Ipv4Addr::new(169, 254, 169, 254).into()]);
    let world = World::with(|web, _| web.lookup = lookup.clone());
    for target in [
        "http://169.254.169.254/computeMetadata/v1/",
        "http://metadata.test/",
        "http://[::ffff:169.254.169.254]/",
        "http://user:word@127.0.0.1/",
        "http://8.8.8.8/",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
    ] {
        let server = Server::start(move |_| redirect(target)).await;
        let refused = world.fetch(&server.url("/x")).await;
        let reason = refused.expect_err(target);
        assert!(
            [
                "may not be fetched from",
                "must not have a user",
                "only https://"
            ]
            .iter()
            .any(|said| reason.contains(said)),
            "{target}: {reason}"
        );
    }
}

// ---- private addresses

#[tokio::test]
async fn without_leave_no_private_address_is_connected_to_under_any_name() {
    let server = Server::start(|_| ok("a secret")).await;
    let port = server.address.port();
    let lookup = Names::new(|name, _| match name {
        "private.test" => vec![Ipv4Addr::LOCALHOST.into()],
        // One address of ours among public ones.
        "mixed.test" => vec![Ipv4Addr::new(8, 8, 8, 8).into(), Ipv4Addr::LOCALHOST.into()],
        "metadata.test" => vec![Ipv4Addr::new(169, 254, 169, 254).into()],
        other => panic!("{other}"),
    });
    let world = World::with(|web, _| {
        web.allow_private = false;
        web.lookup = lookup.clone();
    });
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "10.0.0.1",
        "169.254.169.254",
        "[fe80::1]",
        "[fd00::1]",
        "100.64.0.1",
        "0.0.0.0",
        "private.test",
        "mixed.test",
        "metadata.test",
    ] {
        let reason = world.fetch(&format!("https://{host}:{port}/x")).await;
        let reason = reason.expect_err(host);
        assert!(
            reason.ends_with("may not be fetched from"),
            "{host}: {reason}"
        );
        // In the clear nothing is asked at all.
        let reason = world.fetch(&format!("http://{host}:{port}/x")).await;
        assert_eq!(reason, Err("only https:// is fetched from".to_owned()));
    }
    let reason = world
        .fetch(&format!("https://a:b@private.test:{port}/x"))
        .await;
    assert_eq!(
        reason,
        Err("a URL must not have a user or a password".to_owned())
    );
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
    assert_eq!(lookup.asked.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn the_address_that_was_judged_is_the_one_that_is_connected_to() {
    let server = Server::start(|_| ok("a clip")).await;
    // The second time the name leads to where nobody may be sent.
    let lookup = Names::new(|_, times| {
        let last = if times == 0 { 1 } else { 254 };
        let network = if times == 0 {
            [127, 0, 0]
        } else {
            [169, 254, 169]
        };
        let [a, b, c] = network;
        vec![Ipv4Addr::new(a, b, c, last).into()]
    });
    let world = World::with(|web, _| web.lookup = lookup.clone());
    let uri = |path| format!("http://rebinding.test:{}{path}", server.address.port());
    assert_eq!(world.fetch(&uri("/1")).await, Ok("a clip".into()));
    assert_eq!(lookup.asked.load(Ordering::SeqCst), 1);
    // The connection that is kept leads to the address that was judged, too; on a new one the name is judged anew.
    assert_eq!(world.fetch(&uri("/2")).await, Ok("a clip".into()));
    assert_eq!(lookup.asked.load(Ordering::SeqCst), 1);
    let again = World::with(|web, _| web.lookup = lookup.clone());
    let reason = again
        .fetch(&uri("/3"))
        .await
        .expect_err("it leads elsewhere");
    assert_eq!(
        reason,
        "rebinding.test leads to an address that may not be fetched from"
    );
    assert_eq!(server.requests(), ["GET /1", "GET /2"]);
}

#[tokio::test]
async fn a_certificate_must_be_of_someone_we_trust_and_of_that_name() {
    let authority = Authority::new();
    let server = Server::secure(&authority, "clips.test", |_| ok("a clip")).await;
    let port = server.address.port();
    let lookup = Names::new(|_, _| vec![Ipv4Addr::LOCALHOST.into()]);
    let trusting = World::with(|web, _| {
        web.lookup = lookup.clone();
        web.roots = vec![authority.certificate()];
    });
    let uri = format!("https://clips.test:{port}/x.wav");
    assert_eq!(trusting.fetch(&uri).await, Ok("a clip".into()));
    let other = format!("https://other.test:{port}/x.wav");
    assert!(trusting.fetch(&other).await.is_err());
    let stranger = World::with(|web, _| web.lookup = lookup.clone());
    assert!(stranger.fetch(&uri).await.is_err());
    assert_eq!(server.requests(), ["GET /x.wav"]);
}

// ---- other places

#[tokio::test]
async fn a_name_is_a_file_among_the_prompts_and_nothing_else() {
    let world = World::open();
    let folder = world.folder.path();
    let prompts = folder.join("prompts");
    std::fs::create_dir_all(prompts.join("folder.wav")).expect("a folder");
    std::fs::write(prompts.join("wait.wav"), "please wait").expect("a prompt");
    std::fs::write(prompts.join("large.wav"), vec![0; MAX_BYTES + 1]).expect("a prompt");
    std::fs::write(folder.join("secret.wav"), "a secret").expect("a file");

    assert_eq!(world.fetch("wait.wav").await, Ok("please wait".into()));
    // What is replaced is heard at once.
    std::fs::write(prompts.join("wait.wav"), "wait, please").expect("a prompt");
    assert_eq!(world.fetch("wait.wav").await, Ok("wait, please".into()));

    let outside = folder.join("secret.wav");
    let outside = outside.to_str().expect("a path");
    for name in [
        "../secret.wav",
        "..",
        "",
        "folder.wav/../../secret.wav",
        outside,
    ] {
        assert_eq!(
            world.fetch(name).await,
            Err("it is neither a URL nor the name of a file among the prompts".to_owned()),
            "{name}"
        );
    }
    assert_eq!(
        world.fetch("folder.wav").await,
        Err("\"folder.wav\" is not a file".to_owned())
    );
    assert_eq!(
        world.fetch("large.wav").await,
        Err("it is larger than 65536 bytes".to_owned())
    );
    let missing = world.fetch("none.wav").await.expect_err("there is none");
    assert!(missing.starts_with("no prompt \"none.wav\": "), "{missing}");
}

#[tokio::test]
async fn an_object_is_fetched_with_the_agents_own_credentials_and_kept_for_it_alone() {
    let metadata = Server::start(|_| {
        let token = r#"{"access_token":"tok","expires_in":3600,"token_type":"Bearer"}"#;
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{token}",
            token.len()
        )
        .into()
    })
    .await;
    let storage = Server::start(|_| {
        "HTTP/1.1 200 OK\r\nCache-Control: private, max-age=0\r\nContent-Length: 6\r\n\r\na clip"
            .into()
    })
    .await;
    // Private addresses are not allowed: Google's own host needs no leave.
    let mut world = World::with(|web, _| web.allow_private = false);
    world.use_storage(&storage);
    let environment = GoogleEnvironment {
        metadata_host: Some(metadata.address.to_string()),
        ..GoogleEnvironment::default()
    };
    world.account.auth =
        Arc::new(Auth::new("a", None, &environment, Trust::Google).expect("credentials"));

    let uri = "gs://my-bucket/a folder/x.wav";
    assert_eq!(world.fetch(uri).await, Ok("a clip".into()));
    assert_eq!(world.fetch(uri).await, Ok("a clip".into()));
    let asked = "GET /storage/v1/b/my-bucket/o/a%20folder%2Fx.wav?alt=media";
    assert_eq!(storage.requests(), [asked]);
    assert_eq!(
        storage.header("authorization").as_deref(),
        Some("Bearer tok")
    );

    // An agent without credentials asks as anybody may.
    world.account = anonymous("b");
    assert_eq!(world.fetch(uri).await, Ok("a clip".into()));
    assert_eq!(storage.requests(), [asked, asked]);
    assert_eq!(storage.header("authorization"), None);
}

#[tokio::test]
async fn credentials_are_not_carried_elsewhere_by_a_redirect() {
    let elsewhere = Server::start(|_| ok("a clip")).await;
    let target = elsewhere.url("/x");
    let storage = Server::start(move |_| redirect(&target)).await;
    let mut world = World::open();
    world.use_storage(&storage);
    assert_eq!(
        world.fetch("gs://bucket/x").await,
        Err("the server answered 302".to_owned())
    );
    assert_eq!(elsewhere.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_call_that_wants_too_much_at_once_is_told_so() {
    let server = Server::slow(PATIENCE, |_| ok("too late")).await;
    let mut call = World::open().call();
    for number in 0..40 {
        call.fetch(ClipId(number), &server.url(&format!("/{number}")));
    }
    let mut refused = Vec::new();
    while refused.len() < 8 {
        match next(&mut call).await {
            Event::Fetched(clip, Err(reason)) => {
                assert_eq!(reason, "the call waits for too many others already");
                refused.push(clip);
            }
            other => panic!("{other:?}"),
        }
    }
    refused.sort_unstable();
    assert_eq!(refused, (32..40).map(ClipId).collect::<Vec<_>>());
}

// ---- tools

#[tokio::test]
async fn a_tool_is_sent_its_parameters_and_its_answer_comes_back() {
    let server = Server::start(|_| ok(r#"{"degrees": 21}"#)).await;
    let world = World::with_tool(&server.url("/weather"));
    assert_eq!(
        world.run("tools/weather").await,
        Ok(json!({ "degrees": 21 }))
    );
    assert_eq!(server.requests(), ["POST /weather"]);
    assert_eq!(
        server.body(),
        json!({ "tool": "tools/weather", "action": "look", "parameters": { "place": "Köln" } })
    );
    assert_eq!(server.header("x-tandem-call-id").as_deref(), Some("call-1"));
    assert_eq!(
        server.header("content-type").as_deref(),
        Some("application/json")
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_tool_is_one_sentence() {
    let large = ok(&format!("{{\"x\": \"{}\"}}", "x".repeat(256 * 1024)));
    for (answer, expected) in [
        (
            "HTTP/1.1 500 Sorry\r\nContent-Length: 0\r\n\r\n".into(),
            "the server answered 500",
        ),
        (ok("<html>"), "the tool answered with what is not JSON"),
        (ok("[1]"), "the tool answered with JSON that is no object"),
        (ok(""), "the tool answered with what is not JSON"),
        (large, "it is larger than 262144 bytes"),
        (redirect("/elsewhere"), "the server answered 302"),
    ] {
        let server = Server::start(move |_| answer.clone()).await;
        let world = World::with_tool(&server.url("/"));
        assert_eq!(world.run("tools/weather").await, Err(expected.to_owned()));
        assert_eq!(server.requests().len(), 1, "{expected}: it is asked once");
    }
    let broken = Server::start(|_| "no HTTP at all".into()).await;
    let world = World::with_tool(&broken.url("/"));
    let reason = world.run("tools/weather").await.expect_err("it is broken");
    assert!(!reason.contains('\n'), "{reason}");
    assert_eq!(
        world.run("tools/other").await,
        Err("no such tool is configured".to_owned())
    );
}

#[tokio::test]
async fn a_tool_that_is_too_slow_is_not_waited_for_nor_asked_again() {
    let server = Server::slow(PATIENCE, |_| ok("{}")).await;
    let world = World::with_tool(&server.url("/"));
    assert_eq!(
        world.run("tools/weather").await,
        Err("the tool did not answer within 1s".to_owned())
    );
    assert_eq!(server.requests().len(), 1);
    server.is_left().await;
}

#[tokio::test]
async fn a_tool_on_a_private_network_needs_leave() {
    let server = Server::start(|_| ok("{}")).await;
    let mut world = World::with(|web, _| web.allow_private = false);
    world.add_tool(&format!("https://{}/", server.address));
    assert_eq!(
        world.run("tools/weather").await,
        Err("127.0.0.1 leads to an address that may not be fetched from".to_owned())
    );
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
}

// ---- in a call

#[tokio::test]
async fn the_caller_hears_the_clip_that_the_agent_names() {
    let tone = tone();
    let served = tone.clone();
    let server = Server::start(move |_| {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            served.len()
        );
        [head.as_bytes(), &served].concat()
    })
    .await;
    let world = World::open();
    std::fs::create_dir_all(world.folder.path().join("prompts")).expect("a folder");
    std::fs::write(world.folder.path().join("prompts/tone.wav"), &tone).expect("a prompt");
    for uri in [server.url("/tone.wav"), "tone.wav".to_owned()] {
        let play = Message::PlayAudio {
            uri: uri.clone(),
            interruptible: true,
        };
        let mut call = world.begin(vec![play]);
        let heard = call.hear(TONE_SAMPLES).await;
        assert!(loudness(&heard, TONE_HZ) > 0.9, "{uri}");
        assert!(loudness(&heard, TONE_HZ * 1.5) < 0.01, "{uri}");
        call.stop().await;
    }
}

#[tokio::test]
async fn what_came_of_a_tool_goes_back_to_the_agent() {
    let server = Server::start(|_| ok(r#"{"degrees": 21}"#)).await;
    let world = World::with_tool(&server.url("/"));
    let mut call = world.begin(vec![Message::ToolCall(ToolCall {
        tool: "tools/weather".to_owned(),
        action: "look".to_owned(),
        parameters: json!({ "place": "Köln" }),
    })]);
    assert_eq!(call.turn().await, TurnInput::Event("WELCOME".to_owned()));
    let result = ToolResult {
        tool: "tools/weather".to_owned(),
        action: "look".to_owned(),
        outcome: Ok(json!({ "degrees": 21 })),
    };
    assert_eq!(call.turn().await, TurnInput::ToolResult(result));
    call.stop().await;
}

#[tokio::test]
async fn a_call_that_ends_gives_up_what_is_under_way() {
    let server = Server::slow(PATIENCE, |_| ok("too late")).await;
    let call = World::open().begin(vec![Message::PlayAudio {
        uri: server.url("/x.wav"),
        interruptible: true,
    }]);
    server.has_been_asked().await;
    call.stop().await;
    server.is_left().await;
}

// ---- helpers

/// The tests' tone, and how long it lasts.
const TONE_HZ: f64 = 440.0;
const TONE_SAMPLES: usize = 4_000;

/// Half a second of a tone at 8 kHz, as a WAV file.
fn tone() -> Vec<u8> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = io::Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut file, spec).expect("a file");
    for at in 0..TONE_SAMPLES {
        let phase = at as f64 * TONE_HZ * std::f64::consts::TAU / 8_000.0;
        writer
            .write_sample((phase.sin() * 8_000.0) as i16)
            .expect("written");
    }
    writer.finalize().expect("written");
    file.into_inner()
}

/// How much of the sound is at this frequency, from 0 to 1.
fn loudness(samples: &[i16], hz: f64) -> f64 {
    let (mut sine, mut cosine, mut all) = (0.0, 0.0, 0.0);
    for (at, sample) in samples.iter().enumerate() {
        let phase = at as f64 * hz * std::f64::consts::TAU / 8_000.0;
        let sample = f64::from(*sample);
        sine += sample * phase.sin();
        cosine += sample * phase.cos();
        all += sample * sample;
    }
    2.0 * (sine * sine + cosine * cosine) / (all * samples.len() as f64)
}

/// A call with an agent that answers its greeting in one way and then listens.
struct RunningCall {
    port: LegPort,
    turns: mpsc::UnboundedReceiver<TurnInput>,
    orders: mpsc::Sender<Order>,
    driver: JoinHandle<Outcome>,
}

impl RunningCall {
    async fn turn(&mut self) -> TurnInput {
        let turn = timeout(PATIENCE, self.turns.recv()).await;
        turn.expect("in time").expect("the call lives")
    }

    /// What the caller hears, from the first sound on.
    async fn hear(&mut self, samples: usize) -> Vec<i16> {
        let mut heard = Vec::new();
        while heard.len() < samples {
            let output = timeout(PATIENCE, self.port.output.recv()).await;
            if let Some(LegOutput::Audio(frame)) = output.expect("in time") {
                let is_silent = frame.samples().iter().all(|sample| *sample == 0);
                if !heard.is_empty() || !is_silent {
                    heard.extend_from_slice(frame.samples());
                }
            }
        }
        heard
    }

    async fn stop(self) {
        let stop = Order::Stop(EndReason::Operator);
        self.orders.send(stop).await.expect("the call lives");
        let outcome = timeout(PATIENCE, self.driver).await;
        let outcome = outcome.expect("in time").expect("no panic");
        assert_eq!(outcome.reason, EndReason::Operator);
    }
}

/// Answers the first turn with these messages, and no other.
struct Agent {
    messages: Vec<Message>,
    turns: mpsc::UnboundedSender<TurnInput>,
    /// What nobody listens to.
    heard: Vec<ring::Receiver<u8>>,
}

impl Session for Agent {
    fn open(
        &mut self,
        turn: OpenTurn,
        events: mpsc::Sender<(StreamId, BackendEvent)>,
    ) -> TurnStream {
        let stream = turn.stream;
        let is_speech = matches!(turn.input, TurnInput::Speech { .. });
        // The test may have seen enough.
        let _ = self.turns.send(turn.input);
        let messages = std::mem::take(&mut self.messages);
        let task = tokio::spawn(async move {
            if is_speech || messages.is_empty() {
                std::future::pending::<()>().await;
            }
            let answer = BackendEvent::Answer(Box::new(Answer {
                messages,
                ..Answer::default()
            }));
            for event in [answer, BackendEvent::Closed(None)] {
                let _ = events.send((stream, event)).await;
            }
        });
        let audio = is_speech.then(|| {
            let (audio, heard) = ring::ring(64 * 1024);
            self.heard.push(heard);
            audio
        });
        TurnStream::new(audio, task.abort_handle())
    }
}

/// What an agent's calls have.
struct World {
    folder: TempDir,
    settings: config::Clips,
    web: Arc<Web>,
    clips: Clips,
    tools: Tools,
    account: Account,
}

impl World {
    /// Loopback is allowed.
    fn open() -> Self {
        Self::with(|_, _| ())
    }

    fn with(change: impl FnOnce(&mut WebSettings, &mut config::Clips)) -> Self {
        let folder = TempDir::new().expect("a folder");
        let mut web = WebSettings {
            allow_private: true,
            lookup: Arc::new(SystemLookup),
            roots: Vec::new(),
        };
        let mut settings = config::Clips {
            directory: folder.path().join("prompts"),
            timeout: Duration::from_secs(1),
            max_bytes: MAX_BYTES,
            ..config::Clips::default()
        };
        change(&mut web, &mut settings);
        let web = Arc::new(Web::new(&web));
        Self {
            folder,
            clips: Clips::new(settings.clone(), web.clone()),
            settings,
            tools: Tools::new(web.clone(), &BTreeMap::new()).expect("no tools"),
            web,
            account: anonymous("a"),
        }
    }

    fn with_tool(url: &str) -> Self {
        let mut world = Self::open();
        world.add_tool(url);
        world
    }

    fn add_tool(&mut self, url: &str) {
        let tools = BTreeMap::from([("tools/weather".to_owned(), url.to_owned())]);
        self.tools =
            Tools::with_timeout(self.web.clone(), &tools, Duration::from_secs(1)).expect("a URL");
    }

    fn use_storage(&mut self, server: &Server) {
        let storage = format!("http://{}", server.address);
        self.clips = Clips::with_storage(self.settings.clone(), self.web.clone(), storage);
    }

    fn call(&self) -> Errands {
        let services = Services {
            clips: self.clips.clone(),
            tools: self.tools.clone(),
            account: self.account.clone(),
        };
        services.for_call("call-1".to_owned())
    }

    /// A call whose agent answers the greeting with these messages.
    fn begin(&self, messages: Vec<Message>) -> RunningCall {
        let traits = LegTraits {
            rate: SampleRate::HZ_8000,
            lead: Duration::ZERO,
            confirms_playout: false,
            continuous: false,
            rings: None,
            transfers: false,
            dials: false,
        };
        let (leg, port) = leg::leg(LegInfo {
            ingress: IngressKind::Twilio,
            external_id: "CA1".to_owned(),
            began: Instant::now(),
            from: String::new(),
            to: String::new(),
            domain: String::new(),
            headers: Vec::new(),
            parameters: BTreeMap::new(),
            traits,
        });
        let settings = CallSettings {
            tools: self.tools.names(),
            ..CallSettings::new(traits)
        };
        let (sender, turns) = mpsc::unbounded_channel();
        let agent = Agent {
            messages,
            turns: sender,
            heard: Vec::new(),
        };
        let (orders, ordered) = mpsc::channel(1);
        let driver = tokio::spawn(driver::drive(
            leg,
            settings,
            Box::new(agent),
            self.call(),
            Journal::new(),
            ordered,
        ));
        RunningCall {
            port,
            turns,
            orders,
            driver,
        }
    }

    async fn fetch(&self, uri: &str) -> Result<Bytes, String> {
        let mut call = self.call();
        call.fetch(ClipId(7), uri);
        let outcome = fetched(&mut call).await;
        assert!(call.next().await.is_none(), "nobody else is out");
        outcome
    }

    async fn run(&self, tool: &str) -> Result<Value, String> {
        let mut call = self.call();
        call.run_tool(ToolCall {
            tool: tool.to_owned(),
            action: "look".to_owned(),
            parameters: json!({ "place": "Köln" }),
        });
        match next(&mut call).await {
            Event::ToolEnded(result) => {
                assert_eq!((&*result.tool, &*result.action), (tool, "look"));
                result.outcome
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn next(call: &mut Errands) -> Event {
    let event = timeout(PATIENCE, call.next()).await;
    event.expect("in time").expect("somebody is out")
}

async fn fetched(call: &mut Errands) -> Result<Bytes, String> {
    match next(call).await {
        Event::Fetched(_, outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

fn anonymous(agent: &str) -> Account {
    let environment = GoogleEnvironment::default();
    let auth = Auth::new(agent, None, &environment, Trust::PlainText).expect("none");
    Account {
        agent: agent.to_owned(),
        auth: Arc::new(auth),
    }
}

type NameServer = dyn Fn(&str, usize) -> Vec<IpAddr> + Send + Sync;

/// A name server that can change its mind: it is told the name and how often it was asked before.
struct Names {
    asked: AtomicUsize,
    answer: Box<NameServer>,
}

impl Names {
    fn new(answer: impl Fn(&str, usize) -> Vec<IpAddr> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            asked: AtomicUsize::new(0),
            answer: Box::new(answer),
        })
    }
}

impl Lookup for Names {
    fn lookup(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let times = self.asked.fetch_add(1, Ordering::SeqCst);
        let addresses = (self.answer)(&name, times);
        async { Ok(addresses) }.boxed()
    }
}

/// A certificate authority of the test's own.
struct Authority {
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut parameters = rcgen::CertificateParams::default();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = parameters.self_signed(&key).expect("a certificate");
        Self {
            certificate,
            issuer: rcgen::Issuer::new(parameters, key),
        }
    }

    fn certificate(&self) -> Certificate {
        Certificate::from_der(self.certificate.der()).expect("a certificate")
    }

    fn server(&self, name: &str) -> rustls::ServerConfig {
        let parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = parameters
            .signed_by(&key, &self.issuer)
            .expect("a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .expect("a pair")
    }
}

/// A server that answers in bytes, so that it can be as wrong as it likes. It remembers what it was asked.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// Connections that were ever made.
    connections: Arc<AtomicUsize>,
    /// Connections that are open.
    open: Arc<AtomicUsize>,
}

/// A request: its head as text, its body as bytes.
#[derive(Clone)]
struct Asked {
    head: String,
    body: Vec<u8>,
}

impl Server {
    async fn start(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::slow(Duration::ZERO, answer).await
    }

    /// Takes this long over each answer.
    async fn slow(
        delay: Duration,
        answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        Self::serve(None, delay, answer).await
    }

    async fn secure(
        authority: &Authority,
        name: &str,
        answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let tls = tokio_rustls::TlsAcceptor::from(Arc::new(authority.server(name)));
        Self::serve(Some(tls), Duration::ZERO, answer).await
    }

    async fn serve(
        tls: Option<tokio_rustls::TlsAcceptor>,
        delay: Duration,
        answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let server = Self {
            address: listener.local_addr().expect("its address"),
            asked: Arc::default(),
            connections: Arc::default(),
            open: Arc::default(),
        };
        let (asked, connections, open) = (
            server.asked.clone(),
            server.connections.clone(),
            server.open.clone(),
        );
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let open = Open::new(open.clone());
                let (asked, answer, tls) = (asked.clone(), answer.clone(), tls.clone());
                tokio::spawn(async move {
                    let _open = open;
                    match tls {
                        None => converse(socket, &asked, delay, &*answer).await,
                        Some(tls) => match tls.accept(socket).await {
                            Ok(socket) => converse(socket, &asked, delay, &*answer).await,
                            Err(error) => println!("handshake: {error}"),
                        },
                    }
                });
            }
        });
        server
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The methods and paths of all requests.
    fn requests(&self) -> Vec<String> {
        let asked = self.asked.lock().expect("no panic");
        let line = |asked: &Asked| {
            let line = asked.head.lines().next().expect("a line");
            line.trim_end_matches(" HTTP/1.1").to_owned()
        };
        asked.iter().map(line).collect()
    }

    /// A header of the last request.
    fn header(&self, name: &str) -> Option<String> {
        let asked = self.asked.lock().expect("no panic");
        let head = &asked.last().expect("a request").head;
        let mut fields = head.lines().filter_map(|line| line.split_once(": "));
        let field = fields.find(|(field, _)| field.eq_ignore_ascii_case(name));
        field.map(|(_, value)| value.to_owned())
    }

    /// The body of the last request.
    fn body(&self) -> Value {
        let asked = self.asked.lock().expect("no panic");
        serde_json::from_slice(&asked.last().expect("a request").body).expect("JSON")
    }

    async fn has_been_asked(&self) {
        eventually(async || !self.asked.lock().expect("no panic").is_empty()).await;
    }

    /// Waits until nobody is connected any more.
    async fn is_left(&self) {
        eventually(async || self.open.load(Ordering::SeqCst) == 0).await;
    }
}

/// Counts a connection as open until it is dropped.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn converse(
    mut socket: impl AsyncRead + AsyncWrite + Unpin,
    asked: &Mutex<Vec<Asked>>,
    delay: Duration,
    answer: &(dyn Fn(&str) -> Vec<u8> + Send + Sync),
) {
    while let Some(request) = request(&mut socket).await {
        let line = request.head.lines().next().expect("a line").to_owned();
        asked.lock().expect("no panic").push(request);
        let path = line.split(' ').nth(1).expect("a path");
        let answer = answer(path);
        // Whoever waits may leave meanwhile.
        let mut byte = [0];
        tokio::select! {
            () = sleep(delay) => {}
            _ = socket.read(&mut byte) => return,
        }
        if socket.write_all(&answer).await.is_err() {
            return;
        }
        if answer.windows(17).any(|part| part == b"Connection: close") {
            return;
        }
    }
}

async fn request(socket: &mut (impl AsyncRead + Unpin)) -> Option<Asked> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
            break at + 4;
        }
        let mut buffer = [0; 4_096];
        match socket.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).expect("text");
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.parse().expect("a number"))
    });
    let mut body = bytes[head_end..].to_vec();
    let missing = length.unwrap_or(0_usize).saturating_sub(body.len());
    let mut rest = vec![0; missing];
    socket.read_exact(&mut rest).await.ok()?;
    body.extend_from_slice(&rest);
    Some(Asked { head, body })
}

async fn eventually<F: Future<Output = bool>>(is_so: impl Fn() -> F) {
    let waited = timeout(PATIENCE, async {
        while !is_so().await {
            sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.expect("in time");
}

fn ok(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}").into()
}

fn redirect(to: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n").into()
}
