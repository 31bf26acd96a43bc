//! Traces: spans and calls in one tree, with own and total cost.

use spanledger_access::Principal;
use spanledger_model::TraceId;

use super::{Fixture, trace_id};
use crate::error::ErrorKind;

#[tokio::test]
async fn a_trace_is_a_tree_of_spans_and_calls_with_costs() {
    let fixture = Fixture::filled().await;
    let tree = fixture.engine.trace(&Principal::local(), trace_id()).await.unwrap();
    let shown: Vec<String> = tree
        .nodes
        .iter()
        .map(|node| {
            let cost = |cost: Option<spanledger_model::FemtoUsd>| cost.map_or("-".to_owned(), |cost| cost.to_string());
            format!(
                "{}{} {} {} {}",
                " ".repeat(node.depth),
                node.name,
                node.kind,
                cost(node.own_cost),
                cost(node.total_cost)
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "mine 1 agent - 0.107200500000001",
            " mine 2 claude-sonnet-4-5 llm 0.0072005 0.0072005",
            " mine 3 search tool - 0.100000000000001",
            "  mine 4 claude-sonnet-4-5 llm 0.100000000000001 0.100000000000001",
            " mine 9 span - -",
        ]
    );
    assert_eq!(tree.total_cost.unwrap().to_string(), "0.107200500000001");
    assert_eq!((tree.n_spans, tree.truncated, tree.unpriced_calls), (5, false, 0));
    let tool = &tree.nodes[2];
    assert_eq!(
        (tool.status.as_str(), tool.error_type.as_deref()),
        ("error", Some("tool_error"))
    );
    assert!(
        tool.fields.contains(&("server", "tickets".to_owned())),
        "{:?}",
        tool.fields
    );
    let json = serde_json::to_value(&tree).unwrap();
    assert_eq!(json["nodes"][2]["server"], "tickets");
    assert_eq!(json["total_cost"], "0.107200500000001");
}

#[tokio::test]
async fn an_unpriced_trace_has_no_cost_and_says_so() {
    let fixture = Fixture::filled().await;
    let tree = fixture
        .engine
        .trace(&Principal::local(), TraceId([8; 16]))
        .await
        .unwrap();
    assert_eq!((tree.total_cost, tree.unpriced_calls), (None, 1));
}

#[tokio::test]
async fn an_unknown_trace_is_not_found() {
    let fixture = Fixture::filled().await;
    let error = fixture
        .engine
        .trace(&Principal::local(), TraceId([1; 16]))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}
