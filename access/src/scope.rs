//! Scopes: what a principal may do, as OAuth names it.
//!
//! A role is a set of scopes and a row filter; a token carries scopes by itself. The set is the same in
//! every interface: OTLP, REST, SQL, MCP, the page.

use std::fmt;

/// One thing that may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// `telemetry:write`: send OTLP.
    TelemetryWrite,
    /// `costs:read`: every question about calls and costs.
    CostsRead,
    /// `payloads:read`: texts of prompts, arguments and results.
    PayloadsRead,
    /// `sql:read`: free SQL.
    SqlRead,
    /// `finops:write`: budgets, allocation rules, prices.
    FinopsWrite,
    /// `admin`: keys, the audit log, settlement; holds all others.
    Admin,
}

impl Scope {
    /// All scopes, in the order they are shown.
    pub const ALL: [Self; 6] = [
        Self::TelemetryWrite,
        Self::CostsRead,
        Self::PayloadsRead,
        Self::SqlRead,
        Self::FinopsWrite,
        Self::Admin,
    ];

    /// Its name in tokens, metadata and challenges.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TelemetryWrite => "telemetry:write",
            Self::CostsRead => "costs:read",
            Self::PayloadsRead => "payloads:read",
            Self::SqlRead => "sql:read",
            Self::FinopsWrite => "finops:write",
            Self::Admin => "admin",
        }
    }

    /// The scope of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of scopes. `admin` holds every other; `sql:read` and `finops:write` hold `costs:read`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Scopes(u8);

impl Scopes {
    /// No scope.
    pub const NONE: Self = Self(0);

    /// The set of these scopes, with those that they hold.
    #[must_use]
    pub fn of(scopes: &[Scope]) -> Self {
        let mut bits = scopes.iter().fold(0, |bits, scope| bits | scope.bit());
        if bits & Scope::Admin.bit() != 0 {
            bits = Scope::ALL.iter().fold(0, |bits, scope| bits | scope.bit());
        }
        if bits & (Scope::SqlRead.bit() | Scope::FinopsWrite.bit()) != 0 {
            bits |= Scope::CostsRead.bit();
        }
        Self(bits)
    }

    /// Every scope.
    #[must_use]
    pub fn all() -> Self {
        Self::of(&Scope::ALL)
    }

    /// The known scopes of a space-separated list, as in a token's `scope`; others are another server's.
    #[must_use]
    pub fn parse(list: &str) -> Self {
        Self::of(&list.split_whitespace().filter_map(Scope::parse).collect::<Vec<_>>())
    }

    /// True where it holds `scope`.
    #[must_use]
    pub const fn has(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// True where it holds all of `other`.
    #[must_use]
    pub const fn has_all(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// What both hold.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What either holds.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Its scopes, in order.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.has(*scope))
    }
}

/// Space-separated names, as in `WWW-Authenticate`.
impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.iter().enumerate() {
            let gap = if index == 0 { "" } else { " " };
            write!(f, "{gap}{}", scope.name())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scopes({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_holds_those_below_it() {
        let sql = Scopes::parse("sql:read openid");
        assert!(sql.has(Scope::CostsRead) && !sql.has(Scope::PayloadsRead) && !sql.has(Scope::FinopsWrite));
        assert!(Scope::ALL.iter().all(|scope| Scopes::parse("admin").has(*scope)));
        assert_eq!(sql.to_string(), "costs:read sql:read");
        assert!(!Scopes::NONE.has(Scope::CostsRead) && Scopes::all().has_all(sql));
    }
}
