//! Reading `[webrtc]`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use super::AdvertisedAddress;
use super::Http;
use super::Secret;
use super::Sip;
use super::SipTransport;
use super::Webrtc;
use super::WhipToken;
use super::load::DAY;
use super::load::only_this_machine_calls;
use super::load_sip::choices;
use super::load_sip::text_of_file;
use super::section::Section;
use super::tree::Origin;
use super::variable;
use super::variable::Environment;
use crate::engine::destination::is_host_and_port;
use crate::engine::media::codec::packet::Codec;

/// The largest file of tokens, in bytes: a thousand of them; more is a mistaken path.
const MAX_TOKENS_FILE_BYTES: usize = 64 * 1024;
/// The most tokens. Each request is compared with all of them, so that time tells nothing: a thousand take 0.1 ms.
const MAX_TOKENS: usize = 1_000;
/// The longest token, in bytes: a signed one with many claims has that.
const MAX_TOKEN_BYTES: usize = 2_048;

const MINUTE: Duration = Duration::from_secs(60);

/// `[webrtc]`
pub(super) fn webrtc(
    mut section: Section<'_>,
    environment: &Environment,
    http: &Http,
    sip: &Sip,
) -> Webrtc {
    let default = Webrtc::default();
    let listen = listen(&mut section, sip).unwrap_or(default.listen);
    let advertised_addresses = section
        .parsed_list("advertised_addresses", advertised_address)
        .unwrap_or_default();
    let (tokens_env, tokens_file, tokens) = tokens(&mut section, environment, &default.tokens_env);
    let may_be_open = listen.is_empty() || only_this_machine_calls(http);
    let require_token = require_token(&mut section, &tokens_env, !tokens.is_empty(), may_be_open);
    let stun_servers = section.parsed_list("stun_servers", stun_server);
    let turn_servers = section
        .parsed_list("turn_servers", turn_server)
        .unwrap_or_default();
    let (turn_secret_env, turn_secret) =
        turn_secret(&mut section, environment, !turn_servers.is_empty());
    let webrtc = Webrtc {
        listen,
        advertised_addresses,
        tokens_env,
        tokens_file,
        tokens,
        require_token,
        allowed_origins: allowed_origins(&mut section),
        parameters: section.texts("parameters").unwrap_or_default(),
        stun_servers: stun_servers.unwrap_or_default(),
        turn_servers,
        turn_secret_env,
        turn_secret,
        turn_credential_life: section
            .seconds("turn_credential_life", MINUTE..=DAY)
            .unwrap_or(default.turn_credential_life),
        codecs: codecs(&mut section).unwrap_or(default.codecs),
        opus_complexity: section
            .number("opus_complexity", 0..=10)
            .unwrap_or(default.opus_complexity),
        phone_page: section.flag("phone_page").unwrap_or(default.phone_page),
    };
    section.finish();
    webrtc
}

/// `listen`. It may lie within `rtp.ports`: a call passes over ports that are in use, and this one is before any call.
fn listen(section: &mut Section<'_>, sip: &Sip) -> Option<Vec<SocketAddr>> {
    let origin = section.origin("listen");
    let listen = section.parsed_list_or_one("listen", |text| {
        text.parse::<SocketAddr>().map_err(|_| {
            format!("{text:?} must be an address and a port, such as \"127.0.0.1:10443\"")
        })
    })?;
    for (position, one) in listen.iter().enumerate() {
        let earlier = listen[..position].iter();
        if let Some(earlier) = earlier.copied().find(|earlier| overlap(earlier, one)) {
            let reason = format!("{one} has the same port as {earlier}");
            section.tell(&origin, "listen", reason);
        }
        let datagrams = sip.listen.iter();
        let mut datagrams = datagrams.filter(|other| other.transport == SipTransport::Udp);
        if let Some(other) = datagrams.find(|other| overlap(&other.address, one)) {
            let reason = format!("{one} must not be the same as sip.listen, {other}");
            section.tell(&origin, "listen", reason);
        }
    }
    Some(listen)
}

/// Whether only one of two sockets can be bound.
fn overlap(one: &SocketAddr, other: &SocketAddr) -> bool {
    let same_address = one.ip() == other.ip()
        || (one.is_ipv4() == other.is_ipv4()
            && (one.ip().is_unspecified() || other.ip().is_unspecified()));
    // Port 0 is another port each time.
    same_address && one.port() == other.port() && one.port() != 0
}

fn advertised_address(text: &str) -> Result<AdvertisedAddress, String> {
    let address = AdvertisedAddress::parse(text).ok_or_else(|| {
        format!("{text:?} must be an IP address, perhaps with a port, such as \"203.0.113.7\"")
    })?;
    if address.ip.is_unspecified() || address.port == Some(0) {
        return Err(format!(
            "{text:?} must be an address that callers can reach"
        ));
    }
    Ok(address)
}

/// The tokens of the variable and of the file, with the keys that named them.
fn tokens(
    section: &mut Section<'_>,
    environment: &Environment,
    default_env: &str,
) -> (String, Option<PathBuf>, Vec<WhipToken>) {
    let mut tokens = Vec::new();
    let env_origin = section.origin("tokens_env");
    let tokens_env = section
        .parsed("tokens_env", variable::name)
        .unwrap_or_else(|| default_env.to_owned());
    match variable::content(environment, &tokens_env) {
        Ok(text) => {
            let variable = Origin::Environment(tokens_env.clone());
            add_tokens(&mut tokens, text, |reason| {
                section.tell(&variable, "tokens_env", reason);
            });
        }
        // Only the default name may stand for "if there are any": who names another means it.
        Err(reason) if tokens_env != default_env => {
            section.tell(&env_origin, "tokens_env", reason);
        }
        Err(_) => {}
    }
    let file_origin = section.origin("tokens_file");
    let file = section.parsed("tokens_file", |path| {
        Ok((
            PathBuf::from(path),
            text_of_file(path, MAX_TOKENS_FILE_BYTES)?,
        ))
    });
    let tokens_file = file.map(|(path, text)| {
        let before = tokens.len();
        let text = without_comments(&text);
        add_tokens(&mut tokens, &text, |reason| {
            section.tell(&file_origin, "tokens_file", reason);
        });
        if text.trim().is_empty() && before == tokens.len() {
            section.tell(&file_origin, "tokens_file", "there is no token in it");
        }
        path
    });
    if tokens.len() > MAX_TOKENS {
        let reason = format!("there are more than {MAX_TOKENS} tokens");
        match file_origin {
            Origin::Nowhere => {
                let variable = Origin::Environment(tokens_env.clone());
                section.tell(&variable, "tokens_env", reason);
            }
            Origin::File | Origin::Environment(_) => {
                section.tell(&file_origin, "tokens_file", reason);
            }
        }
    }
    (tokens_env, tokens_file, tokens)
}

fn without_comments(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or(""));
    lines.collect::<Vec<_>>().join("\n")
}

/// Adds the tokens of a text in which white space or commas separate them. What is wrong with one is told by its place,
/// never by its text.
fn add_tokens(tokens: &mut Vec<WhipToken>, text: &str, mut tell: impl FnMut(String)) {
    let entries = text.split([',', ' ', '\t', '\r', '\n']);
    let entries = entries.filter(|entry| !entry.is_empty());
    for (position, entry) in entries.enumerate() {
        let number = position + 1;
        let (route, token) = match entry.rsplit_once(':') {
            Some((route, token)) => (Some(route), token),
            None => (None, entry),
        };
        if !is_token(token) || route == Some("") {
            tell(format!(
                "entry {number} must be TOKEN or ROUTE:TOKEN, the token of letters, digits and -._~+/, with = only at its end"
            ));
            continue;
        }
        let same = tokens.iter().find(|earlier| {
            let both_for =
                |route: &str| earlier.route.as_deref().is_none_or(|other| other == route);
            earlier.token.reveal() == token && route.is_none_or(both_for)
        });
        if same.is_some() {
            tell(format!("entry {number} repeats an earlier token"));
            continue;
        }
        tokens.push(WhipToken {
            route: route.map(str::to_owned),
            token: Secret::new(token.to_owned()),
        });
    }
}

/// RFC 9110 §11.2, `token68`: what can stand behind `Bearer`.
fn is_token(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    let plain = text.trim_end_matches('=');
    !plain.is_empty() && text.len() <= MAX_TOKEN_BYTES && plain.bytes().all(is_plain)
}

fn require_token(
    section: &mut Section<'_>,
    tokens_env: &str,
    has_tokens: bool,
    may_be_open: bool,
) -> bool {
    let origin = section.origin("require_token");
    match section.flag("require_token") {
        Some(true) if !has_tokens => {
            let reason = format!("needs tokens: set {tokens_env} or tokens_file");
            section.tell(&origin, "require_token", reason);
            true
        }
        Some(required) => required,
        // Where others could call and there are no tokens, nobody can: many gateways have telephones alone.
        None => has_tokens || !may_be_open,
    }
}

fn allowed_origins(section: &mut Section<'_>) -> Vec<String> {
    let key_origin = section.origin("allowed_origins");
    let origins = section.parsed_list("allowed_origins", origin);
    let origins = origins.unwrap_or_default();
    if origins.len() > 1 && origins.iter().any(|origin| origin == "*") {
        section.tell(&key_origin, "allowed_origins", "\"*\" must stand alone");
    }
    origins
}

/// An origin as browsers write it (RFC 6454 §6.2): in lower case, without the port that goes without saying.
fn origin(text: &str) -> Result<String, String> {
    if text == "*" {
        return Ok(text.to_owned());
    }
    let wrong = || {
        format!(
            "{text:?} must be \"*\" or an origin such as \"https://www.example.com\", without a path"
        )
    };
    let lower = text.to_ascii_lowercase();
    let (scheme, authority) = lower.split_once("://").ok_or_else(wrong)?;
    let usual_port = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => return Err(wrong()),
    };
    if !is_host_and_port(authority) || lower.parse::<Uri>().is_err() {
        return Err(wrong());
    }
    let authority = authority.strip_suffix(usual_port).unwrap_or(authority);
    Ok(format!("{scheme}://{authority}"))
}

fn stun_server(text: &str) -> Result<String, String> {
    match text.strip_prefix("stun:") {
        Some(address) if is_host_and_port(address) => Ok(text.to_owned()),
        _ => Err(format!(
            "{text:?} must be a URI such as \"stun:stun.example.com:3478\""
        )),
    }
}

fn turn_server(text: &str) -> Result<String, String> {
    let address = ["turn:", "turns:"]
        .into_iter()
        .find_map(|scheme| text.strip_prefix(scheme))
        .and_then(|rest| match rest.split_once('?') {
            None => Some(rest),
            Some((address, "transport=udp" | "transport=tcp")) => Some(address),
            Some(_) => None,
        });
    match address {
        Some(address) if is_host_and_port(address) => Ok(text.to_owned()),
        _ => Err(format!(
            "{text:?} must be a URI such as \"turn:turn.example.com:3478?transport=udp\""
        )),
    }
}

fn turn_secret(
    section: &mut Section<'_>,
    environment: &Environment,
    has_servers: bool,
) -> (Option<String>, Option<Secret>) {
    let is_given = section.origin("turn_secret_env") != Origin::Nowhere;
    let read = section.parsed("turn_secret_env", |text| {
        variable::secret(text, environment)
    });
    if has_servers && !is_given {
        section.missing("turn_secret_env", "missing; turn_servers need it");
    }
    read.unzip()
}

fn codecs(section: &mut Section<'_>) -> Option<Vec<Codec>> {
    choices(section, "codecs", &Webrtc::CODECS, |word| {
        word.eq_ignore_ascii_case(Codec::G722.encoding_name())
            .then_some("browsers do not offer it any more")
    })
}
