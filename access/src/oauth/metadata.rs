//! Discovery: where an issuer's keys and endpoints are, from the documents that it publishes.
//!
//! RFC 8414 first (`/.well-known/oauth-authorization-server`, the issuer's path behind it), then OpenID
//! Connect in both places that are in use. What a document says counts only if its `issuer` is the one that
//! is configured, letter for letter: otherwise one issuer could speak for another (RFC 8414 section 3.3).

use serde_json::Value;
use url::Url;

use super::http::Fetcher;
use super::settings::checked_url;
use crate::AccessError;

/// What is used of an issuer's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Metadata {
    /// Where its keys are.
    pub(super) jwks_uri: Option<String>,
    /// Where it is asked about opaque tokens.
    pub(super) introspection_endpoint: Option<String>,
}

/// Asks an issuer what it publishes.
pub(super) async fn discover(fetcher: &Fetcher, issuer: &str) -> Result<Metadata, AccessError> {
    for place in places(issuer)? {
        if let Some(document) = fetcher.get(&place).await? {
            return read(issuer, &place, &document);
        }
    }
    Err(AccessError::Unavailable(format!(
        "the OAuth issuer {issuer} publishes no metadata; set jwks_url for it, or correct the issuer"
    )))
}

/// The addresses of an issuer's metadata, in the order they are asked.
fn places(issuer: &str) -> Result<Vec<String>, AccessError> {
    let url = checked_url(issuer).map_err(AccessError::Unavailable)?;
    let origin = url.origin().ascii_serialization();
    let path = url.path().trim_end_matches('/');
    let mut places = vec![
        format!("{origin}/.well-known/oauth-authorization-server{path}"),
        format!("{origin}{path}/.well-known/openid-configuration"),
    ];
    if !path.is_empty() {
        places.push(format!("{origin}/.well-known/openid-configuration{path}"));
    }
    Ok(places)
}

fn read(issuer: &str, place: &str, document: &Value) -> Result<Metadata, AccessError> {
    let said = document["issuer"].as_str().unwrap_or_default();
    if said != issuer {
        return Err(AccessError::Unavailable(format!(
            "the metadata at {place} is of another issuer than {issuer}; configure the issuer exactly as it writes itself"
        )));
    }
    let endpoint = |name: &str| document[name].as_str().map(str::to_owned);
    let metadata = Metadata {
        jwks_uri: endpoint("jwks_uri"),
        introspection_endpoint: endpoint("introspection_endpoint"),
    };
    for url in [&metadata.jwks_uri, &metadata.introspection_endpoint]
        .into_iter()
        .flatten()
    {
        let url: Result<Url, String> = checked_url(url);
        url.map_err(|why| AccessError::Unavailable(format!("the metadata of {issuer}: {why}")))?;
    }
    Ok(metadata)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_issuer_with_a_path_is_asked_in_three_places() {
        assert_eq!(
            places("https://idp.example/realms/a/").unwrap(),
            [
                "https://idp.example/.well-known/oauth-authorization-server/realms/a",
                "https://idp.example/realms/a/.well-known/openid-configuration",
                "https://idp.example/.well-known/openid-configuration/realms/a",
            ]
        );
        assert_eq!(places("https://idp.example").unwrap().len(), 2);
    }

    #[test]
    fn metadata_of_another_issuer_is_not_believed() {
        let document = serde_json::json!({"issuer": "https://idp.example/", "jwks_uri": "https://idp.example/keys"});
        assert!(read("https://idp.example", "x", &document).is_err());
        let read = read("https://idp.example/", "x", &document).unwrap();
        assert_eq!(read.jwks_uri.as_deref(), Some("https://idp.example/keys"));
        let document = serde_json::json!({"issuer": "https://a.example", "jwks_uri": "http://a.example/keys"});
        assert!(super::read("https://a.example", "x", &document).is_err());
    }
}
