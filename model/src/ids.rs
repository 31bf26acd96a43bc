//! Identifiers. Each is a newtype, so that a trace id is never taken for a call id.

use std::fmt;
use std::sync::Arc;

macro_rules! binary_id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Reads exactly the identifier's number of bytes; anything else, and all zeroes, is absent.
            #[must_use]
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                let id = Self(bytes.try_into().ok()?);
                id.0.iter().any(|byte| *byte != 0).then_some(id)
            }

            /// Reads the hexadecimal form, in either case.
            #[must_use]
            pub fn from_hex(text: &str) -> Option<Self> {
                Self::from_slice(&hex::decode(text).ok()?)
            }

            /// The identifier's bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

binary_id!(
    /// W3C trace id, 16 bytes, written as 32 hex digits.
    TraceId, 16
);
binary_id!(
    /// W3C span id, 8 bytes, written as 16 hex digits.
    SpanId, 8
);
binary_id!(
    /// Identity of one observation: a hash of the record it was read from (see [`crate::observation`]).
    ObservationId, 16
);
binary_id!(
    /// Identity of one logical operation, derived from its anchor observation, stable over re-settlement.
    CallId, 16
);
binary_id!(
    /// Identity of one ledger line.
    LineId, 16
);

/// A 128-bit content hash for identifiers: XXH3 over the parts, each framed by its length.
#[must_use]
pub fn hash_parts(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.digest128().to_be_bytes()
}

/// A 128-bit hash of a value, for comparison within one process: not stable over versions of Rust.
#[must_use]
pub fn content_hash(value: &impl std::hash::Hash) -> [u8; 16] {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    value.hash(&mut hasher);
    hasher.digest128().to_be_bytes()
}

/// The isolation boundary: who owns a row. It comes from a credential only, so `access` is the one
/// place that makes one from outside input; storage reads back what was stored.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// The tenant of a credential. Called by `access` and by readers of stored rows only
    /// (`cargo xtask tidy` checks it).
    #[must_use]
    pub fn from_credential(name: &str) -> Self {
        Self(Arc::from(name))
    }

    /// The tenant's name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantId({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_all_zero_trace_id_is_absent() {
        assert_eq!(TraceId::from_slice(&[0; 16]), None);
        assert_eq!(TraceId::from_slice(&[1; 15]), None);
    }

    #[test]
    fn hex_is_read_in_either_case_and_written_in_lower() {
        let id = SpanId::from_hex("00F067AA0BA902B7").map(|id| id.to_string());
        assert_eq!(id.as_deref(), Some("00f067aa0ba902b7"));
    }

    #[test]
    fn hashed_parts_do_not_run_together() {
        assert_ne!(hash_parts(&[b"ab", b"c"]), hash_parts(&[b"a", b"bc"]));
    }
}
