//! Names in sound: 64 samples at the beginning of a frame whose signs spell who they are.
//!
//! Signs outlive what the engine does to samples: mu-law keeps them, and a ducked prompt has them still. That way it is
//! known of every frame that is played what it is a piece of, and of every byte that an agent gets when it was spoken,
//! without knowing anything of how the engine keeps it.

use crate::dice::mix;

/// Samples that a name takes: 8 ms at 8 kHz.
const LENGTH: usize = 64;
/// How far from zero they are: quiet beside a voice, yet far above what ducking or mu-law could make zero.
pub(crate) const AMPLITUDE: i16 = 300;
/// The bits that begin a name.
const SYNC: u64 = 0xE5A;
/// Bits of a number.
const NUMBER_BITS: u32 = 20;
/// Bits by which chance is told from a name.
const CHECK_BITS: u32 = 32;

/// Who names things. An echo brings the names of one side to the other, where they mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Frames of the caller's side.
    Caller,
    /// Frames of the agent's.
    Agent,
}

const fn word(side: Side, number: u32) -> u64 {
    let salt = match side {
        Side::Caller => 0xCA11,
        Side::Agent => 0xA6E47,
    };
    let check = mix(number as u64 + (salt << CHECK_BITS)) >> CHECK_BITS;
    SYNC << (NUMBER_BITS + CHECK_BITS) | (number as u64) << CHECK_BITS | check
}

/// Which samples of the name of `number` (20 bits) are below zero.
pub(crate) fn signs(side: Side, number: u32) -> impl Iterator<Item = bool> {
    assert!(number < 1 << NUMBER_BITS, "a number has {NUMBER_BITS} bits");
    let word = word(side, number);
    (0..LENGTH).map(move |place| word >> (LENGTH - 1 - place) & 1 == 1)
}

/// Writes `number` (20 bits) into the first samples of a frame.
pub(crate) fn write(samples: &mut [i16], side: Side, number: u32) {
    for (sample, negative) in samples.iter_mut().zip(signs(side, number)) {
        *sample = if negative { -AMPLITUDE } else { AMPLITUDE };
    }
}

/// Finds the names of one side in a stream of samples.
#[derive(Clone, Debug)]
pub(crate) struct Finder {
    side: Side,
    /// The last 64 signs.
    signs: u64,
}

impl Finder {
    /// A finder that has seen nothing yet.
    pub(crate) const fn new(side: Side) -> Self {
        Self { side, signs: 0 }
    }

    /// Looks at one more sample; the number of the name that ends with it.
    pub(crate) fn see(&mut self, negative: bool) -> Option<u32> {
        self.signs = self.signs << 1 | u64::from(negative);
        if self.signs >> (NUMBER_BITS + CHECK_BITS) != SYNC {
            return None;
        }
        let number = (self.signs >> CHECK_BITS) as u32 & ((1 << NUMBER_BITS) - 1);
        (self.signs == word(self.side, number)).then_some(number)
    }

    /// There was silence: no name goes across it.
    pub(crate) const fn forget(&mut self) {
        self.signs = 0;
    }

    /// Where the name that was just found begins, when `seen` samples have been seen.
    pub(crate) const fn begin(seen: u64) -> u64 {
        seen - LENGTH as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_again_at_any_place_and_nothing_else_is() {
        let mut samples = vec![100; 400];
        write(&mut samples[33..], Side::Caller, 4_711);
        write(&mut samples[200..], Side::Agent, 12);
        let mut finder = Finder::new(Side::Caller);
        let found: Vec<(u32, u64)> = samples
            .iter()
            .zip(1..)
            .filter_map(|(sample, seen)| {
                let number = finder.see(*sample < 0)?;
                Some((number, Finder::begin(seen)))
            })
            .collect();
        assert_eq!(found, [(4_711, 33)]);
    }
}
