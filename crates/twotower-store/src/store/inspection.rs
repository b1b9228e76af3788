//! Health checks of a database. Each operation is one short read-only transaction. Checks of a
//! server do not exist for SQLite.

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
    /// The server and the connection to it; `None` for SQLite.
    pub async fn server_facts(&self) -> Result<Option<ServerFacts>, StoreError> {
        call!(self, self.options.statement_timeout, server_facts())
    }

    /// Detects a pooler, with two connections of its own; `None` for SQLite.
    pub async fn pooler(&self) -> Result<Option<Pooler>, StoreError> {
        call!(self, self.options.statement_timeout, pooler())
    }

    /// Compares the schema with the migrations: tables, row level security, policies, privileges,
    /// indexes. Reads only the system catalogue, so that any role may run it. `None` for SQLite.
    /// Tables that `source` replaces by others are not checked.
    pub async fn audit_schema(&self, source: &Source) -> Result<Option<SchemaAudit>, StoreError> {
        call!(self, self.options.statement_timeout, audit_schema(source))
    }

    /// Large tables of `source` that each request scans in full, since no index finds the rows of
    /// one user; `None` if likes and skips are read from our own tables, and for SQLite. The
    /// queries are only planned.
    pub async fn unindexed_reads(&self, source: &Source) -> Result<Option<Vec<Fault>>, StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            unindexed_reads(source)
        )
    }

    /// How a search in SQL would find the vectors of `version`; `None` for SQLite.
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

    /// The active version, and the age of its vectors.
    pub async fn generation(&self) -> Result<Option<Generation>, StoreError> {
        call!(self, self.options.statement_timeout, generation())
    }

    /// Among the latest thousand vectors of `version`, those of another dimension than `dim`.
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

    /// Counts the training data.
    pub async fn data_facts(&self, source: &Source) -> Result<DataFacts, StoreError> {
        call!(self, self.options.statement_timeout, data_facts(source))
    }

    /// Counts the videos without a vector of `version`.
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

    /// Passes on what each user was first shown from 36 days to 1 day ago and liked of it, by the
    /// events of applications, in no order.
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

    /// Checks whether the model knows the videos that are liked at present.
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

    /// Statistics of our tables.
    pub async fn table_statistics(&self) -> Result<Vec<TableStatistics>, StoreError> {
        call!(self, self.options.statement_timeout, table_statistics())
    }
}
