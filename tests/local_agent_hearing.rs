//! How well the local agent hears: synthetic voices through mu-law at 8 kHz, on the pages of the embedded script. What fits the
//! page has to be understood, what does not has to be NO_MATCH. The numbers are printed; the bounds leave room for other
//! versions of the model and the voices.
#![cfg(feature = "local-agent")]

mod local_agent_support;

use tandem::local_agent::Script;
use tandem_proto::cx::v3;
use tandem_proto::cx::v3::r#match::MatchType;

use local_agent_support as caller;

const VOICES: [&str; 5] = ["slt", "rms", "awb", "kal", "kal16"];

const UNDERSTOOD: [(&str, &str); 21] = [
    ("start", "book a table for two"),
    ("start", "book a table for four people"),
    ("start", "i would like to book a table for six"),
    ("start", "a table for three please"),
    ("start", "can i book a table for eight"),
    ("start", "what are your opening hours"),
    ("start", "when are you open"),
    ("start", "i want to speak to a person"),
    ("start", "can i talk to somebody"),
    ("start", "transfer me please"),
    ("start", "goodbye"),
    ("start", "i would like to book a table"),
    ("day", "tomorrow please"),
    ("day", "on friday"),
    ("day", "for wednesday"),
    ("day", "next monday"),
    ("confirm", "yes"),
    ("confirm", "yes please"),
    ("confirm", "no"),
    ("confirm", "that's right"),
    ("people", "seven people"),
];

const NOT_UNDERSTOOD: [(&str, &str); 20] = [
    ("start", "the quick brown fox jumps over the lazy dog"),
    ("start", "do you sell bicycles"),
    ("start", "how much is a ticket to london"),
    ("start", "i have lost my umbrella in the train"),
    ("start", "please play some music"),
    ("start", "can you repair my phone"),
    ("start", "where did you put the keys"),
    ("start", "banana"),
    ("day", "my cat is sitting on the roof"),
    ("day", "i do not eat fish"),
    ("day", "turn left at the next corner"),
    ("day", "computer science is difficult"),
    ("day", "purple elephant"),
    ("confirm", "is there a dog in the garden"),
    ("confirm", "history repeats itself"),
    ("confirm", "i am looking for the hospital"),
    ("confirm", "maybe later"),
    ("people", "what is the weather like in paris"),
    ("people", "excuse me"),
    ("people", "the book is on the chair"),
];

#[tokio::test]
async fn telephone_speech_is_understood_and_other_speech_is_not() {
    // Each sentence in one voice, by turns.
    measure(|sentence, voice| sentence % VOICES.len() == voice).await;
}

#[tokio::test]
#[ignore = "every sentence in every voice takes minutes"]
async fn every_voice_is_understood() {
    measure(|_, _| true).await;
}

async fn measure(chosen: impl Fn(usize, usize) -> bool) {
    let address = caller::serve(Script::embedded()).await;
    let mut client = caller::client(address).await;
    let mut understood = (0, 0);
    let mut rejected = (0, 0);
    for (v, voice) in VOICES.iter().enumerate() {
        let sentences = UNDERSTOOD.iter().chain(&NOT_UNDERSTOOD).enumerate();
        for (n, (page, sentence)) in sentences.filter(|(n, _)| chosen(*n, v)) {
            let mut first =
                caller::first_audio(caller::session(&format!("{v}-{n}")), caller::listening());
            let current_page = (*page).to_owned();
            first.query_params = Some(v3::QueryParameters {
                current_page,
                ..v3::QueryParameters::default()
            });
            let turn = caller::take_turn(&mut client, first, &caller::say(voice, sentence)).await;

            let words = turn.finals().join(" ");
            let matched = !matches!(turn.match_type(), MatchType::NoMatch | MatchType::NoInput);
            let (count, right) = if n < UNDERSTOOD.len() {
                (&mut understood, matched && same_meaning(&words, sentence))
            } else {
                (&mut rejected, !matched)
            };
            count.0 += usize::from(right);
            count.1 += 1;
            if !right {
                let confidence = turn.result().intent_detection_confidence;
                println!(
                    "{voice:6} {page:8} `{sentence}` was heard as `{words}` ({confidence:.2})"
                );
            }
        }
    }
    println!(
        "understood {} of {}, rejected {} of {}",
        understood.0, understood.1, rejected.0, rejected.1
    );
    assert!(
        understood.0 * 100 >= understood.1 * 85,
        "understood only {understood:?}"
    );
    assert!(
        rejected.0 * 100 >= rejected.1 * 75,
        "rejected only {rejected:?}"
    );
}

/// Equal but for the small words that phrases leave optional.
fn same_meaning(heard: &str, said: &str) -> bool {
    let optional = [
        "please", "people", "persons", "on", "for", "a", "i", "can", "could", "would", "like",
        "to", "want",
    ];
    let core = |text: &str| {
        text.split(' ')
            .filter(|word| !optional.contains(word))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    // The page does not tell them apart.
    core(&heard.replace("yeah", "yes")) == core(said)
}
