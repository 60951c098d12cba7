//! The only file that speaks to libpocketsphinx: a decoder that is safe to own, to move to another thread and to drop.
#![expect(
    unsafe_code,
    reason = "libpocketsphinx is a C library; every call to it is in this file"
)]

use std::ffi::CStr;
use std::ffi::CString;
use std::ffi::c_char;
use std::ffi::c_int;
use std::ffi::c_void;
use std::path::Path;
use std::ptr;
use std::ptr::NonNull;

/// What the acoustic model was trained on: 16-bit samples at this rate.
pub(super) const SAMPLE_RATE: u32 = 16_000;

/// Why the decoder could not be had. All of these are mistakes of the installation or of the script, none of the caller.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the speech model in {0} could not be loaded (Debian: pocketsphinx-en-us)")]
    Model(String),
    #[error("the word `{0}` was refused by the recogniser")]
    Word(String),
    #[error("the grammar of page `{0}` was refused by the recogniser")]
    Grammar(String),
}

/// The best word sequence so far and its log score (larger is better; comparable only over the same audio).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hypothesis {
    pub(super) words: String,
    pub(super) score: i32,
}

/// One acoustic model with any number of named grammars.
pub(super) struct Decoder {
    raw: NonNull<c_void>,
    listening: bool,
}

/// The mean of the cepstrum of telephone speech, measured over the voices of the tests. The model's own is that of a studio,
/// and audio that comes in pieces would need minutes of calls to move away from it.
const TELEPHONE_MEAN: &str = "44,28,-31,35,-15,-8.5,10.5,-28.5,11.5,-9.5,-9.2,12.5,-13";

// SAFETY: a `ps_decoder_t` keeps no thread-local state; it only must not be used by two threads at once, and every method
// that touches it takes `&mut self`.
unsafe impl Send for Decoder {}

impl Decoder {
    /// Loads the acoustic model in `models` (the directory that holds `en-us/en-us`), with these words and their phones.
    pub(super) fn load<'a>(
        models: &Path,
        words: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, Error> {
        let acoustic = models.join("en-us/en-us").to_string_lossy().into_owned();
        // No noise words: they swallow speech that is not in the grammar, which then looks like a match.
        // Silence is kept: our own endpointer cuts the audio, and offsets must stay true.
        let arguments = [
            "tandem",
            "-hmm",
            &acoustic,
            "-fdict",
            "/dev/null",
            "-remove_silence",
            "no",
            "-cmninit",
            TELEPHONE_MEAN,
        ];
        let arguments: Vec<CString> = arguments
            .iter()
            .map(|argument| c_string(argument))
            .collect();
        let mut pointers: Vec<*mut c_char> = arguments
            .iter()
            .map(|argument| argument.as_ptr().cast_mut())
            .collect();
        let count = c_int::try_from(pointers.len()).expect("nine arguments");
        // SAFETY: the strings outlive the call, which copies them; `ps_args` is a static table; NULL asks for a new
        // configuration and NULL as the log file means no log. `ps_init` takes its own reference of the configuration.
        let raw = unsafe {
            err_set_logfp(ptr::null_mut());
            let config =
                cmd_ln_parse_r(ptr::null_mut(), ps_args(), count, pointers.as_mut_ptr(), 1);
            if config.is_null() {
                return Err(Error::Model(acoustic));
            }
            let raw = ps_init(config);
            cmd_ln_free_r(config);
            raw
        };
        let raw = NonNull::new(raw).ok_or(Error::Model(acoustic))?;
        let mut decoder = Self {
            raw,
            listening: false,
        };
        for (word, phones) in words {
            decoder.add_word(word, phones)?;
        }
        Ok(decoder)
    }

    fn add_word(&mut self, word: &str, phones: &str) -> Result<(), Error> {
        let (spelled, spoken) = (c_string(word), c_string(phones));
        // SAFETY: the decoder is live and both strings end in NUL; the library copies them.
        let index = unsafe { ps_add_word(self.raw.as_ptr(), spelled.as_ptr(), spoken.as_ptr(), 0) };
        if index < 0 {
            Err(Error::Word(word.to_owned()))
        } else {
            Ok(())
        }
    }

    /// Compiles a JSGF grammar under a name for [`Decoder::start`].
    pub(super) fn add_grammar(&mut self, name: &str, jsgf: &str) -> Result<(), Error> {
        let (c_name, c_jsgf) = (c_string(name), c_string(jsgf));
        // SAFETY: as in `add_word`.
        let status =
            unsafe { ps_set_jsgf_string(self.raw.as_ptr(), c_name.as_ptr(), c_jsgf.as_ptr()) };
        if status < 0 {
            Err(Error::Grammar(name.to_owned()))
        } else {
            Ok(())
        }
    }

    /// Begins an utterance in the named grammar, ending one that was under way.
    pub(super) fn start(&mut self, grammar: &str) -> Result<(), Error> {
        self.end();
        let name = c_string(grammar);
        // SAFETY: the decoder is live, no utterance is under way, the name ends in NUL.
        let status = unsafe {
            if ps_set_search(self.raw.as_ptr(), name.as_ptr()) < 0 {
                -1
            } else {
                ps_start_utt(self.raw.as_ptr())
            }
        };
        self.listening = status >= 0;
        if self.listening {
            Ok(())
        } else {
            Err(Error::Grammar(grammar.to_owned()))
        }
    }

    /// Hears the next samples of the utterance.
    pub(super) fn hear(&mut self, samples: &[i16]) {
        self.process(samples, false);
    }

    /// Hears an utterance at once, which lets the decoder level its spectrum over the whole of it, and returns the result.
    pub(super) fn hear_all(
        &mut self,
        grammar: &str,
        samples: &[i16],
    ) -> Result<Option<Hypothesis>, Error> {
        self.start(grammar)?;
        self.process(samples, true);
        self.end();
        Ok(self.hypothesis())
    }

    fn process(&mut self, samples: &[i16], whole: bool) {
        if self.listening {
            // SAFETY: the pointer and the length are those of one slice, read only during the call.
            unsafe {
                ps_process_raw(
                    self.raw.as_ptr(),
                    samples.as_ptr(),
                    samples.len(),
                    0,
                    c_int::from(whole),
                )
            };
        }
    }

    /// The best hypothesis so far, if there is one.
    pub(super) fn hypothesis(&mut self) -> Option<Hypothesis> {
        let mut score = 0;
        // SAFETY: the returned string belongs to the decoder and is copied before anything else is asked of it.
        let words = unsafe {
            let words = ps_get_hyp(self.raw.as_ptr(), &raw mut score);
            (!words.is_null()).then(|| CStr::from_ptr(words).to_string_lossy().into_owned())
        };
        Some(Hypothesis {
            words: words.filter(|words| !words.is_empty())?,
            score,
        })
    }

    /// Ends the utterance; without effect when none is under way.
    pub(super) fn end(&mut self) {
        if std::mem::take(&mut self.listening) {
            // SAFETY: an utterance is under way.
            unsafe { ps_end_utt(self.raw.as_ptr()) };
        }
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        self.end();
        // SAFETY: nothing else holds this pointer.
        unsafe { ps_free(self.raw.as_ptr()) };
    }
}

/// Words, phones and grammars come from the script, whose parser refuses control characters.
fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "")).expect("NUL was removed")
}

unsafe extern "C" {
    fn err_set_logfp(file: *mut c_void);
    fn cmd_ln_parse_r(
        into: *mut c_void,
        definitions: *const c_void,
        count: i32,
        arguments: *mut *mut c_char,
        strict: i32,
    ) -> *mut c_void;
    fn cmd_ln_free_r(config: *mut c_void) -> c_int;
    fn ps_args() -> *const c_void;
    fn ps_init(config: *mut c_void) -> *mut c_void;
    fn ps_free(decoder: *mut c_void) -> c_int;
    fn ps_add_word(
        decoder: *mut c_void,
        word: *const c_char,
        phones: *const c_char,
        update: c_int,
    ) -> c_int;
    fn ps_set_jsgf_string(decoder: *mut c_void, name: *const c_char, jsgf: *const c_char) -> c_int;
    fn ps_set_search(decoder: *mut c_void, name: *const c_char) -> c_int;
    fn ps_start_utt(decoder: *mut c_void) -> c_int;
    fn ps_process_raw(
        decoder: *mut c_void,
        samples: *const i16,
        count: usize,
        no_search: c_int,
        full_utterance: c_int,
    ) -> c_int;
    fn ps_end_utt(decoder: *mut c_void) -> c_int;
    fn ps_get_hyp(decoder: *mut c_void, score: *mut i32) -> *const c_char;
}
