//! Clips that were fetched lately, by where they came from.

use std::collections::HashMap;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;

/// Clips that are kept at most: however small they are, a search through all of them stays short.
const MOST_CLIPS: usize = 1_024;

/// Where a clip came from, and with whose credentials: what one agent may read is not another's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The agent that asked, where its credentials were shown.
    pub(super) agent: Option<String>,
    /// The address, as the agent wrote it.
    pub(super) uri: String,
}

/// Clips within a limit of bytes; the one that was not asked for the longest makes room.
pub(super) struct Cache {
    limit: usize,
    bytes: usize,
    clips: HashMap<Key, Kept>,
}

struct Kept {
    clip: Bytes,
    until: Instant,
    used: Instant,
}

impl Cache {
    /// An empty cache for `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            bytes: 0,
            clips: HashMap::new(),
        }
    }

    /// The clip, if it is here and fresh.
    pub(super) fn get(&mut self, key: &Key, now: Instant) -> Option<Bytes> {
        let kept = self.clips.get_mut(key)?;
        if now < kept.until {
            kept.used = now;
            return Some(kept.clip.clone());
        }
        self.remove(key);
        None
    }

    /// Keeps a clip for `life`, if it fits at all.
    pub(super) fn put(&mut self, key: Key, clip: Bytes, life: Duration, now: Instant) {
        self.remove(&key);
        if life.is_zero() || clip.len() > self.limit {
            return;
        }
        while self.clips.len() >= MOST_CLIPS || self.bytes + clip.len() > self.limit {
            let Some(least) = self.least_used(now) else {
                break;
            };
            self.remove(&least);
        }
        self.bytes += clip.len();
        let kept = Kept {
            clip,
            until: now + life,
            used: now,
        };
        self.clips.insert(key, kept);
    }

    /// What is no longer fresh goes first, then what was not asked for the longest.
    fn least_used(&self, now: Instant) -> Option<Key> {
        let worth = |kept: &Kept| (now < kept.until, kept.used);
        let least = self.clips.iter().min_by_key(|(_, kept)| worth(kept));
        least.map(|(key, _)| key.clone())
    }

    fn remove(&mut self, key: &Key) {
        if let Some(kept) = self.clips.remove(key) {
            self.bytes -= kept.clip.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(60);

    #[test]
    fn a_clip_is_kept_until_its_time() {
        let now = Instant::now();
        let mut cache = Cache::new(100);
        cache.put(key("a"), clip(10), LIFE, now);
        let late = now + LIFE;
        assert_eq!(
            cache.get(&key("a"), late - Duration::from_millis(1)),
            Some(clip(10))
        );
        assert_eq!(cache.get(&key("a"), late), None);
        assert_eq!((cache.bytes, cache.clips.len()), (0, 0));
        cache.put(key("b"), clip(10), Duration::ZERO, now);
        assert_eq!(cache.get(&key("b"), now), None);
    }

    #[test]
    fn what_one_agent_may_read_is_not_anothers() {
        let now = Instant::now();
        let mut cache = Cache::new(100);
        let of = |agent: &str| Key {
            agent: Some(agent.to_owned()),
            uri: "gs://b/o".to_owned(),
        };
        cache.put(of("one"), clip(10), LIFE, now);
        assert_eq!(cache.get(&of("another"), now), None);
        assert_eq!(cache.get(&key("gs://b/o"), now), None);
        assert_eq!(cache.get(&of("one"), now), Some(clip(10)));
    }

    #[test]
    fn the_least_recently_used_makes_room() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut cache = Cache::new(100);
        cache.put(key("a"), clip(40), LIFE, at(0));
        cache.put(key("b"), clip(40), LIFE, at(1));
        assert!(cache.get(&key("a"), at(2)).is_some());
        cache.put(key("c"), clip(40), LIFE, at(3));
        assert_eq!(cache.get(&key("b"), at(4)), None);
        assert!(cache.get(&key("a"), at(4)).is_some());
        assert!(cache.get(&key("c"), at(4)).is_some());
        assert_eq!(cache.bytes, 80);
    }

    #[test]
    fn one_that_is_too_large_drives_nobody_out() {
        let now = Instant::now();
        let mut cache = Cache::new(100);
        cache.put(key("a"), clip(100), LIFE, now);
        cache.put(key("b"), clip(101), LIFE, now);
        assert!(cache.get(&key("a"), now).is_some());
        assert_eq!(cache.get(&key("b"), now), None);
        // The same again takes its own place.
        cache.put(key("a"), clip(60), LIFE, now);
        assert_eq!(cache.bytes, 60);
    }

    #[test]
    fn the_number_of_clips_is_limited_too() {
        let start = Instant::now();
        let mut cache = Cache::new(usize::MAX);
        for number in 0..=MOST_CLIPS as u64 {
            let now = start + Duration::from_millis(number);
            cache.put(key(&number.to_string()), Bytes::new(), LIFE, now);
        }
        assert_eq!(cache.clips.len(), MOST_CLIPS);
        assert_eq!(cache.get(&key("0"), start), None);
        assert!(cache.get(&key("1"), start).is_some());
    }

    fn key(uri: &str) -> Key {
        Key {
            agent: None,
            uri: uri.to_owned(),
        }
    }

    fn clip(bytes: usize) -> Bytes {
        vec![7; bytes].into()
    }
}
