//! The gRPC side: `Sessions` of `cx.v3`, and of `cx.v3beta1` by re-encoding, on one port.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use futures_util::StreamExt as _;
use futures_util::stream;
use tandem_proto::cx::v3;
use tandem_proto::cx::v3::sessions_server::Sessions as V3;
use tandem_proto::cx::v3::sessions_server::SessionsServer as V3Server;
use tandem_proto::cx::v3beta1;
use tandem_proto::cx::v3beta1::sessions_server::Sessions as V3beta1;
use tandem_proto::cx::v3beta1::sessions_server::SessionsServer as V3beta1Server;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::Streaming;
use tonic::transport::server::TcpIncoming;

use super::agent::Agent;
use super::answer::Output;
use super::convert::transcode;
use super::script::Script;
use super::session::SessionName;
use super::turn;
use super::turn::Requests;

/// Responses that wait for a slow reader; the answer then waits too.
const WAITING_RESPONSES: usize = 32;
/// Larger than any message of a caller's audio, smaller than harm.
const LONGEST_REQUEST: usize = 4 * 1024 * 1024;

/// A local agent that listens, but does not serve yet.
pub struct Server {
    agent: Arc<Agent>,
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Loads the recogniser, tries the voice and takes the port (0 for any free one).
    ///
    /// # Errors
    /// A missing program or model, a word that the recogniser does not know, a port that is taken.
    pub async fn bind(script: Script, listen: SocketAddr) -> io::Result<Self> {
        let agent = task::spawn_blocking(move || Agent::start(script))
            .await
            .map_err(io::Error::other)??;
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        Ok(Self {
            agent: Arc::new(agent),
            listener,
            address,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` completes and the streams under way have ended.
    ///
    /// # Errors
    /// The transport broke.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let streams = self.agent.script.server.streams_per_connection;
        let v3 = V3Server::new(Service(Arc::clone(&self.agent)))
            .max_decoding_message_size(LONGEST_REQUEST);
        let v3beta1 =
            V3beta1Server::new(Service(self.agent)).max_decoding_message_size(LONGEST_REQUEST);
        tonic::transport::Server::builder()
            .max_concurrent_streams(streams)
            .http2_keepalive_interval(Some(Duration::from_secs(20)))
            .http2_keepalive_timeout(Some(Duration::from_secs(10)))
            .add_service(v3)
            .add_service(v3beta1)
            .serve_with_incoming_shutdown(
                TcpIncoming::from(self.listener).with_nodelay(Some(true)),
                shutdown,
            )
            .await
            .map_err(io::Error::other)
    }
}

struct Service(Arc<Agent>);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Service {
    async fn detect(
        &self,
        request: v3::DetectIntentRequest,
    ) -> Result<v3::DetectIntentResponse, Status> {
        let name = SessionName::parse(&request.session)?;
        let output = Output::parse(request.output_audio_config)?;
        let mut turn = self.0.begin(&name, request.query_params.as_ref()).await?;
        let heard = self.0.hear_at_once(&turn, request.query_input).await?;
        let (performed, result) = self
            .0
            .answer(&name, &mut turn, heard, output.as_ref(), None)
            .await?;
        Ok(performed.into_response(result, output.as_ref()))
    }

    /// Answers the input that was matched. Matching is a pure function of the session, so it is simply done again.
    async fn fulfill(
        &self,
        request: v3::FulfillIntentRequest,
    ) -> Result<v3::FulfillIntentResponse, Status> {
        let matched = request
            .match_intent_request
            .ok_or_else(|| Status::invalid_argument("match_intent_request is missing"))?;
        let detect = v3::DetectIntentRequest {
            session: matched.session,
            query_params: matched.query_params,
            query_input: matched.query_input,
            output_audio_config: request.output_audio_config,
            ..v3::DetectIntentRequest::default()
        };
        let response = self.detect(detect).await?;
        Ok(v3::FulfillIntentResponse {
            response_id: response.response_id,
            query_result: response.query_result,
            output_audio: response.output_audio,
            output_audio_config: response.output_audio_config,
        })
    }

    /// Partial and final responses to an input that is complete at once.
    fn detect_streaming(
        &self,
        request: v3::DetectIntentRequest,
    ) -> Answers<v3::DetectIntentResponse> {
        use v3::streaming_detect_intent_response::Response as Kind;
        let request = v3::StreamingDetectIntentRequest {
            session: request.session,
            query_params: request.query_params,
            query_input: request.query_input,
            output_audio_config: request.output_audio_config,
            enable_partial_response: true,
            ..v3::StreamingDetectIntentRequest::default()
        };
        let requests: Requests = Box::pin(stream::once(async { Ok(request) }));
        Box::pin(self.stream(requests).filter_map(|response| async {
            match response.map(|response| response.response) {
                Ok(Some(Kind::DetectIntentResponse(response))) => Some(Ok(response)),
                Ok(Some(Kind::RecognitionResult(_)) | None) => None,
                Err(status) => Some(Err(status)),
            }
        }))
    }

    fn stream(
        &self,
        requests: Requests,
    ) -> ReceiverStream<Result<v3::StreamingDetectIntentResponse, Status>> {
        let (responses, received) = mpsc::channel(WAITING_RESPONSES);
        task::spawn(turn::serve(Arc::clone(&self.0), requests, responses));
        ReceiverStream::new(received)
    }

    /// Headers go out when this returns: at once, or with the first message if the script wants it as late as Google's.
    async fn respond<T: Send + 'static>(
        &self,
        mut answers: Answers<T>,
    ) -> Result<Response<Answers<T>>, Status> {
        if !self.0.script.server.late_headers {
            return Ok(Response::new(answers));
        }
        let first = answers.next().await.transpose()?;
        Ok(Response::new(Box::pin(
            stream::iter(first.map(Ok)).chain(answers),
        )))
    }
}

#[tonic::async_trait]
impl V3 for Service {
    type ServerStreamingDetectIntentStream = Answers<v3::DetectIntentResponse>;
    type StreamingDetectIntentStream = Answers<v3::StreamingDetectIntentResponse>;

    async fn detect_intent(
        &self,
        request: Request<v3::DetectIntentRequest>,
    ) -> Result<Response<v3::DetectIntentResponse>, Status> {
        self.detect(request.into_inner()).await.map(Response::new)
    }

    async fn server_streaming_detect_intent(
        &self,
        request: Request<v3::DetectIntentRequest>,
    ) -> Result<Response<Self::ServerStreamingDetectIntentStream>, Status> {
        self.respond(self.detect_streaming(request.into_inner()))
            .await
    }

    async fn streaming_detect_intent(
        &self,
        request: Request<Streaming<v3::StreamingDetectIntentRequest>>,
    ) -> Result<Response<Self::StreamingDetectIntentStream>, Status> {
        self.respond(Box::pin(self.stream(Box::pin(request.into_inner()))))
            .await
    }

    async fn match_intent(
        &self,
        request: Request<v3::MatchIntentRequest>,
    ) -> Result<Response<v3::MatchIntentResponse>, Status> {
        self.0
            .match_intent(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn fulfill_intent(
        &self,
        request: Request<v3::FulfillIntentRequest>,
    ) -> Result<Response<v3::FulfillIntentResponse>, Status> {
        self.fulfill(request.into_inner()).await.map(Response::new)
    }

    async fn submit_answer_feedback(
        &self,
        request: Request<v3::SubmitAnswerFeedbackRequest>,
    ) -> Result<Response<v3::AnswerFeedback>, Status> {
        Ok(Response::new(
            request.into_inner().answer_feedback.unwrap_or_default(),
        ))
    }
}

#[tonic::async_trait]
impl V3beta1 for Service {
    type ServerStreamingDetectIntentStream = Answers<v3beta1::DetectIntentResponse>;
    type StreamingDetectIntentStream = Answers<v3beta1::StreamingDetectIntentResponse>;

    async fn detect_intent(
        &self,
        request: Request<v3beta1::DetectIntentRequest>,
    ) -> Result<Response<v3beta1::DetectIntentResponse>, Status> {
        let response = self.detect(transcode(request.get_ref())?).await?;
        transcode(&response).map(Response::new)
    }

    async fn server_streaming_detect_intent(
        &self,
        request: Request<v3beta1::DetectIntentRequest>,
    ) -> Result<Response<Self::ServerStreamingDetectIntentStream>, Status> {
        let answers = self.detect_streaming(transcode(request.get_ref())?);
        self.respond(Box::pin(answers.map(|response| transcode(&response?))))
            .await
    }

    async fn streaming_detect_intent(
        &self,
        request: Request<Streaming<v3beta1::StreamingDetectIntentRequest>>,
    ) -> Result<Response<Self::StreamingDetectIntentStream>, Status> {
        let requests: Requests = Box::pin(request.into_inner().map(|request| transcode(&request?)));
        self.respond(Box::pin(
            self.stream(requests).map(|response| transcode(&response?)),
        ))
        .await
    }

    async fn match_intent(
        &self,
        request: Request<v3beta1::MatchIntentRequest>,
    ) -> Result<Response<v3beta1::MatchIntentResponse>, Status> {
        let response = self.0.match_intent(transcode(request.get_ref())?).await?;
        transcode(&response).map(Response::new)
    }

    async fn fulfill_intent(
        &self,
        request: Request<v3beta1::FulfillIntentRequest>,
    ) -> Result<Response<v3beta1::FulfillIntentResponse>, Status> {
        let response = self.fulfill(transcode(request.get_ref())?).await?;
        transcode(&response).map(Response::new)
    }

    async fn submit_answer_feedback(
        &self,
        request: Request<v3beta1::SubmitAnswerFeedbackRequest>,
    ) -> Result<Response<v3beta1::AnswerFeedback>, Status> {
        Ok(Response::new(
            request.into_inner().answer_feedback.unwrap_or_default(),
        ))
    }
}
