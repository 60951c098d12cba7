//! A recorder between gateway and agent: it passes everything on and notes when the caller's last sound reached the agent and
//! when the answer left. What is between the two is the agent's own time.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::SystemTime;

use futures_util::Stream;
use futures_util::StreamExt;
use tandem::engine::media::codec::g711;
use tandem_proto::cx::v3;
use tandem_proto::cx::v3::AudioEncoding;
use tandem_proto::cx::v3::query_input::Input;
use tandem_proto::cx::v3::sessions_client::SessionsClient;
use tandem_proto::cx::v3::sessions_server::Sessions;
use tandem_proto::cx::v3::sessions_server::SessionsServer;
use tandem_proto::cx::v3::streaming_detect_intent_response::Response as Kind;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::Streaming;
use tonic::transport::Channel;
use tonic::transport::server::TcpIncoming;

use crate::world::Ingress;

/// Answers are long sentences.
const LONGEST_MESSAGE: usize = 64 * 1024 * 1024;
/// Root mean square from which on 20 ms are voiced, as `tandem-load` judges.
const VOICED: f32 = 200.0;

/// A spoken turn. Times are in seconds of the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    /// The last of what the agent took for speech arrived.
    pub(crate) asked: f64,
    /// The first of its answer left.
    pub(crate) answered: f64,
    /// Silence at the beginning of the answer, in seconds.
    pub(crate) lead: f64,
}

/// The recorder. Clones share what was recorded.
#[derive(Clone)]
pub(crate) struct Recorder {
    agent: SessionsClient<Channel>,
    turns: Arc<Mutex<HashMap<String, Vec<Turn>>>>,
}

/// One stream as it passes.
#[derive(Default)]
struct Passing {
    dialled: String,
    bytes_per_second: f64,
    /// When the audio up to each of these lengths had arrived.
    arrived: Vec<(f64, f64)>,
    /// Where in the audio the speech ended.
    speech_end: Option<f64>,
    is_answered: bool,
}

impl Recorder {
    /// A recorder in front of the agent at `agent`, and its own address.
    pub(crate) async fn start(agent: SocketAddr) -> (Self, SocketAddr) {
        let agent = SessionsClient::connect(format!("http://{agent}"))
            .await
            .expect("the agent listens");
        let recorder = Self {
            agent: agent.max_decoding_message_size(LONGEST_MESSAGE),
            turns: Arc::default(),
        };
        let incoming =
            TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let address = incoming.local_addr().expect("its address");
        let service = SessionsServer::new(recorder.clone());
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming.with_nodelay(Some(true))),
        );
        (recorder, address)
    }

    /// The spoken turns of the calls to `dialled`, in order.
    pub(crate) fn turns(&self, dialled: &str) -> Vec<Turn> {
        let turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.get(dialled).cloned().unwrap_or_default()
    }
}

impl Passing {
    fn asks(&mut self, request: &v3::StreamingDetectIntentRequest) {
        if let Some(dialled) = dialled(request) {
            self.dialled = dialled;
        }
        let input = request
            .query_input
            .as_ref()
            .and_then(|query| query.input.as_ref());
        let Some(Input::Audio(audio)) = input else {
            return;
        };
        if let Some(config) = &audio.config {
            let rate = f64::from(config.sample_rate_hertz);
            self.bytes_per_second = match config.audio_encoding() {
                AudioEncoding::Linear16 => 2.0 * rate,
                _ => rate,
            };
        }
        let before = self.arrived.last().map_or(0.0, |(length, _)| *length);
        self.arrived
            .push((before + audio.audio.len() as f64, now()));
    }

    /// A turn, if this is the beginning of a spoken one's answer.
    fn answers(&mut self, response: &v3::StreamingDetectIntentResponse) -> Option<Turn> {
        match response.response.as_ref()? {
            Kind::RecognitionResult(result) => {
                if let Some(end) = result.speech_end_offset.filter(|_| result.is_final) {
                    self.speech_end = Some(end.seconds as f64 + f64::from(end.nanos) / 1e9);
                }
                None
            }
            Kind::DetectIntentResponse(answer) => {
                if self.is_answered || answer.output_audio.is_empty() {
                    return None;
                }
                self.is_answered = true;
                let end = self.speech_end? * self.bytes_per_second;
                // The last byte of speech is the one before the end.
                let message = self.arrived.iter().find(|(length, _)| *length > end - 1.0);
                Some(Turn {
                    asked: message?.1,
                    answered: now(),
                    lead: lead(answer),
                })
            }
        }
    }
}

#[tonic::async_trait]
impl Sessions for Recorder {
    type ServerStreamingDetectIntentStream =
        futures_util::stream::Empty<Result<v3::DetectIntentResponse, Status>>;
    type StreamingDetectIntentStream =
        Pin<Box<dyn Stream<Item = Result<v3::StreamingDetectIntentResponse, Status>> + Send>>;

    async fn streaming_detect_intent(
        &self,
        request: Request<Streaming<v3::StreamingDetectIntentRequest>>,
    ) -> Result<Response<Self::StreamingDetectIntentStream>, Status> {
        let passing = Arc::new(Mutex::new(Passing::default()));
        let (metadata, extensions, requests) = request.into_parts();
        let noted = passing.clone();
        // A request that broke off is one that ended, to the agent.
        let requests = requests.filter_map(move |request| {
            let request = request.ok();
            if let Some(request) = &request {
                noted
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .asks(request);
            }
            std::future::ready(request)
        });
        let request = Request::from_parts(metadata, extensions, requests);
        let responses = self.agent.clone().streaming_detect_intent(request).await?;
        let turns = self.turns.clone();
        let responses = responses.into_inner().inspect(move |response| {
            let mut passing = passing.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = response
                .as_ref()
                .ok()
                .and_then(|said| passing.answers(said));
            if let Some(turn) = turn {
                let mut turns = turns.lock().unwrap_or_else(PoisonError::into_inner);
                turns.entry(passing.dialled.clone()).or_default().push(turn);
            }
        });
        Ok(Response::new(Box::pin(responses)))
    }

    async fn detect_intent(
        &self,
        request: Request<v3::DetectIntentRequest>,
    ) -> Result<Response<v3::DetectIntentResponse>, Status> {
        self.agent.clone().detect_intent(request).await
    }

    async fn server_streaming_detect_intent(
        &self,
        _: Request<v3::DetectIntentRequest>,
    ) -> Result<Response<Self::ServerStreamingDetectIntentStream>, Status> {
        Err(Status::unimplemented("not recorded"))
    }

    async fn match_intent(
        &self,
        request: Request<v3::MatchIntentRequest>,
    ) -> Result<Response<v3::MatchIntentResponse>, Status> {
        self.agent.clone().match_intent(request).await
    }

    async fn fulfill_intent(
        &self,
        request: Request<v3::FulfillIntentRequest>,
    ) -> Result<Response<v3::FulfillIntentResponse>, Status> {
        self.agent.clone().fulfill_intent(request).await
    }

    async fn submit_answer_feedback(
        &self,
        request: Request<v3::SubmitAnswerFeedbackRequest>,
    ) -> Result<Response<v3::AnswerFeedback>, Status> {
        self.agent.clone().submit_answer_feedback(request).await
    }
}

/// What the agent says on this event: samples at 8 kHz. Each ingress has a session of its own for it.
pub(crate) async fn prompt(agent: SocketAddr, event: &str, ingress: Ingress) -> Vec<i16> {
    let client = SessionsClient::connect(format!("http://{agent}"))
        .await
        .expect("the agent listens");
    let request = v3::DetectIntentRequest {
        session: format!("projects/p/locations/global/agents/bistro/sessions/prompt-{ingress:?}"),
        query_input: Some(v3::QueryInput {
            input: Some(Input::Event(v3::EventInput {
                event: event.to_owned(),
            })),
            language_code: "en-US".to_owned(),
        }),
        output_audio_config: Some(v3::OutputAudioConfig {
            audio_encoding: v3::OutputAudioEncoding::Mulaw.into(),
            sample_rate_hertz: 8000,
            synthesize_speech_config: None,
        }),
        ..v3::DetectIntentRequest::default()
    };
    let mut client = client.max_decoding_message_size(LONGEST_MESSAGE);
    let answer = client.detect_intent(request).await.expect("an answer");
    let audio = answer.into_inner().output_audio;
    audio.iter().map(|byte| g711::decode_mulaw(*byte)).collect()
}

fn dialled(request: &v3::StreamingDetectIntentRequest) -> Option<String> {
    use prost_types::value::Kind;

    let payload = request.query_params.as_ref()?.payload.as_ref()?;
    let Some(Kind::StructValue(tandem)) = &payload.fields.get("tandem")?.kind else {
        return None;
    };
    let Some(Kind::StringValue(dialled)) = &tandem.fields.get("dialled")?.kind else {
        return None;
    };
    Some(dialled.clone())
}

/// Whole frames of 20 ms without voice at the beginning of the answer.
fn lead(answer: &v3::DetectIntentResponse) -> f64 {
    let config = answer.output_audio_config.clone().unwrap_or_default();
    let audio = &answer.output_audio;
    let samples: Vec<i16> = match config.audio_encoding() {
        v3::OutputAudioEncoding::Mulaw => {
            audio.iter().map(|byte| g711::decode_mulaw(*byte)).collect()
        }
        // A WAV file with the shortest of headers.
        _ => audio[44.min(audio.len())..]
            .chunks_exact(2)
            .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
            .collect(),
    };
    let frame = usize::try_from(config.sample_rate_hertz)
        .unwrap_or(0)
        .max(8000)
        / 50;
    let voiced = |frame: &[i16]| {
        let power: f32 = frame.iter().map(|s| f32::from(*s).powi(2)).sum();
        (power / frame.len() as f32).sqrt() >= VOICED
    };
    let silent = samples.chunks(frame).position(voiced).unwrap_or(0);
    silent as f64 / 50.0
}

fn now() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.expect("after 1970").as_secs_f64()
}
