//! A caller for the tests of the local agent: speaks with flite, and takes turns over gRPC.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses its own part of this one"
)]

use std::io::Cursor;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use tandem::local_agent::Script;
use tandem::local_agent::Server;
use tandem_proto::cx::v3;
use tandem_proto::cx::v3::query_input::Input;
use tandem_proto::cx::v3::sessions_client::SessionsClient;
use tandem_proto::cx::v3::streaming_detect_intent_response::Response;
use tandem_proto::cx::v3::streaming_recognition_result::MessageType;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

pub const RATE: usize = 8000;

pub async fn serve(script: Script) -> SocketAddr {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::bind(script, listen)
        .await
        .expect("the local agent starts");
    let address = server.local_addr();
    tokio::spawn(server.serve(std::future::pending()));
    address
}

pub fn script(text: &str) -> Script {
    Script::parse(text).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

pub async fn client(address: SocketAddr) -> SessionsClient<Channel> {
    let client = SessionsClient::connect(format!("http://{address}"))
        .await
        .expect("the local agent listens");
    client.max_decoding_message_size(64 * 1024 * 1024)
}

pub fn session(id: &str) -> String {
    format!("projects/p/locations/global/agents/bistro/sessions/{id}")
}

pub fn input(input: Input) -> Option<v3::QueryInput> {
    Some(v3::QueryInput {
        input: Some(input),
        language_code: "en-US".to_owned(),
    })
}

pub fn text(text: &str) -> Option<v3::QueryInput> {
    input(Input::Text(v3::TextInput {
        text: text.to_owned(),
    }))
}

pub fn event(name: &str) -> Option<v3::QueryInput> {
    input(Input::Event(v3::EventInput {
        event: name.to_owned(),
    }))
}

pub fn dtmf(digits: &str) -> Option<v3::QueryInput> {
    input(Input::Dtmf(v3::DtmfInput {
        digits: digits.to_owned(),
        finish_digit: "#".to_owned(),
    }))
}

pub fn listening() -> v3::InputAudioConfig {
    v3::InputAudioConfig {
        audio_encoding: v3::AudioEncoding::Mulaw.into(),
        sample_rate_hertz: RATE as i32,
        single_utterance: true,
        ..v3::InputAudioConfig::default()
    }
}

pub fn first(
    session: String,
    query_input: Option<v3::QueryInput>,
) -> v3::StreamingDetectIntentRequest {
    v3::StreamingDetectIntentRequest {
        session,
        query_input,
        ..v3::StreamingDetectIntentRequest::default()
    }
}

pub fn first_audio(
    session: String,
    config: v3::InputAudioConfig,
) -> v3::StreamingDetectIntentRequest {
    first(
        session,
        input(Input::Audio(v3::AudioInput {
            config: Some(config),
            ..v3::AudioInput::default()
        })),
    )
}

pub fn audio(bytes: &[u8]) -> v3::StreamingDetectIntentRequest {
    let audio = v3::AudioInput {
        audio: bytes.to_vec().into(),
        ..v3::AudioInput::default()
    };
    let query_input = v3::QueryInput {
        input: Some(Input::Audio(audio)),
        ..v3::QueryInput::default()
    };
    first(String::new(), Some(query_input))
}

/// Everything that came back in a turn.
#[derive(Debug, Default)]
pub struct Turn {
    pub responses: Vec<Response>,
    pub status: Option<Status>,
    /// The server signalled the end of the utterance.
    pub signalled: bool,
}

impl Turn {
    pub fn interims(&self) -> Vec<&str> {
        self.transcripts(false)
    }

    pub fn finals(&self) -> Vec<&str> {
        self.transcripts(true)
    }

    fn transcripts(&self, finals: bool) -> Vec<&str> {
        let mut transcripts = Vec::new();
        for response in &self.responses {
            match response {
                Response::RecognitionResult(result)
                    if result.message_type() == MessageType::Transcript
                        && result.is_final == finals =>
                {
                    transcripts.push(result.transcript.as_str());
                }
                Response::RecognitionResult(_) | Response::DetectIntentResponse(_) => {}
            }
        }
        transcripts
    }

    pub fn answers(&self) -> Vec<&v3::DetectIntentResponse> {
        let mut answers = Vec::new();
        for response in &self.responses {
            match response {
                Response::DetectIntentResponse(answer) => answers.push(answer),
                Response::RecognitionResult(_) => {}
            }
        }
        answers
    }

    pub fn result(&self) -> &v3::QueryResult {
        let answers = self.answers();
        let last = answers
            .last()
            .unwrap_or_else(|| panic!("no answer in {self:?}"));
        last.query_result.as_ref().expect("an answer has a result")
    }

    pub fn match_type(&self) -> v3::r#match::MatchType {
        self.result()
            .r#match
            .as_ref()
            .expect("a result has a match")
            .match_type()
    }

    pub fn page(&self) -> &str {
        &self
            .result()
            .current_page
            .as_ref()
            .expect("a result has a page")
            .display_name
    }
}

pub fn texts(result: &v3::QueryResult) -> Vec<&str> {
    let mut texts = Vec::new();
    for message in &result.response_messages {
        if let Some(v3::response_message::Message::Text(text)) = &message.message {
            texts.extend(text.text.iter().map(String::as_str));
        }
    }
    texts
}

/// Takes a turn as a good client does: half-closes at the end of the utterance, or when all was sent.
pub async fn take_turn(
    client: &mut SessionsClient<Channel>,
    first: v3::StreamingDetectIntentRequest,
    sound: &[u8],
) -> Turn {
    let (sender, requests) = mpsc::channel(1000);
    sender.send(first).await.expect("room for a message");
    for chunk in sound.chunks(RATE / 10) {
        sender.send(audio(chunk)).await.expect("room for a message");
    }
    let mut turn = Turn::default();
    let mut sender = (!sound.is_empty()).then_some(sender);
    let mut responses = match client
        .streaming_detect_intent(ReceiverStream::new(requests))
        .await
    {
        Ok(responses) => responses.into_inner(),
        Err(status) => {
            return Turn {
                status: Some(status),
                ..turn
            };
        }
    };
    loop {
        // Everything was sent long ago; a server that waits for the half-close now says nothing.
        let response =
            match tokio::time::timeout(Duration::from_millis(1500), responses.message()).await {
                Err(_) if sender.is_some() => {
                    sender = None;
                    continue;
                }
                Err(_) => tokio::time::timeout(Duration::from_secs(15), responses.message())
                    .await
                    .expect("an answer in time"),
                Ok(response) => response,
            };
        match response {
            Ok(Some(response)) => {
                let response = response.response.expect("a response has a kind");
                if matches!(&response, Response::RecognitionResult(result) if result.message_type() == MessageType::EndOfSingleUtterance)
                {
                    turn.signalled = true;
                    sender = None;
                }
                turn.responses.push(response);
            }
            Ok(None) => return turn,
            Err(status) => {
                return Turn {
                    status: Some(status),
                    ..turn
                };
            }
        }
    }
}

/// What flite says, as telephone mu-law at 8 kHz, with half a second of silence before and a second after.
pub fn say(voice: &str, text: &str) -> Vec<u8> {
    let output = Command::new("flite")
        .args(["-voice", voice, "-o", "/dev/stdout", "-t", text])
        .output()
        .expect("flite runs");
    let mut reader = hound::WavReader::new(Cursor::new(output.stdout)).expect("flite writes WAV");
    let rate = reader.spec().sample_rate;
    let samples: Vec<f32> = reader
        .samples::<i16>()
        .map_while(Result::ok)
        .map(f32::from)
        .collect();
    let samples = if rate == 16_000 {
        halve(&samples)
    } else {
        samples
    };
    let speech = samples.iter().map(|sample| mulaw((sample * 0.5) as i16));
    silence(0.5)
        .into_iter()
        .chain(speech)
        .chain(silence(1.0))
        .collect()
}

pub fn silence(seconds: f32) -> Vec<u8> {
    vec![0xff; (seconds * RATE as f32) as usize]
}

/// A low pass of 47 taps at 3.6 kHz, every second sample kept.
fn halve(samples: &[f32]) -> Vec<f32> {
    let taps: Vec<f32> = (-23..=23)
        .map(|i| {
            let x = i as f32;
            let window = 0.54 + 0.46 * (std::f32::consts::PI * x / 23.0).cos();
            let angle = std::f32::consts::PI * x * 0.45;
            window
                * if i == 0 {
                    0.45
                } else {
                    0.45 * angle.sin() / angle
                }
        })
        .collect();
    let at = |index: isize| {
        usize::try_from(index)
            .ok()
            .and_then(|index| samples.get(index))
            .copied()
            .unwrap_or(0.0)
    };
    (0..samples.len() as isize / 2)
        .map(|n| {
            taps.iter()
                .zip(-23..)
                .map(|(tap, i)| tap * at(2 * n + i))
                .sum()
        })
        .collect()
}

pub fn mulaw(sample: i16) -> u8 {
    let magnitude = i32::from(sample).abs().min(32635) + 132;
    let segment = 31 - magnitude.leading_zeros() as i32 - 7;
    !((if sample < 0 { 0x80 } else { 0 })
        | (segment << 4) as u8
        | (magnitude >> (segment + 3) & 15) as u8)
}
