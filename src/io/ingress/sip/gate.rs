//! Who may come in: by address (`sip.allow`), by password (`sip.auth`), and not all at once.
//!
//! A datagram is judged before the stack sees it, from its bytes alone and without keeping anything: a stranger costs
//! no memory and gets no more bytes than he sent. What comes over a connection is judged by the router, with a
//! transaction: its sender has proved where he is.

use std::collections::HashSet;
use std::collections::VecDeque;
use std::hash::BuildHasher as _;
use std::hash::RandomState;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use governor::DefaultDirectRateLimiter;
use governor::Quota;
use ipnet::IpNet;

use super::digest;
use super::measure;
use super::normalise::Reason;
use super::normalise::Verdict;
use super::normalise::normalise;
use super::raw::Raw;
use super::refused::Refused;
use super::reply::Answer;
use super::reply::Ceiling;
use super::reply::reply;
use crate::config;

/// INVITEs a second, as a multiple of `limits.calls_per_second`, that are looked at more closely than to be counted;
/// each call comes twice where passwords are asked for, and the registry of calls refuses politely what is merely too
/// much.
const FLOOD_FACTOR: u32 = 8;
/// A flood is at least this many INVITEs a second, however few calls are allowed.
const FLOOD_FLOOR: u32 = 100;
/// How many seconds someone who comes at a bad time is asked to wait.
pub(super) const RETRY_AFTER_SECONDS: &str = "5";

/// Who may come in.
pub(super) struct Gate {
    allow: Vec<IpNet>,
    has_registrars: bool,
    /// `None`: no password is asked for.
    passwords: Option<Mutex<digest::Authenticator>>,
    again: Mutex<Repeats>,
    flood: DefaultDirectRateLimiter,
}

/// INVITEs whose password was right: the same datagram again is a repetition, and not somebody who has listened.
#[derive(Default)]
struct Repeats {
    known: HashSet<u64>,
    order: VecDeque<(Instant, u64)>,
    hasher: RandomState,
}

impl Repeats {
    /// How long an INVITE may be repeated (64 * T1, RFC 3261 §17.1.1.2).
    const LIFE: Duration = Duration::from_secs(32);
    /// INVITEs that are remembered; the oldest make room.
    const MOST: usize = 8_192;

    fn has_seen(&mut self, datagram: &[u8], now: Instant) -> bool {
        while let Some((_, old)) = self
            .order
            .pop_front_if(|(at, _)| now.saturating_duration_since(*at) > Self::LIFE)
        {
            self.known.remove(&old);
        }
        self.known.contains(&self.hasher.hash_one(datagram))
    }

    fn remember(&mut self, datagram: &[u8], now: Instant) {
        if self.order.len() == Self::MOST
            && let Some((_, old)) = self.order.pop_front()
        {
            self.known.remove(&old);
        }
        let hash = self.hasher.hash_one(datagram);
        self.known.insert(hash);
        self.order.push_back((now, hash));
    }
}

/// What is to be done with a datagram.
pub(super) enum Datagram<'a> {
    /// Give it to the stack.
    Pass(std::borrow::Cow<'a, [u8]>),
    /// Send this back to where it came from.
    Answer(Vec<u8>),
    /// Nothing.
    Drop,
}

/// A password is asked for.
pub(super) struct Challenge {
    /// The values of WWW-Authenticate.
    pub(super) values: Vec<String>,
}

impl Gate {
    pub(super) fn new(sip: &config::Sip, calls_per_second: u32, now: Instant) -> Self {
        let users: Vec<(String, String)> = sip
            .auth
            .users
            .iter()
            .map(|user| (user.username.clone(), user.password.reveal().to_owned()))
            .collect();
        let passwords = (!users.is_empty()).then(|| {
            let secret = rand::random();
            let algorithms = sip.auth.algorithms.iter().map(|algorithm| match algorithm {
                config::DigestAlgorithm::Md5 => digest::Algorithm::Md5,
                config::DigestAlgorithm::Sha256 => digest::Algorithm::Sha256,
            });
            let gate = digest::Authenticator::new(
                &sip.auth.realm,
                algorithms.collect(),
                users,
                secret,
                digest::NONCE_LIFE,
                digest::NONCES_IN_USE,
                now,
            );
            Mutex::new(gate)
        });
        let flood = calls_per_second
            .saturating_mul(FLOOD_FACTOR)
            .max(FLOOD_FLOOR);
        let flood = std::num::NonZeroU32::new(flood).unwrap_or(std::num::NonZeroU32::MIN);
        Self {
            allow: sip.allow.clone(),
            has_registrars: !sip.register.is_empty(),
            passwords,
            again: Mutex::default(),
            flood: DefaultDirectRateLimiter::direct(Quota::per_second(flood)),
        }
    }

    /// Whether someone at this address may speak to us at all.
    pub(super) fn allows(&self, address: IpAddr) -> bool {
        // A socket that serves both families shows IPv4 peers as mapped addresses.
        let address = address.to_canonical();
        self.allow.is_empty() || self.allow.iter().any(|net| net.contains(&address))
    }

    /// Whether callers must bring a password.
    pub(super) const fn asks_for_passwords(&self) -> bool {
        self.passwords.is_some()
    }

    /// Checks the password of a request by its Authorization fields.
    ///
    /// # Errors
    /// What to ask for.
    pub(super) fn check_password<'a>(
        &self,
        method: &str,
        authorizations: impl IntoIterator<Item = &'a str>,
        now: Instant,
    ) -> Result<(), Challenge> {
        let Some(passwords) = &self.passwords else {
            return Ok(());
        };
        // Its table is whole between any two calls, so a panic elsewhere does not spoil it.
        let mut passwords = passwords.lock().unwrap_or_else(PoisonError::into_inner);
        match passwords.check(method, authorizations, now) {
            Ok(_) => Ok(()),
            Err(reason) => Err(Challenge {
                values: passwords.challenges(reason.is_stale(), rand::random(), now),
            }),
        }
    }

    /// Judges a datagram.
    pub(super) fn judge<'a>(
        &self,
        datagram: &'a [u8],
        source: SocketAddr,
        now: Instant,
    ) -> Datagram<'a> {
        // What registrars answer is asked for: the stack drops whatever is not.
        let is_awaited = self.has_registrars && datagram.starts_with(b"SIP/");
        if !is_awaited && !self.allows(source.ip()) {
            return turn_away(datagram, source, Refused::NotAllowed, 403, "Forbidden", &[]);
        }
        let message = match normalise(datagram) {
            Verdict::Pass(message) => message,
            Verdict::KeepAlive => return Datagram::Drop,
            Verdict::Answer(reason) => return self.turn_malformed_away(datagram, source, reason),
            Verdict::Drop(reason) => {
                measure::malformed(reason);
                return Datagram::Drop;
            }
        };
        if !message.starts_with(b"INVITE ") || is_within_call(&message) {
            return Datagram::Pass(message);
        }
        if self.flood.check().is_err() {
            let later = [("Retry-After", RETRY_AFTER_SECONDS)];
            return turn_away(
                datagram,
                source,
                Refused::Flood,
                503,
                "Service Unavailable",
                &later,
            );
        }
        if !self.asks_for_passwords() {
            return Datagram::Pass(message);
        }
        let mut again = self.again.lock().unwrap_or_else(PoisonError::into_inner);
        let is_repeated = again.has_seen(datagram, now);
        drop(again);
        if is_repeated {
            return Datagram::Pass(message);
        }
        let raw = Raw::read(&message);
        let authorizations: Vec<_> = raw.all("Authorization").map(|field| field.text()).collect();
        let authorizations = authorizations.iter().map(AsRef::as_ref);
        match self.check_password("INVITE", authorizations, now) {
            Ok(()) => {
                let mut again = self.again.lock().unwrap_or_else(PoisonError::into_inner);
                again.remember(datagram, now);
                Datagram::Pass(message)
            }
            Err(challenge) => {
                measure::refused(Refused::Unauthorised);
                self.challenge(datagram, source, &challenge)
            }
        }
    }

    /// 401 with every challenge; where that would be more than a stranger may get, with the first alone.
    fn challenge<'a>(
        &self,
        datagram: &'a [u8],
        source: SocketAddr,
        challenge: &Challenge,
    ) -> Datagram<'a> {
        let ceiling = self.ceiling();
        let all: Vec<(&str, &str)> = challenge
            .values
            .iter()
            .map(|value| ("WWW-Authenticate", value.as_str()))
            .collect();
        let answer = |required| Answer {
            status: 401,
            phrase: "Unauthorized",
            required,
            optional: &[],
        };
        reply(datagram, &answer(&all), source, ceiling)
            .or_else(|| reply(datagram, &answer(&all[..1]), source, ceiling))
            .map_or(Datagram::Drop, Datagram::Answer)
    }

    fn turn_malformed_away<'a>(
        &self,
        datagram: &'a [u8],
        source: SocketAddr,
        reason: Reason,
    ) -> Datagram<'a> {
        let (status, phrase) = reason.status();
        measure::malformed(reason);
        tracing::debug!(%source, reason = reason.label(), "a SIP message is turned away");
        let answer = |required| Answer {
            status,
            phrase,
            required,
            optional: &[],
        };
        // RFC 3261 §21.4.6 wants Allow in a 405. Who sends less than that costs gets the status alone: he would take
        // silence for a gateway that is down, and try again for half a minute.
        let ceiling = self.ceiling();
        reply(datagram, &answer(reason.headers()), source, ceiling)
            .or_else(|| reply(datagram, &answer(&[]), source, ceiling))
            .map_or(Datagram::Drop, Datagram::Answer)
    }

    /// How much a sender gets who has been let in by his address alone: where every address is, it proves nothing.
    const fn ceiling(&self) -> Ceiling {
        if self.allow.is_empty() {
            Ceiling::Request
        } else {
            Ceiling::None
        }
    }
}

fn turn_away<'a>(
    datagram: &'a [u8],
    source: SocketAddr,
    reason: Refused,
    status: u16,
    phrase: &str,
    required: &[(&str, &str)],
) -> Datagram<'a> {
    measure::refused(reason);
    tracing::debug!(%source, reason = reason.label(), "a SIP message is turned away");
    let answer = Answer {
        status,
        phrase,
        required,
        optional: &[],
    };
    reply(datagram, &answer, source, Ceiling::Request).map_or(Datagram::Drop, Datagram::Answer)
}

/// Whether a request has a tag in To: its call was let in before.
fn is_within_call(message: &[u8]) -> bool {
    let raw = Raw::read(message);
    raw.first("To").is_some_and(super::reply::has_tag)
}
