//! The names one principal can use in one query: tables, views, and nothing else.
//!
//! A [`Catalog`] is made for a query and forgotten after it. Tables are opened on first use and then
//! kept, so that every mention of a table in the query is the same snapshot; views are planned on first
//! use, in the same catalog. There is no other catalog, schema, file or URL to name.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::datasource::{MemTable, TableType, ViewTable};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::session_state::SessionState;
use parking_lot::Mutex;
use spanledger_access::Principal;
use spanledger_lake::{Lake, Table};
use spanledger_ledger::allocation::RuleSet;

use crate::allocated::{ALLOCATED_COSTS, AllocatedCosts};
use crate::table::LakeTable;
use crate::views::PriceTable;
use crate::{evidence, sandbox, tool_catalog, views};

/// Name of the one catalog.
pub const CATALOG: &str = "spanledger";
/// Name of its one schema.
pub const SCHEMA: &str = "public";

/// One principal's view of the lake, for one query. Clones share their snapshots.
#[derive(Clone)]
pub(crate) struct Catalog {
    shared: Arc<Shared>,
}

struct Shared {
    lake: Lake,
    principal: Principal,
    /// Session that views are planned in, before a catalog is set.
    base: SessionState,
    prices: Arc<PriceTable>,
    rules: Arc<RuleSet>,
    opened: Mutex<HashMap<String, Arc<dyn TableProvider>>>,
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
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                lake,
                principal,
                base,
                prices,
                rules,
                opened: Mutex::new(HashMap::new()),
            }),
        }
    }

    /// A session whose only catalog is this one.
    pub(crate) fn session(&self) -> SessionState {
        let mut state = self.shared.base.clone();
        state.register_catalog_list(Arc::new(self.clone()));
        state
    }

    async fn open(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(table) = Table::parse(name) {
            let snapshot = self.shared.lake.snapshot(table).map_err(external)?;
            let table = LakeTable::new(table, &snapshot, &self.shared.principal)?;
            return Ok(Some(Arc::new(table)));
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
        let statement = sandbox::parse_query(&sql).map_err(external)?;
        let plan = self.session().statement_to_plan(statement).await?;
        Ok(Some(Arc::new(ViewTable::new(plan, Some(sql)))))
    }
}

fn external(error: impl std::error::Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

#[async_trait]
impl SchemaProvider for Catalog {
    fn table_names(&self) -> Vec<String> {
        views::table_names().iter().map(|name| (*name).to_owned()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let opened = self.shared.opened.lock().get(name).cloned();
        if opened.is_some() {
            return Ok(opened);
        }
        let Some(table) = self.open(name).await? else {
            return Ok(None);
        };
        // Two mentions may open it at once; the first one kept is the one both use.
        let mut opened = self.shared.opened.lock();
        Ok(Some(Arc::clone(opened.entry(name.to_owned()).or_insert(table))))
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        Ok(match name {
            name if Table::parse(name).is_some() => Some(TableType::Base),
            name if self.table_exist(name) => Some(TableType::View),
            _ => None,
        })
    }

    fn table_exist(&self, name: &str) -> bool {
        views::table_names().contains(&name)
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
