//! Clips that agents want played: fetched, kept for a while, and never waited for by more than those who want them.
//!
//! A clip is a web page's worth of bytes with a caller waiting for it, so it is had within seconds or not at all. It comes
//! from a server (`https://`, guarded: [`super::web`]), from Google's storage (`gs://`, with the agent's own credentials) or
//! from the folder of prompts (a file's name alone). Calls that want the same at the same time share one fetch; it is given
//! up when the last of them has gone.
//!
//! # Decisions
//! - **How long a clip is kept** is the server's to say (`Cache-Control`), but never longer than [`LONGEST_LIFE`]: an
//!   announcement that was taken back must be gone within the hour. Where it says nothing: [`USUAL_LIFE`].
//! - **Google's storage says `max-age=0` of everything that is not public**, its author knowing nothing of it. There it is
//!   taken for nothing said; `no-store` is obeyed.
//! - **Files are not kept**: the operating system does that, and a new one should be heard at once.
//! - **An object that needs credentials is kept for its agent alone.**

mod cache;
mod source;

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::future::Shared;
use futures_util::future::WeakShared;
use http::HeaderMap;
use http::header::CACHE_CONTROL;
use tokio::io::AsyncReadExt as _;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use self::cache::Cache;
use self::cache::Key;
use self::source::Source;
use crate::config;
use crate::io::backend::auth::Auth;
use crate::io::metrics;
use crate::io::metrics::ClipResult;
use crate::io::web::Reply;
use crate::io::web::Url;
use crate::io::web::Web;
use crate::io::web::WebError;

/// Where Google's storage is.
pub const GOOGLE_STORAGE: &str = "https://storage.googleapis.com";
/// The longest that a clip is kept, whatever its server says.
pub const LONGEST_LIFE: Duration = Duration::from_secs(60 * 60);
/// How long a clip is kept of which its server says nothing.
pub const USUAL_LIFE: Duration = Duration::from_secs(5 * 60);
/// Fetches under way, of all calls together; more wait within their time. At 5 MiB each they are 320 MiB at the worst.
const MOST_UNDER_WAY: usize = 64;
/// The longest address that is looked at, in bytes.
const LONGEST_URI: usize = 4_096;

/// Fetches clips for all calls. Clones share everything.
#[derive(Clone)]
pub struct Clips(Arc<Inner>);

struct Inner {
    settings: config::Clips,
    web: Arc<Web>,
    /// Scheme and host of Google's storage, without a slash at the end.
    storage: String,
    slots: Arc<Semaphore>,
    // A lock, but not on the way of audio: taken twice per clip.
    table: Mutex<Table>,
}

struct Table {
    cache: Cache,
    /// Fetches that somebody waits for.
    under_way: HashMap<Key, WeakShared<Fetch>>,
}

/// A fetch in a task of its own, which ends when nobody waits for it any more.
type Fetch = BoxFuture<'static, Result<Bytes, WebError>>;

/// Whose credentials are shown to Google's storage.
#[derive(Clone)]
pub struct Account {
    /// The agent, a key of `[agents]`.
    pub agent: String,
    /// Its credentials; those of an agent that is spoken to without any are none here either.
    pub auth: Arc<Auth>,
}

#[cfg(test)]
impl Clips {
    pub(crate) fn unused() -> Self {
        let web = Web::new(&crate::io::web::WebSettings::new(false));
        Self::new(config::Clips::default(), Arc::new(web))
    }
}

#[cfg(test)]
impl Account {
    pub(crate) fn unused() -> Self {
        use crate::io::backend::endpoint::GoogleEnvironment;
        use crate::io::backend::endpoint::Trust;

        let nowhere = GoogleEnvironment::default();
        let auth = Auth::new("local", None, &nowhere, Trust::PlainText);
        Self {
            agent: "local".to_owned(),
            auth: Arc::new(auth.expect("no credentials")),
        }
    }
}

impl Clips {
    /// Fetches nothing yet.
    pub fn new(settings: config::Clips, web: Arc<Web>) -> Self {
        Self::with_storage(settings, web, GOOGLE_STORAGE.to_owned())
    }

    /// The same with another server in the place of Google's storage: `storage` is scheme and host, no slash at the end.
    pub fn with_storage(settings: config::Clips, web: Arc<Web>, storage: String) -> Self {
        let table = Table {
            cache: Cache::new(settings.cache_bytes),
            under_way: HashMap::new(),
        };
        Self(Arc::new(Inner {
            settings,
            web,
            storage,
            slots: Arc::new(Semaphore::new(MOST_UNDER_WAY)),
            table: Mutex::new(table),
        }))
    }

    /// Fetches a clip for the agent of `account`. What is dropped before its end is given up, unless others wait for the
    /// same.
    ///
    /// # Errors
    /// One sentence, within `clips.timeout`.
    pub fn fetch(
        &self,
        uri: &str,
        account: &Account,
    ) -> impl Future<Output = Result<Bytes, String>> + Send + use<> {
        let begun = self.begin(uri, account);
        async move {
            let (result, outcome) = match begun {
                Begun::Here(clip) => (ClipResult::Cached, Ok(clip)),
                Begun::Refused(reason) => (ClipResult::Refused, Err(reason)),
                Begun::UnderWay { fetch, is_first } => match fetch.await {
                    Ok(clip) if is_first => (ClipResult::Fetched, Ok(clip)),
                    Ok(clip) => (ClipResult::Cached, Ok(clip)),
                    Err(WebError::Refused(reason)) => (ClipResult::Refused, Err(reason)),
                    Err(WebError::Failed(reason)) => (ClipResult::Failed, Err(reason)),
                },
            };
            metrics::clip(result);
            outcome
        }
    }

    fn begin(&self, uri: &str, account: &Account) -> Begun {
        if uri.len() > LONGEST_URI {
            return Begun::Refused("the address is too long".to_owned());
        }
        let source = match Source::parse(uri) {
            Ok(source) => source,
            Err(reason) => return Begun::Refused(reason),
        };
        let key = Key {
            agent: matches!(source, Source::Object(_)).then(|| account.agent.clone()),
            uri: uri.to_owned(),
        };
        let mut table = self.table();
        if let Some(clip) = table.cache.get(&key, Instant::now()) {
            return Begun::Here(clip);
        }
        let joined = table.under_way.get(&key).and_then(WeakShared::upgrade);
        if let Some(fetch) = joined {
            return Begun::UnderWay {
                fetch,
                is_first: false,
            };
        }
        // Those that were given up leave their keys behind; so there are never more than fetches that somebody waits for.
        table
            .under_way
            .retain(|_, fetch| fetch.upgrade().is_some_and(|fetch| fetch.peek().is_none()));
        let fetch = self
            .spawn(key.clone(), source, account.auth.clone())
            .shared();
        if let Some(weak) = fetch.downgrade() {
            table.under_way.insert(key, weak);
        }
        Begun::UnderWay {
            fetch,
            is_first: true,
        }
    }

    fn spawn(&self, key: Key, source: Source, auth: Arc<Auth>) -> Fetch {
        let clips = self.clone();
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let timeout = clips.0.settings.timeout;
            let fetched = tokio::time::timeout(timeout, clips.had(&source, &auth)).await;
            let (clip, life) = fetched.unwrap_or_else(|_| {
                let timeout = humantime::format_duration(timeout);
                Err(WebError::Failed(format!("not here within {timeout}")))
            })?;
            let mut table = clips.table();
            table.cache.put(key, clip.clone(), life, Instant::now());
            Ok(clip)
        }));
        let broken = || Err(WebError::Failed("the fetch broke".to_owned()));
        task.map(move |ended| ended.unwrap_or_else(|_| broken()))
            .boxed()
    }

    /// The clip and how long it is good for.
    async fn had(&self, source: &Source, auth: &Auth) -> Result<(Bytes, Duration), WebError> {
        let Inner {
            settings,
            web,
            storage,
            slots,
            ..
        } = &*self.0;
        let limit = settings.max_bytes;
        // Never closed, so there is always a permit in the end.
        let _slot = slots.acquire().await;
        match source {
            Source::Web(url) => {
                let Reply { headers, body } = web.get(url, limit).await?;
                Ok((body, life(&headers)))
            }
            Source::Object(object) => {
                let url = Url::parse(&format!("{storage}{object}"))
                    .map_err(|error| WebError::Failed(error.to_string()))?;
                let proof = auth.headers().await;
                let proof = proof.map_err(|fault| WebError::Failed(fault.message))?;
                let Reply { headers, body } = web.get_from_google(&url, proof, limit).await?;
                Ok((body, life_of_object(&headers)))
            }
            Source::Prompt(name) => {
                let clip = prompt(&settings.directory, name, limit).await?;
                Ok((clip, Duration::ZERO))
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // The table is consistent between any two statements, so a panic elsewhere does not spoil it.
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a clip is had.
enum Begun {
    Here(Bytes),
    Refused(String),
    UnderWay {
        fetch: Shared<Fetch>,
        is_first: bool,
    },
}

/// A file among the prompts. Links are followed: who can make one there is an operator, and Kubernetes mounts them so.
async fn prompt(directory: &Path, name: &str, limit: usize) -> Result<Bytes, WebError> {
    let path: PathBuf = directory.join(name);
    let failed = |error: std::io::Error| WebError::Failed(format!("no prompt {name:?}: {error}"));
    // Anything else could keep its reader waiting for ever.
    if !tokio::fs::metadata(&path).await.map_err(failed)?.is_file() {
        return Err(WebError::Refused(format!("{name:?} is not a file")));
    }
    let file = tokio::fs::File::open(&path).await.map_err(failed)?;
    let mut clip = Vec::new();
    let mut file = file.take(limit as u64 + 1);
    file.read_to_end(&mut clip).await.map_err(failed)?;
    if clip.len() > limit {
        return Err(WebError::Failed(format!("it is larger than {limit} bytes")));
    }
    Ok(clip.into())
}

/// How long a clip of a server is kept (RFC 9111 §5.2.2). Nothing is ever asked whether it has changed, so what should be
/// is not kept.
fn life(headers: &HeaderMap) -> Duration {
    let said = said(headers);
    if said.no_store || said.no_cache {
        return Duration::ZERO;
    }
    said.max_age.unwrap_or(USUAL_LIFE).min(LONGEST_LIFE)
}

/// The same for an object of Google's storage.
fn life_of_object(headers: &HeaderMap) -> Duration {
    let said = said(headers);
    if said.no_store {
        return Duration::ZERO;
    }
    let max_age = said.max_age.filter(|age| !age.is_zero());
    max_age.unwrap_or(USUAL_LIFE).min(LONGEST_LIFE)
}

/// What a server says about keeping its answer.
#[derive(Default)]
struct Said {
    no_store: bool,
    no_cache: bool,
    max_age: Option<Duration>,
}

fn said(headers: &HeaderMap) -> Said {
    let mut said = Said::default();
    let values = headers.get_all(CACHE_CONTROL).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    for directive in values.flat_map(|value| value.split(',')) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "no-store" => said.no_store = true,
            "no-cache" => said.no_cache = true,
            "max-age" => {
                let seconds = value.trim().trim_matches('"').parse();
                // What is no number is taken for stale (RFC 9111 §4.2.1).
                said.max_age = Some(Duration::from_secs(seconds.unwrap_or(0)));
            }
            _ => {}
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_says_how_long_a_clip_is_kept_and_an_hour_is_the_most() {
        for (said, kept) in [
            (&[] as &[&str], 300),
            (&["max-age=10"], 10),
            (&["public, Max-Age=\"20\""], 20),
            (&["max-age=86400"], 3_600),
            (&["max-age=0"], 0),
            (&["max-age=soon"], 0),
            (&["max-age=99999999999999999999"], 0),
            (&["no-store, max-age=10"], 0),
            (&["public", "no-cache"], 0),
            (&["s-maxage=10"], 300),
        ] {
            let life = life(&headers(said));
            assert_eq!(life, Duration::from_secs(kept), "{said:?}");
        }
    }

    #[test]
    fn googles_storage_is_not_taken_at_its_word_for_private_objects() {
        for (said, kept) in [
            (&["private, max-age=0"], 300),
            (&["public, max-age=3600"], 3_600),
            (&["no-store"], 0),
        ] {
            let life = life_of_object(&headers(said));
            assert_eq!(life, Duration::from_secs(kept), "{said:?}");
        }
    }

    fn headers(values: &[&str]) -> HeaderMap {
        let values = values.iter().map(|value| value.parse());
        values
            .map(|value| (CACHE_CONTROL, value.expect("a value")))
            .collect()
    }
}
