//! JWTs: the header before anything is believed, then the signature, then nothing more. What the claims
//! mean is read in [`super::claims`].
//!
//! Refused before a key is looked for: `none` and every symmetric algorithm (a public key must never be
//! taken for a shared secret), critical extensions, tokens of another kind by their `typ` (ID tokens,
//! ID-JAGs, client assertions of RFC 9068 issuers, logout tokens).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, AlgorithmFamily, Validation};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::jwks::KeySet;

/// The claims of a token.
pub(super) type Claims = Map<String, Value>;

/// What is read of a header.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
    /// `typ` says that it is an access token; a mere `JWT` can be anything that the issuer signs.
    pub(super) is_typed: bool,
}

#[derive(Deserialize)]
struct RawHead {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

/// True for three parts with points between: a signed JWT, or something that wants to be one.
pub(super) fn is_jwt(token: &str) -> bool {
    token.split('.').count() == 3 && token.starts_with("ey")
}

/// Reads the header.
///
/// # Errors
/// Why it is refused, in words that hold nothing of it.
pub(super) fn head(token: &str) -> Result<Head, &'static str> {
    let raw: RawHead = part(token, 0).ok_or("its header cannot be read")?;
    if raw.crit.is_some() {
        return Err("it has critical extensions that this server does not know");
    }
    let algorithm: Algorithm = raw.alg.parse().map_err(|_| "its signature algorithm is not accepted")?;
    if algorithm.family() == AlgorithmFamily::Hmac {
        return Err("its signature algorithm is not accepted");
    }
    let typ = raw.typ.unwrap_or_default().to_ascii_lowercase();
    let is_typed = match typ.strip_prefix("application/").unwrap_or(&typ) {
        "at+jwt" => true,
        "jwt" | "" => false,
        _ => return Err("it is not an access token, by its type"),
    };
    Ok(Head {
        algorithm,
        key_id: raw.kid,
        is_typed,
    })
}

/// The issuer that an unverified token names: only to choose whose keys to verify it with.
pub(super) fn named_issuer(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        iss: String,
    }
    part::<Named>(token, 1).map(|named| named.iss)
}

/// Verifies the signature and returns the claims, none of which has been looked at.
pub(super) fn verify(token: &str, head: &Head, keys: &KeySet) -> Result<Claims, &'static str> {
    // claims are read in one place for JWTs and introspection, by this server's clock
    let mut validation = Validation::new(head.algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    let mut is_known = false;
    for key in keys.candidates(head.key_id.as_deref(), head.algorithm) {
        is_known = true;
        if let Ok(token) = jsonwebtoken::decode::<Claims>(token, key, &validation) {
            return Ok(token.claims);
        }
    }
    Err(if is_known {
        "its signature is wrong"
    } else {
        "the issuer has no key for its signature"
    })
}

fn part<T: serde::de::DeserializeOwned>(token: &str, index: usize) -> Option<T> {
    let bytes = URL_SAFE_NO_PAD.decode(token.split('.').nth(index)?).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_header_that_is_not_of_an_access_token_is_refused() {
        let head_of = |json: &str| head(&format!("{}.e30.c2ln", URL_SAFE_NO_PAD.encode(json)));
        assert!(head_of(r#"{"alg":"RS256","typ":"at+jwt","kid":"k"}"#).unwrap().is_typed);
        assert!(
            head_of(r#"{"alg":"ES256","typ":"application/AT+JWT"}"#)
                .unwrap()
                .is_typed
        );
        assert!(!head_of(r#"{"alg":"EdDSA","typ":"JWT"}"#).unwrap().is_typed);
        for refused in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"None","typ":"at+jwt"}"#,
            r#"{"alg":"HS256","typ":"at+jwt"}"#,
            r#"{"alg":"HS512"}"#,
            r#"{"alg":"RS256","crit":["b64"],"b64":false}"#,
            r#"{"alg":"RS256","typ":"oauth-id-jag+jwt"}"#,
            r#"{"alg":"RS256","typ":"logout+jwt"}"#,
            r#"{"alg":"RS256","typ":"dpop+jwt"}"#,
            r#"{"typ":"at+jwt"}"#,
            "[]",
        ] {
            assert!(head_of(refused).is_err(), "{refused}");
        }
        assert!(head("not.base64!.x").is_err() && named_issuer("a.b.c").is_none());
    }
}
