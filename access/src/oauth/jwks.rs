//! An issuer's keys: fetched when first needed, kept for minutes, fetched again when a token names a key
//! that is not among them.
//!
//! Rotation: a new key is known with the first token that it signs, and a key that the issuer took away is
//! gone with the same fetch, at the latest after [`FRESH`]. Keys are fetched again in the background at half
//! that age, so an outage of the issuer shorter than the other half is not noticed; after it every token is
//! answered "unavailable", never "allowed". Strangers can make this server fetch by naming unknown keys,
//! therefore such fetches are few ([`ALLOWANCE`]), one at a time, and a failure is remembered for a moment.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use parking_lot::Mutex;
use serde_json::Value;
use spanledger_model::Clock;

use super::http::Fetcher;
use super::metadata;
use crate::AccessError;

/// How long fetched keys are believed: a key that was taken away is refused by then.
pub(super) const FRESH: Duration = Duration::from_secs(600);
/// A fetch that failed is not tried again before this, so that a dead issuer does not hold up every request.
const FAILED_FOR: Duration = Duration::from_secs(2);
/// Fetches for the sake of unknown keys, in one [`ALLOWANCE_PER`].
pub(super) const ALLOWANCE: u32 = 5;
/// The time in which [`ALLOWANCE`] grows back.
const ALLOWANCE_PER: Duration = Duration::from_secs(60);
/// Keys that are read of one set. Large issuers publish about ten.
const KEYS_MAX: usize = 64;

/// One key, and what it may verify.
struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// The keys of an issuer at one time.
pub(super) struct KeySet {
    keys: Vec<Key>,
}

impl KeySet {
    /// Reads a JWK set. Keys that cannot verify signatures here are left out.
    fn read(document: &Value) -> Option<Self> {
        let keys = document["keys"].as_array()?;
        Some(Self {
            keys: keys.iter().take(KEYS_MAX).filter_map(read_key).collect(),
        })
    }

    fn has(&self, id: &str) -> bool {
        self.keys.iter().any(|key| key.id.as_deref() == Some(id))
    }

    /// The keys that may have made a signature: of this id, if the token names one, and this algorithm.
    pub(super) fn candidates(&self, id: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &DecodingKey> {
        self.keys
            .iter()
            .filter(move |key| id.is_none() || key.id.as_deref() == id)
            .filter(move |key| key.algorithms.contains(&algorithm))
            .map(|key| &key.key)
    }
}

/// Names no key: they are public, and many.
impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeySet({} keys)", self.keys.len())
    }
}

/// A key for signatures, bound to the algorithms of its type: what a token's header says is never enough.
fn read_key(key: &Value) -> Option<Key> {
    let key: Jwk = serde_json::from_value(key.clone()).ok()?;
    if !matches!(key.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    if let Some(operations) = &key.common.key_operations
        && !operations.contains(&KeyOperations::Verify)
    {
        return None;
    }
    let mut algorithms = match &key.algorithm {
        AlgorithmParameters::RSA(_) => vec![
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ],
        AlgorithmParameters::EllipticCurve(parameters) => match parameters.curve {
            EllipticCurve::P256 => vec![Algorithm::ES256],
            EllipticCurve::P384 => vec![Algorithm::ES384],
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(parameters) if parameters.curve == EllipticCurve::Ed25519 => {
            vec![Algorithm::EdDSA]
        }
        // a symmetric key in a published set is a mistake of the issuer, not a key
        _ => return None,
    };
    if let Some(algorithm) = key.common.key_algorithm {
        algorithms.retain(|allowed| KeyAlgorithm::from(*allowed) == algorithm);
    }
    Some(Key {
        id: key.common.key_id.clone(),
        algorithms,
        key: DecodingKey::from_jwk(&key).ok()?,
    })
}

/// The keys of one issuer over time.
#[derive(Debug)]
pub(super) struct Keys {
    issuer: String,
    jwks_url: Option<String>,
    fetcher: Fetcher,
    clock: Arc<dyn Clock>,
    known: Mutex<Known>,
    /// Held while fetching: one fetch at a time.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    keys: Option<Arc<KeySet>>,
    fetched_ns: i64,
    /// The last fetch failed, then, with this.
    failed: Option<(i64, AccessError)>,
    /// How many fetches have ended, so that whoever waited for one sees that it has.
    n_fetches: u64,
    is_renewing: bool,
    spent: u32,
    spent_since_ns: i64,
    /// That the allowance is used up is in the log.
    is_told: bool,
}

impl Keys {
    pub(super) fn new(issuer: &str, jwks_url: Option<&str>, fetcher: Fetcher, clock: Arc<dyn Clock>) -> Self {
        Self {
            issuer: issuer.to_owned(),
            jwks_url: jwks_url.map(str::to_owned),
            fetcher,
            clock,
            known: Mutex::default(),
            fetching: tokio::sync::Mutex::new(()),
        }
    }

    /// The keys among which that of a token is, if the issuer has it.
    ///
    /// # Errors
    /// [`AccessError::Unavailable`] where there are no fresh keys and the issuer does not give any.
    pub(super) async fn get(self: &Arc<Self>, id: Option<&str>) -> Result<Arc<KeySet>, AccessError> {
        let (seen, fresh) = {
            let known = self.known.lock();
            (known.n_fetches, self.fresh(&known))
        };
        let Some((keys, age)) = fresh else {
            return self.fetch(seen).await;
        };
        if id.is_some_and(|id| !keys.has(id)) {
            if self.may_fetch() {
                return self.fetch_for_unknown(seen).await;
            }
        } else if age > FRESH / 2 && !std::mem::replace(&mut self.known.lock().is_renewing, true) {
            let this = Arc::clone(self);
            tokio::spawn(async move {
                // a failure is in the log, and the keys stay fresh for as long again
                let _later = this.fetch(seen).await;
                this.known.lock().is_renewing = false;
            });
        }
        Ok(keys)
    }

    /// The keys fetched again, for a token that names no key and fits none; `None` if that was often of late.
    pub(super) async fn get_again(&self) -> Result<Option<Arc<KeySet>>, AccessError> {
        let seen = self.known.lock().n_fetches;
        if !self.may_fetch() {
            return Ok(None);
        }
        self.fetch_for_unknown(seen).await.map(Some)
    }

    fn fresh(&self, known: &Known) -> Option<(Arc<KeySet>, Duration)> {
        let age = self.since(known.fetched_ns);
        let keys = known.keys.as_ref().filter(|_| age < FRESH)?;
        Some((Arc::clone(keys), age))
    }

    fn since(&self, then_ns: i64) -> Duration {
        Duration::from_nanos(u64::try_from(self.clock.now_ns() - then_ns).unwrap_or(0))
    }

    /// True while unknown keys are worth another fetch.
    fn may_fetch(&self) -> bool {
        let mut known = self.known.lock();
        if self.since(known.spent_since_ns) > ALLOWANCE_PER {
            (known.spent, known.spent_since_ns) = (0, self.clock.now_ns());
            known.is_told = false;
        }
        let may = known.spent < ALLOWANCE;
        // Once in that time: strangers choose how often they ask.
        if !may && !std::mem::replace(&mut known.is_told, true) {
            tracing::warn!(
                issuer = self.issuer,
                "tokens name unknown keys; the issuer is not asked each time"
            );
        }
        may
    }

    /// Takes one of the few fetches that unknown keys are worth. A failed one is not counted: [`FAILED_FOR`] bounds
    /// those, and an issuer that comes back with new keys is to be asked then.
    async fn fetch_for_unknown(&self, seen: u64) -> Result<Arc<KeySet>, AccessError> {
        let keys = self.fetch(seen).await?;
        self.known.lock().spent += 1;
        Ok(keys)
    }

    /// Fetches, unless somebody else did since `seen`.
    async fn fetch(&self, seen: u64) -> Result<Arc<KeySet>, AccessError> {
        let _one = self.fetching.lock().await;
        {
            let known = self.known.lock();
            if let Some((at, error)) = &known.failed
                && self.since(*at) < FAILED_FOR
            {
                return Err(error.clone());
            }
            if known.n_fetches != seen
                && let Some((keys, _)) = self.fresh(&known)
            {
                return Ok(keys);
            }
        }
        let outcome = self.ask().await;
        let mut known = self.known.lock();
        known.n_fetches += 1;
        match outcome {
            Ok(keys) => {
                let keys = Arc::new(keys);
                known.keys = Some(Arc::clone(&keys));
                known.fetched_ns = self.clock.now_ns();
                known.failed = None;
                Ok(keys)
            }
            Err(error) => {
                known.failed = Some((self.clock.now_ns(), error.clone()));
                Err(error)
            }
        }
    }

    async fn ask(&self) -> Result<KeySet, AccessError> {
        let url = match &self.jwks_url {
            Some(url) => url.clone(),
            None => {
                let metadata = metadata::discover(&self.fetcher, &self.issuer).await?;
                metadata.jwks_uri.ok_or_else(|| {
                    AccessError::Unavailable(format!("the OAuth issuer {} publishes no keys", self.issuer))
                })?
            }
        };
        let document = self.fetcher.get(&url).await?;
        let keys = document.as_ref().and_then(KeySet::read);
        keys.ok_or_else(|| AccessError::Unavailable(format!("there is no JWK set at {url}")))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_key_verifies_what_its_type_and_use_allow() {
        let rsa = |more: Value| {
            let mut key = serde_json::json!({"kty": "RSA", "kid": "r", "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw", "e": "AQAB"});
            key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            KeySet::read(&serde_json::json!({"keys": [key]})).unwrap()
        };
        let any = rsa(serde_json::json!({}));
        assert_eq!(any.candidates(Some("r"), Algorithm::RS256).count(), 1);
        assert_eq!(any.candidates(None, Algorithm::PS512).count(), 1);
        assert_eq!(any.candidates(Some("other"), Algorithm::RS256).count(), 0);
        for refused in [Algorithm::HS256, Algorithm::ES256, Algorithm::EdDSA] {
            assert_eq!(any.candidates(Some("r"), refused).count(), 0, "{refused:?}");
        }
        let bound = rsa(serde_json::json!({"alg": "PS256", "use": "sig"}));
        assert_eq!(bound.candidates(None, Algorithm::RS256).count(), 0);
        assert_eq!(bound.candidates(None, Algorithm::PS256).count(), 1);
        assert!(rsa(serde_json::json!({"use": "enc"})).keys.is_empty());
        assert!(
            rsa(serde_json::json!({"alg": "RSA-OAEP"}))
                .candidates(None, Algorithm::RS256)
                .next()
                .is_none()
        );
        let symmetric = serde_json::json!({"keys": [{"kty": "oct", "k": "c2VjcmV0"}, {"kty": "future"}, 3]});
        assert!(KeySet::read(&symmetric).unwrap().keys.is_empty());
    }
}
