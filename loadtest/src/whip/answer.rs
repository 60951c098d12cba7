//! What the gateway's answer holds for us, as far as we do not leave it to `rtc`.

use super::codec::Codec;

/// The answer, with our numbers for what it took of our offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    /// The codec's.
    pub(super) payload_type: u8,
    /// That of RFC 4733 events with the codec's clock, if it takes any.
    pub(super) events: Option<u8>,
    /// Whether it takes a data channel.
    pub(super) has_data_channel: bool,
}

/// One `m=` section.
#[derive(Debug, Default)]
struct Section<'text> {
    /// `audio`, `application`.
    kind: &'text str,
    is_refused: bool,
    payload_types: Vec<u8>,
    attributes: Vec<&'text str>,
}

/// Reads an answer to an offer of this codec; why not, in words, if it holds no audio for us.
pub(super) fn read(text: &str, codec: Codec) -> Result<Answer, String> {
    let sections = sections(text);
    let audio = sections
        .iter()
        .find(|section| section.kind == "audio")
        .ok_or("it has no audio")?;
    if audio.is_refused {
        return Err("it refuses the audio".to_owned());
    }
    if let Some(direction) = ["sendonly", "recvonly", "inactive"]
        .into_iter()
        .find(|direction| audio.attributes.contains(direction))
    {
        return Err(format!("its audio is {direction}"));
    }
    let named = |name: &str| audio.number_of(name, codec.clock());
    // The static numbers need no rtpmap (RFC 3551 §6).
    let is_static = codec.payload_type() < 96;
    let payload_type = named(codec.name())
        .or_else(|| is_static.then(|| codec.payload_type()))
        .filter(|number| audio.payload_types.contains(number))
        .ok_or_else(|| format!("it does not take {}", codec.name()))?;
    let has_candidate = sections
        .iter()
        .flat_map(|section| &section.attributes)
        .any(|attribute| attribute.starts_with("candidate:"));
    if !has_candidate {
        return Err("it names no candidate".to_owned());
    }
    Ok(Answer {
        payload_type,
        events: named("telephone-event"),
        has_data_channel: sections
            .iter()
            .any(|section| section.kind == "application" && !section.is_refused),
    })
}

impl Section<'_> {
    /// The number of `rtpmap:NUMBER NAME/CLOCK`, if the `m=` line has it too.
    fn number_of(&self, name: &str, clock: u32) -> Option<u8> {
        let numbers = self.attributes.iter().filter_map(|attribute| {
            let (number, encoding) = attribute.strip_prefix("rtpmap:")?.split_once(' ')?;
            let mut parts = encoding.trim().split('/');
            let is_it = parts.next()?.eq_ignore_ascii_case(name)
                && parts.next()?.parse::<u32>().ok()? == clock;
            is_it.then(|| number.parse().ok())?
        });
        let mut numbers = numbers.filter(|number| self.payload_types.contains(number));
        numbers.next()
    }
}

fn sections(text: &str) -> Vec<Section<'_>> {
    let mut sections: Vec<Section> = Vec::new();
    for line in text.lines().map(str::trim_end) {
        if let Some(media) = line.strip_prefix("m=") {
            let mut words = media.split_whitespace();
            sections.push(Section {
                kind: words.next().unwrap_or_default(),
                is_refused: words.next() == Some("0"),
                payload_types: words.skip(1).filter_map(|word| word.parse().ok()).collect(),
                attributes: Vec::new(),
            });
        } else if let (Some(section), Some(attribute)) =
            (sections.last_mut(), line.strip_prefix("a="))
        {
            section.attributes.push(attribute);
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111 110\r\na=rtpmap:111 opus/48000/2\r\n\
        a=rtpmap:110 telephone-event/48000\r\na=sendrecv\r\na=candidate:1 1 udp 1 127.0.0.1 10443 typ host\r\n\
        m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n";

    #[test]
    fn what_was_taken_of_our_offer_is_read() {
        assert_eq!(
            read(ANSWER, Codec::Opus),
            Ok(Answer {
                payload_type: 111,
                events: Some(110),
                has_data_channel: true
            })
        );
    }

    #[test]
    fn events_and_data_channel_may_be_left_out() {
        let answer = ANSWER
            .replace("111 110", "111")
            .replace("application 9", "application 0");
        let read = read(&answer, Codec::Opus).expect("audio");
        assert_eq!((read.events, read.has_data_channel), (None, false));
    }

    #[test]
    fn a_static_codec_needs_no_rtpmap_but_its_number() {
        let answer = "m=audio 9 UDP/TLS/RTP/SAVPF 8\na=candidate:1\n";
        assert_eq!(
            read(answer, Codec::Pcma).map(|read| read.payload_type),
            Ok(8)
        );
        assert!(read(answer, Codec::Pcmu).is_err());
    }

    #[test]
    fn what_holds_no_audio_for_us_is_told() {
        for (text, why) in [
            ("", "no audio"),
            ("m=audio 0 UDP/TLS/RTP/SAVPF 111\n", "refuses"),
            ("m=audio 9 UDP/TLS/RTP/SAVPF 9\n", "does not take opus"),
            (
                &ANSWER.replace("a=rtpmap:111", "a=rtpmap:112"),
                "does not take opus",
            ),
            (&ANSWER.replace("sendrecv", "recvonly"), "recvonly"),
            (&ANSWER.replace("a=candidate", "a=end"), "no candidate"),
            ("m=\nm= x\na=rtpmap:\n\u{fffd}", "no audio"),
        ] {
            let error = read(text, Codec::Opus).expect_err(text);
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }
}
