//! Tools that the agent wants run on our side (facts §13): it waits for what comes of each, so each is answered, by an error
//! where nothing is configured.

use std::collections::VecDeque;
use std::time::Duration;

use crate::engine::call::Call;
use crate::engine::call::event::Action;
use crate::engine::call::event::ToolCall;
use crate::engine::call::event::ToolResult;
use crate::engine::call::event::TurnInput;
use crate::engine::call::notice::Notice;
use crate::engine::call::timers::Timer;

/// Tools that may wait; an agent that wants more in one answer is broken.
const MAX_WAITING: usize = 16;
/// How long a tool may take. Whoever runs it gives up earlier; this is for the case that they do not.
const PATIENCE: Duration = Duration::from_secs(10);

/// The tools that the agent waits for.
#[derive(Debug, Default)]
pub(super) struct Tools {
    waiting: VecDeque<ToolCall>,
    /// Tool and action of what runs.
    running: Option<(String, String)>,
}

impl Tools {
    pub(super) fn want(&mut self, call: ToolCall) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(call);
        }
    }

    /// Whether one runs.
    pub(super) const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// None is wanted any more.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.running = None;
    }
}

impl Call {
    /// Runs or refuses the next tool; `false` if there is none.
    pub(super) fn run_next_tool(&mut self) -> bool {
        if self.tools.is_running() {
            return true;
        }
        let Some(call) = self.tools.waiting.pop_front() else {
            return false;
        };
        if self.settings.tools.contains(&call.tool) {
            self.tools.running = Some((call.tool.clone(), call.action.clone()));
            self.timers.set(Timer::Tool, self.now + PATIENCE);
            self.act(Action::RunTool(call));
        } else {
            let why = "this telephone gateway cannot run the tool";
            self.answer_tool(ToolResult {
                tool: call.tool,
                action: call.action,
                outcome: Err(why.to_owned()),
            });
        }
        true
    }

    pub(super) fn on_tool_ended(&mut self, result: ToolResult) {
        let is_ours =
            |(tool, action): &(String, String)| *tool == result.tool && *action == result.action;
        if self.tools.running.as_ref().is_some_and(is_ours) {
            self.tools.running = None;
            self.timers.stop(Timer::Tool);
            self.answer_tool(result);
        }
    }

    pub(super) fn on_tool_late(&mut self) {
        if let Some((tool, action)) = self.tools.running.take() {
            self.answer_tool(ToolResult {
                tool,
                action,
                outcome: Err("it did not end in time".to_owned()),
            });
        }
    }

    fn answer_tool(&mut self, result: ToolResult) {
        self.tell(Notice::Tool {
            tool: result.tool.clone(),
            error: result.outcome.as_ref().err().cloned(),
        });
        if self.ending.is_none() && self.turn.is_none() {
            self.open(TurnInput::ToolResult(result));
        }
    }
}
