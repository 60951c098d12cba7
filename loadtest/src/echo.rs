//! The echo of a line: what the caller hears comes back with what they say, later and quieter.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Deserialize;

use crate::mulaw;

/// No line is later than this.
const LONGEST_DELAY: Duration = Duration::from_secs(2);

/// What comes back.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EchoPath {
    /// How much louder it is than what was heard: mostly negative.
    pub(crate) level_db: f64,
    /// From the ear to the mouth.
    #[serde(with = "humantime_serde")]
    pub(crate) delay: Duration,
}

/// A line with an echo.
#[derive(Debug)]
pub(crate) struct Echo {
    factor: f64,
    /// What was heard and has not come back yet.
    underway: VecDeque<i16>,
}

impl Echo {
    /// A line that has been silent so far. A delay of more than two seconds is taken for two.
    pub(crate) fn new(path: EchoPath) -> Self {
        let delay = path.delay.min(LONGEST_DELAY).as_secs_f64();
        let samples = (delay * f64::from(mulaw::SAMPLE_RATE)) as usize;
        Self {
            factor: 10_f64.powf(path.level_db / 20.0),
            underway: VecDeque::from(vec![0; samples]),
        }
    }

    /// Adds to what is said now what comes back of what is heard now and was heard before.
    pub(crate) fn add(&mut self, said: &mut [u8; mulaw::FRAME], heard: &[u8; mulaw::FRAME]) {
        self.underway
            .extend(heard.iter().map(|&byte| mulaw::decode(byte)));
        for byte in said {
            let back = self.underway.pop_front().unwrap_or_default();
            let back = (f64::from(back) * self.factor) as i16;
            // Where nothing comes back, what is said stays as it was, to the bit.
            if back != 0 {
                *byte = mulaw::encode(mulaw::decode(*byte).saturating_add(back));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_heard_comes_back_later_and_quieter() {
        let mut echo = Echo::new(EchoPath {
            level_db: -20.0,
            delay: Duration::from_millis(50),
        });
        let heard = [mulaw::encode(10_000); mulaw::FRAME];
        let silence = [mulaw::SILENCE; mulaw::FRAME];
        let mut line = Vec::new();
        for ear in [heard, silence, silence, silence] {
            let mut said = silence;
            echo.add(&mut said, &ear);
            line.extend(said.map(mulaw::decode));
        }
        assert!(line[..400].iter().all(|&sample| sample == 0));
        assert!(
            line[400..560]
                .iter()
                .all(|&sample| (950..1050).contains(&sample))
        );
        assert!(line[560..].iter().all(|&sample| sample == 0));
    }

    #[test]
    fn it_is_added_to_what_is_said() {
        let mut echo = Echo::new(EchoPath {
            level_db: -6.0,
            delay: Duration::ZERO,
        });
        let mut said = [mulaw::encode(4000); mulaw::FRAME];
        echo.add(&mut said, &[mulaw::encode(4000); mulaw::FRAME]);
        assert!((5800..6200).contains(&mulaw::decode(said[80])));
    }
}
