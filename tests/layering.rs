//! Who may name whom: a table of folders and the modules that each may name, checked against the source.
//!
//! The order is `main → io → engine`; inside the engine `call → media`; ingresses, backends and HTTP do not know each
//! other and meet in the driver and the registry; the local agent is the other end of the wire and knows nobody.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// For each place, the paths in this crate (after `crate::` or `tandem::`) that it may name. The longest place that
/// fits a file is its own.
const MAY_NAME: [(&str, &[&str]); 25] = [
    ("main.rs", &["config", "io", "local_agent"]),
    ("lib.rs", &[]),
    ("labels.rs", &["labels"]),
    (
        "config",
        &["config", "engine::destination", "engine::media", "io::leg"],
    ),
    ("engine", &["engine"]),
    ("engine/rtp", &["engine::media", "engine::rtp"]),
    (
        "engine/sdp",
        &["engine::media", "engine::rtp", "engine::sdp"],
    ),
    (
        "engine/webrtc",
        &[
            "engine::media",
            "engine::rtp",
            "engine::sdp",
            "engine::webrtc",
        ],
    ),
    (
        "engine/call",
        &["engine::call", "engine::destination", "engine::media"],
    ),
    ("io", &[]),
    ("io/leg.rs", &["engine"]),
    ("io/metrics.rs", &["engine", "io::leg"]),
    ("io/telemetry.rs", &["config"]),
    ("io/journal.rs", &["engine"]),
    ("io/transfers.rs", &["config", "engine"]),
    (
        "io/agents.rs",
        &["config", "engine", "io::backend", "io::errands", "io::leg"],
    ),
    ("io/web", &["io::web"]),
    (
        "io/clips",
        &[
            "config",
            "io::backend::auth",
            "io::backend::endpoint",
            "io::clips",
            "io::metrics",
            "io::web",
        ],
    ),
    ("io/tools.rs", &["engine", "io::web"]),
    ("io/errands.rs", &["engine", "io::clips", "io::tools"]),
    (
        "io/driver.rs",
        &[
            "engine",
            "io::backend",
            "io::clock",
            "io::errands",
            "io::journal",
            "io::leg",
            "io::metrics",
        ],
    ),
    (
        "io/calls.rs",
        &[
            "config",
            "engine",
            "io::agents",
            "io::backend",
            "io::driver",
            "io::ingress",
            "io::journal",
            "io::leg",
            "io::metrics",
            "io::telemetry",
            "io::transfers",
        ],
    ),
    (
        "io/backend",
        &[
            "config",
            "engine",
            "io::backend",
            "io::clock",
            "io::metrics",
        ],
    ),
    (
        "io/ingress",
        &[
            "config",
            "engine",
            "io::clock",
            "io::ingress",
            "io::journal",
            "io::leg",
            "io::metrics",
            "io::telemetry",
        ],
    ),
    (
        "io/http",
        &[
            "engine",
            "io::calls",
            "io::http",
            "io::journal",
            "io::metrics",
            "io::telemetry",
        ],
    ),
];

/// The local agent is checked apart: it may name itself and nothing else of the crate.
const LOCAL_AGENT: (&str, &[&str]) = ("local_agent", &["local_agent"]);

#[test]
fn nobody_names_what_is_not_theirs_to_name() {
    let mut offences = Vec::new();
    for file in sources() {
        let place = file
            .strip_prefix(root())
            .expect("inside src")
            .to_string_lossy()
            .into_owned();
        // A package of its own, to which the compiler sees.
        if place.starts_with("engine/media/") {
            continue;
        }
        let allowed = allowed(&place);
        let text = fs::read_to_string(&file).expect("a source file can be read");
        for (number, named) in names(&text) {
            if !allowed.iter().any(|prefix| is_inside(&named, prefix)) {
                offences.push(format!("src/{place}:{number} names {named}"));
            }
        }
    }
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

#[test]
fn an_offence_would_be_found() {
    let text = "use crate::io::calls::Calls;\nlet x = crate::engine::call::Call::new();\n// crate::config is a comment\n";
    assert_eq!(
        names(text),
        [
            (1, "io::calls::Calls".to_owned()),
            (2, "engine::call::Call::new".to_owned())
        ]
    );
    assert!(!allowed("engine/call/mod.rs").contains(&"io"));
    assert!(is_inside("io::leg::Leg", "io::leg") && !is_inside("io::legs", "io::leg"));
}

/// What the longest fitting place may name.
fn allowed(place: &str) -> &'static [&'static str] {
    let fits = |prefix: &str| {
        place == prefix
            || place
                .strip_prefix(prefix)
                .is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
    };
    let table = MAY_NAME.iter().chain([&LOCAL_AGENT]);
    table
        .filter(|(prefix, _)| fits(prefix))
        .max_by_key(|(prefix, _)| prefix.len())
        .unwrap_or_else(|| panic!("src/{place} has no row in the table"))
        .1
}

fn is_inside(named: &str, prefix: &str) -> bool {
    named
        .strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Every path of this crate that the code names, with its line; comments are passed over.
fn names(text: &str) -> Vec<(usize, String)> {
    let mut names = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("//") {
            continue;
        }
        for start in ["crate::", "tandem::"] {
            for (at, _) in line.match_indices(start) {
                let before = line[..at].chars().next_back();
                // `pub(in crate::…)` and names that merely end like ours are not meant.
                if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                    continue;
                }
                let path: String = line[at + start.len()..]
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':')
                    .collect();
                names.push((number + 1, path.trim_end_matches(':').to_owned()));
            }
        }
    }
    names
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources() -> Vec<PathBuf> {
    let mut folders = vec![root()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a source folder can be read") {
            let path = entry.expect("an entry can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 20, "the sources were not found");
    files
}
