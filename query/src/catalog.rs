//! The names one principal can use in one query: tables, views, and nothing else.
//!
//! A [`Catalog`] is made for a query and forgotten after it. Tables are opened on first use and then
//! kept, so that every mention of a table in the query is the same snapshot; views are planned on first
//! use, in the same catalog. There is no other catalog, schema, file or URL to name.
//!
//! What a name means has three layers over the same snapshots ([`Layer`]): a principal's statement is planned in the
//! outermost, our views in the middle one, so that a view may read a text without showing it, and the rows that a row
//! filter leaves of raw tables in the innermost. No statement can name another layer's tables.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::datasource::{MemTable, TableType, ViewTable, provider_as_source};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{LogicalPlanBuilder, ident};
use parking_lot::Mutex;
use spanledger_access::Principal;
use spanledger_lake::{Lake, Table};
use spanledger_ledger::allocation::RuleSet;

use crate::allocated::{ALLOCATED_COSTS, AllocatedCosts};
use crate::rollup::{RollupTable, Rollups};
use crate::table::LakeTable;
use crate::views::PriceTable;
use crate::{evidence, sandbox, sight, tool_catalog, views};

/// Name of the one catalog.
pub const CATALOG: &str = "spanledger";
/// Name of its one schema.
pub const SCHEMA: &str = "public";

/// One principal's view of the lake, for one query. Clones share their snapshots.
#[derive(Clone)]
pub(crate) struct Catalog {
    shared: Arc<Shared>,
    layer: Layer,
}

/// Whose names these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Layer {
    /// The tenant's raw tables; `calls` and `ledger` with the row filter.
    Tenant,
    /// Every table with the row filter: what our views are planned over.
    Rows,
    /// Without what the principal's scopes do not allow: what its statements are planned over.
    Principal,
}

struct Shared {
    lake: Lake,
    principal: Principal,
    /// Session that views are planned in, before a catalog is set.
    base: SessionState,
    prices: Arc<PriceTable>,
    rules: Arc<RuleSet>,
    rollups: Arc<Rollups>,
    opened: Mutex<HashMap<(Layer, String), Arc<dyn TableProvider>>>,
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog")
            .field("tenant", self.shared.principal.tenant())
            .finish_non_exhaustive()
    }
}

impl Catalog {
    pub(crate) fn new(
        lake: Lake,
        principal: Principal,
        base: SessionState,
        prices: Arc<PriceTable>,
        rules: Arc<RuleSet>,
        rollups: Arc<Rollups>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                lake,
                principal,
                base,
                prices,
                rules,
                rollups,
                opened: Mutex::new(HashMap::new()),
            }),
            layer: Layer::Principal,
        }
    }

    /// Whose question it is.
    pub(crate) fn principal(&self) -> &Principal {
        &self.shared.principal
    }

    /// The same snapshots under another layer's names.
    fn at(&self, layer: Layer) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            layer,
        }
    }

    /// A session whose only catalog is this one.
    pub(crate) fn session(&self) -> SessionState {
        let mut state = self.shared.base.clone();
        state.register_catalog_list(Arc::new(self.clone()));
        state
    }

    async fn open(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        match (self.layer, Table::parse(name)) {
            (Layer::Principal, _) => self.open_in_sight(name).await,
            (Layer::Rows, Some(table)) => self.open_filtered(table).await,
            (Layer::Tenant, Some(table)) => {
                let snapshot = self.shared.lake.snapshot(table).map_err(external)?;
                let table = LakeTable::new(table, &snapshot, &self.shared.principal)?;
                Ok(Some(Arc::new(table)))
            }
            (_, None) => self.open_view(name).await,
        }
    }

    /// A table or view without what the principal's scopes and rows do not allow.
    async fn open_in_sight(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if !self.known(name) {
            return Ok(None);
        }
        if let Some(refusal) = sight::refusal(name, &self.shared.principal) {
            return Err(external(refusal));
        }
        let Some(table) = self.at(Layer::Rows).table(name).await? else {
            return Ok(None);
        };
        let hidden = sight::hidden_columns(name, &self.shared.principal);
        if hidden.is_empty() {
            return Ok(Some(table));
        }
        let schema = table.schema();
        let shown = schema.fields().iter().map(|field| field.name().as_str());
        let shown = shown.filter(|column| !hidden.contains(column)).map(ident);
        let plan = LogicalPlanBuilder::scan(name, provider_as_source(table), None)?
            .project(shown)?
            .build()?;
        Ok(Some(Arc::new(ViewTable::new(plan, None))))
    }

    /// A table with the rows that the row filter leaves.
    async fn open_filtered(&self, table: Table) -> Result<Option<Arc<dyn TableProvider>>> {
        let tenant = self.at(Layer::Tenant);
        if self.shared.principal.rows().is_empty() || sight::filters_itself(table) {
            return tenant.table(table.name()).await;
        }
        let Some(sql) = sight::filtered(table) else {
            let refusal = sight::refusal(table.name(), &self.shared.principal);
            return refusal.map_or(Ok(None), |refusal| Err(external(refusal)));
        };
        Ok(Some(tenant.plan(sql, None).await?))
    }

    async fn open_view(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(rollup) = self.shared.rollups.named(name) {
            let lines = self.at(Layer::Tenant).table(RollupTable::base(rollup).name()).await?;
            let table = lines.map(|lines| RollupTable::new(&self.shared.rollups, rollup, lines));
            return Ok(table
                .transpose()?
                .map(|table| Arc::new(table) as Arc<dyn TableProvider>));
        }
        match name {
            views::PRICES => return Ok(Some(self.shared.prices.table()?)),
            ALLOCATED_COSTS => {
                let rules = Arc::clone(&self.shared.rules);
                return Ok(Some(Arc::new(AllocatedCosts::new(self.clone(), rules))));
            }
            views::FRESHNESS => {
                let batch = views::freshness(&self.shared.lake.positions())?;
                return Ok(Some(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?)));
            }
            _ => {}
        }
        let Some(view) = views::VIEWS.iter().find(|view| view.name == name) else {
            return Ok(None);
        };
        let mut sql = view.sql.trim().to_owned();
        if sql.contains(evidence::RECENT) {
            let raw = [Table::Spans, Table::Logs, Table::Metrics].map(|table| self.shared.lake.snapshot(table));
            let raw = raw.into_iter().collect::<Result<Vec<_>, _>>().map_err(external)?;
            let tenant = self.shared.principal.tenant().as_str();
            sql = sql.replace(evidence::RECENT, &evidence::recent(&raw, tenant));
        }
        if sql.contains(tool_catalog::BYTES_PER_TOKEN) {
            sql = tool_catalog::with_constants(&sql);
        }
        let definition = sql.clone();
        Ok(Some(self.plan(&sql, Some(definition)).await?))
    }

    /// One of our own statements as a view, over the names of this layer.
    async fn plan(&self, sql: &str, definition: Option<String>) -> Result<Arc<dyn TableProvider>> {
        let statement = sandbox::parse_query(sql).map_err(external)?;
        let plan = self.session().statement_to_plan(statement).await?;
        Ok(Arc::new(ViewTable::new(plan, definition)))
    }

    fn known(&self, name: &str) -> bool {
        views::table_names().contains(&name)
    }
}

fn external(error: impl std::error::Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

#[async_trait]
impl SchemaProvider for Catalog {
    fn table_names(&self) -> Vec<String> {
        let names = views::table_names().iter().filter(|name| self.table_exist(name));
        names.map(|name| (*name).to_owned()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let key = (self.layer, name.to_owned());
        let opened = self.shared.opened.lock().get(&key).cloned();
        if opened.is_some() {
            return Ok(opened);
        }
        let Some(table) = self.open(name).await? else {
            return Ok(None);
        };
        // Two mentions may open it at once; the first one kept is the one both use.
        let mut opened = self.shared.opened.lock();
        Ok(Some(Arc::clone(opened.entry(key).or_insert(table))))
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        Ok(match name {
            name if Table::parse(name).is_some() => Some(TableType::Base),
            name if self.table_exist(name) => Some(TableType::View),
            _ => None,
        })
    }

    fn table_exist(&self, name: &str) -> bool {
        self.known(name) && (self.layer != Layer::Principal || sight::refusal(name, &self.shared.principal).is_none())
    }
}

impl CatalogProvider for Catalog {
    fn schema_names(&self) -> Vec<String> {
        vec![SCHEMA.to_owned()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        (name == SCHEMA).then(|| Arc::new(self.clone()) as Arc<dyn SchemaProvider>)
    }
}

impl CatalogProviderList for Catalog {
    fn register_catalog(&self, _name: String, _catalog: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        // Nothing can be added to what a principal sees.
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == CATALOG).then(|| Arc::new(self.clone()) as Arc<dyn CatalogProvider>)
    }
}
