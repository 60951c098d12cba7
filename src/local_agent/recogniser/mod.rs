//! Hearing: a bounded pool of decoders, each on a thread of its own, lent to a stream for one utterance.
//!
//! A decoder takes about 8 MB and 65 ms to load, so they are loaded once, at the start. While the caller speaks, one decoder
//! *follows* in the page's grammar (3 % of a core), which gives the interim transcripts. When the caller pauses, another one
//! *judges*: it hears the utterance once more, as a whole, in the page's grammar and in one that allows any sequence of
//! sounds (together 13 % of the utterance's length). The difference of the two scores tells speech that belongs to the page
//! from speech that does not.
//!
//! The two must not be the same: a decoder that has once heard audio in pieces never again levels its spectrum over a whole
//! utterance, but by a mean that takes minutes to settle, and its first callers are not understood.
//!
//! When every decoder is lent, audio waits in the utterance's queue and the next free decoder catches up with it, several times
//! faster than speech. Nothing is dropped.

pub(super) mod endpointer;
mod grammar;
mod pocketsphinx;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc as blocking;
use std::thread;

use tokio::sync::mpsc;

use self::pocketsphinx::Decoder;
use super::script::phrase::Lists;
use super::script::phrase::Phrase;

/// The rate of all audio in here, in hertz: that of the acoustic model.
pub(super) const SAMPLE_RATE: u32 = pocketsphinx::SAMPLE_RATE;

/// Utterances that may wait for a decoder. Beyond this the server is far too busy to be of use to anyone who waits.
const WAITING: usize = 256;
/// No phrase of a script takes longer to say. What follows is not heard, and the utterance matches nothing.
const LONGEST_UTTERANCE: usize = 20 * SAMPLE_RATE as usize;
/// Interim hypotheses are looked at this often.
const INTERIM_EVERY: usize = SAMPLE_RATE as usize / 10;

/// The score per 10 ms by which "any sound" may beat the page's grammar at confidence one half; see `tests/local_agent_hearing.rs`.
const EVEN: f32 = 1.5;
/// How fast confidence falls with that score.
const SLOPE: f32 = 4.0;
/// The loudest 20 ms of an utterance are brought to this level (-18 dBFS), where the model's training data lie.
const TARGET_RMS: f32 = 4125.0;

/// What the recogniser says of an utterance under way.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Heard {
    /// A guess, and how much of it stood before (0 to 1).
    Interim { words: String, stability: f32 },
    /// The whole utterance: words of the page's grammar, and how well they fit (0 to 1).
    Final { words: String, confidence: f32 },
}

enum Feed {
    Samples(Vec<i16>),
    Pause,
    Finish,
}

struct Job {
    page: String,
    feed: mpsc::UnboundedReceiver<Feed>,
    heard: mpsc::UnboundedSender<Heard>,
}

/// The pool.
pub(super) struct Recogniser {
    jobs: blocking::SyncSender<Job>,
}

/// An utterance being heard. Dropping it gives the decoder back.
pub(super) struct Listening {
    // Unbounded, because the stream that feeds it is: by its limit of audio.
    feed: mpsc::UnboundedSender<Feed>,
    heard: mpsc::UnboundedReceiver<Heard>,
}

impl Recogniser {
    /// Loads `decoders` decoders with the grammars of these pages.
    ///
    /// # Errors
    /// Every reason why the recogniser cannot work, in plain words.
    pub(super) fn start(
        decoders: usize,
        models: Option<&Path>,
        pages: &BTreeMap<String, Vec<Phrase>>,
        lists: &Lists,
    ) -> Result<Self, Vec<String>> {
        let models = models.map_or_else(
            || PathBuf::from(env!("TANDEM_POCKETSPHINX_MODELS")),
            Path::to_owned,
        );
        let path = models.join("en-us/cmudict-en-us.dict");
        let dictionary = fs::read(&path).map_err(|error| {
            vec![format!(
                "{}: {error} (Debian: pocketsphinx-en-us)",
                path.display()
            )]
        })?;
        let vocabulary: BTreeSet<String> = grammar::vocabulary(pages.values().flatten(), lists);
        let (words, missing) =
            grammar::pronunciations(&String::from_utf8_lossy(&dictionary), &vocabulary);
        if !missing.is_empty() {
            return Err(missing
                .iter()
                .map(|word| format!("the recogniser's dictionary has no word `{word}`"))
                .collect());
        }

        let (jobs, queue) = blocking::sync_channel(WAITING);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..decoders {
            let load =
                || load(&models, &words, pages, lists).map_err(|error| vec![error.to_string()]);
            let (follower, judge) = (load()?, load()?);
            let queue = Arc::clone(&queue);
            let worker = move || work(follower, judge, &queue);
            thread::Builder::new()
                .name("local-agent-ear".to_owned())
                .spawn(worker)
                .map_err(|error| vec![error.to_string()])?;
        }
        Ok(Self { jobs })
    }

    /// Begins an utterance on a page, or returns nothing when too many wait already.
    pub(super) fn listen(&self, page: &str) -> Option<Listening> {
        let (feed, feed_out) = mpsc::unbounded_channel();
        let (heard_in, heard) = mpsc::unbounded_channel();
        self.jobs
            .try_send(Job {
                page: page.to_owned(),
                feed: feed_out,
                heard: heard_in,
            })
            .ok()?;
        Some(Listening { feed, heard })
    }
}

impl Listening {
    /// Hears more of the utterance, at [`SAMPLE_RATE`].
    pub(super) fn hear(&self, samples: Vec<i16>) {
        // The worker goes away only when it panicked; `next` tells.
        let _ = self.feed.send(Feed::Samples(samples));
    }

    /// The caller paused: a good moment to weigh what was heard.
    pub(super) fn pause(&self) {
        let _ = self.feed.send(Feed::Pause);
    }

    /// The utterance is over: a [`Heard::Final`] follows.
    pub(super) fn finish(&self) {
        let _ = self.feed.send(Feed::Finish);
    }

    /// The next thing heard; nothing after the final one.
    pub(super) async fn next(&mut self) -> Option<Heard> {
        self.heard.recv().await
    }
}

fn load(
    models: &Path,
    words: &[(String, String)],
    pages: &BTreeMap<String, Vec<Phrase>>,
    lists: &Lists,
) -> Result<Decoder, pocketsphinx::Error> {
    let phones: Vec<(String, &str)> = grammar::phone_words().collect();
    let words = words
        .iter()
        .map(|(word, phones)| (word.as_str(), phones.as_str()));
    let mut decoder = Decoder::load(
        models,
        words.chain(phones.iter().map(|(word, phone)| (word.as_str(), *phone))),
    )?;
    decoder.add_grammar(grammar::ANY_SOUND, &grammar::any_sound())?;
    for (page, phrases) in pages {
        decoder.add_grammar(&grammar_name(page), &grammar::page(phrases.iter(), lists))?;
    }
    Ok(decoder)
}

/// A page may have any name, also that of the grammar of any sound.
fn grammar_name(page: &str) -> String {
    format!("page {page}")
}

fn work(mut follower: Decoder, mut judge: Decoder, queue: &Mutex<blocking::Receiver<Job>>) {
    loop {
        // The lock is held while waiting: the others wait for the lock instead, which comes to the same.
        let Ok(job) = queue.lock().unwrap_or_else(PoisonError::into_inner).recv() else {
            return;
        };
        let mut utterance = Utterance::new(&mut follower, &mut judge, &job.page);
        utterance.follow(job.feed, &job.heard);
    }
}

/// One utterance on its two decoders.
struct Utterance<'a> {
    follower: &'a mut Decoder,
    judge: &'a mut Decoder,
    grammar: String,
    samples: Vec<i16>,
    gain: Option<f32>,
    unseen: usize,
    last: String,
}

impl<'a> Utterance<'a> {
    fn new(follower: &'a mut Decoder, judge: &'a mut Decoder, page: &str) -> Self {
        Self {
            follower,
            judge,
            grammar: grammar_name(page),
            samples: Vec::new(),
            gain: None,
            unseen: 0,
            last: String::new(),
        }
    }

    /// Ends with a final verdict, or without one when the stream went away.
    fn follow(
        &mut self,
        mut feed: mpsc::UnboundedReceiver<Feed>,
        heard: &mpsc::UnboundedSender<Heard>,
    ) {
        if let Err(error) = self.follower.start(&self.grammar) {
            tracing::error!(%error, "the recogniser could not begin");
            return;
        }
        let mut verdict = None;
        while let Some(fed) = feed.blocking_recv() {
            // A stream that was given up has nobody who waits for its words, and others wait for this decoder.
            if heard.is_closed() {
                return;
            }
            match fed {
                Feed::Samples(samples) => {
                    verdict = None;
                    if let Some(interim) = self.hear(&samples) {
                        let _ = heard.send(interim);
                    }
                }
                Feed::Pause => verdict = Some(self.weigh()),
                Feed::Finish => {
                    let _ = heard.send(verdict.unwrap_or_else(|| self.weigh()));
                    return;
                }
            }
        }
    }

    fn hear(&mut self, samples: &[i16]) -> Option<Heard> {
        let room = LONGEST_UTTERANCE.saturating_sub(self.samples.len());
        let samples = &samples[..samples.len().min(room)];
        // The first samples hold the onset already, so the first gain is about right; the verdict uses a better one.
        let gain = *self.gain.get_or_insert_with(|| gain(samples));
        self.follower.hear(&amplified(samples, gain));
        self.samples.extend_from_slice(samples);
        self.unseen += samples.len();
        if self.unseen < INTERIM_EVERY {
            return None;
        }
        self.unseen = 0;
        let words = grammar::plain(&self.follower.hypothesis()?.words);
        if words == self.last {
            return None;
        }
        let stability = common_words(&self.last, &words);
        self.last.clone_from(&words);
        Some(Heard::Interim { words, stability })
    }

    /// Hears the whole utterance again, in both grammars.
    fn weigh(&mut self) -> Heard {
        let nothing = Heard::Final {
            words: String::new(),
            confidence: 0.0,
        };
        if self.samples.len() >= LONGEST_UTTERANCE {
            return nothing;
        }
        let samples = amplified(&self.samples, gain(&self.samples));
        let phrase = self.judge.hear_all(&self.grammar, &samples);
        let sounds = self.judge.hear_all(grammar::ANY_SOUND, &samples);
        let (Ok(Some(phrase)), Ok(Some(sounds))) = (phrase, sounds) else {
            return nothing;
        };
        let frames = (samples.len() / (SAMPLE_RATE as usize / 100)).max(20) as f32;
        let difference = (sounds.score - phrase.score) as f32 / frames;
        let confidence = 1.0 / (1.0 + ((difference - EVEN) / SLOPE).exp());
        tracing::debug!(words = %phrase.words, difference, confidence, "weighed an utterance");
        Heard::Final {
            words: grammar::plain(&phrase.words),
            confidence,
        }
    }
}

/// What brings the loudest 20 ms to the target, within 30 dB up and 10 dB down.
fn gain(samples: &[i16]) -> f32 {
    let power = |frame: &[i16]| {
        frame
            .iter()
            .map(|sample| f32::from(*sample).powi(2))
            .sum::<f32>()
            / frame.len() as f32
    };
    let loudest = samples
        .chunks(SAMPLE_RATE as usize / 50)
        .map(power)
        .fold(1.0, f32::max)
        .sqrt();
    (TARGET_RMS / loudest).clamp(0.3, 30.0)
}

fn amplified(samples: &[i16], gain: f32) -> Vec<i16> {
    // A float becomes the nearest i16: the cast saturates.
    samples
        .iter()
        .map(|sample| (f32::from(*sample) * gain) as i16)
        .collect()
}

/// The share of `now` that already stood at the beginning of `before`.
fn common_words(before: &str, now: &str) -> f32 {
    let common = before
        .split(' ')
        .zip(now.split(' '))
        .take_while(|(a, b)| a == b)
        .count();
    common as f32 / now.split(' ').count().max(1) as f32
}
