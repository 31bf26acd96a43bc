//! What each route of an HTTP router needs, as data: the router is built beside it, one layer enforces it,
//! and the tenant matrix of the tests is generated from it.
//!
//! A route that has no rule is refused, so that a route added later cannot be open by accident.

use crate::{AccessError, Principal, Scope, Scopes};

/// What a request must bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: health, static files, metadata of the authorization.
    Public,
    /// Any valid credential.
    Credential,
    /// A credential with this scope.
    Scope(Scope),
}

/// One route: method, path pattern as axum writes it, and what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteRule {
    /// Method, in capitals; `*` for any.
    pub method: &'static str,
    /// Path pattern, such as `/api/v1/traces/{id}`.
    pub path: &'static str,
    /// What a request must bring.
    pub need: Need,
}

impl RouteRule {
    /// A rule.
    #[must_use]
    pub const fn new(method: &'static str, path: &'static str, need: Need) -> Self {
        Self { method, path, need }
    }
}

/// The need of a request by its method and matched path pattern. `HEAD` is read as `GET`.
#[must_use]
pub fn need_of(rules: &[RouteRule], method: &str, path: &str) -> Option<Need> {
    let method = if method == "HEAD" { "GET" } else { method };
    rules
        .iter()
        .find(|rule| rule.path == path && (rule.method == "*" || rule.method == method))
        .map(|rule| rule.need)
}

impl Need {
    /// Checks a principal against it.
    ///
    /// # Errors
    /// [`AccessError::InsufficientScope`].
    pub fn check(self, principal: &Principal) -> Result<(), AccessError> {
        match self {
            Self::Public | Self::Credential => Ok(()),
            Self::Scope(scope) => principal.require(Scopes::of(&[scope])),
        }
    }
}

/// Builds a table of rules and, of the same lines, the router: no route is without a rule, and no rule without
/// a route.
///
/// `routes! { pub ROUTES, table: State; GET "/a/{id}", Need::Public => handler; … }` makes the constant `ROUTES`
/// and `fn table() -> axum::Router<State>`. A method is as in `axum::routing::MethodFilter`, or `ANY`.
#[macro_export]
macro_rules! routes {
    (@name ANY) => { "*" };
    (@name $method:ident) => { stringify!($method) };
    (@on ANY $handler:path) => { axum::routing::any($handler) };
    (@on $method:ident $handler:path) => { axum::routing::on(axum::routing::MethodFilter::$method, $handler) };
    (
        $(#[$doc:meta])*
        $seen:vis $table:ident, $router:ident: $state:ty;
        $($method:ident $path:literal, $need:expr => $handler:path;)+
    ) => {
        $(#[$doc])*
        $seen const $table: &[$crate::routes::RouteRule] = &[
            $($crate::routes::RouteRule::new($crate::routes!(@name $method), $path, $need)),+
        ];

        fn $router() -> axum::Router<$state> {
            axum::Router::new()
                $(.route($path, $crate::routes!(@on $method $handler)))+
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_without_a_rule_has_no_need_to_satisfy() {
        let rules = [
            RouteRule::new("GET", "/a/{id}", Need::Public),
            RouteRule::new("*", "/b", Need::Scope(Scope::Admin)),
        ];
        assert_eq!(need_of(&rules, "HEAD", "/a/{id}"), Some(Need::Public));
        assert_eq!(need_of(&rules, "POST", "/a/{id}"), None);
        assert_eq!(need_of(&rules, "DELETE", "/b"), Some(Need::Scope(Scope::Admin)));
        assert_eq!(need_of(&rules, "GET", "/c"), None);
    }
}
