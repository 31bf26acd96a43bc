//! Budgets: kept in the control state, measured against the ledger.
//!
//! What is spent is a sum of lines of the scope; the forecast is the one of `forecast`, from the same lines. The state
//! of a budget is computed when somebody asks, so that it cannot be older than the ledger.

use serde::ser::{Serialize, SerializeMap, Serializer};
use spanledger_access::Principal;
use spanledger_access::audit::Interface;
use spanledger_ledger::budget::{Budget, Period, Scope, Spending, Standing, Thresholds, measure};
use spanledger_ledger::forecast::{INTERVAL_PERCENT_DEFAULT, Method};
use spanledger_model::FemtoUsd;
use spanledger_state::sqlx;

use super::{Finops, of_ledger};
use crate::costs::{CURRENCY, CostRequest, Dimension};
use crate::error::{Error, ErrorKind, Result};
use crate::forecast::{Daily, Horizon, daily_costs, interval_json, pace};
use crate::time::{DAY_NS, format_instant};

/// Budgets of a tenant: each is measured when they are listed.
pub const BUDGETS_MAX: usize = 200;
/// Past periods that a preview compares with.
pub const PAST_PERIODS: usize = 6;

/// A budget and how it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The budget.
    pub budget: Budget,
    /// First instant of the period.
    pub since_ns: i64,
    /// First instant after it.
    pub until_ns: i64,
    /// How it stands.
    pub standing: Standing,
    /// How the forecast was made.
    pub method: Method,
    /// Tokens of the period whose cost is not known: in no figure.
    pub unpriced_tokens: i64,
}

impl Measured {
    /// The day on which the amount is, or is expected to be, spent: `2026-11-28`.
    #[must_use]
    pub fn breach_date(&self) -> Option<String> {
        let day = i64::try_from(self.standing.breach_day?).ok()?;
        let text = format_instant(self.since_ns + day * DAY_NS);
        text.get(..10).map(str::to_owned)
    }
}

impl Serialize for Measured {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let standing = &self.standing;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.budget.name)?;
        map.serialize_entry("scope", &self.budget.scope)?;
        map.serialize_entry("period", self.budget.period.as_str())?;
        map.serialize_entry("amount", &self.budget.amount.to_string())?;
        map.serialize_entry("currency", CURRENCY)?;
        map.serialize_entry("thresholds", &self.budget.thresholds)?;
        map.serialize_entry("since", &format_instant(self.since_ns))?;
        map.serialize_entry("until", &format_instant(self.until_ns))?;
        map.serialize_entry("state", standing.state.as_str())?;
        map.serialize_entry("spent", &standing.spent.to_string())?;
        map.serialize_entry("remaining", &standing.remaining.to_string())?;
        map.serialize_entry("forecast", &standing.forecast.to_string())?;
        map.serialize_entry("interval", &interval_json(standing.interval))?;
        map.serialize_entry("method", self.method.as_str())?;
        map.serialize_entry("breach_date", &self.breach_date())?;
        map.serialize_entry("reached_actual_percent", &standing.reached_actual)?;
        map.serialize_entry("reached_forecast_percent", &standing.reached_forecast)?;
        map.serialize_entry("burn_1h_percent", &standing.burn_1h_percent)?;
        map.serialize_entry("burn_24h_percent", &standing.burn_24h_percent)?;
        map.serialize_entry("burning", &standing.burning())?;
        map.serialize_entry("unpriced_tokens", &self.unpriced_tokens)?;
        map.end()
    }
}

/// What setting a budget would do.
#[derive(Debug, Clone, PartialEq)]
pub struct Preview {
    /// The budget that it replaces.
    pub replaces: Option<Budget>,
    /// How it would stand today.
    pub measured: Measured,
    /// First day and cost of each of the last whole periods, newest first.
    pub past: Vec<(String, FemtoUsd)>,
}

impl Preview {
    /// Past periods that would have been over the amount.
    #[must_use]
    pub fn n_over(&self) -> usize {
        let amount = self.measured.budget.amount;
        self.past.iter().filter(|(_, cost)| *cost > amount).count()
    }
}

impl Serialize for Preview {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let replaces = self.replaces.as_ref().map(|budget| {
            serde_json::json!({
                "amount": budget.amount.to_string(), "period": budget.period.as_str(), "scope": budget.scope,
                "thresholds": budget.thresholds,
            })
        });
        map.serialize_entry("replaces", &replaces)?;
        map.serialize_entry("budget", &self.measured)?;
        let past = self.past.iter().map(|(since, cost)| {
            let is_over = *cost > self.measured.budget.amount;
            serde_json::json!({ "since": since, "cost": cost.to_string(), "over": is_over })
        });
        map.serialize_entry("past", &past.collect::<Vec<_>>())?;
        map.serialize_entry("past_over", &self.n_over())?;
        map.end()
    }
}

/// Name, scope, amount, period, thresholds.
type Stored = (String, String, String, String, String);

impl Finops {
    /// The budgets that a principal may see, by name, each as it stands at an instant (now, where absent).
    ///
    /// # Errors
    /// Those of the engine; [`Busy`](ErrorKind::Busy) where the control state cannot be read.
    pub async fn budgets(&self, principal: &Principal, as_of_ns: Option<i64>) -> Result<Vec<Measured>> {
        let mut measured = Vec::new();
        for budget in self.stored(principal).await? {
            if may_see(principal, &budget) {
                measured.push(self.measured(principal, budget, as_of_ns).await?);
            }
        }
        Ok(measured)
    }

    /// One budget as it stands.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) where there is none that the principal may see, naming those there are.
    pub async fn budget(&self, principal: &Principal, name: &str) -> Result<Measured> {
        let mut budgets = self.stored(principal).await?;
        budgets.retain(|budget| may_see(principal, budget));
        match budgets.iter().position(|budget| budget.name == name) {
            Some(at) => self.measured(principal, budgets.swap_remove(at), None).await,
            None => Err(unknown(name, &budgets)),
        }
    }

    /// What setting a budget would do: what it replaces, how it would stand, how past periods compare.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for what is no budget; [`Forbidden`](ErrorKind::Forbidden) for one outside of
    /// the principal's rows.
    pub async fn preview_budget(&self, principal: &Principal, budget: Budget) -> Result<Preview> {
        let (budget, replaces) = self.allowed(principal, budget).await?;
        let past = self.past(principal, &budget).await?;
        Ok(Preview {
            replaces,
            measured: self.measured(principal, budget, None).await?,
            past,
        })
    }

    /// Sets a budget, new or in the place of the one of its name.
    ///
    /// # Errors
    /// As [`Self::preview_budget`]; where the change cannot be audited or kept, and then it is not made.
    pub async fn set_budget(&self, principal: &Principal, interface: Interface, budget: Budget) -> Result<Measured> {
        const SQL: &str = "
INSERT INTO budgets (tenant, name, scope, amount, period, thresholds, created_at, updated_at, updated_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8)
ON CONFLICT (tenant, name) DO UPDATE SET scope = excluded.scope, amount = excluded.amount, period = excluded.period,
  thresholds = excluded.thresholds, updated_at = excluded.updated_at, updated_by = excluded.updated_by";
        Self::may_change(principal)?;
        let (budget, replaces) = self.allowed(principal, budget).await?;
        let before = replaces.map_or_else(String::new, |old| {
            format!(", was {} USD a {}", old.amount, old.period.as_str())
        });
        let detail = format!(
            "{} USD a {} for {}{before}",
            budget.amount,
            budget.period.as_str(),
            budget.scope_text()
        );
        self.record(principal, interface, "budget.set", &budget.name, &detail)
            .await?;
        let json = |value: serde_json::Result<String>| value.map_err(|error| Error::internal(error.to_string()));
        sqlx::query(SQL)
            .bind(principal.tenant().as_str())
            .bind(&budget.name)
            .bind(json(serde_json::to_string(&budget.scope))?)
            .bind(budget.amount.to_string())
            .bind(budget.period.as_str())
            .bind(json(serde_json::to_string(&budget.thresholds))?)
            .bind(self.engine.now_ns().div_euclid(1_000))
            .bind(format!("{} {}", principal.issuer(), principal.subject()))
            .execute(self.state.pool())
            .await
            .map_err(unavailable)?;
        self.tell_budgets_changed(principal);
        self.measured(principal, budget, None).await
    }

    /// Deletes a budget.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) where there is none that the principal may see; as [`Self::set_budget`].
    pub async fn delete_budget(&self, principal: &Principal, interface: Interface, name: &str) -> Result<Budget> {
        Self::may_change(principal)?;
        let mut budgets = self.stored(principal).await?;
        budgets.retain(|budget| may_see(principal, budget));
        let Some(at) = budgets.iter().position(|budget| budget.name == name) else {
            return Err(unknown(name, &budgets));
        };
        let budget = budgets.swap_remove(at);
        let detail = format!("was {} USD a {}", budget.amount, budget.period.as_str());
        self.record(principal, interface, "budget.delete", name, &detail)
            .await?;
        sqlx::query("DELETE FROM budgets WHERE tenant = $1 AND name = $2")
            .bind(principal.tenant().as_str())
            .bind(name)
            .execute(self.state.pool())
            .await
            .map_err(unavailable)?;
        self.tell_budgets_changed(principal);
        Ok(budget)
    }

    /// The budget, checked, with the one that it replaces; refused where the principal may not set it.
    async fn allowed(&self, principal: &Principal, budget: Budget) -> Result<(Budget, Option<Budget>)> {
        let budget = budget.checked().map_err(of_ledger)?;
        request(&budget)?;
        for (column, allowed) in principal.rows().conditions() {
            if !budget.is_within(column, allowed) {
                let names: Vec<String> = allowed.iter().map(|name| format!("\"{name}\"")).collect();
                let message = format!(
                    "you see only rows with {column} {}: set a budget within them, with filters {{\"{column}\": [{}]}}",
                    allowed.join(" | "),
                    names.join(", ")
                );
                return Err(Error::new(ErrorKind::Forbidden, message));
            }
        }
        let mut budgets = self.stored(principal).await?;
        let replaces = budgets
            .iter()
            .position(|old| old.name == budget.name)
            .map(|at| budgets.swap_remove(at));
        match &replaces {
            Some(old) if !may_see(principal, old) => Err(Error::new(
                ErrorKind::Forbidden,
                format!(
                    "there is a budget {} outside of your rows; take another name",
                    budget.name
                ),
            )),
            None if budgets.len() >= BUDGETS_MAX => Err(Error::new(
                ErrorKind::TooLarge,
                format!("there are {BUDGETS_MAX} budgets; delete one first"),
            )),
            _ => Ok((budget, replaces)),
        }
    }

    async fn stored(&self, principal: &Principal) -> Result<Vec<Budget>> {
        const SQL: &str = "SELECT name, scope, amount, period, thresholds FROM budgets WHERE tenant = $1 ORDER BY name";
        let rows: Vec<Stored> = sqlx::query_as(SQL)
            .bind(principal.tenant().as_str())
            .fetch_all(self.state.pool())
            .await
            .map_err(unavailable)?;
        rows.into_iter().map(budget_of).collect()
    }

    async fn measured(&self, principal: &Principal, budget: Budget, as_of_ns: Option<i64>) -> Result<Measured> {
        let session = self.engine.session(principal);
        let at_ns = as_of_ns.unwrap_or_else(|| self.engine.now_ns());
        let horizon = Horizon::around(budget.period, at_ns);
        let (daily, unpriced_tokens) = self.daily(principal, &budget, &horizon).await?;
        let ahead = horizon.look_ahead(&daily, INTERVAL_PERCENT_DEFAULT);
        let (last_hour, last_day) = pace(&session, &request(&budget)?, horizon.as_of_ns).await?;
        let spending = Spending {
            days: daily.days(horizon.first_day(), horizon.today() + 1),
            ahead: ahead.days,
            interval: ahead.interval,
            last_hour,
            last_day,
        };
        Ok(Measured {
            standing: measure(&budget, at_ns, &spending),
            budget,
            since_ns: horizon.since_ns,
            until_ns: horizon.until_ns,
            method: ahead.method,
            unpriced_tokens,
        })
    }

    async fn daily(&self, principal: &Principal, budget: &Budget, horizon: &Horizon) -> Result<(Daily, i64)> {
        let asked = CostRequest {
            since_ns: Some(horizon.history_since_ns(budget.period)),
            until_ns: Some(horizon.as_of_ns),
            ..request(budget)?
        };
        let session = self.engine.session(principal);
        let (series, unpriced_tokens) = daily_costs(&session, &asked, horizon.since_ns).await?;
        let daily = series.into_iter().next().map(|(_, daily)| daily).unwrap_or_default();
        Ok((daily, unpriced_tokens))
    }

    /// First day and exact cost of the last whole periods.
    async fn past(&self, principal: &Principal, budget: &Budget) -> Result<Vec<(String, FemtoUsd)>> {
        let (current_ns, _) = budget.period.around(self.engine.now_ns());
        let mut starts = vec![current_ns];
        for _ in 0..PAST_PERIODS {
            starts.extend(starts.last().map(|start| budget.period.before(*start)));
        }
        let oldest_ns = starts.last().copied().unwrap_or(current_ns);
        let asked = CostRequest {
            since_ns: Some(oldest_ns),
            until_ns: Some(current_ns),
            ..request(budget)?
        };
        let (series, _) = daily_costs(&self.engine.session(principal), &asked, oldest_ns).await?;
        let daily = series.into_iter().next().map(|(_, daily)| daily).unwrap_or_default();
        let day = |ns: i64| ns.div_euclid(DAY_NS);
        let mut past: Vec<(String, FemtoUsd)> = starts
            .windows(2)
            .map(|pair| {
                let since = format_instant(pair[1]);
                (
                    since.get(..10).unwrap_or(&since).to_owned(),
                    daily.sum(day(pair[1]), day(pair[0])),
                )
            })
            .collect();
        // Before the first usage there is nothing to compare with.
        while past.last().is_some_and(|(_, cost)| *cost == FemtoUsd::ZERO) {
            past.pop();
        }
        Ok(past)
    }
}

/// A budget from what a person or a program wrote.
///
/// # Errors
/// [`Invalid`](ErrorKind::Invalid), naming what is wrong.
pub fn budget_from(
    name: &str,
    amount: &str,
    period: Option<&str>,
    filters: Vec<(String, Vec<Option<String>>)>,
    thresholds: Option<Thresholds>,
) -> Result<Budget> {
    let mut scope = Scope::new();
    for (dimension, values) in filters {
        scope.insert(Dimension::parse(&dimension)?.name().to_owned(), values);
    }
    let amount = FemtoUsd::parse(amount.trim().trim_start_matches('$'))
        .ok_or_else(|| Error::invalid("`amount` is USD in digits, such as 1200 or 99.50"))?;
    Ok(Budget {
        name: name.trim().to_owned(),
        scope,
        amount,
        period: period.map_or(Ok(Period::Month), Period::parse).map_err(of_ledger)?,
        thresholds: thresholds.unwrap_or_default(),
    })
}

/// The scope as a cost report filters.
fn request(budget: &Budget) -> Result<CostRequest> {
    let mut filters = Vec::new();
    for (name, values) in &budget.scope {
        filters.push((Dimension::parse(name)?, values.clone()));
    }
    Ok(CostRequest {
        filters,
        ..CostRequest::default()
    })
}

/// True where everything that a budget counts is in the principal's rows.
fn may_see(principal: &Principal, budget: &Budget) -> bool {
    principal
        .rows()
        .conditions()
        .all(|(column, allowed)| budget.is_within(column, allowed))
}

fn budget_of((name, scope, amount, period, thresholds): Stored) -> Result<Budget> {
    let corrupt = |what: &str| {
        Error::new(
            ErrorKind::Corrupt,
            format!("the {what} of the budget {name:.64} cannot be read; set it again"),
        )
    };
    Ok(Budget {
        scope: serde_json::from_str(&scope).map_err(|_| corrupt("scope"))?,
        amount: FemtoUsd::parse(&amount).ok_or_else(|| corrupt("amount"))?,
        period: Period::parse(&period).map_err(|_| corrupt("period"))?,
        thresholds: serde_json::from_str(&thresholds).map_err(|_| corrupt("thresholds"))?,
        name,
    })
}

fn unknown(name: &str, budgets: &[Budget]) -> Error {
    let names: Vec<&str> = budgets.iter().map(|budget| budget.name.as_str()).collect();
    let known = if names.is_empty() {
        "there are none".to_owned()
    } else {
        format!("budgets: {}", names.join(", "))
    };
    Error::new(ErrorKind::NotFound, format!("there is no budget {name:.64?}; {known}"))
}

fn unavailable(error: sqlx::Error) -> Error {
    Error::new(ErrorKind::Busy, "the control state does not answer now; try again").with_source(error)
}
