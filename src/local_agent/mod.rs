//! The local agent: a server that speaks Dialogflow CX `Sessions`, so that a conversation works without a cloud account.
//!
//! It is the other end of the wire. The gateway reaches it over gRPC like any Dialogflow and shares nothing with it but the
//! protocol, so a mistake of one is not hidden by the other. What it says and understands is a [`Script`]; it hears with
//! PocketSphinx and speaks with flite or espeak-ng.
//!
//! A turn: `service` takes the call → `turn` reads the stream → `ear` finds the utterance and lets `recogniser` hear it →
//! `decide` finds the rule of the script and moves the `session` → `answer` performs the rule's steps with the `voice`.
//!
//! It is strict where Google is: a stream has to be half-closed before it is answered, a message after the first has to carry
//! audio, an answer in the wrong order is a client's mistake. A gateway that works here has no bad habits to unlearn.

mod agent;
mod answer;
mod audio;
mod convert;
mod decide;
mod ear;
mod recogniser;
mod script;
mod service;
mod session;
mod turn;
mod voice;

pub use self::script::Problem;
pub use self::script::Script;
pub use self::service::Server;
