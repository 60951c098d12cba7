//! The JSON messages of a media stream, as in Twilio's "WebSocket messages". Numbers that count are strings there.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::Serialize;
use serde_json::json;

use super::CallIds;
use crate::far_end::TICK;
use crate::line::FromGateway;
use crate::line::ToGateway;

/// The first message, before any number is given out.
pub(super) fn connected() -> String {
    json!({ "event": "connected", "protocol": "Call", "version": "1.0.0" }).to_string()
}

/// Writes the messages of one stream and numbers them.
pub(super) struct Writer {
    ids: CallIds,
    sequence: u64,
    chunk: u64,
}

#[derive(Serialize)]
struct Media<'a> {
    event: &'static str,
    #[serde(rename = "sequenceNumber")]
    sequence: String,
    media: MediaBody,
    #[serde(rename = "streamSid")]
    stream: &'a str,
}

#[derive(Serialize)]
struct MediaBody {
    track: &'static str,
    chunk: String,
    timestamp: String,
    payload: String,
}

impl Writer {
    /// A writer that has written nothing.
    pub(super) fn new(ids: CallIds) -> Self {
        Self {
            ids,
            sequence: 0,
            chunk: 0,
        }
    }

    /// The stream begins.
    pub(super) fn start(&mut self, parameters: &BTreeMap<String, String>) -> String {
        let CallIds {
            account,
            call,
            stream,
        } = self.ids.clone();
        json!({
            "event": "start",
            "sequenceNumber": self.next(),
            "start": {
                "accountSid": account,
                "streamSid": stream,
                "callSid": call,
                "tracks": ["inbound"],
                "mediaFormat": { "encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1 },
                "customParameters": parameters,
            },
            "streamSid": stream,
        })
        .to_string()
    }

    /// What the caller does.
    pub(super) fn write(&mut self, message: &ToGateway) -> String {
        match message {
            ToGateway::Frame(audio) => {
                self.chunk += 1;
                let media = MediaBody {
                    track: "inbound",
                    chunk: self.chunk.to_string(),
                    timestamp: (u128::from(self.chunk) * TICK.as_millis()).to_string(),
                    payload: STANDARD.encode(audio),
                };
                let sequence = self.next();
                let message = Media {
                    event: "media",
                    sequence,
                    media,
                    stream: &self.ids.stream,
                };
                serde_json::to_string(&message).expect("strings always serialise")
            }
            ToGateway::Digit(digit) => self.numbered(
                "dtmf",
                &json!({ "track": "inbound_track", "digit": digit.to_string() }),
            ),
            ToGateway::Mark(name) => self.numbered("mark", &json!({ "name": name })),
        }
    }

    /// The stream ends.
    pub(super) fn stop(&mut self) -> String {
        let body = json!({ "accountSid": self.ids.account, "callSid": self.ids.call });
        self.numbered("stop", &body)
    }

    fn numbered(&mut self, event: &str, body: &serde_json::Value) -> String {
        json!({ "event": event, "sequenceNumber": self.next(), "streamSid": self.ids.stream, event: body }).to_string()
    }

    fn next(&mut self) -> String {
        self.sequence += 1;
        self.sequence.to_string()
    }
}

#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Incoming {
    Media { media: Payload },
    Mark { mark: MarkName },
    Clear,
}

#[derive(Deserialize)]
struct Payload {
    payload: String,
}

#[derive(Deserialize)]
struct MarkName {
    name: String,
}

#[derive(Deserialize)]
struct Addressed {
    #[serde(rename = "streamSid")]
    stream: Option<String>,
}

/// Reads a message of the gateway's as strictly as Twilio, which ends the stream at an invalid one (error 31951).
pub(super) fn read(text: &str, stream: &str) -> FromGateway {
    let improper = |why: &str| FromGateway::Improper(format!("{why}: {}", shorten(text)));
    let addressed = serde_json::from_str::<Addressed>(text)
        .ok()
        .and_then(|message| message.stream);
    if addressed.as_deref() != Some(stream) {
        return improper("a message without our streamSid");
    }
    match serde_json::from_str(text) {
        Ok(Incoming::Media { media }) => match STANDARD.decode(&media.payload) {
            Ok(audio) => FromGateway::Audio(audio),
            Err(_) => improper("media that is not base64"),
        },
        Ok(Incoming::Mark { mark }) => FromGateway::Mark(mark.name),
        Ok(Incoming::Clear) => FromGateway::Clear,
        Err(_) => improper("a message that is neither media, mark nor clear"),
    }
}

fn shorten(text: &str) -> String {
    const ENOUGH: usize = 120;
    if text.chars().count() <= ENOUGH {
        text.to_owned()
    } else {
        text.chars().take(ENOUGH).chain(['…']).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn the_stream_is_numbered_from_its_start() {
        let mut writer = Writer::new(CallIds::fresh());
        let start: Value = parsed(&writer.start(&BTreeMap::from([("token".into(), "t&1".into())])));
        assert_eq!(start["sequenceNumber"], "1");
        assert_eq!(start["start"]["customParameters"]["token"], "t&1");
        let media = parsed(&writer.write(&ToGateway::Frame([0xff; 160])));
        assert_eq!(media["sequenceNumber"], "2");
        assert_eq!(
            (&media["media"]["chunk"], &media["media"]["timestamp"]),
            (&"1".into(), &"20".into())
        );
        assert_eq!(media["media"]["track"], "inbound");
        let digit = parsed(&writer.write(&ToGateway::Digit('#')));
        assert_eq!(
            digit["dtmf"],
            json!({ "track": "inbound_track", "digit": "#" })
        );
        let stop = parsed(&writer.stop());
        assert_eq!(stop["sequenceNumber"], "4");
        assert_eq!(stop["stop"]["callSid"], start["start"]["callSid"]);
    }

    #[test]
    fn the_gateways_messages_are_read() {
        assert!(
            matches!(read(r#"{"event":"media","streamSid":"MZ1","media":{"payload":"//8="}}"#, "MZ1"),
            FromGateway::Audio(audio) if audio == [0xff, 0xff])
        );
        assert!(
            matches!(read(r#"{"event":"mark","streamSid":"MZ1","mark":{"name":"m"}}"#, "MZ1"),
            FromGateway::Mark(name) if name == "m")
        );
        assert!(matches!(
            read(r#"{"event":"clear","streamSid":"MZ1"}"#, "MZ1"),
            FromGateway::Clear
        ));
    }

    #[test]
    fn what_twilio_would_refuse_is_improper() {
        for text in [
            "nonsense",
            r#"{"event":"clear"}"#,
            r#"{"event":"clear","streamSid":"MZ2"}"#,
            r#"{"event":"media","streamSid":"MZ1","media":{"payload":"*"}}"#,
            r#"{"event":"flush","streamSid":"MZ1"}"#,
        ] {
            assert!(
                matches!(read(text, "MZ1"), FromGateway::Improper(_)),
                "{text}"
            );
        }
    }

    fn parsed(text: &str) -> Value {
        serde_json::from_str(text).expect("JSON")
    }
}
