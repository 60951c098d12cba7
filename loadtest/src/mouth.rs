//! What leaves the caller: speech while there is some, else silence or the noise of a live line.

use std::sync::Arc;

use crate::mulaw;
use crate::speech::Speech;

/// The caller's mouth and the line behind it.
#[derive(Debug)]
pub(crate) struct Mouth {
    saying: Option<Saying>,
    /// State of the noise generator; `None` for digital silence.
    noise: Option<u32>,
}

/// What happened within one frame.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Uttered {
    /// The first voiced sample is in this frame.
    pub(crate) started: bool,
    /// The last voiced sample is in this frame.
    pub(crate) stopped: bool,
}

#[derive(Debug)]
struct Saying {
    speech: Arc<Speech>,
    position: usize,
    repeated: bool,
}

impl Mouth {
    /// A silent mouth; with `noisy`, on a line with a noise floor near −66 dBFS. The noise is the same in every run.
    pub(crate) fn new(noisy: bool) -> Self {
        Self {
            saying: None,
            noise: noisy.then_some(0x2545_f491),
        }
    }

    /// Starts to say something, in place of what was being said. With `repeated`, again and again.
    pub(crate) fn say(&mut self, speech: Arc<Speech>, repeated: bool) {
        self.saying = (!speech.audio.is_empty()).then_some(Saying {
            speech,
            position: 0,
            repeated,
        });
    }

    /// What is being said, with the silence around it.
    pub(crate) fn saying(&self) -> Option<&Arc<Speech>> {
        self.saying.as_ref().map(|saying| &saying.speech)
    }

    /// The next 20 ms.
    pub(crate) fn frame(&mut self) -> ([u8; mulaw::FRAME], Uttered) {
        let mut frame = std::array::from_fn(|_| self.line());
        let mut uttered = Uttered::default();
        let mut filled = 0;
        while let Some(saying) = self.saying.as_mut().filter(|_| filled < mulaw::FRAME) {
            let audio = &saying.speech.audio;
            let end = (saying.position + mulaw::FRAME - filled).min(audio.len());
            let piece = saying.position..end;
            frame[filled..filled + piece.len()].copy_from_slice(&audio[piece.clone()]);
            filled += piece.len();
            let voiced = &saying.speech.voiced;
            if !voiced.is_empty() {
                uttered.started |= piece.contains(&voiced.start);
                uttered.stopped |= piece.contains(&(voiced.end - 1));
            }
            saying.position = end;
            match saying.repeated {
                _ if end < audio.len() => {}
                true => saying.position = 0,
                false => self.saying = None,
            }
        }
        (frame, uttered)
    }

    fn line(&mut self) -> u8 {
        let Some(state) = &mut self.noise else {
            return mulaw::SILENCE;
        };
        // Marsaglia's xorshift, of which the three top bits pick one of the eight codes nearest to silence.
        *state ^= *state << 13;
        *state ^= *state >> 17;
        *state ^= *state << 5;
        let code = (*state >> 29) as u8;
        0xfc | (code & 0x03) & !0x80 | if code & 0x04 == 0 { 0 } else { 0x80 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::voice;

    #[test]
    fn the_voiced_part_is_told_to_the_frame() {
        let mut audio = vec![mulaw::SILENCE; 480];
        audio.extend([mulaw::encode(6000); 320]);
        audio.extend([mulaw::SILENCE; 160]);
        let mut mouth = Mouth::new(false);
        mouth.say(Arc::new(Speech::new("test".into(), audio)), false);
        let frames: Vec<Uttered> = (0..8).map(|_| mouth.frame().1).collect();
        assert_eq!(frames.iter().position(|uttered| uttered.started), Some(3));
        assert_eq!(frames.iter().position(|uttered| uttered.stopped), Some(4));
        assert!(mouth.saying().is_none());
    }

    #[test]
    fn repeated_speech_has_no_gap() {
        let mut mouth = Mouth::new(false);
        mouth.say(Arc::new(Speech::new("test".into(), vec![0x10; 100])), true);
        assert_eq!(mouth.frame().0, [0x10; mulaw::FRAME]);
        assert_eq!(mouth.frame().0, [0x10; mulaw::FRAME]);
    }

    #[test]
    fn line_noise_is_there_but_is_no_voice() {
        let (frame, _) = Mouth::new(true).frame();
        assert!(frame.iter().any(|&byte| byte != frame[0]));
        assert!(frame.iter().all(|&byte| mulaw::decode(byte).abs() <= 24));
        assert!(!voice::is_voiced(&frame));
    }
}
