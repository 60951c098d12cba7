//! The recording of a call: caller on the left, agent as heard on the right, aligned because both advance by one frame per tick.

use std::path::Path;

use anyhow::Result;

use crate::mulaw;

/// Both sides so far, as mu-law: 1 MB a minute.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    caller: Vec<u8>,
    agent: Vec<u8>,
}

impl Recording {
    /// One tick of both sides.
    pub(crate) fn push(&mut self, caller: &[u8; mulaw::FRAME], agent: &[u8; mulaw::FRAME]) {
        self.caller.extend(caller);
        self.agent.extend(agent);
    }

    /// Writes 16-bit stereo at 8 kHz.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let spec = hound::WavSpec {
            channels: 2,
            sample_rate: mulaw::SAMPLE_RATE,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(path, spec)?;
        for (&caller, &agent) in self.caller.iter().zip(&self.agent) {
            writer.write_sample(mulaw::decode(caller))?;
            writer.write_sample(mulaw::decode(agent))?;
        }
        Ok(writer.finalize()?)
    }

    /// What the caller heard.
    #[cfg(test)]
    pub(crate) fn agent(&self) -> &[u8] {
        &self.agent
    }
}
