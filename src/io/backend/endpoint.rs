//! Which host serves an agent. Pure: the environment is handed in, nothing is connected or read from disk.
//!
//! A location has its own host and the two must agree, or every turn fails with INVALID_ARGUMENT (facts §11.2). So the host
//! is derived from the agent's name, and an override that names another location's host is refused before a port is bound.

use std::path::PathBuf;

use http::Uri;

use crate::config::AgentName;

/// The domain of Google's own hosts.
const GOOGLE_DOMAIN: &str = ".googleapis.com";
/// The location that has no prefix in its host.
const GLOBAL: &str = "global";

/// What Google's client libraries read from the environment, as far as this gateway follows them.
#[derive(Clone, Debug, Default)]
pub struct GoogleEnvironment {
    /// `GOOGLE_APPLICATION_CREDENTIALS`: a credentials file.
    pub application_credentials: Option<PathBuf>,
    /// `CLOUDSDK_CONFIG`, else `$HOME/.config/gcloud`: where gcloud keeps its files.
    pub gcloud: Option<PathBuf>,
    /// `GCE_METADATA_HOST`: host and port of the metadata server, if not the usual one.
    pub metadata_host: Option<String>,
    /// `GOOGLE_CLOUD_QUOTA_PROJECT`: the project to be charged.
    pub quota_project: Option<String>,
    /// `GOOGLE_API_USE_MTLS_ENDPOINT`: `never`, `always` or `auto`.
    pub use_mtls_endpoint: Option<String>,
    /// `GOOGLE_API_USE_CLIENT_CERTIFICATE`: `true` or `false`.
    pub use_client_certificate: Option<String>,
    /// `GOOGLE_API_CERTIFICATE_CONFIG`: where a client certificate is described.
    pub certificate_config: Option<PathBuf>,
}

impl GoogleEnvironment {
    /// Takes the variables out of `lookup`, where an empty value counts as none.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let value = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let path = |name: &str| value(name).map(PathBuf::from);
        Self {
            application_credentials: path("GOOGLE_APPLICATION_CREDENTIALS"),
            gcloud: path("CLOUDSDK_CONFIG")
                .or_else(|| path("HOME").map(|home| home.join(".config/gcloud"))),
            metadata_host: value("GCE_METADATA_HOST"),
            quota_project: value("GOOGLE_CLOUD_QUOTA_PROJECT"),
            use_mtls_endpoint: value("GOOGLE_API_USE_MTLS_ENDPOINT"),
            use_client_certificate: value("GOOGLE_API_USE_CLIENT_CERTIFICATE"),
            certificate_config: path("GOOGLE_API_CERTIFICATE_CONFIG"),
        }
    }
}

/// Where an agent is served, and what may be said to that host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Scheme, host and port.
    pub uri: Uri,
    /// How far the host is trusted.
    pub trust: Trust,
}

/// How far a host is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Plain text, so never any credentials: a test server, or a proxy beside us.
    PlainText,
    /// TLS to a host that is not Google's. It gets a token only if the agent's own `credentials` says so: Application
    /// Default Credentials are Google's to see and nobody else's.
    Foreign,
    /// TLS to Google, with credentials.
    Google,
}

/// Why an endpoint is refused. Each is one sentence for an operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not a URL of the two kinds we take.
    #[error("`endpoint` must be http://HOST[:PORT] or https://HOST[:PORT], not `{0}`")]
    Malformed(String),
    /// A Google host of another location.
    #[error(
        "`endpoint` {host} serves location `{serves}`, but the agent's name says `{location}`: leave `endpoint` out to have it derived"
    )]
    OtherLocation {
        /// The host as given.
        host: String,
        /// The location that it serves.
        serves: String,
        /// The location in the agent's name.
        location: String,
    },
    /// Caller audio would cross the network in the clear.
    #[error("`endpoint` {0} is Google's and must be https://")]
    PlainTextToGoogle(String),
    /// An agent without location and without endpoint.
    #[error("the agent has neither a location in its `name` nor an `endpoint`")]
    NoLocation,
    /// A variable with a value outside its list.
    #[error("{name} must be {allowed}, not `{value}`")]
    Variable {
        /// The variable.
        name: &'static str,
        /// What it may be.
        allowed: &'static str,
        /// What it is.
        value: String,
    },
}

/// Where `agent` is served: at `endpoint` if one is configured, else at its location's host, which is the mutual-TLS one
/// under the rule of facts §12.5. `has_certificate` says whether a client certificate is there to be shown.
pub fn target(
    agent: &AgentName,
    endpoint: Option<&str>,
    environment: &GoogleEnvironment,
    has_certificate: bool,
) -> Result<Target, EndpointError> {
    if let Some(endpoint) = endpoint {
        return overridden(agent, endpoint);
    }
    if agent.location.is_empty() {
        return Err(EndpointError::NoLocation);
    }
    let mtls = match environment.use_mtls_endpoint.as_deref() {
        Some("always") => true,
        Some("never") => false,
        Some("auto") | None => has_certificate,
        Some(other) => {
            return Err(EndpointError::Variable {
                name: "GOOGLE_API_USE_MTLS_ENDPOINT",
                allowed: "`never`, `always` or `auto`",
                value: other.to_owned(),
            });
        }
    };
    let url = format!("https://{}", host(&agent.location, mtls));
    let uri = url
        .parse()
        .map_err(|_| EndpointError::Malformed(url.clone()))?;
    Ok(Target {
        uri,
        trust: Trust::Google,
    })
}

/// Whether a client certificate should be shown: `Some` if the environment says so, `None` if it is shown when there is one.
pub fn wants_certificate(environment: &GoogleEnvironment) -> Result<Option<bool>, EndpointError> {
    match environment.use_client_certificate.as_deref() {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(other) => Err(EndpointError::Variable {
            name: "GOOGLE_API_USE_CLIENT_CERTIFICATE",
            allowed: "`true` or `false`",
            value: other.to_owned(),
        }),
    }
}

/// A location's host.
fn host(location: &str, mtls: bool) -> String {
    let prefix = match location {
        GLOBAL => String::new(),
        region => format!("{region}-"),
    };
    let mtls = if mtls { ".mtls" } else { "" };
    format!("{prefix}dialogflow{mtls}{GOOGLE_DOMAIN}")
}

/// The location that a Google host serves, as far as its name tells: `None` for a private endpoint of the customer's own.
fn location_of(host: &str) -> Option<&str> {
    let name = host.strip_suffix(GOOGLE_DOMAIN)?;
    let name = name.strip_suffix(".mtls").unwrap_or(name);
    if name == "dialogflow" {
        return Some(GLOBAL);
    }
    // The newer form of a regional host: dialogflow.LOCATION.rep.googleapis.com.
    let replicated = name
        .strip_prefix("dialogflow.")
        .and_then(|name| name.strip_suffix(".rep"));
    replicated.or_else(|| name.strip_suffix("-dialogflow"))
}

fn overridden(agent: &AgentName, endpoint: &str) -> Result<Target, EndpointError> {
    let malformed = || EndpointError::Malformed(endpoint.to_owned());
    let uri: Uri = endpoint.parse().map_err(|_| malformed())?;
    let host = uri.host().ok_or_else(malformed)?.to_ascii_lowercase();
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(malformed());
    }
    let is_google = host.ends_with(GOOGLE_DOMAIN);
    if let Some(serves) = location_of(&host)
        && serves != agent.location
    {
        return Err(EndpointError::OtherLocation {
            serves: serves.to_owned(),
            host,
            location: agent.location.clone(),
        });
    }
    let trust = match uri.scheme_str() {
        Some("http") if is_google => return Err(EndpointError::PlainTextToGoogle(host)),
        Some("http") => Trust::PlainText,
        Some("https") if is_google => Trust::Google,
        Some("https") => Trust::Foreign,
        _ => return Err(malformed()),
    };
    Ok(Target { uri, trust })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_location_has_its_host_and_global_has_no_prefix() {
        for (location, expected) in [
            ("global", "https://dialogflow.googleapis.com/"),
            ("us", "https://us-dialogflow.googleapis.com/"),
            (
                "europe-west3",
                "https://europe-west3-dialogflow.googleapis.com/",
            ),
        ] {
            let target = derived(location, &GoogleEnvironment::default(), false).expect("derived");
            assert_eq!(target.uri.to_string(), expected);
            assert_eq!(target.trust, Trust::Google);
        }
    }

    #[test]
    fn the_mutual_tls_host_follows_its_variable_and_by_default_the_certificate() {
        for (variable, has_certificate, expected) in [
            (None, false, "us-dialogflow.googleapis.com"),
            (None, true, "us-dialogflow.mtls.googleapis.com"),
            (Some("auto"), true, "us-dialogflow.mtls.googleapis.com"),
            (Some("never"), true, "us-dialogflow.googleapis.com"),
            (Some("always"), false, "us-dialogflow.mtls.googleapis.com"),
        ] {
            let environment = GoogleEnvironment {
                use_mtls_endpoint: variable.map(str::to_owned),
                ..GoogleEnvironment::default()
            };
            let target = derived("us", &environment, has_certificate).expect("derived");
            assert_eq!(target.uri.host(), Some(expected));
        }
        let environment = GoogleEnvironment {
            use_mtls_endpoint: Some("true".to_owned()),
            ..GoogleEnvironment::default()
        };
        assert!(matches!(
            derived("us", &environment, false),
            Err(EndpointError::Variable { .. })
        ));
    }

    #[test]
    fn an_endpoint_beats_the_mutual_tls_rule_and_its_scheme_decides_the_trust() {
        let environment = GoogleEnvironment {
            use_mtls_endpoint: Some("always".to_owned()),
            ..GoogleEnvironment::default()
        };
        for (endpoint, trust) in [
            ("http://127.0.0.1:50051", Trust::PlainText),
            ("http://[::1]:50051", Trust::PlainText),
            ("https://proxy.example.com:8443", Trust::Foreign),
            ("https://us-dialogflow.googleapis.com:443", Trust::Google),
            ("https://dialogflow.us.rep.googleapis.com/", Trust::Google),
            ("https://dialogflow-mine.p.googleapis.com", Trust::Google),
        ] {
            let target = target(&agent("us"), Some(endpoint), &environment, true)
                .unwrap_or_else(|error| panic!("{endpoint}: {error}"));
            assert_eq!(target.trust, trust, "{endpoint}");
            assert_eq!(
                target.uri.to_string().trim_end_matches('/'),
                endpoint.trim_end_matches('/')
            );
        }
    }

    #[test]
    fn a_google_host_of_another_location_is_refused() {
        for endpoint in [
            "https://dialogflow.googleapis.com",
            "https://EU-dialogflow.googleapis.com",
            "https://eu-dialogflow.mtls.googleapis.com",
            "https://dialogflow.europe-west1.rep.googleapis.com",
        ] {
            let refused = target(
                &agent("us"),
                Some(endpoint),
                &GoogleEnvironment::default(),
                false,
            );
            assert!(
                matches!(refused, Err(EndpointError::OtherLocation { .. })),
                "{endpoint}: {refused:?}"
            );
        }
    }

    #[test]
    fn what_is_not_a_plain_url_is_refused() {
        for endpoint in [
            "",
            "127.0.0.1:50051",
            "grpc://127.0.0.1:50051",
            "https://host/path",
            "http://host?x=1",
            "http://",
        ] {
            let refused = target(
                &agent("us"),
                Some(endpoint),
                &GoogleEnvironment::default(),
                false,
            );
            assert_eq!(
                refused,
                Err(EndpointError::Malformed(endpoint.to_owned())),
                "{endpoint}"
            );
        }
        assert!(matches!(
            target(
                &agent("us"),
                Some("http://us-dialogflow.googleapis.com"),
                &GoogleEnvironment::default(),
                false
            ),
            Err(EndpointError::PlainTextToGoogle(_))
        ));
        assert_eq!(
            derived("", &GoogleEnvironment::default(), false),
            Err(EndpointError::NoLocation)
        );
    }

    #[test]
    fn empty_variables_count_as_none_and_gcloud_lies_under_home() {
        let environment = GoogleEnvironment::from_lookup(|name| match name {
            "HOME" => Some("home".to_owned()),
            "GOOGLE_API_USE_CLIENT_CERTIFICATE" => Some("true".to_owned()),
            "GOOGLE_APPLICATION_CREDENTIALS" => Some(String::new()),
            _ => None,
        });
        assert_eq!(environment.application_credentials, None);
        assert_eq!(
            environment.gcloud,
            Some(PathBuf::from("home/.config/gcloud"))
        );
        assert_eq!(wants_certificate(&environment), Ok(Some(true)));
    }

    fn derived(
        location: &str,
        environment: &GoogleEnvironment,
        has_certificate: bool,
    ) -> Result<Target, EndpointError> {
        target(&agent(location), None, environment, has_certificate)
    }

    fn agent(location: &str) -> AgentName {
        AgentName {
            project: "p".to_owned(),
            location: location.to_owned(),
            agent: "a".to_owned(),
        }
    }
}
