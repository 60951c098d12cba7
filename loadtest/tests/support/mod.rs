//! What the tests of the program have in common: to run it, what it says, and the files around it.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

/// The program, with no secret of the environment's.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem-load"));
    for secret in ["TWILIO_AUTH_TOKEN", "SIP_PASSWORD", "WHIP_TOKEN"] {
        command.env_remove(secret);
    }
    command
}

/// `tandem-load call TARGET …`
pub(crate) fn call(target: &str, more: &[&str]) -> Output {
    command()
        .args(["call", target])
        .args(more)
        .output()
        .expect("the program runs")
}

/// `tandem-load run`, with a scenario of this text.
pub(crate) fn run(directory: &Scratch, scenario: &str) -> Output {
    let path = directory.path("scenario.toml");
    std::fs::write(&path, scenario).expect("a scenario is written");
    command()
        .args(["run", &path])
        .output()
        .expect("the program runs")
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A tone of 398 Hz.
pub(crate) fn write_wav(path: &str, rate: u32, seconds: f64) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(Path::new(path), spec).expect("a file");
    for index in 0..(f64::from(rate) * seconds) as u32 {
        let sample = (f64::from(index) * 2500.0 / f64::from(rate)).sin() * 8000.0;
        writer.write_sample(sample as i16).expect("room");
    }
    writer.finalize().expect("a file");
}

/// The recording's right channel, the agent's.
pub(crate) fn right_channel(path: &str) -> Vec<i16> {
    hound::WavReader::open(path)
        .expect("a recording")
        .samples::<i16>()
        .skip(1)
        .step_by(2)
        .map(|sample| sample.expect("a sample"))
        .collect()
}

/// A directory that goes when the test does.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// The name is the test's alone.
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tandem-load-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind is in the system's own temporary directory.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
