//! Clips that an agent wants played from elsewhere: asked for at once, and waited for when their turn comes.

use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;

use crate::engine::call::Call;
use crate::engine::call::answer;
use crate::engine::call::event::Action;
use crate::engine::call::event::ClipId;
use crate::engine::call::notice::Notice;
use crate::engine::call::playout::Speech;
use crate::engine::call::timers::Timer;
use crate::engine::media::codec::AudioFormat;

/// Clips that may be under way for one call; an agent that wants more at once is broken.
const MAX_CLIPS: usize = 16;
/// How long a clip is waited for. Whoever fetches it gives up earlier; this is for the case that they do not.
const PATIENCE: Duration = Duration::from_secs(3);

/// The clips that are under way.
#[derive(Debug, Default)]
pub(super) struct Clips {
    next: u32,
    awaited: Vec<Awaited>,
}

#[derive(Debug)]
struct Awaited {
    clip: ClipId,
    uri: String,
    until: Instant,
}

impl Clips {
    /// Whether any is under way.
    pub(super) fn is_waiting(&self) -> bool {
        !self.awaited.is_empty()
    }

    fn take(&mut self, clip: ClipId) -> Option<Awaited> {
        let at = self
            .awaited
            .iter()
            .position(|awaited| awaited.clip == clip)?;
        Some(self.awaited.swap_remove(at))
    }
}

impl Call {
    /// Fetches a clip and gives it its place in the queue. `speech` is without sound yet.
    pub(super) fn play_clip(&mut self, uri: String, speech: Speech) {
        if self.clips.awaited.len() == MAX_CLIPS {
            self.clip_failed(uri, "too many clips at once".to_owned());
            return;
        }
        let clip = ClipId(self.clips.next);
        self.clips.next += 1;
        if self.playout.push_awaited(clip, speech, self.now).is_none() {
            self.clip_failed(uri, "too much to play at once".to_owned());
            return;
        }
        let until = self.now + PATIENCE;
        self.clips.awaited.push(Awaited {
            clip,
            uri: uri.clone(),
            until,
        });
        if !self.timers.is_set(Timer::Clip) {
            self.timers.set(Timer::Clip, until);
        }
        self.act(Action::Fetch(clip, uri));
    }

    pub(super) fn on_fetched(&mut self, clip: ClipId, outcome: Result<Bytes, String>) {
        let Some(awaited) = self.clips.take(clip) else {
            return;
        };
        match outcome.and_then(|bytes| sound(&bytes)) {
            Ok((bytes, format)) => {
                self.end_hold();
                self.heard.add_audio(format.duration_of_bytes(bytes.len()));
                self.playout.fill(clip, bytes, format, self.now);
            }
            Err(reason) => self.drop_clip(awaited, reason),
        }
        self.proceed();
    }

    /// Gives up those that have been waited for too long.
    pub(super) fn on_clips_late(&mut self) {
        let now = self.now;
        while let Some(late) = self.clips.awaited.iter().position(|clip| clip.until <= now) {
            let awaited = self.clips.awaited.swap_remove(late);
            self.drop_clip(awaited, "it did not come in time".to_owned());
        }
        if let Some(next) = self.clips.awaited.iter().map(|clip| clip.until).min() {
            self.timers.set(Timer::Clip, next);
        }
        self.proceed();
    }

    /// What was cut is not waited for any more.
    pub(super) fn forget_clips(&mut self) {
        self.clips.awaited.clear();
        self.timers.stop(Timer::Clip);
    }

    fn drop_clip(&mut self, awaited: Awaited, reason: String) {
        if let Some(finished) = self.playout.drop_clip(awaited.clip, self.now) {
            self.report(finished);
        }
        self.clip_failed(awaited.uri, reason);
        self.watch_for_silence();
    }

    fn clip_failed(&mut self, uri: String, reason: String) {
        self.tell(Notice::ClipFailed { uri, reason });
    }
}

/// A clip says by its RIFF header how it is written; without one nobody knows.
fn sound(bytes: &Bytes) -> Result<(Bytes, AudioFormat), String> {
    let (bytes, format) = answer::wav_samples(bytes).map_err(|error| error.to_string())?;
    match bytes.is_empty() {
        true => Err("it is empty".to_owned()),
        false => Ok((bytes, format)),
    }
}
