//! Reading the configuration: what each key may be, and what must hold between keys.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use tracing_subscriber::EnvFilter;

use super::Admin;
use super::Audio;
use super::Config;
use super::Drain;
use super::Http;
use super::Limits;
use super::Log;
use super::Twilio;
use super::Uplink;
use super::agents::agents;
use super::agents::routes;
use super::clips::clips;
use super::load_sip::rtp;
use super::load_sip::sip;
use super::load_turn::fallback;
use super::load_turn::turn;
use super::load_webrtc::webrtc;
use super::problem::Problems;
use super::problem::Report;
use super::section::Section;
use super::section::innermost;
use super::tree;
use super::tree::Content;
use super::tree::Fields;
use super::tree::Node;
use super::tree::Origin;
use super::variable;

/// The file that is read when none is named, if it is there.
pub const DEFAULT_PATH: &str = "config/tandem.toml";
/// The largest file that is read: far more than a thousand routes, far less than a mistaken path to something huge.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

pub(super) const DAY: Duration = Duration::from_secs(24 * 3_600);

impl Config {
    /// Reads the file, lays the environment over it and checks the whole. Without a file: defaults and environment.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(
        path: Option<&Path>,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, Problems> {
        let source = path.map_or_else(|| "defaults".to_owned(), |path| path.display().to_string());
        let mut report = Report::new(source);
        let mut fields = path
            .map(|path| read_file(path, &mut report))
            .unwrap_or_default();
        lower_agent_names(&mut fields, &mut report);
        tree::lay_over(&mut fields, environment);
        let config = config(fields, environment, &mut report);
        if report.problems.is_empty() {
            Ok(config)
        } else {
            Err(Problems(report.problems))
        }
    }

    /// The file to read: the one that was named, else [`DEFAULT_PATH`] if it is there.
    pub fn find(named: Option<PathBuf>) -> Option<PathBuf> {
        named.or_else(|| {
            let default = Path::new(DEFAULT_PATH);
            default.is_file().then(|| default.to_owned())
        })
    }

    /// The process's environment, for [`Config::load`]. What is not Unicode cannot be meant for us and is left out.
    pub fn environment() -> BTreeMap<String, String> {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }
}

fn read_file(path: &Path, report: &mut Report) -> Fields {
    let text = std::fs::metadata(path).and_then(|metadata| {
        if metadata.len() > MAX_FILE_BYTES {
            return Err(std::io::Error::other("larger than 1 MiB"));
        }
        std::fs::read_to_string(path)
    });
    let text = match text {
        Ok(text) => text,
        Err(error) => {
            report.tell(&Origin::File, "file", format!("cannot be read: {error}"));
            return Fields::new();
        }
    };
    match text.parse::<toml::Table>() {
        Ok(table) => tree::from_file(table),
        Err(error) => {
            let start = error.span().map_or(0, |span| span.start);
            let line = text[..start].matches('\n').count() + 1;
            let message = error.message().replace('\n', ", ");
            report.tell(&Origin::File, &format!("line {line}"), message);
            Fields::new()
        }
    }
}

/// Agent names are lower-case inside, so that a variable, which has no case, can reach every one.
fn lower_agent_names(fields: &mut Fields, report: &mut Report) {
    let Some(Node {
        content: Content::Table(agents),
        ..
    }) = fields.get_mut("agents")
    else {
        return;
    };
    for (name, node) in std::mem::take(agents) {
        let lower = name.to_lowercase();
        if agents.contains_key(&lower) {
            let reason = "there is another agent of this name (case does not count)";
            report.tell(&node.origin, &format!("agents.{name}"), reason);
        }
        agents.insert(lower, node);
    }
}

fn config(
    mut fields: Fields,
    environment: &BTreeMap<String, String>,
    report: &mut Report,
) -> Config {
    let http = http(Section::new("http".into(), fields.remove("http"), report));
    let admin_node = fields.remove("admin");
    let admin = admin(Section::new("admin".into(), admin_node, report), &http);
    let limits = limits(Section::new(
        "limits".into(),
        fields.remove("limits"),
        report,
    ));
    let drain = drain(Section::new("drain".into(), fields.remove("drain"), report));
    let sip_section = Section::new("sip".into(), fields.remove("sip"), report);
    let taken = [("http.listen", http.listen), ("admin.listen", admin.listen)];
    let sip = sip(sip_section, environment, &taken);
    let rtp = rtp(Section::new("rtp".into(), fields.remove("rtp"), report));
    let twilio_section = Section::new("twilio".into(), fields.remove("twilio"), report);
    let twilio = twilio(twilio_section, environment, &http);
    let webrtc_section = Section::new("webrtc".into(), fields.remove("webrtc"), report);
    let webrtc = webrtc(webrtc_section, environment, &http, &sip);
    let audio = audio(Section::new("audio".into(), fields.remove("audio"), report));
    let turn = turn(Section::new("turn".into(), fields.remove("turn"), report));
    let fallback_node = fields.remove("fallback");
    let fallback_section = Section::new("fallback".into(), fallback_node, report);
    let fallback = fallback(fallback_section, &twilio);
    let clips = clips(Section::new("clips".into(), fields.remove("clips"), report));
    let log = log(Section::new("log".into(), fields.remove("log"), report));
    let agents = agents(fields.remove("agents"), &clips, report);
    let routes = routes(fields.remove("routes"), &agents, &twilio, report);
    for (name, node) in fields {
        let reason = "unknown section; known: http, admin, limits, drain, sip, rtp, twilio, webrtc, audio, turn, clips, fallback, log, routes, agents";
        report.tell(&innermost(&node), &name, reason);
    }
    Config {
        http,
        admin,
        limits,
        drain,
        sip,
        rtp,
        twilio,
        webrtc,
        audio,
        turn,
        fallback,
        clips,
        log,
        routes,
        agents,
    }
}

fn http(mut section: Section<'_>) -> Http {
    let default = Http::default();
    let http = Http {
        listen: section.address("listen").unwrap_or(default.listen),
        public_url: section.parsed("public_url", |text| {
            let url = base_url(text)?;
            Ok(url.trim_end_matches('/').to_owned())
        }),
    };
    section.finish();
    http
}

fn admin(mut section: Section<'_>, http: &Http) -> Admin {
    let origin = section.origin("listen");
    let listen = section.address("listen").unwrap_or(Admin::default().listen);
    if listen == http.listen && listen.port() != 0 {
        section.tell(&origin, "listen", "must not be the same as http.listen");
    }
    section.finish();
    Admin { listen }
}

fn limits(mut section: Section<'_>) -> Limits {
    let default = Limits::default();
    let limits = Limits {
        calls: section
            .number("calls", 1..=100_000)
            .unwrap_or(default.calls),
        calls_per_second: section
            .number("calls_per_second", 1..=10_000)
            .unwrap_or(default.calls_per_second),
        call_duration: section
            .duration("call_duration", Duration::from_secs(1)..=DAY)
            .unwrap_or(default.call_duration),
    };
    section.finish();
    limits
}

fn drain(mut section: Section<'_>) -> Drain {
    let drain = Drain {
        timeout: section
            .duration("timeout", Duration::ZERO..=DAY)
            .unwrap_or(Drain::default().timeout),
    };
    section.finish();
    drain
}

fn twilio(mut section: Section<'_>, environment: &BTreeMap<String, String>, http: &Http) -> Twilio {
    let default = Twilio::default();
    let env_origin = section.origin("auth_token_env");
    let auth_token_env = section
        .parsed("auth_token_env", variable::name)
        .unwrap_or(default.auth_token_env.clone());
    let auth_token = match variable::secret(&auth_token_env, environment) {
        Ok((_, token)) => Some(token),
        Err(reason) => {
            // Only the default name may stand for "if there is one": who names another means it.
            if auth_token_env != default.auth_token_env {
                section.tell(&env_origin, "auth_token_env", reason);
            }
            None
        }
    };
    let signature_origin = section.origin("require_signature");
    let require_signature = match section.flag("require_signature") {
        Some(true) if auth_token.is_none() => {
            let reason = format!("needs the auth token: set {auth_token_env}");
            section.tell(&signature_origin, "require_signature", reason);
            true
        }
        Some(required) => required,
        None if auth_token.is_some() => true,
        None if only_this_machine_calls(http) => false,
        None => {
            let reason = format!("set {auth_token_env} or require_signature = false");
            section.missing("require_signature", reason);
            true
        }
    };
    let twilio = Twilio {
        auth_token_env,
        auth_token,
        require_signature,
        parameters: section.texts("parameters").unwrap_or_default(),
    };
    section.finish();
    twilio
}

/// A loopback listener is still open to the world when a tunnel or a proxy stands before it, which `public_url` tells.
pub(super) fn only_this_machine_calls(http: &Http) -> bool {
    let published = http.public_url.as_ref().is_some_and(|url| {
        let uri: Option<Uri> = url.parse().ok();
        !uri.as_ref().and_then(Uri::host).is_some_and(is_loopback)
    });
    http.listen.ip().is_loopback() && !published
}

fn is_loopback(host: &str) -> bool {
    let address: Result<IpAddr, _> = host.trim_matches(['[', ']']).parse();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn audio(mut section: Section<'_>) -> Audio {
    let default = Audio::default();
    // One frame at least; beyond 200 ms the recogniser's answers come late enough to be heard.
    let chunk = Duration::from_millis(20)..=Duration::from_millis(200);
    let audio = Audio {
        uplink: section
            .word("uplink", &Uplink::WORDS)
            .unwrap_or(default.uplink),
        chunk: section.duration("chunk", chunk).unwrap_or(default.chunk),
    };
    section.finish();
    audio
}

fn log(mut section: Section<'_>) -> Log {
    let default = Log::default();
    let log = Log {
        filter: section
            .parsed("filter", |text| {
                let wrong = "must be a log filter such as \"info\" or \"warn,tandem=debug\"";
                EnvFilter::try_new(text).map_err(|_| wrong.to_owned())?;
                Ok(text.to_owned())
            })
            .unwrap_or(default.filter),
        json: section.flag("json").unwrap_or(default.json),
        redact_numbers: section
            .flag("redact_numbers")
            .unwrap_or(default.redact_numbers),
    };
    section.finish();
    log
}

/// An `http://` or `https://` URL to which a path can be appended.
pub(super) fn base_url(text: &str) -> Result<&str, String> {
    let wrong = || "must be a URL such as \"https://voice.example.com\"".to_owned();
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
    let has_host = uri.host().is_some_and(|host| !host.is_empty());
    if !is_web || !has_host {
        return Err(wrong());
    }
    if text.contains(['?', '#', '@']) {
        return Err("must have no user, query or fragment".to_owned());
    }
    Ok(text)
}
