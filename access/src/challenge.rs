//! What a refused client is told: `WWW-Authenticate` challenges (RFC 6750, RFC 9728, the step-up of MCP) and
//! the metadata document that they point to.
//!
//! A client that sent nothing learns where to get a token and which scope to ask for; one whose token is no
//! good learns just that; one that lacks scopes learns all that this request needs, at once, so that it can
//! ask its user once. The document is public: it names issuers and scopes, nothing of any tenant.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::oauth::{MCP_PATH, OAuthSettings};
use crate::routes::{Need, RouteRule};
use crate::{AccessError, Scope, Scopes};

/// Path of the metadata of the whole server (RFC 9728 section 3).
pub const METADATA_ROOT: &str = "/.well-known/oauth-protected-resource";
/// Path of the metadata of the MCP endpoint: the well-known part is inserted before the resource's path.
pub const METADATA_MCP: &str = "/.well-known/oauth-protected-resource/mcp";

/// The routes of the metadata documents.
pub const ROUTES: &[RouteRule] = &[
    RouteRule::new("GET", METADATA_ROOT, Need::Public),
    RouteRule::new("GET", METADATA_MCP, Need::Public),
];

/// Name of the protection space in challenges.
const REALM: &str = "spanledger";

/// The scopes of the MCP tools. Clients ask their users for all that are listed if a challenge names none.
const MCP_SCOPES: [Scope; 4] = [
    Scope::CostsRead,
    Scope::PayloadsRead,
    Scope::SqlRead,
    Scope::FinopsWrite,
];

/// Writes challenges and metadata. Clones are cheap.
#[derive(Debug, Clone, Default)]
pub struct Challenges {
    oauth: Option<Arc<Advertised>>,
}

#[derive(Debug)]
struct Advertised {
    base: String,
    issuers: Vec<String>,
    scope_prefix: String,
    documentation: Option<String>,
}

impl Challenges {
    /// Of a server without OAuth: API keys only.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Of a server at `public_url` that takes tokens of these issuers; without issuers as [`Self::none`].
    #[must_use]
    pub fn for_oauth(settings: &OAuthSettings, public_url: &str) -> Self {
        if settings.is_empty() {
            return Self::none();
        }
        Self {
            oauth: Some(Arc::new(Advertised {
                base: public_url.trim_end_matches('/').to_owned(),
                issuers: settings.issuers.iter().map(|issuer| issuer.issuer.clone()).collect(),
                scope_prefix: settings.scope_prefix.clone(),
                documentation: settings.documentation.clone(),
            })),
        }
    }

    /// `WWW-Authenticate` of the 401 for a request to `path`. `had_credential`: it brought one that is no
    /// good. The scope is what a client should ask for first; more comes by step-up.
    #[must_use]
    pub fn unauthenticated(&self, path: &str, had_credential: bool) -> String {
        let first = if is_mcp(path) {
            Scopes::of(&[Scope::CostsRead])
        } else {
            Scopes::NONE
        };
        self.unauthenticated_for(path, had_credential, first)
    }

    /// The same with the scopes that the route needs, where they are known.
    #[must_use]
    pub fn unauthenticated_for(&self, path: &str, had_credential: bool, needed: Scopes) -> String {
        let error = had_credential.then_some((
            "invalid_token",
            "the credential is missing, expired, revoked or not for this server",
        ));
        self.write(path, error, needed)
    }

    /// `WWW-Authenticate` of the 403 for a request that needs scopes which its token has not: all of them.
    #[must_use]
    pub fn insufficient(&self, path: &str, needed: Scopes) -> String {
        self.write(
            path,
            Some(("insufficient_scope", "the request needs a token with these scopes")),
            needed,
        )
    }

    /// The challenge that belongs to an error, if one does: a 403 for a person without a role and a 503 have
    /// none, for another token would not help.
    #[must_use]
    pub fn of(&self, path: &str, had_credential: bool, error: &AccessError) -> Option<String> {
        match error {
            AccessError::Unauthenticated(_) => Some(self.unauthenticated(path, had_credential)),
            AccessError::InsufficientScope { needed } => Some(self.insufficient(path, *needed)),
            _ => None,
        }
    }

    /// The metadata document (RFC 9728) at [`METADATA_ROOT`] or [`METADATA_MCP`]; `None` without OAuth.
    #[must_use]
    pub fn metadata(&self, path: &str) -> Option<Value> {
        let oauth = self.oauth.as_ref()?;
        let of_mcp = path == METADATA_MCP;
        let scopes: Vec<String> = if of_mcp {
            MCP_SCOPES.to_vec()
        } else {
            Scope::ALL.to_vec()
        }
        .into_iter()
        .map(|scope| format!("{}{}", oauth.scope_prefix, scope.name()))
        .collect();
        let resource = if of_mcp {
            format!("{}{MCP_PATH}", oauth.base)
        } else {
            oauth.base.clone()
        };
        let mut document = json!({
            "resource": resource,
            "resource_name": "Spanledger",
            "authorization_servers": oauth.issuers,
            "scopes_supported": scopes,
            "bearer_methods_supported": ["header"],
        });
        if let Some(page) = &oauth.documentation {
            document["resource_documentation"] = json!(page);
        }
        Some(document)
    }

    fn write(&self, path: &str, error: Option<(&str, &str)>, scopes: Scopes) -> String {
        // every value is ours or of the settings; quoted-string needs no more than these two
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let mut challenge = format!("Bearer realm=\"{REALM}\"");
        if let Some((code, description)) = error {
            let _infallible = write!(challenge, ", error=\"{code}\", error_description=\"{description}\"");
        }
        let prefix = self.oauth.as_ref().map_or("", |oauth| oauth.scope_prefix.as_str());
        let names: Vec<String> = asked_for(scopes)
            .map(|scope| format!("{prefix}{}", scope.name()))
            .collect();
        if !names.is_empty() {
            let _infallible = write!(challenge, ", scope=\"{}\"", quoted(&names.join(" ")));
        }
        if let Some(oauth) = &self.oauth {
            let place = if is_mcp(path) { METADATA_MCP } else { METADATA_ROOT };
            let _infallible = write!(challenge, ", resource_metadata=\"{}{place}\"", quoted(&oauth.base));
        }
        challenge
    }
}

/// `admin` holds every other scope, and asking for it is enough to ask of anybody.
fn asked_for(scopes: Scopes) -> impl Iterator<Item = Scope> {
    scopes
        .iter()
        .filter(move |scope| *scope == Scope::Admin || !scopes.has(Scope::Admin))
}

fn is_mcp(path: &str) -> bool {
    path == MCP_PATH || path.starts_with("/mcp/")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::oauth::IssuerSettings;

    fn challenges() -> Challenges {
        let settings = OAuthSettings {
            issuers: vec![IssuerSettings::of_tenant("https://idp.example", "acme")],
            ..OAuthSettings::default()
        };
        Challenges::for_oauth(&settings, "https://us.example/")
    }

    #[test]
    fn a_challenge_says_what_to_do_next() {
        let challenges = challenges();
        assert_eq!(
            challenges.unauthenticated("/mcp", false),
            "Bearer realm=\"spanledger\", scope=\"costs:read\", \
             resource_metadata=\"https://us.example/.well-known/oauth-protected-resource/mcp\""
        );
        let bad = challenges.unauthenticated("/api/v1/costs", true);
        assert!(
            bad.contains("error=\"invalid_token\"") && bad.ends_with("/oauth-protected-resource\""),
            "{bad}"
        );
        let more = challenges.insufficient("/mcp", Scopes::of(&[Scope::SqlRead, Scope::PayloadsRead]));
        assert!(
            more.contains("error=\"insufficient_scope\"")
                && more.contains("scope=\"costs:read payloads:read sql:read\"")
                && more.contains("resource_metadata="),
            "{more}"
        );
        assert_eq!(
            Challenges::none().unauthenticated("/mcp", false),
            "Bearer realm=\"spanledger\", scope=\"costs:read\""
        );
        assert!(Challenges::none().metadata(METADATA_MCP).is_none());
        assert_eq!(
            challenges.of("/mcp", true, &AccessError::Unavailable(String::new())),
            None
        );
    }

    #[test]
    fn the_metadata_names_the_resource_that_its_path_was_made_of() {
        let of = |path: &str| challenges().metadata(path).unwrap();
        assert_eq!(of(METADATA_MCP)["resource"], "https://us.example/mcp");
        assert_eq!(of(METADATA_ROOT)["resource"], "https://us.example");
        assert_eq!(
            of(METADATA_MCP)["authorization_servers"],
            json!(["https://idp.example"])
        );
        assert_eq!(of(METADATA_MCP)["bearer_methods_supported"], json!(["header"]));
        assert!(
            !of(METADATA_MCP)["scopes_supported"]
                .as_array()
                .unwrap()
                .contains(&json!("admin"))
        );
        assert!(
            of(METADATA_ROOT)["scopes_supported"]
                .as_array()
                .unwrap()
                .contains(&json!("telemetry:write"))
        );
    }
}
