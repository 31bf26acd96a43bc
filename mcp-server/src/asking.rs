//! Asking a client's user: the questions of [`Confirmation`](crate::confirmation::Confirmation) as elicitation, and
//! the sealed `requestState` of a multi-round-trip request.
//!
//! The client sends `requestState` back, so it is untrusted: an HMAC over the state binds it to who asked, to the
//! method, the name and a digest of the arguments, and it expires. A retry with other arguments, by somebody else,
//! or late, is answered as one that was never asked. The key lives as long as the process: after a restart a
//! question is simply asked again.

use std::collections::BTreeMap;
use std::time::Duration;

use rmcp::model::{
    ElicitRequest, ElicitRequestParams, ElicitationSchema, ErrorData, InputRequest, InputResponses, RequestStateCodec,
    SealOptions,
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use spanledger_access::Principal;

use crate::client::Client;
use crate::confirmation::Question;

/// How long a person may think about a question.
const ANSWER_WITHIN: Duration = Duration::from_secs(15 * 60);
/// The question of a confirmation, in `inputRequests` and `inputResponses`.
const CONFIRM: &str = "confirm";
/// The page that shows what is confirmed, for clients that open addresses.
const REVIEW: &str = "review";

/// Seals and opens `requestState`. Clones have the same key.
#[derive(Clone)]
pub(crate) struct Seal(std::sync::Arc<RequestStateCodec>);

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

/// Whom and what a `requestState` is bound to.
pub(crate) struct Bound(Vec<u8>);

impl Bound {
    /// The request of `principal` for `method` of `name` with these arguments.
    pub(crate) fn to(principal: &Principal, method: &str, name: &str, arguments: &Value) -> Self {
        let mut digest = Sha256::new();
        for part in [&principal.owner(), method, name, &canonical(arguments)] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part.as_bytes());
        }
        Self(digest.finalize().to_vec())
    }
}

impl Seal {
    /// A seal with a key of its own.
    pub(crate) fn new() -> Self {
        let key: [u8; 32] = rand::random();
        Self(std::sync::Arc::new(RequestStateCodec::new_unchecked(key.to_vec())))
    }

    /// A state that only [`Self::open`] with the same bound accepts, for [`ANSWER_WITHIN`].
    pub(crate) fn seal(&self, bound: &Bound, state: &Value) -> String {
        let options = SealOptions::new().associated_data(&bound.0).ttl(ANSWER_WITHIN);
        self.0.seal_with(state.to_string().as_bytes(), &options)
    }

    /// The state of a retry.
    ///
    /// # Errors
    /// `-32602`, the same for whatever is wrong with it.
    pub(crate) fn open(&self, bound: &Bound, sealed: &str) -> Result<Value, ErrorData> {
        let opened = self.0.open_with(sealed, &bound.0).ok();
        opened
            .and_then(|state| serde_json::from_slice(&state).ok())
            .ok_or_else(|| {
                ErrorData::invalid_params(
                    "requestState is not of this request, or too old; send the request again without it",
                    None,
                )
            })
    }
}

/// JSON with sorted keys: the same arguments in any order are the same request.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<&String, String> =
                fields.iter().map(|(name, value)| (name, canonical(value))).collect();
            let fields: Vec<String> = sorted
                .into_iter()
                .map(|(name, value)| format!("{}:{value}", Value::from(name.as_str())))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(values) => format!("[{}]", values.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

/// The question as a form; where the client also opens addresses, with the page that shows what is confirmed.
pub(crate) fn requests(question: &Question, client: &Client) -> Vec<(String, InputRequest)> {
    let mut requests = vec![(CONFIRM.to_owned(), form(&question.message))];
    if let Some(url) = question.url.clone().filter(|_| client.elicitation_url) {
        let params = ElicitRequestParams::UrlElicitationParams {
            meta: None,
            message: "what is to be confirmed, in the dashboard".to_owned(),
            url,
            elicitation_id: String::new(),
        };
        requests.push((REVIEW.to_owned(), InputRequest::Elicitation(ElicitRequest::new(params))));
    }
    requests
}

/// A form with one tick box.
pub(crate) fn form(message: &str) -> InputRequest {
    let schema = ElicitationSchema::builder()
        .required_bool(CONFIRM)
        .build()
        .unwrap_or_else(|_| ElicitationSchema::new(BTreeMap::new()));
    InputRequest::Elicitation(ElicitRequest::new(ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: message.to_owned(),
        requested_schema: schema,
    }))
}

/// What the user said: `None` where the response is missing, so that the question is asked again.
pub(crate) fn said(responses: &InputResponses) -> Option<bool> {
    responses.get(CONFIRM).map(is_yes)
}

/// True for an accepted form whose box is ticked. Everything else is no.
pub(crate) fn is_yes(response: &Value) -> bool {
    response["action"] == "accept" && response["content"][CONFIRM] == true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_request_state_is_good_for_its_asker_and_request_only() {
        let seal = Seal::new();
        let alice = Principal::local();
        let bob = Principal::local_of("other");
        let arguments = json!({ "name": "q4", "amount": "5", "scope": { "team": "a", "tool": "b" } });
        let bound = Bound::to(&alice, "tools/call", "set_budget", &arguments);
        let state = seal.seal(&bound, &json!({ "asked": "confirm" }));
        let reordered = json!({ "scope": { "tool": "b", "team": "a" }, "amount": "5", "name": "q4" });
        let same = Bound::to(&alice, "tools/call", "set_budget", &reordered);
        assert_eq!(seal.open(&same, &state).unwrap(), json!({ "asked": "confirm" }));
        let others = [
            Bound::to(&bob, "tools/call", "set_budget", &arguments),
            Bound::to(&alice, "tools/call", "set_allocation_rule", &arguments),
            Bound::to(&alice, "prompts/get", "set_budget", &arguments),
            Bound::to(
                &alice,
                "tools/call",
                "set_budget",
                &json!({ "name": "q4", "amount": "6" }),
            ),
        ];
        for other in &others {
            assert!(seal.open(other, &state).is_err());
        }
        assert!(Seal::new().open(&same, &state).is_err(), "another key");
        let mut tampered = state.clone();
        tampered.replace_range(6..7, if &state[6..7] == "A" { "B" } else { "A" });
        assert!(seal.open(&same, &tampered).is_err());
    }

    #[test]
    fn only_an_accepted_ticked_form_is_a_yes() {
        assert!(is_yes(&json!({ "action": "accept", "content": { "confirm": true } })));
        for no in [
            json!({ "action": "accept", "content": { "confirm": false } }),
            json!({ "action": "accept", "content": { "confirm": "true" } }),
            json!({ "action": "accept" }),
            json!({ "action": "decline", "content": { "confirm": true } }),
            json!(true),
        ] {
            assert!(!is_yes(&no), "{no}");
        }
        assert_eq!(said(&InputResponses::new()), None);
    }
}
