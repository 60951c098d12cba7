//! One-time tokens: the media websocket belongs to the call for which our TwiML was asked.
//!
//! The webhook issues a token for a CallSid and puts it into the TwiML; Twilio repeats it in `start`. So nobody who
//! merely finds the websocket's URL can begin a call, and a stream cannot claim another call's numbers. The table also
//! carries what the webhook knows and `start` does not say: who calls whom.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use subtle::ConstantTimeEq;
use uuid::Uuid;

/// Tokens that are not used yet. Twilio uses one within a second, so this is a minute of 68 calls a second of which
/// none ever starts its stream; at about 300 bytes each it is 1.2 MB.
pub const CAPACITY: usize = 4_096;

/// Who calls whom, as the webhook told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parties {
    /// `From`; may be empty.
    pub from: String,
    /// `To`; may be empty.
    pub to: String,
}

/// Why a token is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadToken {
    /// There is none for this call: never issued, used, or long expired.
    Unknown,
    /// It came too late.
    Expired,
    /// It is not the one that was issued for this call.
    Wrong,
}

/// The tokens that are issued and not used yet.
pub struct Tokens {
    // A lock, but not on the way of audio: taken twice per call.
    issued: Mutex<HashMap<String, Issued>>,
    life: Duration,
    capacity: usize,
}

struct Issued {
    token: String,
    parties: Parties,
    until: Instant,
}

impl Tokens {
    /// A table of at most `capacity` tokens that live for `life`.
    pub fn new(life: Duration, capacity: usize) -> Self {
        Self {
            issued: Mutex::new(HashMap::new()),
            life,
            capacity,
        }
    }

    /// A new token for a call; it replaces an older one, since Twilio may repeat a webhook. `None` if the table is full.
    pub fn issue(&self, call_sid: &str, parties: Parties, now: Instant) -> Option<String> {
        let mut issued = self.issued.lock().expect("no panic while locked");
        if issued.len() >= self.capacity && !issued.contains_key(call_sid) {
            issued.retain(|_, entry| now < entry.until);
            if issued.len() >= self.capacity {
                return None;
            }
        }
        // A version 4 UUID has 122 random bits from the operating system; two are beyond any guessing.
        let token = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let entry = Issued {
            token: token.clone(),
            parties,
            until: now + self.life,
        };
        issued.insert(call_sid.to_owned(), entry);
        Some(token)
    }

    /// Uses a token up.
    ///
    /// # Errors
    /// If it is not good. A wrong one does not use up the right one, or anyone who knows a CallSid could end its call.
    pub fn redeem(&self, call_sid: &str, token: &str, now: Instant) -> Result<Parties, BadToken> {
        let mut issued = self.issued.lock().expect("no panic while locked");
        let entry = issued.get(call_sid).ok_or(BadToken::Unknown)?;
        if !bool::from(entry.token.as_bytes().ct_eq(token.as_bytes())) {
            return Err(BadToken::Wrong);
        }
        let entry = issued.remove(call_sid).ok_or(BadToken::Unknown)?;
        if now < entry.until {
            Ok(entry.parties)
        } else {
            Err(BadToken::Expired)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(60);

    #[test]
    fn a_token_is_good_once_and_only_for_its_call() {
        let tokens = Tokens::new(LIFE, 10);
        let now = Instant::now();
        let first = tokens.issue("CA1", parties("+1"), now).expect("room");
        let second = tokens.issue("CA2", parties("+2"), now).expect("room");
        assert_eq!(first.len(), 64);
        assert_eq!(tokens.redeem("CA1", &second, now), Err(BadToken::Wrong));
        assert_eq!(tokens.redeem("CA3", &first, now), Err(BadToken::Unknown));
        assert_eq!(tokens.redeem("CA1", "", now), Err(BadToken::Wrong));
        assert_eq!(tokens.redeem("CA1", &first, now), Ok(parties("+1")));
        assert_eq!(tokens.redeem("CA1", &first, now), Err(BadToken::Unknown));
        assert_eq!(tokens.redeem("CA2", &second, now), Ok(parties("+2")));
    }

    #[test]
    fn a_token_expires() {
        let tokens = Tokens::new(LIFE, 10);
        let now = Instant::now();
        let token = tokens.issue("CA1", parties("+1"), now).expect("room");
        assert_eq!(
            tokens.redeem("CA1", &token, now + LIFE),
            Err(BadToken::Expired)
        );
    }

    #[test]
    fn a_repeated_webhook_replaces_the_token() {
        let tokens = Tokens::new(LIFE, 1);
        let now = Instant::now();
        let old = tokens.issue("CA1", parties("+1"), now).expect("room");
        let new = tokens.issue("CA1", parties("+1"), now).expect("room");
        assert_eq!(tokens.redeem("CA1", &old, now), Err(BadToken::Wrong));
        assert_eq!(tokens.redeem("CA1", &new, now), Ok(parties("+1")));
    }

    #[test]
    fn a_full_table_refuses_until_the_old_ones_expire() {
        let tokens = Tokens::new(LIFE, 2);
        let now = Instant::now();
        assert!(tokens.issue("CA1", parties(""), now).is_some());
        assert!(tokens.issue("CA2", parties(""), now).is_some());
        assert!(tokens.issue("CA3", parties(""), now).is_none());
        assert!(tokens.issue("CA3", parties(""), now + LIFE).is_some());
    }

    fn parties(from: &str) -> Parties {
        Parties {
            from: from.to_owned(),
            to: String::new(),
        }
    }
}
