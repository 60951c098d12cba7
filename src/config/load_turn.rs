//! Reading `[turn]`.

use std::time::Duration;

use super::BargeIn;
use super::Turn;
use super::section::Section;

/// `[turn]`
pub(super) fn turn(mut section: Section<'_>) -> Turn {
    let default = Turn::default();
    let tenth = Duration::from_millis(100);
    let minute = Duration::from_secs(60);
    let turn = Turn {
        barge_in: section
            .word("barge_in", &BargeIn::WORDS)
            .unwrap_or(default.barge_in),
        no_input_timeout: section
            .duration("no_input_timeout", tenth..=minute)
            .unwrap_or(default.no_input_timeout),
        no_input_limit: section
            .number("no_input_limit", 1..=100)
            .unwrap_or(default.no_input_limit),
        // The service itself ends a stream after about a minute.
        stream_ceiling: section
            .duration("stream_ceiling", Duration::from_secs(1)..=minute)
            .unwrap_or(default.stream_ceiling),
        interdigit_timeout: section
            .duration("interdigit_timeout", tenth..=minute)
            .unwrap_or(default.interdigit_timeout),
        // The service takes 256 characters of input at most.
        max_digits: section
            .number("max_digits", 1..=256)
            .unwrap_or(default.max_digits),
        transfer_failed_event: section
            .text("transfer_failed_event")
            .unwrap_or(default.transfer_failed_event),
    };
    section.finish();
    turn
}
