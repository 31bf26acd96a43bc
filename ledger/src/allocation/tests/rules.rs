//! Rules: order, filling and overriding, dates, what is recorded, and what a file may say.

use spanledger_model::{Call, Confidence, Status, TenantId, Usage};

use super::super::file::read;
use super::super::rules::take_back;
use super::super::{Assignment, RuleSet};

/// 2026-11-18T12:00:00Z.
const NOON_NS: i64 = 1_795_003_200_000_000_000;

pub(super) fn set(text: &str) -> RuleSet {
    RuleSet::compose("v1-test", &[read("test", text).unwrap()]).unwrap()
}

fn call() -> Call {
    Call {
        tenant: TenantId::from_credential("default"),
        call_id: Default::default(),
        kind: spanledger_model::CallKind::Llm,
        operation: None,
        start_ns: NOON_NS,
        duration_ns: None,
        dialects: "gen_ai".into(),
        observation_ids: Vec::new(),
        rules: String::new(),
        confidence: Confidence::Reported,
        hops: 1,
        status: Status::Ok,
        error_type: None,
        dimensions: Default::default(),
        allocated_by: None,
        trace_id: None,
        span_id: None,
        parent_span_id: None,
        mcp: Default::default(),
        model: Default::default(),
        usage: Usage::default(),
        sizes: Default::default(),
        reported_cost: None,
        own_cost: None,
        total_cost: None,
    }
}

fn with(change: impl FnOnce(&mut Call)) -> Call {
    let mut call = call();
    change(&mut call);
    call
}

/// Team, cost centre and what is recorded.
fn applied(set: &RuleSet, mut call: Call) -> (Option<String>, Option<String>, Option<String>) {
    set.apply(&mut call);
    (call.dimensions.team, call.dimensions.cost_center, call.allocated_by)
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn the_first_rule_that_matches_sets_a_dimension_and_a_later_one_sees_it() {
    let set = set(r#"
        [[rules]]
        name = "ci"
        match = { api_key = "ci-*" }
        set = { team = "platform" }
        [[rules]]
        name = "everything"
        set = { team = "rest" }
        [[rules]]
        name = "books"
        match = { team = ["platform", "growth"] }
        set = { cost_center = "CC-100" }
    "#);
    let ci = with(|call| call.dimensions.api_key = some("ci-nightly"));
    assert_eq!(
        applied(&set, ci),
        (some("platform"), some("CC-100"), some("team=ci,cost_center=books"))
    );
    assert_eq!(applied(&set, call()), (some("rest"), None, some("team=everything")));
    let said = with(|call| call.dimensions.team = some("growth"));
    assert_eq!(
        applied(&set, said),
        (some("growth"), some("CC-100"), some("cost_center=books"))
    );
}

#[test]
fn a_rule_overrides_only_where_it_says_so_and_remembers_what_was_said() {
    let rules = |overrides: bool| {
        set(&format!(
            "[[rules]]\nname = \"r\"\nmatch = {{ service = \"desk\" }}\nset = {{ team = \"ops\" }}\noverride = {overrides}\n"
        ))
    };
    let said = || {
        with(|call| {
            call.dimensions.service = some("desk");
            call.dimensions.team = some("a,b<c%");
        })
    };
    assert_eq!(applied(&rules(false), said()), (some("a,b<c%"), None, None));
    let mut call = said();
    rules(true).apply(&mut call);
    assert_eq!(call.dimensions.team, some("ops"));
    let recorded = Assignment::parse_list(call.allocated_by.as_deref().unwrap());
    assert_eq!((recorded.len(), recorded[0].was.as_deref()), (1, Some("a,b<c%")));
    let once = call.clone();
    rules(true).apply(&mut call);
    assert_eq!(call, once, "applying again changes nothing");
    take_back(&mut call);
    assert_eq!(call, said());
}

#[test]
fn a_rule_holds_from_its_first_instant_to_before_its_last() {
    let set = set(r#"
        [[rules]]
        name = "old"
        set = { team = "old" }
        valid_to = 2026-11-18T12:00:00Z
        [[rules]]
        name = "new"
        set = { team = "new" }
        valid_from = 2026-11-18T12:00:00Z
        valid_to = 2026-12-01
    "#);
    for (at_ns, expected) in [
        (NOON_NS - 1, Some("old")),
        (NOON_NS, Some("new")),
        (NOON_NS + 12 * 86_400_000_000_000 + 43_199_999_999_999, Some("new")),
        (NOON_NS + 12 * 86_400_000_000_000 + 43_200_000_000_000, None),
    ] {
        let (team, ..) = applied(&set, with(|call| call.start_ns = at_ns));
        assert_eq!(team.as_deref(), expected, "{at_ns}");
    }
}

#[test]
fn conditions_ask_patterns_lists_exceptions_and_missing_values() {
    let set = set(r#"
        [[rules]]
        name = "files"
        match = { resource_uri = "file:///srv/*/billing/*", server = ["files", "fs-*"] }
        unless = { user = "*bot*" }
        set = { project = "{server}", team = "payments" }
        [[rules]]
        name = "nobody"
        match = { user_id = "" }
        set = { team = "machines" }
    "#);
    let file = |user: &str| {
        with(|call| {
            call.mcp.resource_uri = some("file:///srv/eu/billing/a.csv");
            call.mcp.server = some("fs-eu");
            call.dimensions.user_id = (!user.is_empty()).then(|| user.to_owned());
        })
    };
    let mut call = file("ann");
    set.apply(&mut call);
    assert_eq!(
        (call.dimensions.team, call.dimensions.project),
        (some("payments"), some("fs-eu"))
    );
    assert_eq!(applied(&set, file("a-bot-7")).0, None);
    assert_eq!(applied(&set, with(|_| {})).0, some("machines"));
}

#[test]
fn the_decision_names_the_rule_and_why() {
    let set = set("[[rules]]\nname = \"ci\"\nmatch = { api_key = \"ci-*\" }\nset = { team = \"platform\" }\n");
    let mut ci = with(|call| {
        call.dimensions.api_key = some("ci-nightly");
        call.dimensions.project = some("desk");
    });
    let before = set.explain(&ci);
    set.apply(&mut ci);
    assert_eq!(set.explain(&ci), before, "it is told alike before and after");
    assert_eq!(before[0].rule.as_deref(), Some("ci"));
    assert_eq!(before[0].why, "api_key \"ci-nightly\" fits \"ci-*\"");
    assert_eq!(
        (before[1].rule.as_deref(), before[1].value.as_deref()),
        (None, Some("desk"))
    );
    assert_eq!(before[2].why, "no record says it and no rule matches");
}

#[test]
fn a_file_that_cannot_be_used_says_what_is_wrong() {
    for (text, expected) in [
        ("[[rules]]\nset = { team = \"a\" }", "missing field `name`"),
        ("[[rules]]\nname = \"a b\"\nset = { team = \"a\" }", "a name is 1 to 64"),
        (
            "[[rules]]\nname = \"a\"\nset = { owner = \"a\" }",
            "`owner` is not set by rules",
        ),
        ("[[rules]]\nname = \"a\"\nset = {}", "it sets nothing"),
        (
            "[[rules]]\nname = \"a\"\nmatch = { colour = \"a\" }\nset = { team = \"a\" }",
            "`colour` is no field",
        ),
        (
            "[[rules]]\nname = \"a\"\nmatch = { user = [] }\nset = { team = \"a\" }",
            "has no pattern",
        ),
        (
            "[[rules]]\nname = \"a\"\nset = { team = \"a\" }\nvalid_from = \"soon\"",
            "invalid date",
        ),
        (
            "[[rules]]\nname = \"a\"\nset = { team = \"a\" }\nvalid_from = 2026-11-02\nvalid_to = 2026-11-01",
            "is not before",
        ),
        (
            "[[rules]]\nname = \"a\"\nset = { team = \"a\" }\novveride = true",
            "unknown field `ovveride`",
        ),
        ("[[shared]]\nname = \"a\"\namount = \"much\"", "a number such as"),
        ("[[shared]]\nname = \"a\"\namount = 1\ncurrency = \"EUR\"", "in USD"),
        (
            "[[shared]]\nname = \"a\"\namount = 1\nper = \"week\"",
            "write month or day",
        ),
        (
            "[[shared]]\nname = \"a\"\namount = 1\nmethod = \"even\"\nshares = { x = 1 }",
            "has no shares",
        ),
        (
            "[[shared]]\nname = \"a\"\namount = 1\nmethod = \"fixed\"",
            "it has no shares",
        ),
        (
            "[[shared]]\nname = \"a\"\namount = 1\nshares = { x = 0 }",
            "a number above 0",
        ),
        (
            "[[shared]]\nname = \"a\"\namount = 1\nby = \"moon\"",
            "write one of team",
        ),
        (
            "[[shared]]\nname = \"a\"\namount = 1\nperiod = \"2026-13\"",
            "is no period",
        ),
        (
            "[[shared]]\nname = \"a\"\namount = 1\nvalid_from = 2026-11-01T10:00:00Z",
            "whole days",
        ),
        (
            "[[shared]]\nname = \"a\"\namount = 1\nmatch = { agent = \"x\" }",
            "it can ask server",
        ),
    ] {
        let error = read("test.toml", text).unwrap_err();
        assert!(error.message().contains(expected), "{text}\n{error}");
    }
    for (text, expected) in [
        (
            "[[rules]]\nname = \"a\"\nset = { team = \"a\" }\n[[rules]]\nname = \"a\"\nset = { team = \"b\" }",
            "two rules are named a",
        ),
        (
            "[[shared]]\nname = \"a\"\namount = 1\npools = { b = 10 }",
            "no shared cost is named b",
        ),
        (
            "[[shared]]\nname = \"a\"\namount = 1\n[[shared]]\nname = \"b\"\namount = 1\npools = { a = 10 }",
            "stands before it",
        ),
        (
            "[[shared]]\nname = \"a\"\namount = 1\npools = { b = 60, c = 60 }\n[[shared]]\nname = \"b\"\namount = 1\n[[shared]]\nname = \"c\"\namount = 1",
            "more than 100 %",
        ),
    ] {
        let error = RuleSet::compose("v1", &[read("test.toml", text).unwrap()]).unwrap_err();
        assert!(error.message().contains(expected), "{text}\n{error}");
    }
}

#[test]
fn hostile_values_do_not_break_what_is_recorded() {
    let set = set("[[rules]]\nname = \"r\"\nset = { team = \"{user_id}\" }\noverride = true\n");
    for hostile in [
        "team=x,project=y",
        "<",
        "%2C",
        "=",
        "\u{0}",
        "%",
        "a<b,c=d%3C",
        &"x".repeat(10_000),
    ] {
        let said = with(|call| {
            call.dimensions.team = some(hostile);
            call.dimensions.user_id = some(hostile);
        });
        let mut call = said.clone();
        set.apply(&mut call);
        assert_eq!(call.dimensions.team.as_deref(), Some(hostile));
        take_back(&mut call);
        assert_eq!(call, said, "{hostile}");
    }
}
