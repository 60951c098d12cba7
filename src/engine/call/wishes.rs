//! What the agent has asked of the gateway, as far as it outlasts the answer that asked.

/// Different things that are remembered as having been told; an agent that asks for more is told of anew.
const MAX_TOLD: usize = 64;

/// What the agent has asked for.
#[derive(Debug)]
pub(super) struct Wishes {
    /// The recogniser's model for what the caller says next.
    pub(super) model: Option<String>,
    /// Whether what is said may be kept.
    pub(super) keeps_transcripts: bool,
    /// What was asked for and cannot be done, as told to the operator.
    told: Vec<String>,
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            model: None,
            keeps_transcripts: true,
            told: Vec::new(),
        }
    }
}

impl Wishes {
    /// Whether nobody has been told yet that this cannot be done; from now on they have.
    pub(super) fn is_news(&mut self, unsupported: &str) -> bool {
        let is_news = !self.told.iter().any(|told| told == unsupported);
        if is_news && self.told.len() < MAX_TOLD {
            self.told.push(unsupported.to_owned());
        }
        is_news
    }
}
