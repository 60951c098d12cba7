//! Whether this machine can be a caller at all. What a caller hears in real time shows nothing of the gateway where the caller's
//! own frames leave late by a quarter of a second, as `tandem-load` then says. Such a test is tried again (`.config/nextest.toml`),
//! and if no attempt was better it is skipped, which `make test` tells at its end.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

/// What `tandem-load` says.
const TOLD: &str = "too busy to be a caller";
/// Where skipped tests are named, for the Makefile.
const SKIPPED: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/skipped");

/// Whether a caller of this process has said so.
static TOO_BUSY: AtomicBool = AtomicBool::new(false);

/// Reads what a caller tells of a call.
pub(crate) fn read(text: &str) {
    if text.contains(TOLD) {
        TOO_BUSY.store(true, Ordering::Relaxed);
    }
}

/// Whether a test that failed is to be taken for one that was skipped, which is told.
pub(crate) fn excuses() -> bool {
    let attempt = |name| std::env::var(name).ok();
    let is_last = attempt("NEXTEST_ATTEMPT") == attempt("NEXTEST_TOTAL_ATTEMPTS");
    if !is_last || !TOO_BUSY.load(Ordering::Relaxed) {
        return false;
    }
    let thread = std::thread::current();
    let line = format!(
        "SKIPPED: {}: this machine was too busy to be a caller at every attempt\n",
        thread.name().unwrap_or("a test")
    );
    eprint!("{line}");
    let file = OpenOptions::new().create(true).append(true).open(SKIPPED);
    file.and_then(|mut file| file.write_all(line.as_bytes()))
        .expect("what is skipped can be told");
    true
}
