//! Who we are towards Google: a token for each call, and a client certificate where mutual TLS is wanted.
//!
//! Credentials are looked for in the order of Application Default Credentials (facts §12.1): the file that
//! `GOOGLE_APPLICATION_CREDENTIALS` names, gcloud's file, the metadata server; an agent's own `credentials` key comes before
//! all of them. Tokens are fetched, cached and renewed by `google-cloud-auth`. Because the metadata server comes last and is
//! only asked when a token is needed, a machine without credentials would find out with its first caller;
//! [`Auth::check`] finds out at the start.
//!
//! That cache believes a token until it expires. A server that refuses one before (revoked, a key that was changed, a clock
//! that was wrong) therefore makes us begin anew with credentials read again ([`Auth::renew`]).
//!
//! Not supported: certificates from a command, a key chain or a PKCS #11 module, the GKE SPIFFE bundle, GDC-H accounts.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use google_cloud_auth::credentials::CacheableResource;
use google_cloud_auth::credentials::Credentials;
use google_cloud_auth::credentials::external_account;
use google_cloud_auth::credentials::impersonated;
use google_cloud_auth::credentials::mds;
use google_cloud_auth::credentials::service_account;
use google_cloud_auth::credentials::service_account::AccessSpecifier;
use google_cloud_auth::credentials::user_account;
use http::Extensions;
use http::HeaderMap;
use serde_json::Value;
use tonic::transport::Identity;

use crate::engine::call::event::Fault;
use crate::engine::call::event::FaultKind;
use crate::io::backend::endpoint::EndpointError;
use crate::io::backend::endpoint::GoogleEnvironment;
use crate::io::backend::endpoint::Trust;
use crate::io::backend::endpoint::wants_certificate;

/// What a token may be used for: everything that the account may do with Google Cloud.
const SCOPES: [&str; 1] = ["https://www.googleapis.com/auth/cloud-platform"];
/// How long the start waits for the first token. A metadata server answers in milliseconds, a token exchange in one second.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a token that took the place of a refused one is not replaced in turn.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(10);
/// gcloud's file of Application Default Credentials.
const GCLOUD_CREDENTIALS: &str = "application_default_credentials.json";
/// gcloud's description of a client certificate.
const GCLOUD_CERTIFICATE: &str = "certificate_config.json";

/// Why there are no usable credentials. Each is one sentence for an operator.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// Neither a file nor a metadata server.
    #[error(
        "No Google credentials were found: set GOOGLE_APPLICATION_CREDENTIALS, or agents.{agent}.credentials, or run on Google Cloud; the metadata server said: {reason}"
    )]
    NotFound {
        /// The agent that needs them.
        agent: String,
        /// What the metadata server, or the way to it, said.
        reason: String,
    },
    /// A file that cannot be read or understood.
    #[error("The Google credentials file {} cannot be used: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that yields no token.
    #[error("The Google credentials in {} yield no token: {reason}", path.display())]
    NoToken {
        /// The file.
        path: PathBuf,
        /// What the token service, or the way to it, said.
        reason: String,
    },
    /// A client certificate is wanted and there is none.
    #[error("The client certificate described in {} cannot be used: {reason}", path.display())]
    Certificate {
        /// The description.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A variable is wrong.
    #[error(transparent)]
    Environment(#[from] EndpointError),
}

/// The credentials of one agent.
#[derive(Debug)]
pub struct Auth {
    agent: String,
    held: Option<Held>,
}

/// Credentials and where they come from.
#[derive(Debug)]
struct Held {
    credentials: Mutex<Issued>,
    source: Source,
    environment: GoogleEnvironment,
}

/// Credentials with the token that they hold.
#[derive(Debug)]
struct Issued {
    credentials: Credentials,
    /// When they took the place of others that were refused.
    renewed: Option<Instant>,
}

/// Where credentials come from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    File(PathBuf),
    Metadata,
}

impl Auth {
    /// The credentials with which `agent` may be spoken to on a host of this trust: none in plain text, only its own `file`
    /// on a foreign host. Fetches nothing yet.
    ///
    /// # Errors
    /// If a file that is named cannot be used.
    ///
    /// # Panics
    /// Outside a Tokio runtime, in which tokens are renewed.
    pub fn new(
        agent: &str,
        file: Option<&Path>,
        environment: &GoogleEnvironment,
        trust: Trust,
    ) -> Result<Self, AuthError> {
        let source = match (trust, file) {
            (Trust::PlainText, _) | (Trust::Foreign, None) => None,
            (Trust::Foreign | Trust::Google, Some(file)) => Some(Source::File(file.to_owned())),
            (Trust::Google, None) => Some(default_source(environment)),
        };
        let held = source
            .map(|source| Held::new(source, environment))
            .transpose()?;
        Ok(Self {
            agent: agent.to_owned(),
            held,
        })
    }

    /// The headers that prove who we are, from the cache nearly always; none where no credentials are used.
    ///
    /// # Errors
    /// [`FaultKind::Unavailable`] if trying again may help, else [`FaultKind::Unauthenticated`].
    pub async fn headers(&self) -> Result<HeaderMap, Fault> {
        let Some(held) = &self.held else {
            return Ok(HeaderMap::new());
        };
        let credentials = held.issued().credentials.clone();
        match credentials.headers(Extensions::new()).await {
            Ok(CacheableResource::New { data, .. }) => Ok(data),
            // Said only to those who show an entity tag, and we show none.
            Ok(CacheableResource::NotModified) => Ok(HeaderMap::new()),
            Err(error) => Err(Fault {
                kind: if error.is_transient() {
                    FaultKind::Unavailable
                } else {
                    FaultKind::Unauthenticated
                },
                message: format!("no Google token: {}", sentence(&error)),
            }),
        }
    }

    /// Throws the token away, which a server has refused, so that the next turn has a fresh one. Not more often than every
    /// 10 s: streams that fail together had the same token, and where every token is refused the fault is not in the token.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn renew(&self, now: Instant) {
        let Some(held) = &self.held else {
            return;
        };
        let mut issued = held.issued();
        let is_fresh = |renewed| now.saturating_duration_since(renewed) < RENEWAL_INTERVAL;
        if issued.renewed.is_some_and(is_fresh) {
            return;
        }
        // A failure counts too: the old ones stay, and the file is not read again for every stream.
        issued.renewed = Some(now);
        match credentials(&held.source, &held.environment) {
            Ok(credentials) => {
                issued.credentials = credentials;
                tracing::info!(agent = self.agent, "the token was refused; getting another");
            }
            Err(error) => {
                tracing::warn!(agent = self.agent, %error, "the token was refused, and no other can be had");
            }
        }
    }

    /// Fetches a token once, so that a gateway without credentials refuses to start.
    ///
    /// # Errors
    /// If none comes within 5 s.
    pub async fn check(&self) -> Result<(), AuthError> {
        let Some(held) = &self.held else {
            return Ok(());
        };
        let reason = match tokio::time::timeout(CHECK_TIMEOUT, self.headers()).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(fault)) => fault.message,
            Err(_) => format!("no answer within {} s", CHECK_TIMEOUT.as_secs()),
        };
        Err(match held.source.clone() {
            Source::File(path) => AuthError::NoToken { path, reason },
            Source::Metadata => AuthError::NotFound {
                agent: self.agent.clone(),
                reason,
            },
        })
    }
}

impl Held {
    fn new(source: Source, environment: &GoogleEnvironment) -> Result<Self, AuthError> {
        let issued = Issued {
            credentials: credentials(&source, environment)?,
            renewed: None,
        };
        Ok(Self {
            credentials: Mutex::new(issued),
            source,
            environment: environment.clone(),
        })
    }

    /// Never held while a token is waited for.
    fn issued(&self) -> MutexGuard<'_, Issued> {
        self.credentials
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Credentials from this source, with no token yet.
fn credentials(source: &Source, environment: &GoogleEnvironment) -> Result<Credentials, AuthError> {
    let quota_project = environment.quota_project.as_deref();
    let credentials = match source {
        Source::Metadata => {
            let builder = mds::Builder::default().with_scopes(SCOPES);
            let builder = match &environment.metadata_host {
                Some(host) => builder.with_endpoint(format!("http://{host}")),
                None => builder,
            };
            match quota_project {
                Some(project) => builder.with_quota_project_id(project),
                None => builder,
            }
            .build()
            .map_err(|error| sentence(&error))
            .map_err(|reason| (PathBuf::from("of the metadata server"), reason))
        }
        Source::File(path) => read_json(path)
            .and_then(|json| from_json(json, quota_project))
            .map_err(|reason| (path.clone(), reason)),
    };
    credentials.map_err(|(path, reason)| AuthError::File { path, reason })
}

/// The client certificate to be shown for mutual TLS, if there is one: described in the file that
/// `GOOGLE_API_CERTIFICATE_CONFIG` names, or gcloud's, as a `workload` entry with a path for the certificate and one for its
/// key, both PEM.
///
/// # Errors
/// If one is asked for (by a variable, or by a description that names files) and cannot be had.
pub fn client_certificate(environment: &GoogleEnvironment) -> Result<Option<Identity>, AuthError> {
    let wanted = wants_certificate(environment)?;
    if wanted == Some(false) {
        return Ok(None);
    }
    let is_named = environment.certificate_config.is_some();
    let path = environment
        .certificate_config
        .clone()
        .or_else(|| Some(environment.gcloud.as_ref()?.join(GCLOUD_CERTIFICATE)));
    let Some(path) = path else {
        return match wanted {
            Some(_) => Err(AuthError::Certificate {
                path: PathBuf::from("GOOGLE_API_CERTIFICATE_CONFIG"),
                reason: "the variable is not set, nor is HOME".to_owned(),
            }),
            None => Ok(None),
        };
    };
    let is_required = wanted.is_some() || is_named;
    if !is_required && !path.exists() {
        return Ok(None);
    }
    let refuse = |reason| AuthError::Certificate {
        path: path.clone(),
        reason,
    };
    let json = read_json(&path).map_err(refuse)?;
    let workload = &json["cert_configs"]["workload"];
    let (Some(certificate), Some(key)) = (
        workload["cert_path"].as_str(),
        workload["key_path"].as_str(),
    ) else {
        return match wanted {
            Some(_) => Err(refuse(
                "it has no `workload` entry with cert_path and key_path".to_owned(),
            )),
            None => Ok(None),
        };
    };
    let read = |file: &str| std::fs::read(file).map_err(|error| refuse(format!("{file}: {error}")));
    Ok(Some(Identity::from_pem(read(certificate)?, read(key)?)))
}

fn default_source(environment: &GoogleEnvironment) -> Source {
    if let Some(path) = &environment.application_credentials {
        return Source::File(path.clone());
    }
    let gcloud = environment
        .gcloud
        .as_ref()
        .map(|folder| folder.join(GCLOUD_CREDENTIALS));
    match gcloud {
        Some(path) if path.exists() => Source::File(path),
        Some(_) | None => Source::Metadata,
    }
}

fn read_json(path: &Path) -> Result<Value, String> {
    let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => error.to_string(),
    })?;
    // The parser's own message may quote what it read, and that is a secret.
    serde_json::from_str(&text).map_err(|error| format!("it is not JSON (line {})", error.line()))
}

fn from_json(json: Value, quota_project: Option<&str>) -> Result<Credentials, String> {
    /// The builders share their methods' names, but no trait.
    macro_rules! built {
        ($builder:expr) => {
            match quota_project {
                Some(project) => $builder.with_quota_project_id(project).build(),
                None => $builder.build(),
            }
        };
    }
    let built = match json["type"].as_str() {
        Some("service_account") => built!(
            service_account::Builder::new(json)
                .with_access_specifier(AccessSpecifier::from_scopes(SCOPES))
        ),
        Some("authorized_user") => built!(user_account::Builder::new(json).with_scopes(SCOPES)),
        Some("external_account") => {
            built!(external_account::Builder::new(json).with_scopes(SCOPES))
        }
        Some("impersonated_service_account") => {
            built!(impersonated::Builder::new(json).with_scopes(SCOPES))
        }
        Some(other) => return Err(format!("credentials of type `{other}` are not supported")),
        None => return Err("it has no `type`".to_owned()),
    };
    built.map_err(|error| sentence(&error))
}

/// An error and its causes in one line.
fn sentence(error: &dyn std::error::Error) -> String {
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
    line.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    const TOKEN: &str =
        r#"{"access_token":"tok","expires_in":3600,"token_type":"Bearer","issued_token_type":"x"}"#;

    #[tokio::test]
    async fn plain_text_and_foreign_hosts_get_no_default_credentials() {
        let environment = GoogleEnvironment {
            application_credentials: Some("/nowhere/key.json".into()),
            ..GoogleEnvironment::default()
        };
        for trust in [Trust::PlainText, Trust::Foreign] {
            let auth = Auth::new("a", None, &environment, trust).expect("nothing is read");
            assert!(auth.headers().await.expect("no token is needed").is_empty());
            auth.check().await.expect("nothing to check");
        }
    }

    #[tokio::test]
    async fn without_a_file_the_metadata_server_gives_the_token_and_the_quota_project_is_named() {
        let environment = GoogleEnvironment {
            metadata_host: Some(http_server("200 OK", TOKEN).await),
            quota_project: Some("payer".to_owned()),
            ..GoogleEnvironment::default()
        };
        let auth = Auth::new("a", None, &environment, Trust::Google).expect("built");
        auth.check().await.expect("a token");
        let headers = auth.headers().await.expect("a token");
        assert_eq!(headers["authorization"], "Bearer tok");
        assert_eq!(headers["x-goog-user-project"], "payer");
    }

    #[tokio::test]
    async fn a_refused_token_is_replaced_and_not_more_often_than_makes_sense() {
        let host = http_server_with("200 OK", |request| {
            format!(r#"{{"access_token":"tok-{request}","expires_in":3600,"token_type":"Bearer"}}"#)
        });
        let environment = GoogleEnvironment {
            metadata_host: Some(host.await),
            ..GoogleEnvironment::default()
        };
        let auth = Auth::new("a", None, &environment, Trust::Google).expect("built");
        let now = Instant::now();
        for (renewed_after, expected) in [
            (None, "Bearer tok-1"),
            (None, "Bearer tok-1"),
            (Some(0), "Bearer tok-2"),
            (Some(9), "Bearer tok-2"),
            (Some(10), "Bearer tok-3"),
        ] {
            if let Some(seconds) = renewed_after {
                auth.renew(now + Duration::from_secs(seconds));
            }
            let headers = auth.headers().await.expect("a token");
            assert_eq!(headers["authorization"], expected);
        }
    }

    #[tokio::test]
    async fn credentials_that_cannot_be_read_again_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("user.json");
        let uri = format!("http://{}/token", http_server("200 OK", TOKEN).await);
        let json = serde_json::json!({
            "type": "authorized_user",
            "client_id": "c",
            "client_secret": "s",
            "refresh_token": "r",
            "token_uri": uri,
        });
        std::fs::write(&file, json.to_string()).expect("written");
        let environment = GoogleEnvironment::default();
        let auth = Auth::new("a", Some(&file), &environment, Trust::Google).expect("built");
        auth.check().await.expect("a token");
        std::fs::remove_file(&file).expect("removed");
        auth.renew(Instant::now());
        let headers = auth.headers().await.expect("the old token");
        assert_eq!(headers["authorization"], "Bearer tok");
    }

    #[tokio::test]
    async fn with_neither_file_nor_metadata_server_one_sentence_says_what_to_do() {
        let environment = GoogleEnvironment {
            metadata_host: Some("127.0.0.1:1".to_owned()),
            ..GoogleEnvironment::default()
        };
        let auth = Auth::new("support", None, &environment, Trust::Google).expect("built");
        let error = auth.check().await.expect_err("nobody answers").to_string();
        assert!(
            error.starts_with("No Google credentials were found: "),
            "{error}"
        );
        assert!(error.contains("agents.support.credentials"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }

    #[tokio::test]
    async fn a_workload_identity_file_exchanges_its_subject_token() {
        let folder = tempfile::tempdir().expect("a folder");
        let subject = folder.path().join("subject");
        std::fs::write(&subject, "abc").expect("written");
        let file = folder.path().join("external.json");
        let json = serde_json::json!({
            "type": "external_account",
            "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/x",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": format!("http://{}/v1/token", http_server("200 OK", TOKEN).await),
            "credential_source": { "file": subject },
        });
        std::fs::write(&file, json.to_string()).expect("written");
        let environment = GoogleEnvironment {
            application_credentials: Some(file),
            ..GoogleEnvironment::default()
        };
        let auth = Auth::new("a", None, &environment, Trust::Google).expect("built");
        auth.check().await.expect("a token");
        assert_eq!(
            auth.headers().await.expect("a token")["authorization"],
            "Bearer tok"
        );
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_used_is_refused_before_any_call_and_its_content_is_not_quoted() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, content, reason) in [
            ("none.json", None, "there is no such file"),
            ("text.json", Some("s3cret"), "it is not JSON"),
            ("empty.json", Some("{}"), "it has no `type`"),
            ("odd.json", Some(r#"{"type":"odd"}"#), "type `odd`"),
            ("key.json", Some(r#"{"type":"service_account"}"#), "missing"),
        ] {
            let file = folder.path().join(name);
            if let Some(content) = content {
                std::fs::write(&file, content).expect("written");
            }
            let environment = GoogleEnvironment::default();
            let error = Auth::new("a", Some(&file), &environment, Trust::Google)
                .expect_err(name)
                .to_string();
            assert!(error.contains(reason), "{name}: {error}");
            assert!(!error.contains("s3cret"), "{name}: {error}");
        }
    }

    #[test]
    fn gclouds_own_file_comes_before_the_metadata_server_and_the_variable_before_both() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut environment = GoogleEnvironment {
            gcloud: Some(folder.path().to_owned()),
            ..GoogleEnvironment::default()
        };
        assert_eq!(default_source(&environment), Source::Metadata);
        let file = folder.path().join(GCLOUD_CREDENTIALS);
        std::fs::write(&file, "{}").expect("written");
        assert_eq!(default_source(&environment), Source::File(file));
        environment.application_credentials = Some("key.json".into());
        assert_eq!(
            default_source(&environment),
            Source::File("key.json".into())
        );
    }

    #[test]
    fn a_client_certificate_is_taken_if_there_is_one_and_missed_only_if_it_was_asked_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut environment = GoogleEnvironment {
            gcloud: Some(folder.path().to_owned()),
            ..GoogleEnvironment::default()
        };
        assert!(
            client_certificate(&environment)
                .expect("optional")
                .is_none()
        );

        environment.use_client_certificate = Some("true".to_owned());
        assert!(client_certificate(&environment).is_err());

        let pem = folder.path().join("both.pem");
        std::fs::write(&pem, "pem").expect("written");
        let description = serde_json::json!({
            "cert_configs": { "workload": { "cert_path": pem, "key_path": pem } }
        });
        std::fs::write(
            folder.path().join(GCLOUD_CERTIFICATE),
            description.to_string(),
        )
        .expect("written");
        assert!(client_certificate(&environment).expect("read").is_some());

        environment.use_client_certificate = Some("false".to_owned());
        assert!(
            client_certificate(&environment)
                .expect("not read")
                .is_none()
        );

        environment.use_client_certificate = None;
        assert!(client_certificate(&environment).expect("read").is_some());
    }

    /// A server that gives one answer to everybody, and its address.
    async fn http_server(status: &'static str, body: &'static str) -> String {
        http_server_with(status, |_| body.to_owned()).await
    }

    /// A server whose answers are made for the first request, the second, and so on.
    async fn http_server_with(
        status: &'static str,
        body: impl Fn(usize) -> String + Send + 'static,
    ) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        tokio::spawn(async move {
            for number in 1.. {
                let (mut socket, _) = listener.accept().await.expect("accepts");
                let body = body(number);
                let mut request = [0; 4096];
                let _ = socket.read(&mut request).await;
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nmetadata-flavor: Google\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        address
    }
}
