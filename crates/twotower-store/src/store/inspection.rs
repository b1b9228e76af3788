//! What a database says of itself. Each operation is one short transaction that reads; what only a server has, SQLite has not.

use super::{Engine, GRACE, Store};
use crate::inspection::{
    Completeness, DataFacts, DimensionSample, Fault, Generation, IndexUse, LikeCoverage, Pooler,
    Reaction, SchemaAudit, ServerFacts, TableStatistics,
};
use crate::{Source, StoreError, VectorTable};
use std::time::Duration;

#[expect(
    clippy::missing_errors_doc,
    reason = "every operation fails with what `StoreError` lists, for the reasons written there"
)]
impl Store {
    /// The server and the way to it; `None` of the embedded store.
    pub async fn server_facts(&self) -> Result<Option<ServerFacts>, StoreError> {
        call!(self, self.options.statement_timeout, server_facts())
    }

    /// Finds out what stands between, by two connections of its own; `None` of the embedded store.
    pub async fn pooler(&self) -> Result<Option<Pooler>, StoreError> {
        call!(self, self.options.statement_timeout, pooler())
    }

    /// Compares what is there with what the migrations made: tables, row level security, policies, rights, indexes. Asks the
    /// system's catalogue alone, so that any role may; `None` of the embedded store. Tables that `source` reads others for are the
    /// application's to have as it likes.
    pub async fn audit_schema(&self, source: &Source) -> Result<Option<SchemaAudit>, StoreError> {
        call!(self, self.options.statement_timeout, audit_schema(source))
    }

    /// Tables of `source` with more than a few rows of which each request reads all, since no index finds those of one user; `None` where
    /// likes and skips are read from ours, and of the embedded store. What a SELECT would do is planned, and not done.
    pub async fn unindexed_reads(&self, source: &Source) -> Result<Option<Vec<Fault>>, StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            unindexed_reads(source)
        )
    }

    /// How a search in SQL would find the vectors of `version`; `None` of the embedded store.
    pub async fn index_use(
        &self,
        version: i64,
        dim: usize,
    ) -> Result<Option<IndexUse>, StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            index_use(version, dim)
        )
    }

    /// The version that readers see, and how fresh its vectors are.
    pub async fn generation(&self) -> Result<Option<Generation>, StoreError> {
        call!(self, self.options.statement_timeout, generation())
    }

    /// Of the thousand vectors of `version` that were written last, those that are not of dimension `dim`.
    pub async fn sample_dimensions(
        &self,
        table: VectorTable,
        version: i64,
        dim: usize,
    ) -> Result<DimensionSample, StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            sample_dimensions(table, version, dim)
        )
    }

    /// Counts what there is to learn from.
    pub async fn data_facts(&self, source: &Source) -> Result<DataFacts, StoreError> {
        call!(self, self.options.statement_timeout, data_facts(source))
    }

    /// Counts the videos that have no vector of `version`.
    pub async fn completeness(
        &self,
        source: &Source,
        version: i64,
    ) -> Result<Completeness, StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            completeness(source, version)
        )
    }

    /// Hands over what each user was first shown from 36 days to 1 day ago and liked of it, of the events that applications sent, in no order.
    pub async fn for_each_reaction(
        &self,
        each: &mut (dyn FnMut(Reaction) + Send),
    ) -> Result<(), StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            for_each_reaction(each)
        )
    }

    /// Looks whether the model knows what is liked nowadays.
    pub async fn like_coverage(
        &self,
        source: &Source,
        version: i64,
    ) -> Result<LikeCoverage, StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            like_coverage(source, version)
        )
    }

    /// Statistics of the tables that twotower reads and writes.
    pub async fn table_statistics(&self) -> Result<Vec<TableStatistics>, StoreError> {
        call!(self, self.options.statement_timeout, table_statistics())
    }
}
