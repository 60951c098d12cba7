//! One `StreamingDetectIntent` call: one utterance, one answer.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use futures_util::StreamExt as _;
use tandem_proto::cx::v3;
use tandem_proto::cx::v3::query_input::Input as QueryInputKind;
use tandem_proto::cx::v3::streaming_detect_intent_response::Response;
use tokio::sync::mpsc;
use tokio::time;
use tokio::time::Instant;
use tonic::Status;

use super::agent::Agent;
use super::agent::Heard;
use super::agent::input_of;
use super::agent::whole;
use super::answer::Output;
use super::answer::Performed;
use super::decide::Input;
use super::ear::Ear;
use super::session::SessionName;
use super::session::Turn;

/// What the client sends, whichever version it speaks.
pub(super) type Requests =
    Pin<Box<dyn Stream<Item = Result<v3::StreamingDetectIntentRequest, Status>> + Send>>;
/// What it gets.
pub(super) type Responses = mpsc::Sender<Result<v3::StreamingDetectIntentResponse, Status>>;

/// Serves one stream to its end, or until the client goes away.
pub(super) async fn serve(agent: Arc<Agent>, requests: Requests, responses: Responses) {
    let gone = responses.clone();
    tokio::select! {
        // A turn that the client cancelled leaves the session as it was, unless it was already decided.
        () = gone.closed() => {}
        outcome = run(&agent, requests, &responses) => {
            if let Err(status) = outcome {
                tracing::debug!(%status, "a turn failed");
                let _ = responses.send(Err(status)).await;
            }
        }
    }
}

async fn run(agent: &Agent, mut requests: Requests, responses: &Responses) -> Result<(), Status> {
    let Some(first) = time::timeout(agent.script.server.audio_stall, requests.next())
        .await
        .map_err(|_| stalled())?
    else {
        return Err(Status::invalid_argument(
            "the stream ended before its first message",
        ));
    };
    let first = first?;
    let name = SessionName::parse(&first.session)?;
    let turn = agent.begin(&name, first.query_params.as_ref()).await?;

    let fault = agent.script.faults.iter().find(|fault| {
        fault.agent.as_ref().is_none_or(|id| *id == name.agent_id)
            && fault.stream.is_none_or(|stream| stream == turn.number)
    });
    let Some(fault) = fault else {
        return take_turn(agent, &name, turn, first, requests, responses).await;
    };
    let failure = Status::new(fault.status, "a fault of the script");
    if fault.after.is_zero() {
        return Err(failure);
    }
    tokio::select! {
        outcome = take_turn(agent, &name, turn, first, requests, responses) => outcome,
        () = time::sleep(fault.after) => Err(failure),
    }
}

async fn take_turn(
    agent: &Agent,
    name: &SessionName,
    mut turn: Turn,
    first: v3::StreamingDetectIntentRequest,
    mut requests: Requests,
    responses: &Responses,
) -> Result<(), Status> {
    let output = Output::parse(first.output_audio_config)?;
    let (input, language) = input_of(first.query_input)?;
    let heard = match input {
        QueryInputKind::Audio(audio) => {
            let config = audio
                .config
                .ok_or_else(|| Status::invalid_argument("the first message has no audio config"))?;
            let mut ear = agent.ear(&turn, &config, &language)?;
            send_all(responses, ear.hear(&audio.audio).await?).await;
            match listen(agent, &mut ear, &mut requests, responses).await? {
                Some(text) => Heard {
                    input: Input::Text(text),
                    echo: None,
                    language,
                },
                None => {
                    let (speech, echo) = ear.into_speech();
                    Heard {
                        input: Input::Speech(speech),
                        echo: Some(echo),
                        language,
                    }
                }
            }
        }
        input => {
            let input = whole(input)?;
            match time::timeout(agent.script.server.audio_stall, requests.next())
                .await
                .map_err(|_| stalled())?
            {
                None => Heard {
                    input,
                    echo: None,
                    language,
                },
                Some(message) => {
                    return message.and(Err(Status::invalid_argument(
                        "a message after the whole input",
                    )));
                }
            }
        }
    };

    // Partial responses are sent on while the answer is still being performed.
    let (partials, mut partial) = mpsc::channel(4);
    let partials = first.enable_partial_response.then_some(partials);
    let early = v3::QueryResult {
        language_code: heard.language.clone(),
        ..v3::QueryResult::default()
    };
    let early = |performed: Performed| {
        Response::DetectIntentResponse(performed.into_response(early.clone(), output.as_ref()))
    };
    let (performed, result) = {
        let answer = agent.answer(name, &mut turn, heard, output.as_ref(), partials);
        tokio::pin!(answer);
        loop {
            tokio::select! {
                Some(partial) = partial.recv() => send(responses, early(partial)).await,
                answered = &mut answer => break answered?,
            }
        }
    };
    // An answer without a slow step is performed before its partial responses are looked at.
    while let Ok(partial) = partial.try_recv() {
        send(responses, early(partial)).await;
    }
    // The next turn may begin as soon as the client has the answer.
    drop(turn);
    send(
        responses,
        Response::DetectIntentResponse(performed.into_response(result, output.as_ref())),
    )
    .await;
    Ok(())
}

/// Hears the caller until the client half-closes. Returns the text that the client sent instead of audio, if it did.
async fn listen(
    agent: &Agent,
    ear: &mut Ear,
    requests: &mut Requests,
    responses: &Responses,
) -> Result<Option<String>, Status> {
    let stall = agent.script.server.audio_stall;
    let mut deadline = Instant::now() + stall;
    loop {
        tokio::select! {
            message = requests.next() => {
                let Some(message) = message else { break };
                match message?.query_input.and_then(|input| input.input) {
                    Some(QueryInputKind::Audio(audio)) if !audio.audio.is_empty() => {
                        deadline = Instant::now() + stall;
                        send_all(responses, ear.hear(&audio.audio).await?).await;
                    }
                    Some(QueryInputKind::Text(text)) if !text.text.is_empty() => {
                        return match time::timeout(stall, requests.next()).await.map_err(|_| stalled())? {
                            None => Ok(Some(text.text)),
                            Some(message) => message.and(Err(Status::invalid_argument("a message after the text"))),
                        };
                    }
                    _ => return Err(Status::invalid_argument("a message after the first should have audio bytes")),
                }
            }
            interim = ear.interim() => send(responses, Response::RecognitionResult(interim)).await,
            () = time::sleep_until(deadline) => return Err(stalled()),
        }
    }
    send_all(responses, ear.finish().await).await;
    Ok(None)
}

fn stalled() -> Status {
    Status::out_of_range(
        "Audio Timeout Error: audio should be sent close to real time, and the stream half-closed after it",
    )
}

async fn send_all(responses: &Responses, results: Vec<v3::StreamingRecognitionResult>) {
    for result in results {
        send(responses, Response::RecognitionResult(result)).await;
    }
}

async fn send(responses: &Responses, response: Response) {
    let response = v3::StreamingDetectIntentResponse {
        response: Some(response),
        ..v3::StreamingDetectIntentResponse::default()
    };
    // A client that went away ends `serve`.
    let _ = responses.send(Ok(response)).await;
}
