//! Being Twilio: the webhook that asks for instructions, the TwiML that answers, the media stream, and the callback at its end.

mod line;
mod messages;
mod signature;
pub(crate) mod twiml;
mod webhook;

pub(crate) use line::TwilioLine;

/// The identifiers Twilio gives a call.
#[derive(Debug, Clone)]
pub(crate) struct CallIds {
    /// `AC…`
    pub(crate) account: String,
    /// `CA…`
    pub(crate) call: String,
    /// `MZ…`
    pub(crate) stream: String,
}

impl CallIds {
    /// Identifiers that no other call has.
    pub(crate) fn fresh() -> Self {
        let sid = |kind: &str| format!("{kind}{:016x}{:016x}", crate::random(), crate::random());
        // An account outlives its calls, so it is the same in all of them.
        Self {
            account: format!("AC{:032x}", 0x7a4d_eb01_u32),
            call: sid("CA"),
            stream: sid("MZ"),
        }
    }
}
