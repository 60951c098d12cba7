//! The table of behaviours: each row is a test on each kind of ingress, and says where it comes from.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use crate::barge_in;
use crate::clips;
use crate::commands;
use crate::digits;
use crate::echo;
use crate::endings;
use crate::faults;
use crate::heard;
use crate::hold;
use crate::listening;
use crate::messages;
use crate::no_input;
use crate::opening;
use crate::partials;
use crate::settings;

/// Makes three tests of each behaviour, `sip::NAME`, `twilio::NAME` and `whip::NAME`, and a table of all. A behaviour is a
/// function of the ingress in the same file; the line above its name says where it comes from.
macro_rules! behaviours {
    ($(#[doc = $source:literal] $name:ident,)+) => {
        /// The behaviours of this file.
        pub(crate) const ROWS: &[crate::table::Row] = &[
            $(crate::table::Row { name: stringify!($name), source: $source },)+
        ];
        mod sip {
            $(#[test] fn $name() { super::$name(crate::ingress::Ingress::Sip); })+
        }
        mod twilio {
            $(#[test] fn $name() { super::$name(crate::ingress::Ingress::Twilio); })+
        }
        mod whip {
            $(#[test] fn $name() { super::$name(crate::ingress::Ingress::Whip); })+
        }
    };
}

/// A behaviour.
pub(crate) struct Row {
    /// The function's name, a sentence.
    pub(crate) name: &'static str,
    /// The sections that ask for it.
    pub(crate) source: &'static str,
}

const THEMES: [(&str, &[Row]); 15] = [
    ("opening", opening::ROWS),
    ("listening", listening::ROWS),
    ("barge_in", barge_in::ROWS),
    ("echo", echo::ROWS),
    ("heard", heard::ROWS),
    ("partials", partials::ROWS),
    ("messages", messages::ROWS),
    ("clips", clips::ROWS),
    ("commands", commands::ROWS),
    ("digits", digits::ROWS),
    ("no_input", no_input::ROWS),
    ("settings", settings::ROWS),
    ("faults", faults::ROWS),
    ("hold", hold::ROWS),
    ("endings", endings::ROWS),
];

/// What issue 5 asks for at least.
const LEAST_ROWS: usize = 60;
/// Where a behaviour may come from: `facts §4`, `design §4.5`, `field notes 12`.
const SOURCES: [&str; 3] = ["facts §", "design §", "field notes "];
/// Set to anything, it writes the page anew instead of comparing it.
const WRITE: &str = "TANDEM_WRITE_MATRIX";
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conversation/MATRIX.md");

#[test]
fn every_behaviour_has_a_source_and_a_name_of_its_own_and_there_are_enough_of_them() {
    let mut names = BTreeSet::new();
    for (theme, rows) in THEMES {
        for Row { name, source } in rows {
            assert!(
                names.insert((theme, name)),
                "{theme}::{name} is there twice"
            );
            let sections = source.split(',').map(str::trim);
            for section in sections {
                let number = SOURCES.iter().find_map(|known| section.strip_prefix(known));
                assert!(
                    number.is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit())),
                    "{theme}::{name} comes from {section:?}"
                );
            }
        }
    }
    assert!(names.len() >= LEAST_ROWS, "{} behaviours", names.len());
}

#[test]
fn the_page_shows_the_table_as_it_is() {
    let page = page();
    if std::env::var_os(WRITE).is_some() {
        fs::write(PAGE, page).expect("the page can be written");
        return;
    }
    let written = fs::read_to_string(PAGE).expect("there is a page");
    assert_eq!(written, page, "write it anew: {WRITE}=1");
}

fn page() -> String {
    let count: usize = THEMES.iter().map(|(_, rows)| rows.len()).sum();
    let mut page = format!(
        "# The conversation matrix\n\n\
         Written by `tests/conversation/table.rs` ({WRITE}=1). {count} behaviours, each a test on SIP, Twilio and WHIP, as the \
         names in the last column say with `*` = `sip`, `twilio` and `whip`. *facts* are those about Dialogflow, *design* is \
         the design page, *field notes* are the complaints of users of other gateways.\n\n\
         | theme | behaviour | source | tests |\n|---|---|---|---|\n"
    );
    for (theme, rows) in THEMES {
        for Row { name, source } in rows {
            let sentence = name.replace('_', " ");
            let source = source.trim();
            writeln!(
                page,
                "| {theme} | {sentence} | {source} | `{theme}::*::{name}` |"
            )
            .expect("a string takes all");
        }
    }
    page
}
