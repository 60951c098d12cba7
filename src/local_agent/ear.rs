//! One stream's hearing: bytes in, recognition results out. Its clock is the audio.

use std::collections::VecDeque;
use std::future;
use std::sync::Arc;
use std::time::Duration;

use tandem_proto::cx::v3;
use tandem_proto::cx::v3::AudioEncoding;
use tandem_proto::cx::v3::streaming_recognition_result::MessageType;
use tokio::time;
use tonic::Status;

use super::audio;
use super::audio::Pcm;
use super::audio::Resampler;
use super::convert;
use super::decide::Speech;
use super::recogniser::Heard;
use super::recogniser::Listening;
use super::recogniser::Recogniser;
use super::recogniser::SAMPLE_RATE;
use super::recogniser::endpointer::Edge;
use super::recogniser::endpointer::Endpointer;
use super::recogniser::endpointer::FRAME;
use super::script::HearingSettings;

/// Audio before the onset that belongs to the utterance: a soft first consonant.
const PRE_ROLL: Duration = Duration::from_millis(300);
/// Voice from which on guesses are told. A decoder that knows nothing but the page's grammar finds a word of it in every cough, which no
/// recogniser of Google's does; what is shorter than this is told when it is over, if it is a word then.
const SHORTEST_GUESS: Duration = Duration::from_millis(300);
/// How long a verdict may take when all decoders are busy.
const SLOWEST_VERDICT: Duration = Duration::from_secs(10);

/// What the ear is to do, from the request, the page and the script.
pub(super) struct Settings {
    pub(super) encoding: AudioEncoding,
    pub(super) rate: u32,
    pub(super) single_utterance: bool,
    /// Nothing is heard before this.
    pub(super) deaf_until: Duration,
    /// Silence up to here is no input, in a single utterance.
    pub(super) no_speech_at: Duration,
    /// More audio than this is too much.
    pub(super) limit: Duration,
    pub(super) language: String,
    pub(super) hearing: HearingSettings,
}

impl Settings {
    /// Reads an audio configuration.
    pub(super) fn parse(
        config: &v3::InputAudioConfig,
        language: &str,
        no_speech_timeout: Duration,
        limit: Duration,
        hearing: &HearingSettings,
    ) -> Result<Self, Status> {
        let encoding = config.audio_encoding();
        let rate = u32::try_from(config.sample_rate_hertz).unwrap_or(0);
        match (encoding, rate) {
            (AudioEncoding::Linear16, 8000..=48_000)
            | (AudioEncoding::Mulaw | AudioEncoding::Alaw, 8000) => {}
            (AudioEncoding::Linear16 | AudioEncoding::Mulaw | AudioEncoding::Alaw, _) => {
                return Err(Status::invalid_argument(format!(
                    "audio config: {rate} Hz does not go with {}",
                    encoding.as_str_name()
                )));
            }
            _ => {
                return Err(Status::invalid_argument(format!(
                    "audio config: {} is not understood here",
                    encoding.as_str_name()
                )));
            }
        }
        let window = config.barge_in_config.unwrap_or_default();
        Ok(Self {
            encoding,
            rate,
            single_utterance: config.single_utterance,
            deaf_until: convert::from_duration(window.no_barge_in_duration),
            no_speech_at: convert::from_duration(window.total_duration) + no_speech_timeout,
            limit,
            language: language.to_owned(),
            hearing: hearing.clone(),
        })
    }
}

/// Follows the audio of one stream.
pub(super) struct Ear {
    settings: Settings,
    /// The recogniser and the page whose grammar it listens with; none where the page wants no recogniser.
    recogniser: Option<(Arc<Recogniser>, String)>,
    endpointer: Endpointer,
    odd_byte: Option<u8>,
    waiting: Vec<i16>,
    heard_samples: u64,
    pre_roll: VecDeque<i16>,
    resampler: Resampler,
    listening: Option<Listening>,
    /// Voice of the utterance under way, and what was guessed of it before that was enough to tell.
    voiced: Duration,
    withheld: Option<v3::StreamingRecognitionResult>,
    /// Whether anything was told of it.
    is_told: bool,
    /// Silence kept back during a pause: heard only if the caller goes on.
    kept_back: Vec<i16>,
    utterances: Vec<Speech>,
    voice: Vec<i16>,
    over: bool,
}

impl Ear {
    pub(super) fn new(settings: Settings, recogniser: Option<(Arc<Recogniser>, String)>) -> Self {
        Self {
            endpointer: Endpointer::new(settings.hearing.end_of_speech),
            resampler: Resampler::new(settings.rate, SAMPLE_RATE),
            settings,
            recogniser,
            odd_byte: None,
            waiting: Vec::new(),
            heard_samples: 0,
            pre_roll: VecDeque::new(),
            listening: None,
            voiced: Duration::ZERO,
            withheld: None,
            is_told: false,
            kept_back: Vec::new(),
            utterances: Vec::new(),
            voice: Vec::new(),
            over: false,
        }
    }

    /// Hears the audio of one message.
    pub(super) async fn hear(
        &mut self,
        bytes: &[u8],
    ) -> Result<Vec<v3::StreamingRecognitionResult>, Status> {
        let samples = self.decode(bytes);
        self.waiting.extend(samples);
        let frame_length =
            (u64::from(self.settings.rate) * FRAME.as_millis() as u64 / 1000) as usize;
        let mut results = Vec::new();
        let mut waiting = std::mem::take(&mut self.waiting);
        let whole = waiting.len() / frame_length * frame_length;
        for frame in waiting[..whole].chunks_exact(frame_length) {
            self.heard_samples += frame.len() as u64;
            if self.now() > self.settings.limit {
                return Err(Status::out_of_range(format!(
                    "audio is longer than {:?}",
                    self.settings.limit
                )));
            }
            if !self.over {
                self.hear_frame(frame, &mut results).await;
            }
        }
        waiting.drain(..whole);
        self.waiting = waiting;
        Ok(results)
    }

    /// The client half-closed: the utterance under way is over.
    pub(super) async fn finish(&mut self) -> Vec<v3::StreamingRecognitionResult> {
        let mut results = Vec::new();
        if !self.over && self.endpointer.speaking() {
            self.end_utterance(&mut results).await;
        }
        self.over = true;
        results
    }

    /// The next interim result; waits for ever when nobody speaks.
    pub(super) async fn interim(&mut self) -> v3::StreamingRecognitionResult {
        while let Some(listening) = &mut self.listening {
            match listening.next().await {
                Some(Heard::Interim { words, stability }) => {
                    let guess = self.interim_result(words, stability);
                    if self.voiced >= SHORTEST_GUESS {
                        self.is_told = true;
                        return guess;
                    }
                    self.withheld = Some(guess);
                }
                // The final verdict is asked for in `end_utterance` alone, so this is the end of a broken decoder.
                Some(Heard::Final { .. }) | None => self.listening = None,
            }
        }
        future::pending().await
    }

    /// What was said, all in all, and its sound.
    pub(super) fn into_speech(self) -> (Speech, Arc<Pcm>) {
        let spoken = !self.utterances.is_empty();
        // A cough before "yes" is forgiven; a turn of coughs is not.
        let understood: Vec<&Speech> = self
            .utterances
            .iter()
            .filter(|speech| speech.understood)
            .collect();
        let of: Vec<&Speech> = if understood.is_empty() {
            self.utterances.iter().collect()
        } else {
            understood.clone()
        };
        let speech = Speech {
            transcript: of
                .iter()
                .map(|speech| speech.transcript.as_str())
                .collect::<Vec<_>>()
                .join(" "),
            confidence: of
                .iter()
                .map(|speech| speech.confidence)
                .fold(1.0, f32::min),
            spoken,
            understood: !understood.is_empty(),
        };
        (
            speech,
            Arc::new(Pcm {
                samples: self.voice,
                rate: self.settings.rate,
            }),
        )
    }

    async fn hear_frame(
        &mut self,
        frame: &[i16],
        results: &mut Vec<v3::StreamingRecognitionResult>,
    ) {
        if self.now() <= self.settings.deaf_until {
            return;
        }
        let edge = self.endpointer.hear(frame);
        match edge {
            Some(Edge::Onset) => self.begin_utterance(results),
            Some(Edge::Resume) => {
                let silence = std::mem::take(&mut self.kept_back);
                self.pass_on(&silence);
            }
            Some(Edge::Pause) => self.listening.iter().for_each(Listening::pause),
            Some(Edge::End) => {
                self.end_utterance(results).await;
                if self.settings.single_utterance {
                    // The signal first, then the transcript, as Google's server does it too.
                    results.insert(results.len() - 1, self.end_of_single_utterance());
                    self.over = true;
                }
                return;
            }
            None => {}
        }
        if !self.endpointer.speaking() {
            self.remember(frame);
            if self.settings.single_utterance
                && self.utterances.is_empty()
                && self.now() >= self.settings.no_speech_at
            {
                results.push(self.end_of_single_utterance());
                self.over = true;
            }
        } else if self.endpointer.silence() >= Duration::from_millis(300) {
            self.kept_back.extend_from_slice(frame);
        } else {
            self.pass_on(frame);
        }
        if self.endpointer.speaking() && self.endpointer.silence().is_zero() {
            self.voiced += FRAME;
            if self.voiced >= SHORTEST_GUESS
                && let Some(guess) = self.withheld.take()
            {
                self.is_told = true;
                results.push(guess);
            }
        }
    }

    fn remember(&mut self, frame: &[i16]) {
        self.pre_roll.extend(frame);
        let keep = (u128::from(self.settings.rate) * PRE_ROLL.as_millis() / 1000) as usize;
        let old = self.pre_roll.len().saturating_sub(keep);
        self.pre_roll.drain(..old);
    }

    fn begin_utterance(&mut self, results: &mut Vec<v3::StreamingRecognitionResult>) {
        self.resampler = Resampler::new(self.settings.rate, SAMPLE_RATE);
        (self.voiced, self.withheld, self.is_told) = (Duration::ZERO, None, false);
        self.listening = self
            .recogniser
            .as_ref()
            .and_then(|(recogniser, page)| recogniser.listen(page));
        if self.listening.is_none() {
            self.is_told = true;
            results.push(self.interim_result(self.settings.hearing.unclear.clone(), 0.5));
        }
        let before: Vec<i16> = self.pre_roll.drain(..).collect();
        self.pass_on(&before);
    }

    fn pass_on(&mut self, samples: &[i16]) {
        self.voice.extend_from_slice(samples);
        if let Some(listening) = &self.listening {
            listening.hear(self.resampler.push(samples));
        }
    }

    async fn end_utterance(&mut self, results: &mut Vec<v3::StreamingRecognitionResult>) {
        self.kept_back.clear();
        let end = self.now().saturating_sub(self.endpointer.silence());
        let unclear = self.settings.hearing.unclear.clone();
        let mut speech = Speech {
            transcript: unclear,
            spoken: true,
            ..Speech::default()
        };
        if let Some(listening) = self.listening.take()
            && let Some((words, confidence)) = self.verdict(listening, results).await
        {
            speech.confidence = confidence;
            if confidence >= self.settings.hearing.reject_below && !words.is_empty() {
                speech.understood = true;
                speech.transcript = words;
            }
        }
        // Before the end of an utterance is told, its words have been.
        if speech.understood && !self.is_told {
            results.push(self.interim_result(speech.transcript.clone(), 0.9));
        }
        results.push(v3::StreamingRecognitionResult {
            message_type: MessageType::Transcript.into(),
            transcript: speech.transcript.clone(),
            is_final: true,
            confidence: speech.confidence,
            speech_end_offset: Some(convert::duration(end)),
            language_code: self.settings.language.clone(),
            ..v3::StreamingRecognitionResult::default()
        });
        self.utterances.push(speech);
    }

    /// Waits for the final words, passing on the interim ones that come before.
    async fn verdict(
        &mut self,
        mut listening: Listening,
        results: &mut Vec<v3::StreamingRecognitionResult>,
    ) -> Option<(String, f32)> {
        listening.finish();
        let deadline = time::Instant::now() + SLOWEST_VERDICT;
        while let Some(heard) = time::timeout_at(deadline, listening.next()).await.ok()? {
            match heard {
                Heard::Interim { words, stability } => {
                    if self.voiced >= SHORTEST_GUESS {
                        self.is_told = true;
                        results.push(self.interim_result(words, stability));
                    }
                }
                Heard::Final { words, confidence } => return Some((words, confidence)),
            }
        }
        None
    }

    fn interim_result(&self, transcript: String, stability: f32) -> v3::StreamingRecognitionResult {
        v3::StreamingRecognitionResult {
            message_type: MessageType::Transcript.into(),
            transcript,
            stability,
            speech_end_offset: Some(convert::duration(self.now())),
            language_code: self.settings.language.clone(),
            ..v3::StreamingRecognitionResult::default()
        }
    }

    fn end_of_single_utterance(&self) -> v3::StreamingRecognitionResult {
        v3::StreamingRecognitionResult {
            message_type: MessageType::EndOfSingleUtterance.into(),
            speech_end_offset: Some(convert::duration(self.now())),
            language_code: self.settings.language.clone(),
            ..v3::StreamingRecognitionResult::default()
        }
    }

    /// How much audio of the stream was heard.
    fn now(&self) -> Duration {
        Duration::from_nanos(self.heard_samples * 1_000_000_000 / u64::from(self.settings.rate))
    }

    fn decode(&mut self, bytes: &[u8]) -> Vec<i16> {
        match self.settings.encoding {
            AudioEncoding::Mulaw => bytes
                .iter()
                .map(|byte| audio::mulaw_decode(*byte))
                .collect(),
            AudioEncoding::Alaw => bytes.iter().map(|byte| audio::alaw_decode(*byte)).collect(),
            _ => {
                // A message may end in the middle of a sample.
                let bytes: Vec<u8> = self
                    .odd_byte
                    .take()
                    .into_iter()
                    .chain(bytes.iter().copied())
                    .collect();
                let pairs = bytes.chunks_exact(2);
                self.odd_byte = pairs.remainder().first().copied();
                pairs
                    .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
                    .collect()
            }
        }
    }
}
