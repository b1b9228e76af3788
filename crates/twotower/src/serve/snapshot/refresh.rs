use super::load::{self, LoadError};
use super::{LoadedModel, Snapshot};
use crate::serve::limits::Limits;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use twotower_store::{ModelRecord, Store};

/// A refresh that takes longer hangs: it is given up, and the next one starts over.
const REFRESH_DEADLINE: Duration = Duration::from_mins(5);

/// The view that requests are answered from, and what keeps it current.
#[derive(Debug)]
pub(crate) struct Snapshots {
    store: Store,
    models: PathBuf,
    current: watch::Sender<Current>,
}

#[derive(Debug, Default)]
struct Current {
    snapshot: Option<Arc<Snapshot>>,
    /// Why the active version is not the one served.
    problem: Option<String>,
    catalogue_read: Option<Instant>,
}

impl Snapshots {
    pub(crate) fn new(store: Store, models: PathBuf) -> Self {
        Self {
            store,
            models,
            current: watch::Sender::default(),
        }
    }

    /// The view of now, if one could be loaded yet.
    pub(crate) fn current(&self) -> Option<Arc<Snapshot>> {
        self.current.borrow().snapshot.clone()
    }

    /// Why requests are not answered by the active version, with the fix; `None` if they are.
    pub(crate) fn problem(&self) -> Option<String> {
        let current = self.current.borrow();
        match (&current.problem, &current.snapshot) {
            (Some(problem), _) => Some(problem.clone()),
            (None, None) => Some("nothing has been loaded yet".into()),
            (None, Some(_)) => None,
        }
    }

    /// Looks for a new version at short intervals and for a changed catalogue at longer ones, for ever.
    pub(crate) async fn keep_current(&self, limits: Limits) {
        loop {
            tokio::time::sleep(limits.active_model_poll).await;
            self.refresh(limits.catalogue_poll).await;
        }
    }

    /// Brings the view up to date. If that fails, the old one stays and the log says why.
    pub(crate) async fn refresh(&self, catalogue_poll: Duration) {
        let refreshed = tokio::time::timeout(REFRESH_DEADLINE, self.next(catalogue_poll)).await;
        match refreshed {
            Ok(Ok(None)) => self.current.send_modify(|current| current.problem = None),
            Ok(Ok(Some(snapshot))) => {
                tracing::debug!(
                    model_version = snapshot.version(),
                    videos = snapshot.videos.len(),
                    "loaded"
                );
                self.current.send_replace(Current {
                    snapshot: Some(Arc::new(snapshot)),
                    problem: None,
                    catalogue_read: Some(Instant::now()),
                });
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "refresh failed; what is loaded stays");
                self.current.send_modify(|current| {
                    // Whether the database answers is asked anew by each readiness check.
                    if !matches!(error, LoadError::Store(_)) || current.snapshot.is_none() {
                        current.problem = Some(error.advice());
                    }
                });
            }
            Err(_) => tracing::warn!("refresh took too long; what is loaded stays"),
        }
    }

    /// The next view, or `None` if the one held is current.
    async fn next(&self, catalogue_poll: Duration) -> Result<Option<Snapshot>, LoadError> {
        let active = self.store.active_model().await?;
        let (held, catalogue_due) = {
            let current = self.current.borrow();
            let age = current.catalogue_read.map(|at| at.elapsed());
            (
                current.snapshot.clone(),
                age.is_none_or(|age| age >= catalogue_poll),
            )
        };
        let version = active.as_ref().map(|record| record.version);
        let same_version = held.as_ref().is_some_and(|held| held.version() == version);
        if same_version && !catalogue_due {
            return Ok(None);
        }
        let model = match active {
            None => None,
            Some(record) => {
                let held = held.and_then(|held| held.model.clone());
                Some(self.model(&record, held).await?)
            }
        };
        let snapshot = load::snapshot(&self.store, model).await?;
        if !same_version {
            tracing::info!(model_version = version, "serving another model version");
        }
        Ok(Some(snapshot))
    }

    /// The model held, if its vectors are those of `record`, else a fresh one.
    async fn model(
        &self,
        record: &ModelRecord,
        held: Option<Arc<LoadedModel>>,
    ) -> Result<Arc<LoadedModel>, LoadError> {
        if let Some(held) = held.filter(|held| held.version == record.version)
            && load::vectors_unchanged(&self.store, &held).await?
        {
            return Ok(held);
        }
        load::model(&self.store, &self.models, record)
            .await
            .map(Arc::new)
    }
}
