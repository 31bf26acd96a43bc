//! Tasks over a real control state, with a runner whose work ends when the test says so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use futures::FutureExt as _;
use rmcp::model::TaskStatus;
use spanledger_access::{RowFilter, Scope};
use tempfile::TempDir;
use tokio::sync::Semaphore;

use super::*;
use crate::legacy;

#[derive(Debug)]
struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now_ns(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl TestClock {
    fn advance(&self, time: Duration) {
        self.0
            .fetch_add(i64::try_from(time.as_nanos()).unwrap(), Ordering::SeqCst);
    }
}

/// `gated` and `writes` wait for a permit of the gate; `asks` asks; `fails` fails; `large` says too much.
#[derive(Debug)]
struct Tools {
    gate: Semaphore,
    runs: AtomicUsize,
    dropped: Arc<Semaphore>,
}

/// Tells when the work it belongs to is dropped.
struct Dropped(Arc<Semaphore>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

#[derive(Debug, Clone)]
struct TestRunner(Arc<Tools>);

impl Runner for TestRunner {
    fn run(&self, job: Job) -> BoxFuture<'static, Answered> {
        let tools = Arc::clone(&self.0);
        async move {
            tools.runs.fetch_add(1, Ordering::SeqCst);
            let guard = Dropped(Arc::clone(&tools.dropped));
            let text = match job.tool.as_str() {
                "gated" | "writes" => {
                    job.progress.report(3, Some(7), "reads rows");
                    tools.gate.acquire().await.unwrap().forget();
                    "done".to_owned()
                }
                "asks" => {
                    let questions = ["a", "b"].map(|key| (key.to_owned(), question(key)));
                    let answers = job.questions.ask(questions.into()).await?;
                    format!("{answers:?}")
                }
                "fails" => return Err(ErrorData::internal_error("broken", None)),
                "panics" => panic!("a bug"),
                "large" => "x".repeat(RESULT_BYTES_MAX),
                _ => "quick".to_owned(),
            };
            drop(guard);
            Ok(CallToolResult::success(vec![ContentBlock::text(text)]))
        }
        .boxed()
    }

    fn support(&self, tool: &str) -> TaskSupport {
        match tool {
            "plain" => TaskSupport::Forbidden,
            "asks" | "fails" | "large" | "panics" => TaskSupport::Required,
            _ => TaskSupport::Optional,
        }
    }

    fn only_reads(&self, tool: &str) -> bool {
        tool != "writes"
    }

    fn needs(&self, _tool: &str, _arguments: Option<&JsonObject>) -> Scopes {
        Scopes::of(&[Scope::SqlRead])
    }
}

fn question(key: &str) -> rmcp::model::InputRequest {
    let schema = json!({ "type": "object", "properties": { key: { "type": "string" } } });
    rmcp::model::InputRequest::Elicitation(rmcp::model::ElicitRequest::new(
        rmcp::model::ElicitRequestParams::FormElicitationParams {
            meta: None,
            message: format!("{key}?"),
            requested_schema: serde_json::from_value(schema).unwrap(),
        },
    ))
}

struct World {
    _folder: TempDir,
    state: State,
    clock: Arc<TestClock>,
    runner: TestRunner,
    tasks: Tasks,
}

const MODERN: Asker = Asker {
    knows_tasks: true,
    can_be_asked: true,
    can_retry: true,
};
const PLAIN: Asker = Asker {
    knows_tasks: false,
    can_be_asked: false,
    can_retry: true,
};

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).await.unwrap();
        let clock = Arc::new(TestClock(AtomicI64::new(1_795_341_600_000_000_000)));
        let runner = TestRunner(Arc::new(Tools {
            gate: Semaphore::new(0),
            runs: AtomicUsize::new(0),
            dropped: Arc::new(Semaphore::new(0)),
        }));
        let tasks = open(&state, &clock, &runner);
        Self {
            _folder: folder,
            state,
            clock,
            runner,
            tasks,
        }
    }

    fn open_gate(&self, n: usize) {
        self.runner.0.gate.add_permits(n);
    }

    /// Another process on the same control state.
    fn another_process(&self) -> Tasks {
        open(&self.state, &self.clock, &self.runner)
    }

    async fn task(&self, tool: &str) -> String {
        let outcome = self.call(tool, MODERN).await.unwrap();
        let Outcome::Task(created) = outcome else {
            panic!("{outcome:?} is no task");
        };
        created.task.task_id
    }

    async fn call(&self, tool: &str, asker: Asker) -> Result<Outcome, ErrorData> {
        let job = Job::new(me(), tool, None);
        self.tasks.call(job, asker, &CancellationToken::new()).await
    }

    async fn ended(&self, id: &str) -> Ending {
        self.tasks.ended(&me(), id).await.unwrap().1
    }
}

/// Windows are short: what is gated does not end in any.
fn open(state: &State, clock: &Arc<TestClock>, runner: &TestRunner) -> Tasks {
    let clock: Arc<dyn Clock> = Arc::<TestClock>::clone(clock);
    let settings = TaskSettings {
        inline_window: Duration::from_millis(20),
        wait_window: Duration::from_millis(20),
        ..TaskSettings::default()
    };
    Tasks::open(state, clock, Arc::new(runner.clone()), settings)
}

fn me() -> Principal {
    Principal::local()
}

fn text(result: &JsonObject) -> String {
    result["content"][0]["text"].as_str().unwrap_or_default().to_owned()
}

fn completed(ending: &Ending) -> String {
    let Ending::Completed(result) = ending else {
        panic!("{ending:?}");
    };
    text(result)
}

#[tokio::test]
async fn what_ends_within_the_window_is_answered_without_a_task() {
    let world = World::new().await;
    let outcome = world.call("quick", MODERN).await.unwrap();
    assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    assert!(world.tasks.list(&me(), None).await.unwrap().0.is_empty());
}

#[tokio::test]
async fn a_slow_call_is_a_task_with_real_progress_and_its_answer_is_kept() {
    let world = World::new().await;
    let id = world.task("gated").await;
    assert!(
        id.len() == 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{id}"
    );
    let working = world.tasks.find(&me(), &id).await.unwrap();
    assert_eq!(working.status, TaskStatus::Working);
    assert_eq!(working.status_message.as_deref(), Some("reads rows (3 of 7)"));
    assert_eq!(working.task().poll_interval_ms, Some(500));
    world.clock.advance(Duration::from_secs(60));
    let later = world.tasks.find(&me(), &id).await.unwrap();
    assert_eq!(later.task().poll_interval_ms, Some(2_000));
    world.open_gate(1);
    assert_eq!(completed(&world.ended(&id).await), "done");
    // the jump of the clock made nobody run it again
    assert_eq!(world.runner.0.runs.load(Ordering::SeqCst), 1);
    // by another process as well
    let shown = serde_json::to_value(world.another_process().get(&me(), &id).await.unwrap()).unwrap();
    assert_eq!(shown["status"], "completed");
    assert_eq!(shown["result"]["content"][0]["text"], "done");
    assert_eq!(shown["resultType"], "complete");
}

#[tokio::test]
async fn a_protocol_error_is_failed_and_a_large_or_broken_answer_is_no_loss() {
    let world = World::new().await;
    let failed = world.task("fails").await;
    assert!(matches!(world.ended(&failed).await, Ending::Failed(error) if error["message"] == "broken"));
    let large = world.task("large").await;
    assert!(completed(&world.ended(&large).await).starts_with("too_large"));
    let broken = world.task("panics").await;
    assert!(matches!(world.ended(&broken).await, Ending::Failed(_)));
    let refused = world.call("fails", PLAIN).await.unwrap_err();
    assert_eq!(refused.code.0, -32021);
}

#[tokio::test]
async fn anothers_task_is_answered_like_an_unknown_one() {
    let world = World::new().await;
    let id = world.task("gated").await;
    let unknown = world.tasks.find(&me(), "0123456789abcdef").await.unwrap_err();
    assert_eq!(unknown.code.0, -32602);
    let team = |name: &str| RowFilter::new([("team".to_owned(), vec![name.to_owned()])]).unwrap();
    for other in [
        Principal::local_of("other"),
        me().with_client_id(Some("another")),
        me().with_rows(team("a")),
        me().narrowed_to(Scopes::of(&[Scope::CostsRead])),
    ] {
        let answers = [
            world.tasks.get(&other, &id).await.unwrap_err(),
            world
                .tasks
                .update(&other, &id, &InputResponses::new())
                .await
                .unwrap_err(),
            world.tasks.resource(&other, &id).await.unwrap_err(),
            world.tasks.ended(&other, &id).await.unwrap_err(),
        ];
        for answer in answers {
            assert_eq!(answer, unknown, "{other:?}");
        }
    }
    let other = Principal::local_of("other");
    assert_eq!(world.tasks.cancel(&other, &id).await.unwrap_err(), unknown);
    assert!(world.tasks.list(&other, None).await.unwrap().0.is_empty());
    assert_eq!(world.tasks.find(&me(), &id).await.unwrap().status, TaskStatus::Working);
}

#[tokio::test]
async fn cancelling_drops_the_work_and_what_ended_never_changes() {
    let world = World::new().await;
    let id = world.task("gated").await;
    world.tasks.cancel(&me(), &id).await.unwrap();
    // the work's own guard says so
    world.runner.0.dropped.acquire().await.unwrap().forget();
    assert_eq!(world.ended(&id).await, Ending::Cancelled);

    let store = &world.tasks.shared.store;
    let before = world.tasks.find(&me(), &id).await.unwrap();
    world.clock.advance(Duration::from_secs(1));
    let late = Ending::of(Ok(CallToolResult::success(Vec::new())));
    assert!(!store.finish(&id, &late, Duration::from_secs(9)).await.unwrap());
    let step = crate::progress::Step {
        done: 9.0,
        total: None,
        message: None,
    };
    store.progress(&id, &step).await.unwrap();
    assert!(store.ask(&id, &[("k".to_owned(), question("k"))]).await.is_err());
    assert!(!store.take_over(&id).await.unwrap());
    world
        .tasks
        .update(&me(), &id, &[("k".to_owned(), json!(1))].into())
        .await
        .unwrap();
    world.tasks.cancel(&me(), &id).await.unwrap();
    let after = world.tasks.find(&me(), &id).await.unwrap();
    assert_eq!(
        Record {
            read_at_us: before.read_at_us,
            ..after
        },
        before
    );
}

#[tokio::test]
async fn a_task_cancelled_by_another_process_is_stopped() {
    let world = World::new().await;
    let id = world.task("gated").await;
    world.another_process().cancel(&me(), &id).await.unwrap();
    world.tasks.shared.beat(false).await.unwrap();
    world.runner.0.dropped.acquire().await.unwrap().forget();
    assert!(world.tasks.shared.running.lock().is_empty());
}

#[tokio::test]
async fn a_task_asks_and_goes_on_when_all_is_answered() {
    let world = World::new().await;
    let id = world.task("asks").await;
    let open = || async {
        loop {
            let record = world.tasks.find(&me(), &id).await.unwrap();
            if !record.open_inputs.is_empty() || record.ending.is_some() {
                break record;
            }
            tokio::task::yield_now().await;
        }
    };
    let asked = serde_json::to_value(open().await.detailed()).unwrap();
    assert_eq!(asked["status"], "input_required");
    assert_eq!(asked["inputRequests"]["a"]["method"], "elicitation/create");
    assert!(asked["inputRequests"]["b"].is_object());
    // by another process, with a key that nobody asked
    let first = [
        ("a".to_owned(), json!({ "action": "accept" })),
        ("z".to_owned(), json!(1)),
    ];
    world.another_process().update(&me(), &id, &first.into()).await.unwrap();
    let rest = open().await;
    assert_eq!(rest.status, TaskStatus::InputRequired);
    assert_eq!(
        rest.open_inputs.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(),
        ["b"]
    );
    // an answer stands
    let again = [("a".to_owned(), json!("other")), ("b".to_owned(), json!("two"))];
    world.tasks.update(&me(), &id, &again.into()).await.unwrap();
    let said = completed(&world.ended(&id).await);
    assert!(
        said.contains("accept") && said.contains("two") && !said.contains("other"),
        "{said}"
    );
}

#[tokio::test]
async fn an_interrupted_read_is_resumed_when_its_owner_asks_and_a_write_fails() {
    let world = World::new().await;
    let (reads, writes) = (world.task("gated").await, world.task("writes").await);
    let next = world.another_process();
    // its process lives: nobody else runs it
    next.find(&me(), &reads).await.unwrap();
    assert_eq!(world.runner.0.runs.load(Ordering::SeqCst), 2);
    world.tasks.release().await;
    assert!(next.find(&Principal::local_of("other"), &reads).await.is_err());
    assert_eq!(world.runner.0.runs.load(Ordering::SeqCst), 2);
    assert_eq!(next.find(&me(), &reads).await.unwrap().status, TaskStatus::Working);
    world.open_gate(1);
    assert_eq!(completed(&next.ended(&me(), &reads).await.unwrap().1), "done");
    assert_eq!(world.runner.0.runs.load(Ordering::SeqCst), 3);
    let ending = next.ended(&me(), &writes).await.unwrap().1;
    assert!(
        matches!(&ending, Ending::Failed(error) if error["message"].as_str().unwrap().starts_with("interrupted")),
        "{ending:?}"
    );
    assert_eq!(world.runner.0.runs.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_process_that_lost_its_lease_stops_its_work() {
    let world = World::new().await;
    let id = world.task("gated").await;
    world.clock.advance(LEASE + Duration::from_secs(1));
    let next = world.another_process();
    next.find(&me(), &id).await.unwrap();
    world.tasks.shared.beat(false).await.unwrap();
    world.runner.0.dropped.acquire().await.unwrap().forget();
    world.open_gate(1);
    assert_eq!(completed(&next.ended(&me(), &id).await.unwrap().1), "done");
}

#[tokio::test]
async fn a_task_is_forgotten_after_its_time_and_fails_where_it_still_worked() {
    let world = World::new().await;
    let TaskSettings { ttl, retention, .. } = TaskSettings::default();
    let (quick, slow) = (world.task("fails").await, world.task("gated").await);
    world.ended(&quick).await;
    world.clock.advance(ttl - Duration::from_secs(1));
    world.tasks.shared.beat(true).await.unwrap();
    assert!(world.tasks.find(&me(), &quick).await.is_ok());
    world.clock.advance(Duration::from_secs(2));
    assert_eq!(world.tasks.find(&me(), &quick).await.unwrap_err().code.0, -32602);
    world.tasks.shared.beat(true).await.unwrap();
    world.runner.0.dropped.acquire_many(2).await.unwrap().forget();
    let ending = world.ended(&slow).await;
    assert!(matches!(&ending, Ending::Failed(error) if error["message"].as_str().unwrap().starts_with("expired")));
    world.clock.advance(retention + Duration::from_secs(1));
    world.tasks.shared.beat(true).await.unwrap();
    let (left,): (i64,) = spanledger_state::sqlx::query_as("SELECT count(*) FROM tasks")
        .fetch_one(world.state.pool())
        .await
        .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn tasks_of_one_owner_are_bounded() {
    let world = World::new().await;
    for _ in 0..RUNNING_PER_OWNER {
        world.task("gated").await;
    }
    let refused = world.call("gated", MODERN).await.unwrap_err();
    assert!(refused.message.contains("too many tasks"), "{refused:?}");
    // the refused work does not go on
    world.runner.0.dropped.acquire().await.unwrap().forget();
    assert_eq!(
        i64::try_from(world.tasks.shared.running.lock().len()).unwrap(),
        RUNNING_PER_OWNER
    );
}

#[tokio::test]
async fn a_client_without_tasks_gets_the_answer_by_calling_again() {
    let world = World::new().await;
    let told = |outcome: Result<Outcome, ErrorData>| match outcome.unwrap() {
        Outcome::Done(result) => serde_json::to_value(result).unwrap(),
        other => panic!("{other:?}"),
    };
    let busy = told(world.call("gated", PLAIN).await);
    assert_eq!(busy["isError"], true);
    let uri = busy["content"][1]["uri"].as_str().unwrap();
    let id = uri.strip_prefix(URI).unwrap();
    assert_eq!(world.tasks.resource(&me(), id).await.unwrap()["status"], "working");
    assert_eq!(told(world.call("gated", PLAIN).await)["isError"], true);
    assert_eq!(world.runner.0.runs.load(Ordering::SeqCst), 1);
    world.open_gate(1);
    world.ended(id).await;
    assert_eq!(told(world.call("gated", PLAIN).await)["content"][0]["text"], "done");
    assert_eq!(world.runner.0.runs.load(Ordering::SeqCst), 1);
    // told once; the next call is a new one
    world.open_gate(1);
    assert_eq!(told(world.call("gated", PLAIN).await)["content"][0]["text"], "done");
    assert_eq!(world.runner.0.runs.load(Ordering::SeqCst), 2);
    assert_eq!(
        world.tasks.resource(&me(), id).await.unwrap()["result"]["content"][0]["text"],
        "done"
    );
}

#[tokio::test]
async fn tasks_of_the_legacy_era_are_started_listed_fetched_and_cancelled() {
    let world = World::new().await;
    let ask = async |method: &str, params: Value| {
        let message = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
        legacy::answer(&world.tasks, &me(), &message).await
    };
    assert_eq!(ask("tools/call", json!({ "name": "gated" })).await, None);
    assert_eq!(ask("tools/list", json!({})).await, None);
    let call = json!({ "name": "gated", "arguments": {}, "task": { "ttl": 60_000 } });
    let started = ask("tools/call", call.clone()).await.unwrap()["result"]["task"].clone();
    assert_eq!(started["status"], "working");
    assert_eq!(started["ttl"], 60_000);
    let id = json!({ "taskId": started["taskId"] });
    world.open_gate(1);
    let result = ask("tasks/result", id.clone()).await.unwrap()["result"].clone();
    assert_eq!(result["content"][0]["text"], "done");
    assert_eq!(result["_meta"]["io.modelcontextprotocol/related-task"], id);
    assert_eq!(result.get("resultType"), None);
    assert_eq!(
        ask("tasks/get", id.clone()).await.unwrap()["result"]["status"],
        "completed"
    );

    let second = ask("tools/call", call).await.unwrap()["result"]["task"]["taskId"].clone();
    let listed = ask("tasks/list", json!({})).await.unwrap()["result"]["tasks"].clone();
    assert_eq!(listed.as_array().unwrap().len(), 2);
    let second = json!({ "taskId": second });
    assert_eq!(
        ask("tasks/cancel", second.clone()).await.unwrap()["result"]["status"],
        "cancelled"
    );
    assert_eq!(ask("tasks/cancel", second).await.unwrap()["error"]["code"], -32602);
    assert_eq!(
        ask("tasks/get", json!({ "taskId": "x" })).await.unwrap()["error"]["code"],
        -32602
    );
    for tool in ["plain", "fails"] {
        let mut call = json!({ "name": tool });
        if tool == "plain" {
            call["task"] = json!({});
        }
        assert_eq!(
            ask("tools/call", call).await.unwrap()["error"]["code"],
            -32601,
            "{tool}"
        );
    }
    let mut tools = json!({ "result": { "tools": [{ "name": "gated" }, { "name": "plain" }, { "name": "fails" }] } });
    legacy::decorate(&world.tasks, "tools/list", &mut tools);
    assert_eq!(tools["result"]["tools"][0]["execution"]["taskSupport"], "optional");
    assert_eq!(tools["result"]["tools"][1].get("execution"), None);
    assert_eq!(tools["result"]["tools"][2]["execution"]["taskSupport"], "required");
}

struct NoReplay;

impl spanledger_lake::Replay for NoReplay {
    fn rows(&self, _record: &spanledger_lake::WalRecord) -> spanledger_lake::Result<spanledger_lake::TableRows> {
        Ok(Vec::new())
    }
}

#[tokio::test]
async fn a_cancelled_task_gives_its_turn_and_its_threads_back() {
    use spanledger_lake::{Lake, LakeOptions};
    use spanledger_query::Engine;

    let folder = tempfile::tempdir().unwrap();
    let mut options = LakeOptions {
        data_dir: folder.path().join("lake"),
        ..LakeOptions::default()
    };
    options.compaction.enabled = false;
    let clock: Arc<dyn Clock> = Arc::new(spanledger_model::clock::SystemClock);
    let lake = Lake::open(options, Arc::clone(&clock), &NoReplay).await.unwrap();
    let book = spanledger_ledger::prices::PriceBook::embedded().unwrap();
    let engine = Engine::new(lake, book, Arc::clone(&clock)).unwrap();
    let state = State::open(folder.path()).await.unwrap();
    let shared = crate::Shared::new(engine.clone()).with_state(state.clone());
    let settings = TaskSettings {
        inline_window: Duration::from_millis(20),
        ..TaskSettings::default()
    };
    let tasks = Tasks::open(&state, clock, Arc::new(crate::runner::ToolRunner { shared }), settings);

    let endless = "SELECT count(*) FROM generate_series(1, 1000000) AS a(x), generate_series(1, 1000000) AS b(y) \
        WHERE (a.x * b.y) % 7 = 3";
    let arguments = json!({ "query": endless }).as_object().cloned();
    let free = engine.free_turns();
    let job = Job::new(me(), "run_sql", arguments);
    let outcome = tasks.call(job, MODERN, &CancellationToken::new()).await.unwrap();
    let Outcome::Task(created) = outcome else {
        panic!("{outcome:?}");
    };
    while engine.free_turns() != free - 1 || engine.n_working() == 0 {
        tokio::task::yield_now().await;
    }
    tasks.cancel(&me(), &created.task.task_id).await.unwrap();
    // the statement would go on for minutes
    while engine.free_turns() != free || engine.n_working() != 0 {
        tokio::task::yield_now().await;
    }
}
