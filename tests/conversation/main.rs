//! The conversation matrix: what design §4 and the facts about Dialogflow ask of a call, behaviour by behaviour, on each kind
//! of ingress.
//!
//! Each test runs the pure engine in virtual time, with the traits that the ingress really gives its legs and a model of what
//! is at the other end of the line ([`far_end`]): Twilio buffers and returns marks, a telephone rings first, a browser speaks
//! at 16 kHz. The agent is the test itself. What holds in every conversation (one stream at a time, nothing after the end, no
//! faster than twice real time, …) is checked in all of them by [`conversation`].
//!
//! A behaviour is a function of the ingress; [`table`] makes a test of it for each kind, and of all of them `MATRIX.md`.

#[macro_use]
mod table;

mod agent;
mod conversation;
mod far_end;
mod ingress;
mod sound;

mod barge_in;
mod clips;
mod commands;
mod digits;
mod echo;
mod endings;
mod faults;
mod heard;
mod hold;
mod listening;
mod messages;
mod no_input;
mod opening;
mod partials;
mod settings;
