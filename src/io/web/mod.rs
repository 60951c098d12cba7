//! Asking other people's servers, on an agent's word: for clips ([`super::clips`]) and for tools ([`super::tools`]).
//!
//! Where we connect to is guarded ([`guard`]), each step of a redirect like the first. Nothing else is left to chance
//! either: no proxy from the environment, no credentials in a URL, no referrer, no compressed answers, and never more bytes
//! than the caller of this module has room for. How long all of it may take is the caller's to say.
//!
//! # Decisions
//! - **`http://` only towards our own networks**, and only where those are allowed: in the clear over the Internet anybody
//!   could put words into the agent's mouth.
//! - **Google's own storage is not guarded**: its host is ours to name and no agent's, and inside a private network it may
//!   well have a private address.

mod guard;

use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use http::HeaderMap;
use http::StatusCode;
use http::header::LOCATION;
pub use reqwest::Certificate;
use reqwest::Client;
use reqwest::RequestBuilder;
use reqwest::Response;
pub use reqwest::Url;
use reqwest::redirect::Policy;
use serde_json::Value;

use self::guard::Barred;
use self::guard::Door;
use self::guard::Guarded;
pub use self::guard::Lookup;
pub use self::guard::SystemLookup;

/// Redirects that are followed: one from a short name, one to a host near by, and one to spare.
const MOST_REDIRECTS: usize = 3;
/// The longest URL, in bytes: signed ones have about a thousand.
const LONGEST_URL: usize = 4_096;
/// How long a connection is kept for the next request.
const KEPT_IDLE: Duration = Duration::from_secs(30);
/// Connections that are kept for a host.
const KEPT_PER_HOST: usize = 4;

/// What may be reached, and how.
pub struct WebSettings {
    /// Whether the addresses of our own networks may be connected to.
    pub allow_private: bool,
    /// How names are looked up.
    pub lookup: Arc<dyn Lookup>,
    /// Certificates to trust besides the system's.
    pub roots: Vec<Certificate>,
}

impl WebSettings {
    /// The Internet, or our own networks too, as this machine knows them.
    pub fn new(allow_private: bool) -> Self {
        Self {
            allow_private,
            lookup: Arc::new(SystemLookup),
            roots: Vec::new(),
        }
    }
}

/// Why nothing was had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebError {
    /// We would not ask there. One sentence.
    Refused(String),
    /// We asked in vain. One sentence.
    Failed(String),
}

impl fmt::Display for WebError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(sentence) | Self::Failed(sentence) => f.write_str(sentence),
        }
    }
}

/// What a server answered.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, whole.
    pub body: Bytes,
}

/// Clients for every kind of server.
pub struct Web {
    secure_door: Door,
    secure: ReadyClient,
    /// For `http://`; none where that is not allowed.
    plain: Option<ReadyClient>,
    google: ReadyClient,
}

/// A client, or why there is none: a machine without certificates can still be called, as long as nobody wants a clip.
type ReadyClient = Result<Client, String>;

impl Web {
    /// Makes the clients. Connects to nothing yet.
    pub fn new(settings: &WebSettings) -> Self {
        let guarded = |door| Guarded {
            door,
            lookup: settings.lookup.clone(),
        };
        let secure_door = if settings.allow_private {
            Door::PublicAndPrivate
        } else {
            Door::Public
        };
        let secure = client(settings, Some(guarded(secure_door)));
        if let Err(reason) = &secure {
            tracing::warn!(reason, "clips and tools by https:// cannot be had");
        }
        Self {
            secure_door,
            secure,
            plain: settings
                .allow_private
                .then(|| client(settings, Some(guarded(Door::Private)))),
            google: client(settings, None),
        }
    }

    /// Fetches what is at `url`, over redirects if need be, at most `limit` bytes.
    ///
    /// # Errors
    /// If it is refused, or is not to be had.
    pub async fn get(&self, url: &Url, limit: usize) -> Result<Reply, WebError> {
        let mut url = url.clone();
        for _ in 0..=MOST_REDIRECTS {
            let response = sent(self.client_for(&url)?.get(url.clone())).await?;
            match redirected(&url, &response)? {
                Some(next) => url = next,
                None => return whole(response, limit).await,
            }
        }
        Err(WebError::Failed(format!(
            "more than {MOST_REDIRECTS} redirects"
        )))
    }

    /// Fetches an object of Google's storage, whose host is not guarded. A redirect is a failure: the headers prove who we
    /// are, and are nobody else's.
    ///
    /// # Errors
    /// If it is not to be had.
    pub async fn get_from_google(
        &self,
        url: &Url,
        headers: HeaderMap,
        limit: usize,
    ) -> Result<Reply, WebError> {
        let client = usable(&self.google)?;
        let response = sent(client.get(url.clone()).headers(headers)).await?;
        whole(response, limit).await
    }

    /// Sends JSON to `url` and returns the answer, at most `limit` bytes. A redirect is a failure: what was sent may have
    /// been acted on.
    ///
    /// # Errors
    /// If it is refused, or there is no answer.
    pub async fn post(
        &self,
        url: &Url,
        headers: HeaderMap,
        json: &Value,
        limit: usize,
    ) -> Result<Reply, WebError> {
        let request = self.client_for(url)?.post(url.clone());
        let response = sent(request.headers(headers).json(json)).await?;
        whole(response, limit).await
    }

    /// The client that may ask this server.
    fn client_for(&self, url: &Url) -> Result<&Client, WebError> {
        let refuse = |why: &str| Err(WebError::Refused(why.to_owned()));
        if url.as_str().len() > LONGEST_URL {
            return refuse("the URL is too long");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("a URL must not have a user or a password");
        }
        let (client, door) = match (url.scheme(), &self.plain) {
            ("https", _) => (&self.secure, self.secure_door),
            ("http", Some(plain)) => (plain, Door::Private),
            ("http", None) => return refuse("only https:// is fetched from"),
            _ => return refuse("only https:// and gs:// are fetched from"),
        };
        let Some(host) = url.host_str() else {
            return refuse("the URL has no host");
        };
        // An address that stands in the URL is never looked up, so it is judged here.
        let literal: Result<IpAddr, _> = host.trim_matches(['[', ']']).parse();
        if literal.is_ok_and(|address| !door.admits(address)) {
            return Err(WebError::Refused(Barred(host.to_owned()).to_string()));
        }
        usable(client)
    }
}

fn client(settings: &WebSettings, guarded: Option<Guarded>) -> ReadyClient {
    let builder = Client::builder()
        .user_agent(concat!("tandem/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .referer(false)
        .no_proxy()
        .http1_only()
        .pool_idle_timeout(KEPT_IDLE)
        .pool_max_idle_per_host(KEPT_PER_HOST)
        .tls_certs_merge(settings.roots.iter().cloned());
    let builder = match guarded {
        Some(guarded) => builder.dns_resolver(Arc::new(guarded)),
        None => builder,
    };
    builder.build().map_err(|error| sentence(&error))
}

fn usable(client: &ReadyClient) -> Result<&Client, WebError> {
    client
        .as_ref()
        .map_err(|reason| WebError::Failed(reason.clone()))
}

async fn sent(request: RequestBuilder) -> Result<Response, WebError> {
    request.send().await.map_err(web_error)
}

/// Where the answer sends us; `None` if it is the answer itself.
fn redirected(from: &Url, response: &Response) -> Result<Option<Url>, WebError> {
    let is_redirect = matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    if !is_redirect {
        return Ok(None);
    }
    let location = response.headers().get(LOCATION);
    let next = location
        .and_then(|location| location.to_str().ok())
        .and_then(|location| from.join(location).ok());
    match next {
        Some(next) => Ok(Some(next)),
        None => Err(WebError::Failed("a redirect to nowhere".to_owned())),
    }
}

/// Reads an answer to its end, unless it is longer than `limit` bytes, whatever it says of itself.
async fn whole(mut response: Response, limit: usize) -> Result<Reply, WebError> {
    let too_large = || WebError::Failed(format!("it is larger than {limit} bytes"));
    // A part of something (206) was not asked for.
    if response.status() != StatusCode::OK {
        let status = response.status().as_u16();
        return Err(WebError::Failed(format!("the server answered {status}")));
    }
    let announced = response.content_length().unwrap_or(0);
    if announced > limit as u64 {
        return Err(too_large());
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(web_error)? {
        if body.len() + chunk.len() > limit {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Reply {
        headers: std::mem::take(response.headers_mut()),
        body: body.freeze(),
    })
}

fn web_error(error: reqwest::Error) -> WebError {
    // Who asks knows the URL, and it may hold a secret.
    let error = error.without_url();
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(error) = cause {
        if let Some(barred) = error.downcast_ref::<Barred>() {
            return WebError::Refused(barred.to_string());
        }
        cause = error.source();
    }
    WebError::Failed(sentence(&error))
}

/// An error and its causes in one line.
fn sentence(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    line.replace(['\r', '\n'], " ")
}
