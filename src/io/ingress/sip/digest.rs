//! Digest authentication of those who call us (RFC 7616 and 8760, RFC 3261 §22).
//!
//! **Nonces certify themselves**: a nonce is the time of its making and a salt, signed with a secret of this process.
//! So a challenge costs no memory, and strangers who ask for a million of them push nobody's out. State begins with the
//! first *right* answer: then the nonce enters a table of bounded size that remembers which counts (`nc`) were used, so
//! that a recorded request cannot be sent again. When the table is full the oldest nonce goes, and with it every nonce
//! that is as old: their holders are told `stale=true` and come back at once without asking anyone for a password.
//!
//! Passwords are not kept, only their hashes with the realm. An unknown user costs the same hashing and the same
//! comparison as a known one.
//!
//! What is knowingly left out: `auth-int`, `userhash` and the `-sess` algorithms are not offered and not taken. The `uri`
//! of the credentials is hashed as it was said and not compared with the Request-URI (RFC 7616 §3.4.6), because proxies
//! rewrite that one on the way.
//!
//! A request is checked once, when its transaction begins: a repetition of the same packet would look like a replay.
//! ACK and CANCEL are not checked at all (RFC 3261 §22.1).

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::time::Duration;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Hmac;
use hmac::Mac;
use md5::Md5;
use sha1::Sha1;
use sha2::Digest;
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// How long a nonce is good. A PBX sends the answer to a challenge within a second; the rest is for its next calls.
pub const NONCE_LIFE: Duration = Duration::from_secs(300);
/// How many nonces may be in use. At some 60 bytes each it is 1 MB; a peer uses one per [`NONCE_LIFE`] or one per call.
pub const NONCES_IN_USE: usize = 16_384;

/// The most parameters in one header. RFC 7616 knows eleven.
const MOST_PARAMETERS: usize = 24;
/// The most headers that are looked at: one for each proxy on the way that asks for a password of its own.
const MOST_HEADERS: usize = 8;
/// What a nonce is made of: milliseconds since the process began, salt, signature.
const NONCE_BYTES: usize = 8 + 8 + 20;

/// A hash by which passwords are proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RFC 8760; preferred.
    Sha256,
    /// RFC 3261: what older telephones know.
    Md5,
}

impl Algorithm {
    /// In the order in which they are offered.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Md5];

    const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA-256",
            Self::Md5 => "MD5",
        }
    }

    /// The algorithm of a header's parameter; without one it is MD5 (RFC 7616 §3.3).
    fn of(name: Option<&str>) -> Option<Self> {
        match name {
            None => Some(Self::Md5),
            Some(name) => Self::ALL
                .into_iter()
                .find(|algorithm| algorithm.name().eq_ignore_ascii_case(name)),
        }
    }

    /// The hash in lower-case hexadecimal of parts joined by colons.
    fn hash(self, parts: &[&str]) -> String {
        let joined = parts.join(":");
        match self {
            Self::Sha256 => hex(&Sha256::digest(joined)),
            Self::Md5 => hex(&Md5::digest(joined)),
        }
    }
}

/// Why a request is not let in. Whatever it is, the peer is told only by a challenge (or, if he is [`Refused::Malformed`],
/// by 400).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It brought no credentials for this realm: nothing is wrong yet.
    NoCredentials,
    /// Its credentials cannot be read, or lack something.
    Malformed,
    /// It asks for what we do not do: another algorithm or quality of protection, a hashed user name.
    Unsupported,
    /// User or password is wrong. Which of them is not told to anyone.
    WrongPassword,
    /// The password is right, but the nonce is too old or not of this process.
    Stale,
    /// The password is right, but this count was used before.
    Replayed,
}

impl Refused {
    /// Whether the challenge says `stale=true`: come back with the new nonce, without asking for a password.
    pub const fn is_stale(self) -> bool {
        match self {
            Self::Stale | Self::Replayed => true,
            Self::NoCredentials | Self::Malformed | Self::Unsupported | Self::WrongPassword => {
                false
            }
        }
    }
}

/// Who may come in, and which of their nonces are in use.
pub struct Authenticator {
    /// Those that are asked for, the preferred first.
    algorithms: Vec<Algorithm>,
    realm: String,
    users: HashMap<String, Keys>,
    /// For users we do not know: nobody knows a password that fits.
    nobody: Keys,
    secret: [u8; 32],
    epoch: Instant,
    life: Duration,
    capacity: usize,
    in_use: BTreeMap<NonceId, Counts>,
    /// Nonces made at this time or before are not taken any more, unless they are in the table.
    forgotten_until: Option<u64>,
}

/// H(user:realm:password).
struct Keys {
    sha256: String,
    md5: String,
}

impl Keys {
    fn new(user: &str, realm: &str, password: &str) -> Self {
        let parts = [user, realm, password];
        Self {
            sha256: Algorithm::Sha256.hash(&parts),
            md5: Algorithm::Md5.hash(&parts),
        }
    }

    fn of(&self, algorithm: Algorithm) -> &str {
        match algorithm {
            Algorithm::Sha256 => &self.sha256,
            Algorithm::Md5 => &self.md5,
        }
    }
}

/// The oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct NonceId {
    made_ms: u64,
    salt: u64,
}

/// The counts of a nonce that were used: the highest, and which of the 64 below it. Packets overtake each other, so an
/// order is not asked for (RFC 7616 §3.4: "a nonce count that it has seen" is the replay).
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    highest: u32,
    below: u64,
}

impl Counts {
    /// Uses a count up; `false` if it was used, or is too far below to know.
    fn use_up(&mut self, count: u32) -> bool {
        if count > self.highest {
            let step = count - self.highest;
            let shifted = self.below.checked_shl(step).unwrap_or(0);
            // What was the highest is now `step` below.
            let mark = 1_u64.checked_shl(step - 1).unwrap_or(0);
            self.below = if self.highest == 0 { 0 } else { shifted | mark };
            self.highest = count;
            return true;
        }
        let Some(mark) = (self.highest - count)
            .checked_sub(1)
            .and_then(|bit| 1_u64.checked_shl(bit))
        else {
            return false;
        };
        let free = self.below & mark == 0;
        self.below |= mark;
        free
    }
}

impl Authenticator {
    /// An authenticator for `users` (names and passwords). The secret is random and of this process alone.
    ///
    /// `algorithms` are asked for, the preferred first; the others are not taken. A realm with quotes or control
    /// characters would break the challenge: those are left out.
    pub fn new(
        realm: &str,
        algorithms: Vec<Algorithm>,
        users: impl IntoIterator<Item = (String, String)>,
        secret: [u8; 32],
        life: Duration,
        capacity: usize,
        now: Instant,
    ) -> Self {
        let plain = |c: &char| !c.is_control() && !matches!(c, '"' | '\\');
        let realm: String = realm.chars().filter(plain).collect();
        let keys = |(user, password): (String, String)| {
            let keys = Keys::new(&user, &realm, &password);
            (user, keys)
        };
        Self {
            users: users.into_iter().map(keys).collect(),
            nobody: Keys::new("", &realm, &hex(&secret)),
            algorithms,
            realm,
            secret,
            epoch: now,
            life,
            capacity,
            in_use: BTreeMap::new(),
            forgotten_until: None,
        }
    }

    /// The values of the WWW-Authenticate headers, one for each algorithm, the preferred first (RFC 8760 §2.4).
    pub fn challenges(&self, stale: bool, salt: u64, now: Instant) -> Vec<String> {
        let nonce = self.nonce(salt, now);
        let stale = if stale { ", stale=true" } else { "" };
        let challenge = |algorithm: &Algorithm| {
            format!(
                "Digest realm=\"{}\", nonce=\"{nonce}\", algorithm={}, qop=\"auth\"{stale}",
                self.realm,
                algorithm.name()
            )
        };
        self.algorithms.iter().map(challenge).collect()
    }

    /// Checks a request with this method by the values of its Authorization headers, and names its user.
    ///
    /// # Errors
    /// Why it is not let in.
    pub fn check<'a>(
        &mut self,
        method: &str,
        authorizations: impl IntoIterator<Item = &'a str>,
        now: Instant,
    ) -> Result<String, Refused> {
        let mut refused = Refused::NoCredentials;
        for value in authorizations.into_iter().take(MOST_HEADERS) {
            match Credentials::read(value) {
                // Another scheme, or a password for someone else on the way.
                Ok(None) => {}
                Ok(Some(credentials)) if credentials.realm != self.realm => {}
                Ok(Some(credentials)) => return self.check_one(method, &credentials, now),
                Err(reason) => refused = reason,
            }
        }
        Err(refused)
    }

    fn check_one(
        &mut self,
        method: &str,
        credentials: &Credentials<'_>,
        now: Instant,
    ) -> Result<String, Refused> {
        if !self.algorithms.contains(&credentials.algorithm) {
            return Err(Refused::Unsupported);
        }
        let user = self.users.get(&credentials.username);
        let keys = user.unwrap_or(&self.nobody);
        let expected = credentials.expected(method, keys.of(credentials.algorithm));
        let said = credentials.response.to_ascii_lowercase();
        let right = bool::from(expected.as_bytes().ct_eq(said.as_bytes()));
        if !right || user.is_none() {
            return Err(Refused::WrongPassword);
        }

        let nonce = self
            .read_nonce(credentials.nonce, now)
            .ok_or(Refused::Stale)?;
        self.use_up(nonce, credentials.count)?;
        Ok(credentials.username.clone())
    }

    /// Enters a nonce that was answered rightly into the table.
    fn use_up(&mut self, nonce: NonceId, count: u32) -> Result<(), Refused> {
        if let Some(counts) = self.in_use.get_mut(&nonce) {
            return counts.use_up(count).then_some(()).ok_or(Refused::Replayed);
        }
        if self
            .forgotten_until
            .is_some_and(|until| nonce.made_ms <= until)
        {
            return Err(Refused::Stale);
        }
        let mut counts = Counts::default();
        counts
            .use_up(count)
            .then_some(())
            .ok_or(Refused::Replayed)?;
        self.in_use.insert(nonce, counts);
        while self.in_use.len() > self.capacity {
            if let Some((oldest, _)) = self.in_use.pop_first() {
                self.forgotten_until = self.forgotten_until.max(Some(oldest.made_ms));
            }
        }
        Ok(())
    }

    /// Nonces in use.
    pub fn nonces_in_use(&self) -> usize {
        self.in_use.len()
    }

    fn nonce(&self, salt: u64, now: Instant) -> String {
        let mut bytes = [0; NONCE_BYTES];
        let (plain, signature) = bytes.split_at_mut(16);
        plain[..8].copy_from_slice(&self.age_ms(now).to_be_bytes());
        plain[8..].copy_from_slice(&salt.to_be_bytes());
        signature.copy_from_slice(&self.signed(plain).finalize().into_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The nonce, if it is ours and still good. Forgets those in the table that are not good any more.
    fn read_nonce(&mut self, nonce: &str, now: Instant) -> Option<NonceId> {
        let now_ms = self.age_ms(now);
        let life = u64::try_from(self.life.as_millis()).unwrap_or(u64::MAX);
        let oldest = now_ms.saturating_sub(life);
        while let Some(entry) = self.in_use.first_entry()
            && entry.key().made_ms < oldest
        {
            entry.remove();
        }

        let bytes = URL_SAFE_NO_PAD.decode(nonce).ok()?;
        let (plain, signature) = bytes.split_at_checked(16)?;
        self.signed(plain).verify_slice(signature).ok()?;
        let (made, salt) = plain.split_first_chunk::<8>()?;
        let id = NonceId {
            made_ms: u64::from_be_bytes(*made),
            salt: u64::from_be_bytes(salt.try_into().ok()?),
        };
        (oldest..=now_ms).contains(&id.made_ms).then_some(id)
    }

    /// HMAC-SHA1 is sound, and short enough that two challenges fit into the answer to a small request.
    fn signed(&self, plain: &[u8]) -> Hmac<Sha1> {
        let mut mac =
            Hmac::<Sha1>::new_from_slice(&self.secret).expect("HMAC takes a key of any length");
        mac.update(plain);
        mac
    }

    fn age_ms(&self, now: Instant) -> u64 {
        let age = now.saturating_duration_since(self.epoch);
        u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
    }
}

/// What an Authorization header says.
#[derive(Debug, PartialEq, Eq)]
struct Credentials<'a> {
    username: String,
    realm: String,
    nonce: &'a str,
    uri: &'a str,
    response: &'a str,
    algorithm: Algorithm,
    /// Without `qop` (RFC 2069, which RFC 3261 §22.4 still takes) there is no count; then the nonce is good once.
    protection: Option<Protection<'a>>,
    count: u32,
}

#[derive(Debug, PartialEq, Eq)]
struct Protection<'a> {
    count: &'a str,
    client_nonce: &'a str,
}

impl<'a> Credentials<'a> {
    /// `None` for another scheme than Digest.
    fn read(value: &'a str) -> Result<Option<Self>, Refused> {
        let value = value.trim_ascii_start();
        let Some((scheme, parameters)) = value.split_once(|c: char| c.is_ascii_whitespace()) else {
            return Ok(None);
        };
        if !scheme.eq_ignore_ascii_case("Digest") {
            return Ok(None);
        }
        let parameters = Parameters::read(parameters).ok_or(Refused::Malformed)?;
        if parameters.find("username*").is_some()
            || parameters
                .find("userhash")
                .is_some_and(|value| value.eq_ignore_ascii_case("true"))
        {
            return Err(Refused::Unsupported);
        }
        let need = |name| parameters.find(name).ok_or(Refused::Malformed);
        let algorithm = Algorithm::of(parameters.find("algorithm")).ok_or(Refused::Unsupported)?;
        let protection = match parameters.find("qop") {
            None => None,
            Some(quality) if quality.eq_ignore_ascii_case("auth") => Some(Protection {
                count: need("nc")?,
                client_nonce: need("cnonce")?,
            }),
            Some(_) => return Err(Refused::Unsupported),
        };
        let count = match &protection {
            None => u32::MAX,
            Some(protection) => hexadecimal(protection.count).ok_or(Refused::Malformed)?,
        };
        Ok(Some(Self {
            username: unescaped(need("username")?),
            realm: unescaped(need("realm")?),
            nonce: need("nonce")?,
            uri: need("uri")?,
            response: need("response")?,
            algorithm,
            protection,
            count,
        }))
    }

    /// The right response (RFC 7616 §3.4.1).
    fn expected(&self, method: &str, key: &str) -> String {
        let request = self.algorithm.hash(&[method, self.uri]);
        match &self.protection {
            Some(Protection {
                count,
                client_nonce,
            }) => self
                .algorithm
                .hash(&[key, self.nonce, count, client_nonce, "auth", &request]),
            None => self.algorithm.hash(&[key, self.nonce, &request]),
        }
    }
}

/// The parameters of a header: names, and values without their quotes but with their escapes, which is how they are
/// hashed (`unq` in RFC 7616 §3.3).
struct Parameters<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Parameters<'a> {
    /// `None` if there are too many, if a quote is not closed, or if a name comes twice: two readers may take different
    /// ones of the two.
    fn read(text: &'a str) -> Option<Self> {
        let mut parameters = Self(Vec::new());
        let mut rest = text;
        loop {
            rest = rest.trim_start_matches(|c: char| c == ',' || c.is_ascii_whitespace());
            if rest.is_empty() {
                return Some(parameters);
            }
            let (name, after) = rest.split_once('=')?;
            let name = name.trim_ascii_end();
            let (value, after) = value(after.trim_ascii_start())?;
            if parameters.find(name).is_some() || parameters.0.len() == MOST_PARAMETERS {
                return None;
            }
            parameters.0.push((name, value));
            rest = after;
        }
    }

    fn find(&self, name: &str) -> Option<&'a str> {
        self.0
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
    }
}

/// A value at the beginning of `text`, and what follows. Quotes may be missing where the grammar wants them.
fn value(text: &str) -> Option<(&str, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(',').unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return Some((value.trim_ascii_end(), rest));
    };
    let mut escaped = false;
    for (at, byte) in quoted.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some((quoted.get(..at)?, quoted.get(at + 1..)?)),
            _ => {}
        }
    }
    None
}

fn unescaped(value: &str) -> String {
    let mut escaped = false;
    let keep = |c: &char| {
        escaped = *c == '\\' && !escaped;
        !escaped
    };
    value.chars().filter(keep).collect()
}

/// The eight digits of a count.
fn hexadecimal(text: &str) -> Option<u32> {
    let digits = (1..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::any;
    use proptest::proptest;

    use super::*;

    const LIFE: Duration = Duration::from_secs(60);
    const REALM: &str = "voice.example.com";
    const URI: &str = "sip:1000@voice.example.com";

    #[test]
    fn the_examples_of_rfc_7616_come_out() {
        for (algorithm, response) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            (
                "SHA-256",
                "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
            ),
        ] {
            let value = format!(
                "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", uri=\"/dir/index.html\", \
                 algorithm={algorithm}, nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001, \
                 cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth, response=\"{response}\", \
                 opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            );
            let keys = Keys::new("Mufasa", "http-auth@example.org", "Circle of Life");
            assert_eq!(expected(&value, "GET", &keys), response);
        }
    }

    #[test]
    fn the_examples_of_rfc_2617_and_2069_come_out() {
        let keys = Keys::new("Mufasa", "testrealm@host.com", "Circle Of Life");
        let value = "Digest username=\"Mufasa\", realm=\"testrealm@host.com\", \
             nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", uri=\"/dir/index.html\", qop=auth, nc=00000001, \
             cnonce=\"0a4f113b\", response=\"\", opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"";
        assert_eq!(
            expected(value, "GET", &keys),
            "6629fae49393a05397450978507c4ef1"
        );
        // RFC 2069 §2.4 with the result of its erratum 749.
        let keys = Keys::new("Mufasa", "testrealm@host.com", "CircleOfLife");
        let value = "Digest username=\"Mufasa\", realm=\"testrealm@host.com\", \
             nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", uri=\"/dir/index.html\", response=\"\"";
        assert_eq!(
            expected(value, "GET", &keys),
            "1949323746fe6a43ef61f9606e7febea"
        );
    }

    #[test]
    fn who_knows_the_password_comes_in_by_either_algorithm() {
        let (mut authenticator, now) = alices(8);
        for algorithm in Algorithm::ALL {
            let nonce = nonce_of(&authenticator, 1, now);
            let value = answer(algorithm, &nonce, 1, "secret");
            // The same nonce is offered for both, so the second use needs the second count.
            let value = match algorithm {
                Algorithm::Sha256 => value,
                Algorithm::Md5 => answer(algorithm, &nonce, 2, "secret"),
            };
            assert_eq!(
                authenticator
                    .check("INVITE", [value.as_str()], now)
                    .as_deref(),
                Ok("alice"),
                "{algorithm:?}"
            );
        }
    }

    #[test]
    fn a_challenge_offers_the_preferred_algorithm_first() {
        let (authenticator, now) = alices(8);
        let challenges = authenticator.challenges(true, 7, now);
        let [first, second] = &challenges[..] else {
            panic!("one for each algorithm");
        };
        let nonce = nonce_of(&authenticator, 7, now);
        assert_eq!(
            *first,
            format!(
                "Digest realm=\"{REALM}\", nonce=\"{nonce}\", algorithm=SHA-256, qop=\"auth\", stale=true"
            )
        );
        assert!(second.contains("algorithm=MD5"));
        assert!(!authenticator.challenges(false, 7, now)[0].contains("stale"));
    }

    #[test]
    fn a_wrong_password_an_unknown_user_and_another_method_are_all_the_same() {
        let (mut authenticator, now) = alices(8);
        let nonce = nonce_of(&authenticator, 1, now);
        let right = answer(Algorithm::Sha256, &nonce, 1, "secret");
        for (method, value) in [
            ("INVITE", answer(Algorithm::Sha256, &nonce, 1, "Secret")),
            ("INVITE", right.replace("alice", "bob")),
            ("BYE", right.clone()),
            ("INVITE", right.replace("response=\"", "response=\"0")),
        ] {
            let refused = authenticator.check(method, [value.as_str()], now);
            assert_eq!(refused, Err(Refused::WrongPassword), "{value}");
        }
        assert_eq!(
            authenticator.nonces_in_use(),
            0,
            "nothing is kept of strangers"
        );
    }

    #[test]
    fn a_count_is_good_once_in_any_order() {
        let (mut authenticator, now) = alices(8);
        let nonce = nonce_of(&authenticator, 1, now);
        for (count, right) in [
            (1, true),
            (1, false),
            (3, true),
            (2, true),
            (2, false),
            (3, false),
            (70, true),
            (6, true),
            (5, false),
            (0, false),
            (69, true),
        ] {
            let value = answer(Algorithm::Sha256, &nonce, count, "secret");
            let expected = if right {
                Ok("alice".to_owned())
            } else {
                Err(Refused::Replayed)
            };
            assert_eq!(
                authenticator.check("INVITE", [value.as_str()], now),
                expected,
                "{count}"
            );
        }
    }

    #[test]
    fn an_old_nonce_is_stale_only_with_the_right_password() {
        let (mut authenticator, now) = alices(8);
        let nonce = nonce_of(&authenticator, 1, now);
        let right = answer(Algorithm::Sha256, &nonce, 1, "secret");
        let wrong = answer(Algorithm::Sha256, &nonce, 1, "guess");
        let late = now + LIFE + Duration::from_millis(1);
        let check = |authenticator: &mut Authenticator, value: &str| {
            authenticator.check("INVITE", [value], late)
        };
        assert_eq!(
            check(&mut authenticator, &wrong),
            Err(Refused::WrongPassword)
        );
        assert_eq!(check(&mut authenticator, &right), Err(Refused::Stale));
        assert!(Refused::Stale.is_stale() && !Refused::WrongPassword.is_stale());
    }

    #[test]
    fn a_nonce_that_is_not_ours_or_was_altered_is_stale() {
        let (mut authenticator, now) = alices(8);
        let other = Authenticator::new(
            REALM,
            Algorithm::ALL.to_vec(),
            users(),
            [9; 32],
            LIFE,
            8,
            now,
        );
        let foreign = nonce_of(&other, 1, now);
        let mut altered = nonce_of(&authenticator, 1, now);
        altered.replace_range(0..1, "_");
        let early = nonce_of(&authenticator, 1, now + Duration::from_secs(1));
        for nonce in [
            foreign,
            altered,
            early,
            "x".to_owned(),
            String::new(),
            "dcd98b7102dd2f0e8b11d0f600bfb0c093".to_owned(),
        ] {
            let value = answer(Algorithm::Md5, &nonce, 1, "secret");
            let refused = authenticator.check("INVITE", [value.as_str()], now);
            assert_eq!(refused, Err(Refused::Stale), "{nonce}");
        }
    }

    #[test]
    fn the_oldest_nonce_makes_room_and_cannot_be_replayed_afterwards() {
        let (mut authenticator, now) = alices(2);
        let values: Vec<(String, Instant)> = (0..3)
            .map(|at| {
                let made = now + Duration::from_millis(at);
                let nonce = nonce_of(&authenticator, at, made);
                (answer(Algorithm::Sha256, &nonce, 1, "secret"), made)
            })
            .collect();
        for (value, made) in &values {
            assert!(
                authenticator
                    .check("INVITE", [value.as_str()], *made)
                    .is_ok()
            );
        }
        assert_eq!(authenticator.nonces_in_use(), 2);
        let replay = |authenticator: &mut Authenticator, at: usize| {
            authenticator.check(
                "INVITE",
                [values[at].0.as_str()],
                now + Duration::from_secs(1),
            )
        };
        assert_eq!(replay(&mut authenticator, 0), Err(Refused::Stale));
        assert_eq!(replay(&mut authenticator, 1), Err(Refused::Replayed));
        assert_eq!(replay(&mut authenticator, 2), Err(Refused::Replayed));
    }

    #[test]
    fn the_table_forgets_nonces_when_they_expire() {
        let (mut authenticator, now) = alices(8);
        let first = answer(
            Algorithm::Sha256,
            &nonce_of(&authenticator, 1, now),
            1,
            "secret",
        );
        assert!(authenticator.check("INVITE", [first.as_str()], now).is_ok());
        let late = now + LIFE * 2;
        let second = answer(
            Algorithm::Sha256,
            &nonce_of(&authenticator, 2, late),
            1,
            "secret",
        );
        assert!(
            authenticator
                .check("INVITE", [second.as_str()], late)
                .is_ok()
        );
        assert_eq!(authenticator.nonces_in_use(), 1);
    }

    #[test]
    fn without_a_count_a_nonce_is_good_once() {
        let (mut authenticator, now) = alices(8);
        let nonce = nonce_of(&authenticator, 1, now);
        let key = Algorithm::Md5.hash(&["alice", REALM, "secret"]);
        let request = Algorithm::Md5.hash(&["INVITE", URI]);
        let response = Algorithm::Md5.hash(&[&key, &nonce, &request]);
        let value = format!(
            "Digest username=\"alice\",realm=\"{REALM}\",nonce=\"{nonce}\",uri=\"{URI}\",response=\"{response}\""
        );
        assert!(authenticator.check("INVITE", [value.as_str()], now).is_ok());
        let again = authenticator.check("INVITE", [value.as_str()], now);
        assert_eq!(again, Err(Refused::Replayed));
    }

    #[test]
    fn the_credentials_for_others_are_passed_over() {
        let (mut authenticator, now) = alices(8);
        let right = answer(
            Algorithm::Sha256,
            &nonce_of(&authenticator, 1, now),
            1,
            "secret",
        );
        let others = right.replace(REALM, "elsewhere");
        let basic = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
        let nothing: [&str; 0] = [];
        assert_eq!(
            authenticator.check("INVITE", nothing, now),
            Err(Refused::NoCredentials)
        );
        assert_eq!(
            authenticator.check("INVITE", [basic, &others], now),
            Err(Refused::NoCredentials)
        );
        assert!(
            authenticator
                .check("INVITE", [basic, &others, &right], now)
                .is_ok()
        );
    }

    #[test]
    fn sloppy_spelling_is_read_and_ambiguity_is_not() {
        let (mut authenticator, now) = alices(8);
        let right = answer(
            Algorithm::Sha256,
            &nonce_of(&authenticator, 1, now),
            1,
            "secret",
        );
        let sloppy = right
            .replace("Digest ", " dIGEST ,, ")
            .replace("nc=00000001", "NC = \"00000001\"")
            .replace("qop=auth", "qop=\"AUTH\"")
            .replace("username=\"alice\"", "username=alice , x=\"a,b\\\",c\"");
        for (value, expected) in [
            (right.replace("alice\"", "alice"), Refused::Malformed),
            (format!("{right}, nonce=\"\""), Refused::Malformed),
            (right.replace("uri=", "url="), Refused::Malformed),
            (right.replace("nc=00000001", "nc=+1"), Refused::Malformed),
            (
                right.replace("qop=auth", "qop=auth-int"),
                Refused::Unsupported,
            ),
            (
                right.replace("SHA-256", "SHA-256-sess"),
                Refused::Unsupported,
            ),
            (format!("{right}, userhash=true"), Refused::Unsupported),
        ] {
            let refused = authenticator.check("INVITE", [value.as_str()], now);
            assert_eq!(refused, Err(expected), "{value}");
        }
        assert_eq!(
            authenticator
                .check("INVITE", [sloppy.as_str()], now)
                .as_deref(),
            Ok("alice"),
            "{sloppy}"
        );
    }

    #[test]
    fn escapes_belong_to_the_hash_and_not_to_the_name() {
        assert_eq!(unescaped(r#"a\"b\\c\"#), r#"a"b\c"#);
        let parameters = Parameters::read(r#"a="x\"y", b = z"#).expect("good");
        assert_eq!(parameters.find("A"), Some(r#"x\"y"#));
        assert_eq!(parameters.find("b"), Some("z"));
    }

    proptest! {
        #[test]
        fn nothing_anyone_writes_panics_or_comes_in(text in any::<String>(), parameters in "([a-z]{1,8} ?=? ?\"?[^\"]{0,8}\"?,?){0,30}") {
            let (mut authenticator, now) = alices(8);
            assert!(authenticator.check("INVITE", [text.as_str()], now).is_err());
            let digest = format!("Digest {parameters}");
            assert!(authenticator.check("INVITE", [digest.as_str()], now).is_err());
        }
    }

    fn alices(capacity: usize) -> (Authenticator, Instant) {
        let now = Instant::now();
        (
            Authenticator::new(
                REALM,
                Algorithm::ALL.to_vec(),
                users(),
                [1; 32],
                LIFE,
                capacity,
                now,
            ),
            now,
        )
    }

    fn users() -> [(String, String); 1] {
        [("alice".to_owned(), "secret".to_owned())]
    }

    fn nonce_of(authenticator: &Authenticator, salt: u64, now: Instant) -> String {
        authenticator.nonce(salt, now)
    }

    fn expected(value: &str, method: &str, keys: &Keys) -> String {
        let credentials = Credentials::read(value).expect("good").expect("digest");
        credentials.expected(method, keys.of(credentials.algorithm))
    }

    /// What a telephone that knows `password` sends.
    fn answer(algorithm: Algorithm, nonce: &str, count: u32, password: &str) -> String {
        let key = algorithm.hash(&["alice", REALM, password]);
        let request = algorithm.hash(&["INVITE", URI]);
        let count = format!("{count:08x}");
        let response = algorithm.hash(&[&key, nonce, &count, "c0ffee", "auth", &request]);
        format!(
            "Digest username=\"alice\", realm=\"{REALM}\", nonce=\"{nonce}\", uri=\"{URI}\", algorithm={}, \
             cnonce=\"c0ffee\", qop=auth, nc={count}, response=\"{response}\"",
            algorithm.name()
        )
    }
}
