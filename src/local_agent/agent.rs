//! The agent behind both versions of the service: one turn, from request to response.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tandem_proto::cx::v3;
use tandem_proto::cx::v3::query_input::Input as QueryInputKind;
use tandem_proto::cx::v3::query_result::Query;
use tokio::sync::mpsc;
use tonic::Status;

use super::answer::Output;
use super::answer::Performed;
use super::answer::Performer;
use super::audio::Pcm;
use super::convert;
use super::decide;
use super::decide::Decision;
use super::decide::Input;
use super::ear::Ear;
use super::ear::Settings;
use super::recogniser::Recogniser;
use super::script::Page;
use super::script::Script;
use super::session::SessionName;
use super::session::Sessions;
use super::session::State;
use super::session::Turn;
use super::voice::Speaker;

/// Sessions live at most this long, whatever the client asks for.
const LONGEST_SESSION: Duration = Duration::from_secs(24 * 3600);

/// A script with its ears and its voice.
pub(super) struct Agent {
    pub(super) script: Script,
    sessions: Arc<Sessions>,
    recogniser: Option<Arc<Recogniser>>,
    speaker: Speaker,
}

/// The whole of a turn's input, once it is known.
pub(super) struct Heard {
    pub(super) input: Input,
    pub(super) echo: Option<Arc<Pcm>>,
    pub(super) language: String,
}

impl Agent {
    /// Loads the recogniser and tries the voice.
    ///
    /// # Errors
    /// What is not installed, or which words the recogniser does not know.
    pub(super) fn start(script: Script) -> io::Result<Self> {
        let grammars = script.grammars();
        let hearing = &script.hearing;
        let start = || {
            Recogniser::start(
                hearing.decoders,
                hearing.models.as_deref(),
                &grammars,
                &script.lists,
            )
        };
        let recogniser = if grammars.is_empty() {
            None
        } else {
            Some(start().map_err(|problems| io::Error::other(problems.join("; ")))?)
        };
        Ok(Self {
            speaker: Speaker::start(&script.voice)?,
            sessions: Arc::new(Sessions::new(&script)),
            recogniser: recogniser.map(Arc::new),
            script,
        })
    }

    /// Takes the session for a turn and applies the request's query parameters.
    pub(super) async fn begin(
        &self,
        name: &SessionName,
        query_params: Option<&v3::QueryParameters>,
    ) -> Result<Turn, Status> {
        let mut turn = self
            .sessions
            .begin(name, self.script.start_page(&name.agent_id))
            .await?;
        let Some(params) = query_params else {
            return Ok(turn);
        };
        if !params.current_page.is_empty() {
            let page = params.current_page.rsplit('/').next().unwrap_or_default();
            if !self.script.pages.contains_key(page) {
                return Err(Status::not_found(format!("there is no page `{page}`")));
            }
            turn.state = State {
                page: page.to_owned(),
                ..State::default()
            };
        }
        if let Some(parameters) = &params.parameters {
            convert::merge(&mut turn.state.parameters, parameters);
        }
        if params.session_ttl.is_some() {
            turn.ttl = convert::from_duration(params.session_ttl).min(LONGEST_SESSION);
        }
        Ok(turn)
    }

    /// An ear for the page that the session is on.
    pub(super) fn ear(
        &self,
        turn: &Turn,
        config: &v3::InputAudioConfig,
        language: &str,
    ) -> Result<Ear, Status> {
        let page = self.page(&turn.state.page);
        let hearing = &self.script.hearing;
        let no_speech_timeout = page.no_speech_timeout.unwrap_or(hearing.no_speech_timeout);
        let settings = Settings::parse(
            config,
            language,
            no_speech_timeout,
            self.script.server.stream_audio_limit,
            hearing,
        )?;
        let grammar = page.recogniser
            && self
                .script
                .rules_on(&turn.state.page)
                .any(|rule| !rule.phrases.is_empty());
        let recogniser = self
            .recogniser
            .as_ref()
            .filter(|_| grammar)
            .map(|recogniser| (Arc::clone(recogniser), turn.state.page.clone()));
        Ok(Ear::new(settings, recogniser))
    }

    /// An input that is complete in one request; sound is heard as a whole.
    pub(super) async fn hear_at_once(
        &self,
        turn: &Turn,
        query_input: Option<v3::QueryInput>,
    ) -> Result<Heard, Status> {
        let (input, language) = input_of(query_input)?;
        let QueryInputKind::Audio(audio) = input else {
            return Ok(Heard {
                input: whole(input)?,
                echo: None,
                language,
            });
        };
        let config = v3::InputAudioConfig {
            single_utterance: false,
            barge_in_config: None,
            ..audio.config.unwrap_or_default()
        };
        let mut ear = self.ear(turn, &config, &language)?;
        ear.hear(&audio.audio).await?;
        ear.finish().await;
        let (speech, echo) = ear.into_speech();
        Ok(Heard {
            input: Input::Speech(speech),
            echo: Some(echo),
            language,
        })
    }

    /// Decides the turn, keeps its outcome in the session and performs the answer.
    pub(super) async fn answer(
        &self,
        name: &SessionName,
        turn: &mut Turn,
        heard: Heard,
        output: Option<&Output>,
        partials: Option<mpsc::Sender<Performed>>,
    ) -> Result<(Performed, v3::QueryResult), Status> {
        let before = turn.state.clone();
        let decision = decide::decide(&self.script, &before, &heard.input)?;
        tracing::debug!(session = %name.full, found = ?decision.found, page = %decision.state.page, "decided a turn");
        turn.keep(decision.state.clone());
        let result = self.query_result(name, &decision, &heard.language);
        let performer = Performer {
            speaker: &self.speaker,
            output,
            parameters: &decision.state.parameters,
            mixed_audio: self.script.server.mixed_audio,
            echo: heard.echo,
            partials,
        };
        Ok((performer.perform(&decision.steps).await?, result))
    }

    /// Finds the match of an input without moving the conversation.
    pub(super) async fn match_intent(
        &self,
        request: v3::MatchIntentRequest,
    ) -> Result<v3::MatchIntentResponse, Status> {
        use v3::match_intent_response::Query as Echo;
        let name = SessionName::parse(&request.session)?;
        let mut turn = self.begin(&name, request.query_params.as_ref()).await?;
        let heard = self.hear_at_once(&turn, request.query_input).await?;
        let before = turn.state.clone();
        let decision = decide::decide(&self.script, &before, &heard.input)?;
        if request.persist_parameter_changes {
            turn.keep(State {
                parameters: decision.state.parameters.clone(),
                ..before.clone()
            });
        }
        Ok(v3::MatchIntentResponse {
            matches: vec![decide::to_match(&decision.found, &name.agent)],
            current_page: Some(page_of(&name, &before.page)),
            query: match decision.query {
                Query::Text(text) => Some(Echo::Text(text)),
                Query::TriggerIntent(intent) => Some(Echo::TriggerIntent(intent)),
                Query::Transcript(transcript) => Some(Echo::Transcript(transcript)),
                Query::TriggerEvent(event) => Some(Echo::TriggerEvent(event)),
                Query::Dtmf(_) => None,
            },
        })
    }

    fn query_result(
        &self,
        name: &SessionName,
        decision: &Decision<'_>,
        language: &str,
    ) -> v3::QueryResult {
        let found = &decision.found;
        v3::QueryResult {
            query: Some(decision.query.clone()),
            language_code: language.to_owned(),
            parameters: Some(convert::parameters(&decision.state.parameters)),
            current_page: Some(page_of(name, &decision.state.page)),
            current_flow: Some(v3::Flow {
                name: format!("{}/flows/script", name.agent),
                display_name: "script".to_owned(),
            }),
            intent: found
                .intent
                .as_deref()
                .map(|intent| decide::to_intent(intent, &name.agent)),
            intent_detection_confidence: found.confidence,
            r#match: Some(decide::to_match(found, &name.agent)),
            advanced_settings: Some(self.advanced_settings(self.page(&decision.state.page))),
            ..v3::QueryResult::default()
        }
    }

    fn advanced_settings(&self, page: &Page) -> v3::AdvancedSettings {
        let no_speech_timeout = page
            .no_speech_timeout
            .unwrap_or(self.script.hearing.no_speech_timeout);
        v3::AdvancedSettings {
            speech_settings: Some(v3::advanced_settings::SpeechSettings {
                no_speech_timeout: Some(convert::duration(no_speech_timeout)),
                ..Default::default()
            }),
            dtmf_settings: page
                .dtmf
                .as_ref()
                .map(|dtmf| v3::advanced_settings::DtmfSettings {
                    enabled: true,
                    max_digits: dtmf.max_digits,
                    finish_digit: dtmf.finish_digit.clone(),
                    interdigit_timeout_duration: dtmf.interdigit_timeout.map(convert::duration),
                    endpointing_timeout_duration: dtmf.endpointing_timeout.map(convert::duration),
                }),
            ..v3::AdvancedSettings::default()
        }
    }

    fn page(&self, name: &str) -> &Page {
        self.script
            .pages
            .get(name)
            .expect("a session is only ever sent to a page that the script has")
    }
}

fn page_of(name: &SessionName, page: &str) -> v3::Page {
    v3::Page {
        name: format!("{}/flows/script/pages/{page}", name.agent),
        display_name: page.to_owned(),
    }
}

/// The input of a request and its language, both of which must be there.
pub(super) fn input_of(
    query_input: Option<v3::QueryInput>,
) -> Result<(QueryInputKind, String), Status> {
    let query_input =
        query_input.ok_or_else(|| Status::invalid_argument("query_input is missing"))?;
    if query_input.language_code.is_empty() {
        return Err(Status::invalid_argument(
            "query_input.language_code is missing",
        ));
    }
    let input = query_input
        .input
        .ok_or_else(|| Status::invalid_argument("query_input has no input"))?;
    Ok((input, query_input.language_code))
}

/// An input that is not sound.
pub(super) fn whole(input: QueryInputKind) -> Result<Input, Status> {
    let input = match input {
        QueryInputKind::Text(text) => Input::Text(text.text),
        QueryInputKind::Intent(intent) => Input::Intent(intent.intent),
        QueryInputKind::Event(event) => Input::Event(event.event),
        QueryInputKind::Dtmf(dtmf) => Input::Dtmf {
            digits: dtmf.digits,
            finish_digit: dtmf.finish_digit,
        },
        QueryInputKind::ToolCallResult(_) => {
            return Err(Status::unimplemented("this agent calls no tools"));
        }
        QueryInputKind::Audio(_) => {
            return Err(Status::invalid_argument("audio is out of place here"));
        }
    };
    let empty = match &input {
        Input::Text(text)
        | Input::Intent(text)
        | Input::Event(text)
        | Input::Dtmf { digits: text, .. } => text.is_empty(),
        Input::Speech(_) => false,
    };
    if empty {
        Err(Status::invalid_argument("query_input is empty"))
    } else {
        Ok(input)
    }
}
