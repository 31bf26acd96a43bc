//! [`ToolRunner`]: the one place that runs a tool, for a client that waits, for a task of either era, for a task
//! that is resumed.
//!
//! `check scopes -> run -> ask where the tool has a question -> run again with what was said -> audit`.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use rmcp::model::{CallToolResult, ContentBlock, ErrorData, JsonObject};
use serde_json::Value;
use spanledger_access::Scopes;
use spanledger_access::audit::Outcome;
use spanledger_query::{Error, ErrorKind};

use crate::asking;
use crate::confirmation::Confirmation;
use crate::fixtures;
use crate::front;
use crate::server::result;
use crate::shared::Shared;
use crate::tasks::{Answered, Job, Runner, TaskSupport};
use crate::tools::{self, Call};

/// Tools that may take long: over much data, or because they write an artefact.
const LONG: [&str; 7] = [
    "create_report",
    "simulate_prices",
    "run_sql",
    "explain_change",
    "find_savings",
    "find_anomalies",
    "query_costs",
];

/// Runs the tools of one server.
#[derive(Debug, Clone)]
pub(crate) struct ToolRunner {
    /// Without tasks: these hold the runner.
    pub(crate) shared: Shared,
}

impl Runner for ToolRunner {
    fn run(&self, job: Job) -> BoxFuture<'static, Answered> {
        let runner = self.clone();
        async move { runner.answer(job).await }.boxed()
    }

    fn support(&self, tool: &str) -> TaskSupport {
        if let Some(support) = fixtures::tasks::support(tool).filter(|_| self.shared.has_fixtures()) {
            return support;
        }
        if LONG.contains(&tool) {
            TaskSupport::Optional
        } else {
            TaskSupport::Forbidden
        }
    }

    fn only_reads(&self, tool: &str) -> bool {
        // A report that was half written is written again under another name.
        tool == "create_report"
            || tools::definition(tool)
                .and_then(|tool| tool.annotations)
                .is_some_and(|annotations| annotations.read_only_hint == Some(true))
    }

    fn needs(&self, tool: &str, arguments: Option<&JsonObject>) -> Scopes {
        let arguments = arguments.cloned().map_or(Value::Null, Value::Object);
        front::needs(tool, &arguments)
    }
}

impl ToolRunner {
    async fn answer(&self, job: Job) -> Answered {
        if self.shared.has_fixtures()
            && let Some(run) = fixtures::tasks::run(&job)
        {
            return run.await;
        }
        let Some(definition) = tools::definition(&job.tool) else {
            let message = format!("there is no such tool; tools: {}", tools::names().join(", "));
            return Err(ErrorData::invalid_params(message, None));
        };
        let tool: &str = &definition.name;
        let asked = asked(job.arguments.as_ref());
        if let Err(error) = job.principal.require(self.needs(tool, job.arguments.as_ref())) {
            self.shared.audit_call(&job.principal, tool, Outcome::Denied, &asked);
            let error = Error::new(ErrorKind::Forbidden, error.to_string());
            return Ok(result(tool, Err(error)));
        }
        let mut confirmation = asking::said(&job.answers).map_or_else(Confirmation::unasked, Confirmation::said);
        loop {
            let call = Call {
                engine: self.shared.engine(),
                shared: &self.shared,
                principal: &job.principal,
                arguments: job.arguments.clone(),
                progress: &job.progress,
                confirmation: &confirmation,
            };
            let Some(answer) = tools::call(tool, call).await else {
                return Err(ErrorData::internal_error("a tool has no answer", None));
            };
            if answer.is_err()
                && let Some(question) = confirmation.question()
                && let Some(said) = job.questions.ask(asking::requests(&question, &job.client)).await?
            {
                confirmation = Confirmation::said(said.first().is_some_and(asking::is_yes));
                continue;
            }
            if let (Err(error), Some(_)) = (&answer, confirmation.question()) {
                // Nobody could be asked: a preview, with the way to go on.
                self.shared.audit_call(&job.principal, tool, Outcome::Ok, &asked);
                return Ok(CallToolResult::error(vec![ContentBlock::text(error.message())]));
            }
            let outcome = match &answer {
                Ok(_) => Outcome::Ok,
                Err(error) if error.kind() == ErrorKind::Forbidden => Outcome::Denied,
                Err(_) => Outcome::Failed,
            };
            self.shared.audit_call(&job.principal, tool, outcome, &asked);
            return Ok(result(tool, answer));
        }
    }
}

/// What the audit log keeps of a call beside its tool: the statement, or the arguments as they came.
fn asked(arguments: Option<&JsonObject>) -> String {
    match arguments {
        Some(arguments) if arguments.is_empty() => String::new(),
        Some(arguments) => match arguments.get("query") {
            Some(Value::String(query)) => query.clone(),
            _ => Value::Object(arguments.clone()).to_string(),
        },
        None => String::new(),
    }
}
