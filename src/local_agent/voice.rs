//! Speaking: a Debian speech program as a child process, behind one small trait, with a bounded number of processes and a
//! bounded cache of sentences.

use std::collections::HashMap;
use std::io;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task;
use tokio::time;

use super::audio::Pcm;
use super::audio::read_wav;
use super::script::VoiceProgram;
use super::script::VoiceSettings;

/// A sentence of a script is far shorter; parameters that a client sends may make it longer.
const LONGEST_TEXT: usize = 2000;
/// A program takes a fifth of a second for five seconds of speech.
const SLOWEST: Duration = Duration::from_secs(10);

/// Turns a sentence into sound. May take its time: it is called on a thread for that.
pub(super) trait Voice: Send + Sync + 'static {
    /// Speaks, at whatever rate the voice has.
    fn speak(&self, text: &str) -> io::Result<Pcm>;
}

/// A program that writes a WAV file to its standard output.
struct Program {
    program: VoiceProgram,
    name: String,
}

impl Voice for Program {
    fn speak(&self, text: &str) -> io::Result<Pcm> {
        let (program, arguments) = match self.program {
            VoiceProgram::Flite => (
                "flite",
                ["-voice", &self.name, "-o", "/dev/stdout", "-t", text].to_vec(),
            ),
            VoiceProgram::Espeak => (
                "espeak-ng",
                ["-v", &self.name, "--stdout", "--", text].to_vec(),
            ),
        };
        let output = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .output();
        let output = output.map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot run {program}: {error} (Debian: {program})"),
            )
        })?;
        let failed = || {
            io::Error::other(format!(
                "{program} could not speak: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            ))
        };
        read_wav(&output.stdout)
            .filter(|_| output.status.success())
            .ok_or_else(failed)
    }
}

/// A voice with its limits.
pub(super) struct Speaker {
    voice: Arc<dyn Voice>,
    processes: Arc<Semaphore>,
    cache: Mutex<Cache>,
}

impl Speaker {
    /// Starts with the program of the script, after hearing one word of it.
    ///
    /// # Errors
    /// The program is missing or does not know the voice.
    pub(super) fn start(settings: &VoiceSettings) -> io::Result<Self> {
        let voice = Arc::new(Program {
            program: settings.program,
            name: settings.name.clone(),
        });
        voice.speak("ready")?;
        Ok(Self::new(voice, settings))
    }

    fn new(voice: Arc<dyn Voice>, settings: &VoiceSettings) -> Self {
        let cache = Mutex::new(Cache {
            limit: settings.cache_bytes,
            ..Cache::default()
        });
        Self {
            voice,
            processes: Arc::new(Semaphore::new(settings.at_once)),
            cache,
        }
    }

    /// The sentence as sound, from the cache or freshly spoken.
    pub(super) async fn speak(&self, text: &str) -> io::Result<Arc<Pcm>> {
        if let Some(pcm) = self.cache().find(text) {
            return Ok(pcm);
        }
        let speak = async {
            let permit = Arc::clone(&self.processes)
                .acquire_owned()
                .await
                .map_err(io::Error::other)?;
            let (voice, text) = (
                Arc::clone(&self.voice),
                text.chars().take(LONGEST_TEXT).collect::<String>(),
            );
            // The permit goes with the process, which outlives us when we are no longer waited for.
            task::spawn_blocking(move || (voice.speak(&text), drop(permit)).0)
                .await
                .map_err(io::Error::other)?
        };
        let pcm = Arc::new(time::timeout(SLOWEST, speak).await??);
        self.cache().keep(text, &pcm);
        Ok(pcm)
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sentences by text, the least recently used leaving first.
#[derive(Default)]
struct Cache {
    limit: usize,
    bytes: usize,
    clock: u64,
    sentences: HashMap<String, (u64, Arc<Pcm>)>,
}

impl Cache {
    fn find(&mut self, text: &str) -> Option<Arc<Pcm>> {
        self.clock += 1;
        let (used, pcm) = self.sentences.get_mut(text)?;
        *used = self.clock;
        Some(Arc::clone(pcm))
    }

    fn keep(&mut self, text: &str, pcm: &Arc<Pcm>) {
        let size = |text: &str, pcm: &Pcm| text.len() + pcm.samples.len() * 2;
        let added = size(text, pcm);
        if added > self.limit || self.sentences.contains_key(text) {
            return;
        }
        while self.bytes + added > self.limit {
            let oldest = self
                .sentences
                .iter()
                .min_by_key(|(_, (used, _))| *used)
                .map(|(text, _)| text.clone());
            let Some((text, (_, pcm))) = oldest.and_then(|text| self.sentences.remove_entry(&text))
            else {
                break;
            };
            self.bytes -= size(&text, &pcm);
        }
        self.bytes += added;
        self.sentences
            .insert(text.to_owned(), (self.clock, Arc::clone(pcm)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_forgets_what_was_least_recently_used() {
        let pcm = Arc::new(Pcm {
            samples: vec![0; 100],
            rate: 8000,
        });
        let mut cache = Cache {
            limit: 450,
            ..Cache::default()
        };
        cache.keep("a", &pcm);
        cache.keep("b", &pcm);
        assert!(cache.find("a").is_some());
        cache.keep("c", &pcm);
        assert!(
            cache.find("a").is_some() && cache.find("b").is_none() && cache.find("c").is_some()
        );
        cache.keep(
            "long",
            &Arc::new(Pcm {
                samples: vec![0; 1000],
                rate: 8000,
            }),
        );
        assert!(cache.find("long").is_none());
        assert_eq!(cache.bytes, 402);
    }
}
