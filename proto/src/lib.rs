//! Generated Dialogflow types.
