//! What the fold of a component has to know of other components: which usage was told ([`Coverage`]) and
//! which names are known in clear ([`Directory`]). A pure function of the observations learnt.

use spanledger_model::Observation;

use super::coverage::Coverage;
use super::names::Directory;

/// Knowledge beyond a component.
#[derive(Debug, Default)]
pub struct Context {
    /// Usage that records of calls told.
    pub coverage: Coverage,
    /// Names in clear.
    pub names: Directory,
}

impl Context {
    /// What a set of observations tells by itself.
    #[must_use]
    pub fn of(observations: &[Observation]) -> Self {
        let mut context = Self::default();
        for observation in observations {
            context.coverage.learn(observation);
            context.names.learn(observation);
        }
        context
    }

    /// Forgets what is older than a time, nanoseconds since the Unix epoch.
    pub fn forget_before(&mut self, time_ns: i64) {
        self.coverage.forget_before(time_ns);
        self.names.forget_before(time_ns);
    }
}
