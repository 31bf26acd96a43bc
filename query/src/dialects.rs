//! What the query crate asks about dialects: whose records these are, and which keys are read.
//!
//! Dialects live in `ingest`, which this crate does not know; the binary, where both meet, hands an engine
//! something that answers. The SQL functions over it are in [`crate::functions`], the views in
//! [`crate::evidence`]. It reads no record and changes nothing.

/// Answers about dialects. Every method is called once a group or a row of a query: it must be quick.
pub trait Dialects: Send + Sync + 'static {
    /// The dialect that claims records of this scope and service; `None` where none does and the
    /// conventions read them.
    fn dialect_of(&self, scope: &str, service: Option<&str>) -> Option<String>;

    /// The canonical field that a key feeds there; `ignored` for one that is known to mean nothing; `None`
    /// for one that nobody reads.
    fn field_of(&self, scope: &str, service: Option<&str>, key: &str) -> Option<&'static str>;

    /// The canonical field that a key looks like, by its name.
    fn usage_like(&self, key: &str) -> Option<&'static str>;
}

/// No dialects: nothing is claimed and no key is known. For tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoDialects;

impl Dialects for NoDialects {
    fn dialect_of(&self, _scope: &str, _service: Option<&str>) -> Option<String> {
        None
    }

    fn field_of(&self, _scope: &str, _service: Option<&str>, _key: &str) -> Option<&'static str> {
        None
    }

    fn usage_like(&self, _key: &str) -> Option<&'static str> {
        None
    }
}
