//! Reading `[sip]`, `[rtp]` and what a route says of SIP calls.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::DigestAlgorithm;
use super::Rtp;
use super::Secret;
use super::SecretSource;
use super::Sip;
use super::SipAuth;
use super::SipListen;
use super::SipRegister;
use super::SipTransport;
use super::SipUser;
use super::SrtpPolicy;
use super::address::header_name;
use super::address::host;
use super::address::network;
use super::address::quotable;
use super::address::reachable_address;
use super::address::reachable_host;
use super::address::registrar;
use super::address::uri_user;
use super::agents::existing_file;
use super::load::DAY;
use super::section::Section;
use super::section::list;
use super::section::text_of;
use super::tree::Origin;
use super::variable;
use super::variable::Environment;
use crate::engine::media::codec::packet::Codec;

/// The longest password that a file may hold, in bytes: more is a mistaken path.
const MAX_PASSWORD_BYTES: usize = 1_024;

const SECOND: Duration = Duration::from_secs(1);

/// `[sip]`. `taken`: the keys and addresses of the other listeners.
pub(super) fn sip(
    mut section: Section<'_>,
    environment: &Environment,
    taken: &[(&str, SocketAddr)],
) -> Sip {
    let default = Sip::default();
    let listen = listen(&mut section, taken).unwrap_or(default.listen);
    let has_tls = listen.iter().any(|one| one.transport == SipTransport::Tls);
    let advertised_address = section.parsed("advertised_address", reachable_host);
    let tls_certificate = tls_file(&mut section, "tls_certificate", has_tls);
    let tls_key = tls_file(&mut section, "tls_key", has_tls);
    let allow = section.parsed_list("allow", network).unwrap_or_default();
    let auth = auth(section.table("auth"), environment);
    let register = section.tables("register", |table| register(table, environment));
    let parameters = section.parsed_list("parameters", header_name);
    let answer_within = section.duration("answer_within", Duration::ZERO..=30 * SECOND);
    // RFC 4028 §5 forbids a Min-SE below 90 s; less is for tests that cannot wait for a refresh.
    let interval = 10 * SECOND..=DAY;
    let expires_origin = section.origin("session_expires");
    let session_expires = section
        .seconds("session_expires", interval.clone())
        .unwrap_or(default.session_expires);
    let min_session_expires = section
        .seconds("min_session_expires", interval)
        .unwrap_or(default.min_session_expires);
    if session_expires < min_session_expires {
        let least = humantime::format_duration(min_session_expires);
        let reason = format!("must not be shorter than min_session_expires, {least}");
        section.tell(&expires_origin, "session_expires", reason);
    }
    let sip = Sip {
        listen,
        advertised_address,
        tls_certificate,
        tls_key,
        allow,
        auth,
        register,
        parameters: parameters.unwrap_or_default(),
        answer_within: answer_within.unwrap_or(default.answer_within),
        session_expires,
        min_session_expires,
        transfer_timeout: section
            .duration("transfer_timeout", SECOND..=300 * SECOND)
            .unwrap_or(default.transfer_timeout),
        connections: section
            .number("connections", 1..=100_000)
            .unwrap_or(default.connections),
    };
    section.finish();
    sip
}

fn listen(section: &mut Section<'_>, taken: &[(&str, SocketAddr)]) -> Option<Vec<SipListen>> {
    let origin = section.origin("listen");
    let listen = section.parsed_list("listen", |text| {
        SipListen::parse(text).ok_or_else(|| {
            format!("{text:?} must be udp, tcp or tls with an address and a port, such as \"udp:127.0.0.1:5060\"")
        })
    })?;
    let is_datagram = |one: &SipListen| one.transport == SipTransport::Udp;
    for (position, one) in listen.iter().enumerate() {
        // Port 0 is another port each time.
        if one.address.port() == 0 {
            continue;
        }
        let clashes = |earlier: &&SipListen| {
            earlier.address == one.address && is_datagram(earlier) == is_datagram(one)
        };
        if let Some(earlier) = listen[..position].iter().find(clashes) {
            let reason = format!("{one} has the same port as {earlier}");
            section.tell(&origin, "listen", reason);
        }
        let other = taken.iter().find(|(_, address)| *address == one.address);
        if let Some((key, _)) = other.filter(|_| !is_datagram(one)) {
            let reason = format!("{one} must not be the same as {key}");
            section.tell(&origin, "listen", reason);
        }
    }
    Some(listen)
}

fn tls_file(section: &mut Section<'_>, key: &'static str, is_needed: bool) -> Option<PathBuf> {
    let is_given = section.origin(key) != Origin::Nowhere;
    let file = section.parsed(key, existing_file);
    if is_needed && !is_given {
        section.missing(key, "missing; a tls: listener needs it");
    }
    file
}

fn auth(mut section: Section<'_>, environment: &Environment) -> SipAuth {
    let realm = section.parsed("realm", quotable);
    let default = SipAuth::default();
    let algorithms = choices(&mut section, "algorithms", &DigestAlgorithm::WORDS, |_| {
        None
    });
    let mut names = BTreeSet::new();
    let users = section.tables("users", |mut user| {
        let origin = user.origin("username");
        let username = required(&mut user, "username", quotable);
        if username
            .as_ref()
            .is_some_and(|name| !names.insert(name.clone()))
        {
            user.tell(&origin, "username", "there is another user of this name");
        }
        let password = password(&mut user, environment);
        user.finish();
        let (password, password_from) = password?;
        Some(SipUser {
            username: username?,
            password,
            password_from,
        })
    });
    section.finish();
    SipAuth {
        realm: realm.unwrap_or(default.realm),
        algorithms: algorithms.unwrap_or(default.algorithms),
        users,
    }
}

fn register(mut section: Section<'_>, environment: &Environment) -> Option<SipRegister> {
    let registrar = required(&mut section, "registrar", registrar);
    let username = required(&mut section, "username", uri_user);
    let auth_username = section.parsed("auth_username", quotable);
    let password = password(&mut section, environment);
    let expires = section.seconds("expires", 60 * SECOND..=DAY);
    let domain = section.parsed("domain", host);
    section.finish();
    let (password, password_from) = password?;
    Some(SipRegister {
        registrar: registrar?,
        username: username?,
        auth_username,
        password,
        password_from,
        expires: expires.unwrap_or(SipRegister::DEFAULT_EXPIRES),
        domain,
    })
}

/// The password of a user or a registration: from a variable or a file, and from exactly one of them.
fn password(
    section: &mut Section<'_>,
    environment: &Environment,
) -> Option<(Secret, SecretSource)> {
    let variable_given = section.origin("password_env") != Origin::Nowhere;
    let file_origin = section.origin("password_file");
    let of_variable = section.parsed("password_env", |text| {
        let (name, password) = variable::secret(text, environment)?;
        Ok((password, SecretSource::Environment(name)))
    });
    let of_file = section.parsed("password_file", |path| {
        let password = password_of_file(path)?;
        Ok((Secret::new(password), SecretSource::File(path.into())))
    });
    match (variable_given, &file_origin) {
        (false, Origin::Nowhere) => section.missing("password_env", "missing; or password_file"),
        (true, Origin::File | Origin::Environment(_)) => {
            let reason = "must not stand beside password_env";
            section.tell(&file_origin, "password_file", reason);
        }
        (true, Origin::Nowhere) | (false, Origin::File | Origin::Environment(_)) => {}
    }
    of_variable.or(of_file)
}

fn password_of_file(path: &str) -> Result<String, String> {
    let text = text_of_file(path, MAX_PASSWORD_BYTES)?;
    // Editors end a file with a line feed that nobody means.
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(format!("{path:?} is empty"));
    }
    Ok(password.to_owned())
}

/// The text of a file that has this many bytes at most.
pub(super) fn text_of_file(path: &str, max_bytes: usize) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("{path:?} cannot be read: {error}");
    let mut text = String::new();
    File::open(path)
        .map_err(cannot)?
        .take(max_bytes as u64 + 1)
        .read_to_string(&mut text)
        .map_err(cannot)?;
    if text.len() > max_bytes {
        return Err(format!("{path:?} is longer than {max_bytes} bytes"));
    }
    Ok(text)
}

/// `[rtp]`
pub(super) fn rtp(mut section: Section<'_>) -> Rtp {
    let default = Rtp::default();
    let wait = SECOND..=DAY;
    let rtp = Rtp {
        ports: section.parsed("ports", ports).unwrap_or(default.ports),
        advertised_address: section.parsed("advertised_address", reachable_address),
        codecs: codecs(&mut section).unwrap_or(default.codecs),
        opus_complexity: section
            .number("opus_complexity", 0..=10)
            .unwrap_or(default.opus_complexity),
        srtp: section
            .word("srtp", &SrtpPolicy::WORDS)
            .unwrap_or(default.srtp),
        strict_source: section
            .flag("strict_source")
            .unwrap_or(default.strict_source),
        initial_timeout: section
            .duration("initial_timeout", wait.clone())
            .unwrap_or(default.initial_timeout),
        timeout: section
            .duration("timeout", wait.clone())
            .unwrap_or(default.timeout),
        hold_timeout: section
            .duration("hold_timeout", wait)
            .unwrap_or(default.hold_timeout),
    };
    section.finish();
    rtp
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let port = |text: &str| text.trim().parse::<u16>().ok();
    let (first, last) = text
        .split_once('-')
        .and_then(|(first, last)| Some((port(first)?, port(last)?)))
        .ok_or("must be a range of ports such as \"10000-19999\"")?;
    if first < 1_024 {
        return Err("must not have ports below 1024".to_owned());
    }
    // RFC 3550 §11: RTP has the even port, and RTCP the odd one above it.
    if first % 2 != 0 {
        return Err("must begin with an even port".to_owned());
    }
    if last <= first {
        return Err("must have two ports at least".to_owned());
    }
    Ok(first..=last)
}

fn codecs(section: &mut Section<'_>) -> Option<Vec<Codec>> {
    let words = Codec::ALL.map(|codec| (codec.encoding_name().to_ascii_lowercase(), codec));
    choices(section, "codecs", &words, |_| None)
}

/// A list of words, each of which stands for something: one at least, none twice, written in any case. `why_not` knows
/// why a word that people may expect is none of them.
pub(super) fn choices<T: Copy + PartialEq>(
    section: &mut Section<'_>,
    key: &'static str,
    words: &[(impl AsRef<str>, T)],
    why_not: impl Fn(&str) -> Option<&'static str>,
) -> Option<Vec<T>> {
    let origin = section.origin(key);
    let chosen = section.parsed_list(key, |text| {
        words
            .iter()
            .find(|(word, _)| word.as_ref().eq_ignore_ascii_case(text))
            .map(|(_, meaning)| *meaning)
            .ok_or_else(|| {
                let words = words.iter().map(|(word, _)| word.as_ref());
                let reason = why_not(text).map(|reason| format!(": {reason}"));
                format!(
                    "{text:?} is none of {}{}",
                    list(words),
                    reason.unwrap_or_default()
                )
            })
    })?;
    if chosen.is_empty() {
        section.tell(&origin, key, "must have one at least");
    }
    for (word, meaning) in words {
        if chosen.iter().filter(|chosen| *chosen == meaning).count() > 1 {
            section.tell(&origin, key, format!("{} is there twice", word.as_ref()));
        }
    }
    Some(chosen)
}

/// `headers` of a route.
pub(super) fn headers(mut section: Section<'_>) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (name, node) in section.rest() {
        let header = header_name(&name).and_then(|name| {
            if !seen.insert(name.to_ascii_lowercase()) {
                return Err("is there twice (case does not count)".to_owned());
            }
            Ok((name, text_of(&node)?.to_owned()))
        });
        match header {
            Ok((name, value)) => {
                headers.insert(name, value);
            }
            Err(reason) => section.tell(&node.origin, &name, reason),
        }
    }
    headers
}

/// A value that must be given.
fn required<T>(
    section: &mut Section<'_>,
    key: &'static str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    let is_given = section.origin(key) != Origin::Nowhere;
    let value = section.parsed(key, parse);
    if !is_given {
        section.missing(key, "missing");
    }
    value
}
