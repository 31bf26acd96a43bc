//! Which of the costs that are known for a call is charged.

use std::fmt;
use std::str::FromStr;

/// A cost that a call may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CostBasis {
    /// By the contract's price.
    Contract,
    /// As the record itself says.
    Reported,
    /// By the list price.
    List,
}

/// The order in which they are charged: the first that is known. What is not named is never charged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CostOrder(Vec<CostBasis>);

impl CostBasis {
    const ALL: [Self; 3] = [Self::Contract, Self::Reported, Self::List];

    /// Its name in settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Contract => "contract",
            Self::Reported => "reported",
            Self::List => "list",
        }
    }
}

impl CostOrder {
    /// The costs, first first.
    pub fn iter(&self) -> impl Iterator<Item = CostBasis> + '_ {
        self.0.iter().copied()
    }

    /// Without one of them.
    #[must_use]
    pub fn without(&self, basis: CostBasis) -> Self {
        Self(self.iter().filter(|kept| *kept != basis).collect())
    }
}

impl Default for CostOrder {
    /// What was agreed, else what the record says, else the list price.
    fn default() -> Self {
        Self(CostBasis::ALL.to_vec())
    }
}

impl FromStr for CostOrder {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut order = Vec::new();
        for name in text.split(',').map(str::trim) {
            let basis = CostBasis::ALL.into_iter().find(|basis| basis.as_str() == name);
            let basis = basis.ok_or_else(|| {
                format!("{name:?} is no cost; write the order of contract, reported and list, such as contract,reported,list")
            })?;
            if order.contains(&basis) {
                return Err(format!("{name} stands twice"));
            }
            order.push(basis);
        }
        Ok(Self(order))
    }
}

impl fmt::Display for CostOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(CostBasis::as_str).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn an_order_is_read_as_it_is_written() {
        for text in ["contract,reported,list", "list", "reported,list"] {
            assert_eq!(text.parse::<CostOrder>().unwrap().to_string(), text);
        }
        assert_eq!(CostOrder::default().to_string(), "contract,reported,list");
        for text in ["", "cheapest", "list,list", "list,"] {
            assert!(text.parse::<CostOrder>().is_err(), "{text}");
        }
    }
}
