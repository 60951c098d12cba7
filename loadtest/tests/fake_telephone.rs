//! The program as a SIP telephone against a far end of a few lines: answers, refusals, transfers, refreshes, loads of every kind.

mod support;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use rsipstack::EndpointBuilder;
use rsipstack::dialog::authenticate::verify_digest;
use rsipstack::dialog::dialog::Dialog;
use rsipstack::dialog::dialog::DialogState;
use rsipstack::dialog::dialog::DialogStateSender;
use rsipstack::dialog::dialog_layer::DialogLayer;
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::platform::CancellationToken;
use rsipstack::sip::Header;
use rsipstack::sip::HeadersExt;
use rsipstack::sip::Method;
use rsipstack::sip::Request;
use rsipstack::sip::Response;
use rsipstack::sip::StatusCode;
use rsipstack::sip::Uri;
use rsipstack::sip::typed;
use rsipstack::transaction::Transaction;
use rsipstack::transport::TcpListenerConnection;
use rsipstack::transport::TransportLayer;
use rsipstack::transport::udp::UdpConnection;
use tokio::net::UdpSocket;

use support::Scratch;
use support::call;
use support::command;
use support::right_channel;
use support::run;
use support::stderr;
use support::stdout;
use support::write_wav;

const FRAME: usize = 160;
const PACKET: usize = 12 + FRAME;
/// Loud mu-law: alternating signs, so that it is voice by its energy and no direct current.
const LOUD: [u8; 2] = [0x10, 0x90];

#[test]
fn a_caller_hears_the_far_end_says_something_presses_keys_and_hangs_up() {
    let far_end = FarEnd::start(Script::GreetAndListen);
    let directory = Scratch::new("sip-greeting");
    let (say, record) = (directory.path("hello.wav"), directory.path("call.wav"));
    write_wav(&say, 8000, 0.5);
    let output = far_end.call(&["--say", &say, "--dtmf", "1#", "--record", &record]);
    let text = stdout(&output);
    assert!(output.status.success(), "{text}\n{}", stderr(&output));
    for line in [
        "180 Ringing came",
        "agent speaks",
        "caller says  “hello.wav”",
        "caller presses #",
        "caller hangs up",
    ] {
        assert!(text.contains(line), "no “{line}” in:\n{text}");
    }
    let seen = far_end.wait_for("BYE");
    assert_eq!(seen.methods("INVITE"), 1);
    assert_eq!(seen.methods("BYE"), 1);
    let events: Vec<&Vec<u8>> = seen
        .packets
        .iter()
        .filter(|packet| packet[1] & 0x7f == 101)
        .collect();
    let ends: Vec<u8> = events
        .iter()
        .filter(|packet| packet[13] & 0x80 != 0)
        .map(|packet| packet[12])
        .collect();
    assert_eq!(ends, [1, 1, 1, 11, 11, 11]);
    let numbers: Vec<u16> = seen
        .packets
        .iter()
        .map(|packet| u16::from_be_bytes([packet[2], packet[3]]))
        .collect();
    assert!(
        numbers
            .windows(2)
            .all(|pair| pair[1] == pair[0].wrapping_add(1)),
        "sequence numbers have a gap"
    );
    let loud = seen
        .packets
        .iter()
        .filter(|packet| packet[1] & 0x7f == 0 && packet[12..].iter().any(|byte| *byte != 0xff))
        .count();
    assert!(
        (20..=32).contains(&loud),
        "{loud} packets of a speech of half a second"
    );
    // The greeting is 500 ms of what the recording has in its right channel.
    let heard = right_channel(&record)
        .iter()
        .filter(|sample| **sample != 0)
        .count();
    assert!(
        (24 * FRAME..=26 * FRAME).contains(&heard),
        "{heard} samples were heard"
    );
}

#[test]
fn a_call_by_tcp_is_a_call() {
    let far_end = FarEnd::start(Script::GreetAndListen);
    let target = format!("{};transport=tcp", far_end.target("1000"));
    let output = call(&target, &["--seconds", "1.5"]);
    let text = stdout(&output);
    assert!(output.status.success(), "{text}\n{}", stderr(&output));
    assert!(text.contains("agent speaks"), "{text}");
    far_end.wait_for("BYE");
}

#[test]
fn a_far_end_that_hangs_up_ends_the_call_properly() {
    let far_end = FarEnd::start(Script::HangUp);
    let output = far_end.call(&[]);
    let text = stdout(&output);
    assert!(output.status.success(), "{text}\n{}", stderr(&output));
    assert!(text.contains("far end hung up"), "{text}");
    assert_eq!(far_end.wait_for("answer to BYE").answers["BYE"], [200]);
}

#[test]
fn a_refusal_is_told_in_one_sentence() {
    let far_end = FarEnd::start(Script::GreetAndListen);
    for (user, sentence) in [
        ("busy", "the gateway refused the call: 486 Busy Here\n"),
        (
            "full",
            "the gateway refused the call: 503 Service Unavailable; try again after 7 s\n",
        ),
    ] {
        let output = call(&far_end.target(user), &[]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(stderr(&output), sentence);
    }
}

#[test]
fn an_answer_without_audio_for_us_is_told_and_ended() {
    let far_end = FarEnd::start(Script::GreetAndListen);
    let output = call(&far_end.target("wideband"), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("neither PCMU nor PCMA"),
        "{}",
        stderr(&output)
    );
    far_end.wait_for("BYE");
}

#[test]
fn a_challenge_is_answered_with_the_credentials() {
    let far_end = FarEnd::start(Script::GreetAndListen);
    let target = far_end.target("secret");
    let without = call(&target, &["--seconds", "0.5"]);
    assert!(
        stderr(&without).contains("401 Unauthorized"),
        "{}",
        stderr(&without)
    );
    for (password, succeeds) in [("opensesame", true), ("guess", false)] {
        let output = command()
            .env("TEST_PASSWORD", password)
            .args(["call", &target, "--seconds", "0.5"])
            .args(["--user", "alice", "--password-env", "TEST_PASSWORD"])
            .output()
            .expect("the program runs");
        assert_eq!(output.status.success(), succeeds, "{}", stderr(&output));
    }
}

#[test]
fn refreshes_and_holds_are_answered_and_a_held_caller_is_silent() {
    let far_end = FarEnd::start(Script::RefreshAndHold);
    let output = far_end.call(&["--seconds", "3"]);
    let text = stdout(&output);
    assert!(output.status.success(), "{text}\n{}", stderr(&output));
    let answers = &far_end.wait_for("BYE").answers;
    assert_eq!(answers["UPDATE"], [200]);
    assert_eq!(answers["OPTIONS"], [200]);
    assert_eq!(answers["INVITE"], [200, 200]);
    for line in [
        "gateway sends UPDATE",
        "gateway sends INVITE: we are on hold",
        "gateway sends INVITE: we are off hold",
    ] {
        assert!(text.contains(line), "no “{line}” in:\n{text}");
    }
    let seen = far_end.seen();
    let silent = seen.packets.windows(2).any(|pair| {
        let at = |packet: &Vec<u8>| u32::from_be_bytes(packet[4..8].try_into().expect("4 bytes"));
        // Half a second of hold, in which the timestamps went on.
        at(&pair[1]).wrapping_sub(at(&pair[0])) > 15 * FRAME as u32
    });
    assert!(silent, "there is no pause in what the caller sent");
}

#[test]
fn an_offer_of_ours_that_the_ack_does_not_answer_is_improper() {
    let far_end = FarEnd::start(Script::AskForOffer);
    let output = far_end.call(&["--seconds", "1.5"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("answer in the ACK that we cannot accept"),
        "{}",
        stderr(&output)
    );
    assert_eq!(far_end.wait_for("BYE").answers["INVITE"], [200]);
}

#[test]
fn a_transfer_is_accepted_told_and_ends_with_the_far_ends_bye() {
    let far_end = FarEnd::start(Script::Transfer);
    let output = far_end.call(&[]);
    let text = stdout(&output);
    assert!(output.status.success(), "{text}\n{}", stderr(&output));
    assert!(
        text.contains("transferred to sip:desk@example.com"),
        "{text}"
    );
    assert!(text.contains("far end hung up"), "{text}");
    assert!(text.contains("then: dial sip:desk@example.com"), "{text}");
    let seen = far_end.wait_for("answer to BYE");
    assert_eq!(seen.answers["REFER"], [202]);
    assert_eq!(
        seen.notified,
        ["SIP/2.0 100 Trying\r\n", "SIP/2.0 200 OK\r\n"]
    );
}

#[test]
fn an_interrupted_call_that_still_rings_is_cancelled() {
    let far_end = FarEnd::start(Script::GreetAndListen);
    let child = command()
        .args(["call", &far_end.target("ringing")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    far_end.wait_for("INVITE");
    std::thread::sleep(Duration::from_millis(300));
    let interrupted = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(interrupted.expect("there is a kill").success());
    let output = child.wait_with_output().expect("an end");
    assert_eq!(
        stderr(&output),
        "the call was cancelled before it was answered\n"
    );
    far_end.wait_for("CANCEL");
}

#[test]
fn a_prompt_that_falls_silent_after_a_barge_in_was_cut() {
    let far_end = FarEnd::start(Script::CutPrompt);
    let directory = Scratch::new("sip-barge-in");
    let say = directory.path("stop.wav");
    write_wav(&say, 8000, 0.5);
    let output = run(
        &directory,
        &format!(
            "steps = [{{ barge_in_after = '500ms', play = '{say}' }}, {{ wait = '1500ms' }}]\n\
             [gateway]\ntarget = '{}'\n\
             [goal]\nbarge_ins_at_least = 1\nsilence_after_barge_in_at_most = '1s'\n",
            far_end.target("1000")
        ),
    );
    let text = stdout(&output);
    assert!(output.status.success(), "{text}\n{}", stderr(&output));
    assert!(text.contains("after the barge-in"), "{text}");
}

#[test]
fn a_load_of_every_kind_is_told_by_kind_and_leaves_nothing() {
    let far_end = FarEnd::start(Script::GreetAndListen);
    let directory = Scratch::new("sip-load");
    let scenario = |refused: &str, ratio: &str| {
        format!(
            "calls = 40\nramp_per_second = 40\nhold = '1s'\naudio = 'silence'\nat_most = 20\nwarm_up = 0.25\n\
             settle = '5s'\n\
             [mix]\nanswered = 2\nrefused = 1\ncancelled = 1\nvanished = 1\nrefused_user = '{refused}'\n\
             refused_status = 486\ncancelled_user = 'ringing'\nvanish_after = '300ms'\n\
             [gateway]\ntarget = '{}'\nadmin = '{}'\n[goal]\nresident_ratio_at_most = {ratio}\n",
            far_end.target("1000"),
            far_end.admin
        )
    };
    let output = run(&directory, &scenario("busy", "1.05"));
    let text = stdout(&output);
    assert!(output.status.success(), "{text}\n{}", stderr(&output));
    for line in [
        "40 of 40 as they should be",
        "answered                  16 attempted, 16 as expected, 0 otherwise",
        "refused                   8 attempted, 8 as expected, 0 otherwise",
        "cancelled                 8 attempted, 8 as expected, 0 otherwise",
        "vanished                  8 attempted, 8 as expected, 0 otherwise",
        "× 1.000",
    ] {
        assert!(text.contains(line), "no “{line}” in:\n{text}");
    }
    let seen = far_end.seen();
    // The vanished say nothing, not even to the far end's own BYE.
    assert_eq!(seen.methods("BYE"), 16);
    assert_eq!(seen.methods("CANCEL"), 8);

    let output = run(&directory, &scenario("1000", "0.9"));
    assert_eq!(output.status.code(), Some(1));
    let told = stderr(&output);
    assert!(told.contains("8 of 40 calls failed, 0 may"), "{told}");
    assert!(told.contains("resident memory"), "{told}");
    assert!(
        stdout(&output).contains("8 × answered rather than refused"),
        "{}",
        stdout(&output)
    );
}

/// What the far end does with an answered call. What it does before depends on who is dialled: busy, full, ringing, secret, wideband.
#[derive(Clone, Copy, PartialEq)]
enum Script {
    /// Speaks for 500 ms from 200 ms on, then sends silence.
    GreetAndListen,
    /// Speaks until 300 ms after the caller does.
    CutPrompt,
    /// BYE after 300 ms.
    HangUp,
    /// UPDATE, OPTIONS, hold, off hold.
    RefreshAndHold,
    /// An INVITE without an offer, and an ACK without the answer to ours.
    AskForOffer,
    /// REFER, and BYE when it is told to be done.
    Transfer,
}

#[derive(Default, Clone)]
struct Seen {
    requests: Vec<String>,
    packets: Vec<Vec<u8>>,
    /// What our requests were answered with.
    answers: HashMap<String, Vec<u16>>,
    notified: Vec<String>,
}

impl Seen {
    fn methods(&self, method: &str) -> usize {
        self.requests.iter().filter(|seen| *seen == method).count()
    }
}

#[derive(Clone)]
struct Shared {
    script: Script,
    seen: Arc<Mutex<Seen>>,
    dialogs: Arc<DialogLayer>,
    states: DialogStateSender,
    contact: Uri,
}

struct FarEnd {
    address: SocketAddr,
    admin: String,
    seen: Arc<Mutex<Seen>>,
    _runtime: tokio::runtime::Runtime,
}

impl FarEnd {
    fn start(script: Script) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let seen = Arc::<Mutex<Seen>>::default();
        let (address, admin) = runtime.block_on(serve(script, Arc::clone(&seen)));
        Self {
            address,
            admin,
            seen,
            _runtime: runtime,
        }
    }

    fn target(&self, user: &str) -> String {
        format!("sip:{user}@{}", self.address)
    }

    fn call(&self, more: &[&str]) -> Output {
        call(&self.target("1000"), more)
    }

    fn seen(&self) -> Seen {
        self.seen.lock().expect("no test panicked").clone()
    }

    /// What was seen once this has been: a request, or the answer to one of ours.
    fn wait_for(&self, what: &str) -> Seen {
        for _ in 0..200 {
            let seen = self.seen();
            let answered = what
                .strip_prefix("answer to ")
                .is_some_and(|method| seen.answers.contains_key(method));
            if answered || seen.methods(what) > 0 {
                return seen;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("there was no {what}: {:?}", self.seen().requests);
    }
}

async fn serve(script: Script, seen: Arc<Mutex<Seen>>) -> (SocketAddr, String) {
    let token = CancellationToken::new();
    let transports = TransportLayer::new(token.clone());
    let (socket, address) = loop {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let address = socket.local_addr().expect("an address");
        // It serves TCP on the same port.
        if std::net::TcpListener::bind(address).is_ok() {
            break (socket, address);
        }
    };
    let udp = UdpConnection::from_socket(Arc::new(socket), None, Some(token.child_token()));
    transports.add_transport(udp.await.expect("a transport").into());
    let tcp = TcpListenerConnection::new(address, None)
        .await
        .expect("a transport");
    transports.add_transport(tcp.into());
    let endpoint = EndpointBuilder::new()
        .with_cancel_token(token)
        .with_transport_layer(transports)
        .build();
    let mut incoming = endpoint.incoming_transactions().expect("the first to ask");
    let serving = Arc::clone(&endpoint.inner);
    tokio::spawn(async move { serving.serve().await });
    let dialogs = Arc::new(DialogLayer::new(endpoint.inner));
    let (states, mut told) = dialogs.new_dialog_state_channel();
    let contact = format!("sip:far@{address}");
    let shared = Shared {
        script,
        seen,
        dialogs,
        states,
        contact: contact.as_str().try_into().expect("a URI"),
    };
    let learning = shared.clone();
    tokio::spawn(async move {
        while let Some(state) = told.recv().await {
            learn(&learning, state).await;
        }
    });
    tokio::spawn(async move {
        while let Some(transaction) = incoming.recv().await {
            let shared = shared.clone();
            tokio::spawn(async move { route(shared, transaction).await });
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let admin = format!("http://{}", listener.local_addr().expect("an address"));
    let metrics = "tandem_objects_alive{type=\"call\"} 0\nprocess_resident_memory_bytes 1000000\n";
    let router = Router::new()
        .route(
            "/metrics",
            get(async |State(text): State<&'static str>| text),
        )
        .with_state(metrics);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, admin)
}

async fn route(shared: Shared, mut transaction: Transaction) {
    let method = transaction.original.method.to_string();
    note(&shared, |seen| seen.requests.push(method));
    if let Some(Dialog::Invite(mut dialog)) = shared.dialogs.match_dialog(&transaction) {
        // A test that is over does not mind.
        let _ = dialog.handle(&mut transaction).await;
        return;
    }
    if transaction.original.method != Method::Invite {
        let _ = transaction.reply(StatusCode::NotImplemented).await;
        return;
    }
    let user = transaction.original.uri.auth.clone();
    let user = user.map(|auth| auth.user).unwrap_or_default();
    let refusal = match user.as_str() {
        "busy" => Some((StatusCode::BusyHere, Vec::new())),
        "full" => Some((
            StatusCode::ServiceUnavailable,
            vec![Header::RetryAfter("7".into())],
        )),
        "secret" if !is_authorised(&transaction.original) => Some((
            StatusCode::Unauthorized,
            vec![Header::WwwAuthenticate(
                "Digest realm=\"test\", nonce=\"n1\", algorithm=MD5, qop=\"auth\"".into(),
            )],
        )),
        _ => None,
    };
    if let Some((status, headers)) = refusal {
        let _ = transaction.reply_with(status, headers, None).await;
        // Until the ACK.
        while transaction.receive().await.is_some() {}
        return;
    }
    let mut dialog = shared
        .dialogs
        .get_or_create_server_invite(
            &transaction,
            shared.states.clone(),
            None,
            Some(shared.contact.clone()),
        )
        .expect("a dialog");
    let answering = dialog.clone();
    tokio::spawn(async move { hold(shared, answering, &user).await });
    let _ = dialog.handle(&mut transaction).await;
}

fn is_authorised(request: &Request) -> bool {
    let Some(header) = request.authorization_header() else {
        return false;
    };
    typed::Authorization::parse(header.value()).is_ok_and(|authorization| {
        authorization.username == "alice"
            && verify_digest(
                &authorization,
                "opensesame",
                &request.method,
                header.value(),
            )
    })
}

async fn learn(shared: &Shared, state: DialogState) {
    match state {
        DialogState::Notify(_, request, handle) => {
            let text = String::from_utf8_lossy(&request.body).into_owned();
            note(shared, |seen| seen.notified.push(text));
            let _ = handle.reply(StatusCode::OK).await;
        }
        DialogState::Terminated(id, reason) => {
            if matches!(
                reason,
                rsipstack::dialog::dialog::TerminatedReason::UacCancel
            ) {
                note(shared, |seen| seen.requests.push("CANCEL".to_owned()));
            }
            shared.dialogs.remove_dialog(&id);
        }
        _ => {}
    }
}

async fn hold(shared: Shared, dialog: InviteDialog, user: &str) {
    let remote = sdp_address(&dialog.initial_request().body);
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let local = socket.local_addr().expect("an address");
    dialog.ringing(None, None).expect("a dialog that rings");
    if user == "ringing" {
        return;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let codec = if user == "wideband" { 9 } else { 0 };
    dialog
        .accept(sdp_header(), Some(sdp(local, codec, "sendrecv")))
        .expect("a dialog that rang");
    let asking = (shared.clone(), dialog.clone());
    tokio::spawn(async move { ask(asking.0, asking.1, local).await });
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let mut buffer = [0; 2048];
    let mut heard = None;
    for index in 0_u32.. {
        ticks.tick().await;
        while let Ok((length, _)) = socket.try_recv_from(&mut buffer) {
            let packet = buffer[..length].to_vec();
            if heard.is_none() && packet[12..].iter().any(|byte| *byte != 0xff) {
                heard = Some(index);
            }
            note(&shared, |seen| seen.packets.push(packet));
        }
        if dialog.state().is_terminated() {
            return;
        }
        let speaks = match shared.script {
            Script::GreetAndListen => (10..35).contains(&index),
            Script::CutPrompt => index >= 10 && heard.is_none_or(|heard| index < heard + 15),
            Script::HangUp | Script::RefreshAndHold | Script::AskForOffer | Script::Transfer => {
                false
            }
        };
        let mut packet = [0xff; PACKET];
        packet[..2].copy_from_slice(&[0x80, 0]);
        packet[2..4].copy_from_slice(&(index as u16).to_be_bytes());
        packet[4..8].copy_from_slice(&(index * FRAME as u32).to_be_bytes());
        packet[8..12].copy_from_slice(&[1, 2, 3, 4]);
        if speaks {
            packet[12..].copy_from_slice(&LOUD.repeat(FRAME / 2));
        }
        let _ = socket.send_to(&packet, remote).await;
    }
}

/// The far end's own requests.
async fn ask(shared: Shared, dialog: InviteDialog, local: SocketAddr) {
    let pause = || tokio::time::sleep(Duration::from_millis(300));
    pause().await;
    let answered = |method: &str, answer: rsipstack::Result<Option<Response>>| {
        let status = answer
            .ok()
            .flatten()
            .map(|answer| answer.status_code.code());
        let method = method.to_owned();
        note(&shared, |seen| {
            seen.answers.entry(method).or_default().extend(status);
        });
    };
    match shared.script {
        Script::GreetAndListen | Script::CutPrompt => {}
        Script::HangUp => answered("BYE", dialog.request(Method::Bye, None, None).await),
        Script::RefreshAndHold => {
            let expires = vec![Header::SessionExpires("90;refresher=uac".into())];
            answered("UPDATE", dialog.update(Some(expires), None).await);
            answered("OPTIONS", dialog.request(Method::Options, None, None).await);
            for direction in ["sendonly", "sendrecv"] {
                let body = Some(sdp(local, 0, direction));
                answered("INVITE", dialog.reinvite(sdp_header(), body).await);
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
        Script::AskForOffer => answered("INVITE", dialog.reinvite(None, None).await),
        Script::Transfer => {
            answered(
                "REFER",
                dialog.refer("<sip:desk@example.com>", None, None).await,
            );
            for _ in 0..100 {
                if shared.seen.lock().expect("no test panicked").notified.len() == 2 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            answered("BYE", dialog.request(Method::Bye, None, None).await);
        }
    }
}

fn note(shared: &Shared, change: impl FnOnce(&mut Seen)) {
    change(&mut shared.seen.lock().expect("no test panicked"));
}

fn sdp_header() -> Option<Vec<Header>> {
    Some(vec![Header::ContentType("application/sdp".into())])
}

fn sdp(local: SocketAddr, codec: u8, direction: &str) -> Vec<u8> {
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP {codec} 101\r\n\
         a=rtpmap:101 telephone-event/8000\r\na={direction}\r\n",
        ip = local.ip(),
        port = local.port()
    )
    .into_bytes()
}

fn sdp_address(body: &[u8]) -> SocketAddr {
    let text = String::from_utf8_lossy(body);
    let port = text
        .split("m=audio ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .and_then(|port| port.parse().ok());
    SocketAddr::from(([127, 0, 0, 1], port.expect("an offer of audio")))
}
