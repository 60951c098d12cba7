//! The JSON of Twilio's media streams, in both directions.
//!
//! A caller sends fifty `media` messages a second, so reading borrows from the text (nothing is copied unless a string
//! holds an escape) and writing reuses one buffer.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Formatter;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use bytes::BytesMut;
use serde::Deserialize;
use serde::Deserializer;
use serde::de::Error;
use serde::de::Visitor;

use super::refused::Refused;

/// What Twilio says.
#[derive(Debug, PartialEq, Eq)]
pub struct Incoming<'a> {
    /// Counts the messages of a stream from `start`, which is 1.
    pub sequence: Option<u64>,
    /// The stream it belongs to; `connected` has none.
    pub stream_sid: Option<Text<'a>>,
    /// The message itself.
    pub message: Message<'a>,
}

/// One message from Twilio.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// The first message.
    Connected {
        /// Semantic version of the protocol, empty if it was not said.
        version: Text<'a>,
    },
    /// What the stream is about.
    Start(Box<Start<'a>>),
    /// Audio.
    Media(Media<'a>),
    /// A key was pressed.
    Dtmf {
        /// The key.
        digit: Text<'a>,
    },
    /// Everything before our mark of this name was played or cleared.
    Mark {
        /// The name.
        name: Text<'a>,
    },
    /// The call or the stream is over.
    Stop,
}

/// The body of `start`.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Start<'a> {
    /// The stream's id, which our messages repeat.
    #[serde(borrow)]
    pub stream_sid: Text<'a>,
    /// The call's id.
    #[serde(borrow)]
    pub call_sid: Text<'a>,
    /// Which sides of the call are sent to us: `inbound`, `outbound`.
    #[serde(borrow)]
    pub tracks: Vec<Text<'a>>,
    /// How audio is written.
    #[serde(borrow)]
    pub media_format: Option<MediaFormat<'a>>,
    /// The `<Parameter>`s of the TwiML.
    #[serde(borrow)]
    pub custom_parameters: BTreeMap<Text<'a>, Text<'a>>,
}

/// How audio is written.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MediaFormat<'a> {
    /// A media type; always `audio/x-mulaw`.
    #[serde(borrow)]
    pub encoding: Text<'a>,
    /// Samples per second; always 8000.
    pub sample_rate: Count,
    /// Always 1.
    pub channels: Count,
}

impl MediaFormat<'_> {
    /// Whether it is mu-law at 8 kHz, one channel.
    pub fn is_mulaw_8000(&self) -> bool {
        let encoding = self.encoding.as_str();
        encoding == "audio/x-mulaw" && self.sample_rate.0 == 8_000 && self.channels.0 == 1
    }
}

/// The body of `media`.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Media<'a> {
    /// Which side of the call; `inbound` is the caller.
    #[serde(borrow, default)]
    pub track: Option<Text<'a>>,
    /// Counts the media messages of a track, from 1.
    #[serde(default)]
    pub chunk: Option<Count>,
    /// mu-law in base64.
    #[serde(borrow)]
    pub payload: Text<'a>,
}

impl<'a> Incoming<'a> {
    /// Reads one text message.
    ///
    /// # Errors
    /// [`Refused::BadJson`] or [`Refused::UnknownEvent`].
    pub fn parse(text: &'a str) -> Result<Self, Refused> {
        let wire: Wire<'a> = serde_json::from_str(text).map_err(|_| Refused::BadJson)?;
        let message = match wire.event.as_str() {
            "media" => Message::Media(wire.media.ok_or(Refused::BadJson)?),
            "mark" => Message::Mark {
                name: wire.mark.ok_or(Refused::BadJson)?.name,
            },
            "dtmf" => Message::Dtmf {
                digit: wire.dtmf.ok_or(Refused::BadJson)?.digit,
            },
            "connected" => Message::Connected {
                version: wire.version.unwrap_or_default(),
            },
            "start" => Message::Start(wire.start.ok_or(Refused::BadJson)?),
            "stop" => Message::Stop,
            _ => return Err(Refused::UnknownEvent),
        };
        Ok(Self {
            sequence: wire.sequence_number.map(|count| count.0),
            stream_sid: wire.stream_sid,
            message,
        })
    }
}

/// Every message at once, so that one pass reads it whatever the order of its fields.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    #[serde(borrow)]
    event: Text<'a>,
    sequence_number: Option<Count>,
    #[serde(borrow)]
    stream_sid: Option<Text<'a>>,
    #[serde(borrow)]
    version: Option<Text<'a>>,
    #[serde(borrow)]
    start: Option<Box<Start<'a>>>,
    #[serde(borrow)]
    media: Option<Media<'a>>,
    #[serde(borrow)]
    dtmf: Option<WireDtmf<'a>>,
    #[serde(borrow)]
    mark: Option<WireMark<'a>>,
}

#[derive(Deserialize)]
struct WireDtmf<'a> {
    #[serde(borrow)]
    digit: Text<'a>,
}

#[derive(Deserialize)]
struct WireMark<'a> {
    #[serde(borrow)]
    name: Text<'a>,
}

/// A JSON string, borrowed from the message unless it holds an escape. (serde borrows a plain `Cow` only outside of
/// `Option` and maps, and a plain `&str` fails on an escape, with which some writers spell base64's slash.)
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text<'a>(pub Cow<'a, str>);

impl Text<'_> {
    /// The string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowing;
        impl<'de> Visitor<'de> for Borrowing {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Borrowing)
    }
}

/// A whole number. Twilio writes most of them as strings, others do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(pub u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Counting;
        impl Visitor<'_> for Counting {
            type Value = Count;

            fn expecting(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
                f.write_str("a whole number, as such or as a string")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Count(number))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                text.parse().map(Count).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Counting)
    }
}

/// Writes our messages for one stream.
pub struct Writer {
    /// Reused: once the websocket has copied a message into its own buffer, the space is free again.
    buffer: BytesMut,
    /// `media` up to its payload.
    media_head: String,
    /// `mark` up to its name.
    mark_head: String,
    clear: Bytes,
}

impl Writer {
    /// A writer for the stream of this id.
    pub fn new(stream_sid: &str) -> Self {
        // The id is the only text in our messages that we did not choose ourselves.
        let sid = serde_json::Value::from(stream_sid).to_string();
        Self {
            buffer: BytesMut::new(),
            media_head: format!(r#"{{"event":"media","streamSid":{sid},"media":{{"payload":""#),
            mark_head: format!(r#"{{"event":"mark","streamSid":{sid},"mark":{{"name":""#),
            clear: format!(r#"{{"event":"clear","streamSid":{sid}}}"#).into(),
        }
    }

    /// Audio to play after all that was sent before.
    pub fn media(&mut self, mulaw: &[u8]) -> Bytes {
        self.buffer.extend_from_slice(self.media_head.as_bytes());
        let start = self.buffer.len();
        let encoded = mulaw.len().div_ceil(3) * 4;
        self.buffer.resize(start + encoded, 0);
        STANDARD
            .encode_slice(mulaw, &mut self.buffer[start..])
            .expect("base64 makes four bytes of every three");
        self.finish()
    }

    /// A mark to be echoed when all that was sent before has been played.
    pub fn mark(&mut self, name: u32) -> Bytes {
        use std::fmt::Write as _;

        self.buffer.extend_from_slice(self.mark_head.as_bytes());
        write!(self.buffer, "{name}").expect("memory takes everything");
        self.finish()
    }

    /// Forget what has not been played yet.
    pub fn clear(&self) -> Bytes {
        self.clear.clone()
    }

    fn finish(&mut self) -> Bytes {
        self.buffer.extend_from_slice(br#""}}"#);
        self.buffer.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_messages_of_twilios_documentation_are_understood() {
        let connected = parse(r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#);
        assert_eq!(
            connected.message,
            Message::Connected {
                version: text("1.0.0")
            }
        );

        let start = r#"{"event":"start","sequenceNumber":"1","start":{"accountSid":"AC1","streamSid":"MZ1",
            "callSid":"CA1","tracks":["inbound"],"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,
            "channels":1},"customParameters":{"FirstName":"Jane"}},"streamSid":"MZ1"}"#;
        let start = parse(start);
        assert_eq!(start.sequence, Some(1));
        let Message::Start(start) = start.message else {
            panic!("it is a start");
        };
        assert_eq!(start.call_sid, text("CA1"));
        assert_eq!(start.tracks, [text("inbound")]);
        assert!(start.media_format.expect("there is one").is_mulaw_8000());
        assert_eq!(start.custom_parameters[&text("FirstName")], text("Jane"));

        let media = r#"{"event":"media","sequenceNumber":"3","media":{"track":"inbound","chunk":"1",
            "timestamp":"5","payload":"no+JhoaJ/w=="},"streamSid":"MZ1"}"#;
        let media = parse(media);
        assert_eq!(media.stream_sid, Some(text("MZ1")));
        let Message::Media(media) = media.message else {
            panic!("it is media");
        };
        assert_eq!(media.chunk, Some(Count(1)));
        assert!(matches!(media.payload.0, Cow::Borrowed("no+JhoaJ/w==")));

        let dtmf = r#"{"event":"dtmf","streamSid":"MZ1","sequenceNumber":"5","dtmf":{"track":"inbound_track","digit":"1"}}"#;
        assert_eq!(parse(dtmf).message, Message::Dtmf { digit: text("1") });
        let mark = r#"{"event":"mark","sequenceNumber":4,"streamSid":"MZ1","mark":{"name":"7"}}"#;
        assert_eq!(parse(mark).message, Message::Mark { name: text("7") });
        assert_eq!(parse(mark).sequence, Some(4));
        let stop =
            r#"{"event":"stop","sequenceNumber":"5","stop":{"callSid":"CA1"},"streamSid":"MZ1"}"#;
        assert_eq!(parse(stop).message, Message::Stop);
    }

    #[test]
    fn a_slash_that_is_escaped_is_still_a_slash() {
        let media = parse(r#"{"event":"media","media":{"payload":"a\/b="}}"#);
        let Message::Media(media) = media.message else {
            panic!("it is media");
        };
        assert_eq!(media.payload, text("a/b="));
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        for (message, reason) in [
            ("", Refused::BadJson),
            ("hello", Refused::BadJson),
            ("[]", Refused::BadJson),
            ("{}", Refused::BadJson),
            (r#"{"event":5}"#, Refused::BadJson),
            (r#"{"event":"media"}"#, Refused::BadJson),
            (r#"{"event":"media","media":{}}"#, Refused::BadJson),
            (
                r#"{"event":"media","media":{"payload":1}}"#,
                Refused::BadJson,
            ),
            (r#"{"event":"stop","sequenceNumber":"x"}"#, Refused::BadJson),
            (r#"{"event":"stop","sequenceNumber":-1}"#, Refused::BadJson),
            (r#"{"event":"start"}"#, Refused::BadJson),
            (r#"{"event":"stop","event":"stop"}"#, Refused::BadJson),
            (r#"{"event":"stop"} {"#, Refused::BadJson),
            (r#"{"event":"sing"}"#, Refused::UnknownEvent),
            (r#"{"event":""}"#, Refused::UnknownEvent),
        ] {
            assert_eq!(Incoming::parse(message), Err(reason), "{message}");
        }
    }

    #[test]
    fn what_is_written_is_json_with_the_streams_id() {
        let mut writer = Writer::new("MZ\"1");
        assert_eq!(
            json_of(&writer.media(&[0xFF, 0x7F, 0x00, 0x80])),
            json!({"event": "media", "streamSid": "MZ\"1", "media": {"payload": "/38AgA=="}})
        );
        assert_eq!(
            json_of(&writer.mark(42)),
            json!({"event": "mark", "streamSid": "MZ\"1", "mark": {"name": "42"}})
        );
        assert_eq!(
            json_of(&writer.clear()),
            json!({"event": "clear", "streamSid": "MZ\"1"})
        );
    }

    #[test]
    fn the_writers_buffer_is_used_again() {
        let mut writer = Writer::new("MZ1");
        let mut places = std::collections::BTreeSet::new();
        for _ in 0..1_000 {
            // Dropped at once, as the websocket does after copying it.
            places.insert(writer.media(&[0xFF; 160]).as_ptr() as usize);
        }
        assert!(places.len() < 20, "{} places", places.len());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            let _ = Incoming::parse(&text);
        }

        #[test]
        fn no_json_makes_the_parser_panic(event in "connected|start|media|dtmf|mark|stop|x", body in json_value()) {
            for key in [&event, "version", "streamSid", "sequenceNumber"] {
                let text = json!({"event": event, key: body}).to_string();
                let _ = Incoming::parse(&text);
            }
        }
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(
                    "streamSid|callSid|tracks|mediaFormat|customParameters|payload|digit|name",
                    inner,
                    0..4
                )
                .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn parse(message: &str) -> Incoming<'_> {
        Incoming::parse(message).expect("a valid message")
    }

    fn text(text: &str) -> Text<'_> {
        Text(Cow::Borrowed(text))
    }

    fn json_of(message: &Bytes) -> Value {
        serde_json::from_slice(message).expect("valid JSON")
    }
}
