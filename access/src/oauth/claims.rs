//! What the claims of a verified token mean here: whether it is for this server and valid now, and who it
//! makes the caller. The one place for JWTs and for introspection.
//!
//! The tenant comes from the issuer's settings or from a claim, never from the request. A role limits what
//! the user may do and the token's scopes what the client may do, so a principal has what both hold. Claims
//! that are missing or of another form never widen anything.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::jwt::Claims;
use super::settings::{IssuerSettings, is_tenant_name};
use crate::roles::{Role, Roles};
use crate::{AccessError, Principal, RowFilter, Scope, Scopes};

/// How far the clocks of an issuer and of this server may be apart, in seconds.
pub(super) const LEEWAY_S: i64 = 30;
/// Longest subject, client id and token id that are kept; RFC 7519 sets none, OpenID Connect 255 for `sub`.
const ID_BYTES_MAX: usize = 255;
/// Values that are read of a list claim. Entra ID lists 200 groups, then says that there are more.
const VALUES_MAX: usize = 1024;

/// What every token of an issuer is read with.
pub(super) struct Reader<'a> {
    pub(super) issuer: &'a IssuerSettings,
    /// URLs of this server, where the issuer's settings name no audience.
    pub(super) resources: &'a [String],
    pub(super) scope_prefix: &'a str,
    pub(super) roles: &'a Roles,
    pub(super) now_s: i64,
}

impl Reader<'_> {
    /// Checks that a JWT is an access token of this issuer, for this server, now; then reads who it is.
    pub(super) fn jwt(&self, claims: &Claims, is_typed: bool) -> Result<Principal, AccessError> {
        if text(claims, "iss") != Some(&self.issuer.issuer) {
            return Err(self.refused("it is of another issuer"));
        }
        if !is_typed && !looks_like_access(claims) {
            return Err(self.refused("it is not an access token"));
        }
        if seconds(claims, "exp").is_none() {
            return Err(self.refused("it has no end"));
        }
        self.valid(claims)?;
        self.principal(claims)
    }

    /// The same for the answer of introspection, whose `active` is true.
    pub(super) fn introspected(&self, claims: &Claims) -> Result<Principal, AccessError> {
        if claims.contains_key("iss") && text(claims, "iss") != Some(&self.issuer.issuer) {
            return Err(self.refused("it is of another issuer"));
        }
        if let Some(kind) = text(claims, "token_type")
            && !kind.eq_ignore_ascii_case("bearer")
            && !kind.eq_ignore_ascii_case("access_token")
        {
            return Err(self.refused("it is not a bearer token"));
        }
        self.valid(claims)?;
        self.principal(claims)
    }

    fn valid(&self, claims: &Claims) -> Result<(), AccessError> {
        let accepted: &[String] = match self.issuer.audience.as_slice() {
            [] => self.resources,
            configured => configured,
        };
        let audiences = values(claims, "aud");
        if !audiences
            .iter()
            .any(|audience| accepted.iter().any(|own| own == audience))
        {
            return Err(self.refused("its audience is not this server; ask for a token with this server as resource"));
        }
        if claims.contains_key("exp") && seconds(claims, "exp").is_none_or(|exp| self.now_s >= exp + LEEWAY_S) {
            return Err(self.refused("it is expired"));
        }
        if claims.contains_key("nbf") && seconds(claims, "nbf").is_none_or(|nbf| self.now_s < nbf - LEEWAY_S) {
            return Err(self.refused("it is not valid yet"));
        }
        // RFC 9449 and RFC 8705: such a token is worth something only with a proof, which is not asked for here
        if claims.get("cnf").is_some_and(|cnf| !cnf.is_null()) {
            return Err(self.refused("it is bound to a key, and this server takes bearer tokens"));
        }
        Ok(())
    }

    fn principal(&self, claims: &Claims) -> Result<Principal, AccessError> {
        let client = ["client_id", "azp", "appid", "cid"]
            .into_iter()
            .find_map(|name| id(claims, name));
        let subject = id(claims, "sub")
            .or(client)
            .ok_or_else(|| self.refused("it names no subject"))?;
        let credential = ["jti", "uti"].into_iter().find_map(|name| id(claims, name));
        let token_scopes = self.token_scopes(claims);
        let (scopes, rows) = match self.role(claims)? {
            Some(role) => (
                token_scopes.map_or(role.scopes(), |token| role.scopes().and(token)),
                role.rows().clone(),
            ),
            None => (token_scopes.unwrap_or(Scopes::NONE), RowFilter::default()),
        };
        let rows = self.rows(claims, &rows)?;
        // an administrator could make a key without the confinement
        let scopes = if rows.is_empty() {
            scopes
        } else {
            scopes.and(confined())
        };
        Ok(
            Principal::new(&self.tenant(claims)?, &self.issuer.issuer, subject, scopes)
                .with_client_id(client)
                .with_credential(credential)
                .with_rows(rows),
        )
    }

    fn tenant(&self, claims: &Claims) -> Result<String, AccessError> {
        if let Some(tenant) = &self.issuer.tenant {
            return Ok(tenant.clone());
        }
        let claim = self.issuer.tenant_claim.as_deref().unwrap_or_default();
        let forbidden = || {
            AccessError::Forbidden(format!(
                "the token's claim {claim} names no tenant of this server; see access.oauth for {}",
                self.issuer.issuer
            ))
        };
        let Some(Value::String(value)) = find(claims, claim) else {
            return Err(forbidden());
        };
        let tenant = if self.issuer.tenants.is_empty() {
            Some(value)
        } else {
            self.issuer.tenants.get(value)
        };
        tenant
            .filter(|name| is_tenant_name(name))
            .cloned()
            .ok_or_else(forbidden)
    }

    /// The scopes that the token carries; `None` where it says nothing of scopes.
    fn token_scopes(&self, claims: &Claims) -> Option<Scopes> {
        let names: Vec<&str> = ["scope", "scp"]
            .into_iter()
            .filter(|name| claims.contains_key(*name))
            .flat_map(|name| values(claims, name))
            .collect();
        if names.is_empty() && !claims.contains_key("scope") && !claims.contains_key("scp") {
            return None;
        }
        let words = names.iter().flat_map(|list| list.split_whitespace());
        let own: Vec<&str> = words
            .map(|word| word.strip_prefix(self.scope_prefix).unwrap_or(word))
            .collect();
        Some(Scopes::parse(&own.join(" ")))
    }

    /// The one role of a token; `None` where roles are not used for this issuer.
    fn role(&self, claims: &Claims) -> Result<Option<&Role>, AccessError> {
        let issuer = self.issuer;
        if issuer.role_claim.is_none() && issuer.groups_claim.is_none() && issuer.default_role.is_none() {
            return Ok(None);
        }
        let named = issuer
            .role_claim
            .as_deref()
            .map(|claim| found(claims, claim))
            .unwrap_or_default();
        let groups = issuer
            .groups_claim
            .as_deref()
            .map(|claim| found(claims, claim))
            .unwrap_or_default();
        let mapped = issuer
            .roles
            .iter()
            .find(|mapping| named.contains(&mapping.value.as_str()) || groups.contains(&mapping.value.as_str()))
            .map(|mapping| mapping.role.as_str());
        let name = match mapped {
            Some(name) => Some(name),
            None => self.role_by_its_name(&named)?.or(issuer.default_role.as_deref()),
        };
        let role = name.and_then(|name| self.roles.get(name));
        role.map(Some).ok_or_else(|| {
            AccessError::Forbidden(format!(
                "the token gives no role of this server; see access.oauth for {}",
                issuer.issuer
            ))
        })
    }

    /// A value of `role_claim` that is a role here without being mapped. More than one is a question of
    /// order, which only the mapping can answer.
    fn role_by_its_name<'c>(&self, named: &BTreeSet<&'c str>) -> Result<Option<&'c str>, AccessError> {
        let mut known = named.iter().copied().filter(|name| self.roles.get(name).is_some());
        let first = known.next();
        if known.next().is_some() {
            return Err(AccessError::Forbidden(format!(
                "the token names several roles of this server; order them by roles in access.oauth for {}",
                self.issuer.issuer
            )));
        }
        Ok(first)
    }

    /// The role's rows, and of those the ones that the claims allow. A claim that is absent allows none.
    fn rows(&self, claims: &Claims, role: &RowFilter) -> Result<RowFilter, AccessError> {
        let mut conditions: BTreeMap<String, Vec<String>> = role
            .conditions()
            .map(|(column, values)| (column.to_owned(), values.to_vec()))
            .collect();
        for (column, claim) in &self.issuer.row_claims {
            let allowed = found(claims, claim);
            let values = match conditions.remove(column) {
                Some(values) => values
                    .into_iter()
                    .filter(|value| allowed.contains(value.as_str()))
                    .collect(),
                None => allowed.into_iter().map(str::to_owned).collect(),
            };
            conditions.insert(column.clone(), values);
        }
        RowFilter::new(conditions)
            .ok_or_else(|| AccessError::Forbidden("a row filter names a column that rows do not have".to_owned()))
    }

    /// An error that says why, and never what the token holds.
    pub(super) fn refused(&self, why: &str) -> AccessError {
        refused(&self.issuer.issuer, why)
    }
}

/// An error that says why, and never what the token holds.
pub(super) fn refused(issuer: &str, why: &str) -> AccessError {
    AccessError::Unauthenticated(format!("the token is refused: {why} (get one from {issuer})"))
}

/// An issuer that types its tokens as mere `JWT` signs ID tokens with the same keys. Those carry hashes or a
/// nonce, Keycloak writes the kind into the payload, and none of them names a scope or the client as access
/// tokens do.
fn looks_like_access(claims: &Claims) -> bool {
    const OF_OTHERS: [&str; 5] = ["at_hash", "c_hash", "s_hash", "nonce", "events"];
    const OF_ACCESS: [&str; 6] = ["scope", "scp", "client_id", "azp", "appid", "cid"];
    let kind = text(claims, "typ").is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
    kind && !OF_OTHERS.iter().any(|name| claims.contains_key(*name))
        && OF_ACCESS.iter().any(|name| claims.contains_key(*name))
}

/// All that somebody who sees some rows only may do.
fn confined() -> Scopes {
    let all = Scope::ALL.into_iter().filter(|scope| *scope != Scope::Admin);
    Scopes::of(&all.collect::<Vec<_>>())
}

fn text<'c>(claims: &'c Claims, name: &str) -> Option<&'c str> {
    claims.get(name).and_then(Value::as_str)
}

/// An identifier that may be kept, logged and shown: short, without control characters.
fn id<'c>(claims: &'c Claims, name: &str) -> Option<&'c str> {
    text(claims, name).filter(|id| !id.is_empty() && id.len() <= ID_BYTES_MAX && !id.chars().any(char::is_control))
}

/// A NumericDate, in whole seconds.
fn seconds(claims: &Claims, name: &str) -> Option<i64> {
    let number = claims.get(name)?;
    // RFC 7519: it may have a fraction
    #[allow(clippy::cast_possible_truncation, reason = "a cast of f64 saturates")]
    number
        .as_i64()
        .or_else(|| number.as_f64().map(|seconds| seconds as i64))
        .filter(|at| (0..=1 << 40).contains(at))
}

/// The texts of a claim that is one or a list.
fn values<'c>(claims: &'c Claims, name: &str) -> Vec<&'c str> {
    claims.get(name).map(texts).unwrap_or_default()
}

fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().take(VALUES_MAX).filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The values of a claim by its name or, where there is none of this name, its path: `realm_access.roles`.
fn found<'c>(claims: &'c Claims, path: &str) -> BTreeSet<&'c str> {
    find(claims, path).map(texts).unwrap_or_default().into_iter().collect()
}

fn find<'c>(claims: &'c Claims, path: &str) -> Option<&'c Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let mut steps = path.split('.');
    let first = claims.get(steps.next()?)?;
    steps.try_fold(first, |value, step| value.get(step))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::roles::RoleSettings;
    use serde_json::json;

    const ISSUER: &str = "https://idp.example";
    const NOW: i64 = 1_800_000_000;

    /// The built-in roles, and `lead`, who sees one team.
    fn roles() -> Roles {
        let lead = RoleSettings {
            scopes: vec!["sql:read".to_owned(), "payloads:read".to_owned()],
            teams: Some(vec!["search".to_owned()]),
            ..RoleSettings::default()
        };
        Roles::with(&[("lead".to_owned(), lead)].into()).unwrap()
    }

    /// Claims of a good token with these changes; `null` takes one away.
    fn claims(changes: Value) -> Claims {
        let good = json!({"iss": ISSUER, "aud": "https://us.example/mcp", "exp": NOW + 60, "sub": "alice",
            "client_id": "claude", "jti": "t-1", "scope": "openid costs:read sql:read"});
        let (Value::Object(mut claims), Value::Object(changes)) = (good, changes) else {
            panic!("objects")
        };
        claims.extend(changes);
        claims.retain(|_, value| !value.is_null());
        claims
    }

    fn read_as(settings: &IssuerSettings, changes: Value, is_typed: bool) -> Result<Principal, AccessError> {
        let resources = ["https://us.example".to_owned(), "https://us.example/mcp".to_owned()];
        let reader = Reader {
            issuer: settings,
            resources: &resources,
            scope_prefix: "api://x/",
            roles: &roles(),
            now_s: NOW,
        };
        reader.jwt(&claims(changes), is_typed)
    }

    fn read(settings: &IssuerSettings, changes: Value) -> Result<Principal, AccessError> {
        read_as(settings, changes, true)
    }

    fn acme() -> IssuerSettings {
        IssuerSettings::of_tenant(ISSUER, "acme")
    }

    #[test]
    fn a_good_token_makes_a_principal_of_the_issuers_tenant() {
        let who = read(&acme(), json!({"tenant": "other"})).unwrap();
        assert_eq!(
            (who.tenant().as_str(), who.issuer(), who.subject()),
            ("acme", ISSUER, "alice")
        );
        assert_eq!((who.client_id(), who.credential()), (Some("claude"), Some("t-1")));
        assert_eq!(who.scopes(), Scopes::of(&[Scope::SqlRead]));
        assert!(who.rows().is_empty());
        for same in [
            json!({"scope": "api://x/costs:read sql:read"}),
            json!({"scope": null, "scp": ["costs:read", "sql:read"]}),
            json!({"aud": ["account", "https://us.example"]}),
            json!({"exp": NOW - LEEWAY_S + 1}),
            json!({"nbf": NOW + LEEWAY_S}),
        ] {
            assert_eq!(
                read(&acme(), same.clone()).map(|who| who.scopes()),
                Ok(Scopes::of(&[Scope::SqlRead])),
                "{same}"
            );
        }
        assert_eq!(read(&acme(), json!({"scope": null})).unwrap().scopes(), Scopes::NONE);
    }

    #[test]
    fn a_token_for_others_or_for_another_time_is_refused() {
        for (changes, why) in [
            (json!({"aud": "https://us.example/other"}), "audience"),
            (json!({"aud": null}), "audience"),
            (json!({"aud": {"https://us.example": 1}}), "audience"),
            (json!({"aud": "https://us.example.evil.example"}), "audience"),
            (json!({"iss": "https://idp.example/"}), "another issuer"),
            (json!({"iss": [ISSUER]}), "another issuer"),
            (json!({"exp": NOW - LEEWAY_S}), "expired"),
            (json!({"exp": null}), "no end"),
            (json!({"exp": "2100-01-01"}), "no end"),
            (json!({"nbf": NOW + LEEWAY_S + 1}), "not valid yet"),
            (json!({"nbf": "soon"}), "not valid yet"),
            (json!({"cnf": {"jkt": "x"}}), "bound to a key"),
            (json!({"sub": null, "client_id": null}), "no subject"),
            (json!({"sub": "a\u{1b}[2J", "client_id": null}), "no subject"),
        ] {
            match read(&acme(), changes.clone()) {
                Err(AccessError::Unauthenticated(said)) => assert!(said.contains(why), "{changes}: {said}"),
                other => panic!("{changes}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_id_token_is_not_an_access_token() {
        assert!(read_as(&acme(), json!({}), false).is_ok());
        assert!(read_as(&acme(), json!({"typ": "Bearer"}), false).is_ok());
        for changes in [
            json!({"at_hash": "x"}),
            json!({"nonce": "x"}),
            json!({"typ": "ID"}),
            json!({"typ": "Refresh"}),
            json!({"scope": null, "client_id": null}),
        ] {
            assert!(read_as(&acme(), changes.clone(), false).is_err(), "{changes}");
        }
    }

    #[test]
    fn a_role_and_the_scopes_of_the_token_limit_each_other() {
        let mapping = |value: &str, role: &str| super::super::settings::RoleMapping {
            value: value.to_owned(),
            role: role.to_owned(),
        };
        let groups = IssuerSettings {
            groups_claim: Some("groups".to_owned()),
            roles: vec![mapping("finops", "lead"), mapping("staff", "viewer")],
            ..acme()
        };
        let who = read(
            &groups,
            json!({"groups": ["staff", "finops"], "scope": "sql:read admin"}),
        )
        .unwrap();
        assert!(who.can(Scope::SqlRead) && who.can(Scope::PayloadsRead) && !who.can(Scope::Admin));
        assert_eq!(who.rows().conditions().count(), 1);
        assert_eq!(
            read(&groups, json!({"groups": "staff", "scope": null}))
                .unwrap()
                .scopes(),
            Scopes::of(&[Scope::CostsRead])
        );
        assert_eq!(
            read(&groups, json!({"groups": ["staff"], "scope": "email"}))
                .unwrap()
                .scopes(),
            Scopes::NONE
        );
        assert!(matches!(
            read(&groups, json!({"groups": ["guests"]})),
            Err(AccessError::Forbidden(_))
        ));
        let lenient = IssuerSettings {
            default_role: Some("viewer".to_owned()),
            ..groups
        };
        assert_eq!(
            read(&lenient, json!({})).unwrap().scopes(),
            Scopes::of(&[Scope::CostsRead])
        );

        let keycloak = IssuerSettings {
            role_claim: Some("realm_access.roles".to_owned()),
            ..acme()
        };
        let with = |names: Value| read(&keycloak, json!({"realm_access": {"roles": names}, "scope": null}));
        assert!(with(json!(["offline_access", "admin"])).unwrap().can(Scope::Admin));
        assert!(matches!(
            with(json!(["viewer", "admin"])),
            Err(AccessError::Forbidden(_))
        ));
        assert!(matches!(with(json!(["nothing"])), Err(AccessError::Forbidden(_))));
    }

    #[test]
    fn claims_narrow_the_rows_and_name_the_tenant() {
        let by_claim = IssuerSettings {
            tenant: None,
            tenant_claim: Some("https://example.com/org".to_owned()),
            row_claims: [("team".to_owned(), "teams".to_owned())].into(),
            default_role: Some("lead".to_owned()),
            ..acme()
        };
        let org = "https://example.com/org";
        let rows = |changes: Value| -> Vec<String> {
            let who = read(&by_claim, changes).unwrap();
            who.rows()
                .conditions()
                .flat_map(|(_, values)| values.to_vec())
                .collect()
        };
        assert_eq!(rows(json!({org: "acme", "teams": ["search", "ads"]})), ["search"]);
        assert_eq!(rows(json!({org: "acme", "teams": "ads"})), Vec::<String>::new());
        // absent: a condition that no row meets, not the absence of one
        assert_eq!(
            read(&by_claim, json!({org: "acme"}))
                .unwrap()
                .rows()
                .conditions()
                .count(),
            1
        );
        for bad in [
            json!({}),
            json!({org: "../etc"}),
            json!({org: ["acme"]}),
            json!({org: ""}),
        ] {
            assert!(
                matches!(read(&by_claim, bad.clone()), Err(AccessError::Forbidden(_))),
                "{bad}"
            );
        }
        let mapped = IssuerSettings {
            tenants: [("guid-1".to_owned(), "acme".to_owned())].into(),
            ..by_claim
        };
        assert_eq!(read(&mapped, json!({org: "guid-1"})).unwrap().tenant().as_str(), "acme");
        assert!(matches!(
            read(&mapped, json!({org: "acme"})),
            Err(AccessError::Forbidden(_))
        ));
    }
}
