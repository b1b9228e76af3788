use super::delta::{self, Written};
use super::load::{self, LoadError};
use super::{Catalogue, LoadedModel, Snapshot};
use crate::serve::limits::Limits;
use crate::serve::metrics::{Metrics, SnapshotFigures};
use arc_swap::ArcSwapOption;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use twotower_store::{ModelRecord, Store, VectorTable};

/// A refresh that takes longer hangs: it is given up, and the next one starts over.
const REFRESH_DEADLINE: Duration = Duration::from_mins(10);

/// Reading the catalogue takes at most one part in so many of the time.
const REST: u32 = 20;

/// The view that requests are answered from, and what keeps it current.
#[derive(Debug)]
pub(crate) struct Snapshots {
    store: Store,
    models: PathBuf,
    options: SnapshotOptions,
    current: ArcSwapOption<Snapshot>,
    revisions: AtomicU64,
    progress: Mutex<Progress>,
    metrics: Arc<Metrics>,
}

/// What views are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SnapshotOptions {
    /// Whether lists are capped by makers or performers.
    pub(crate) groups: bool,
    /// Days after publication for which a video is new.
    pub(crate) new_days: u32,
}

#[derive(Debug, Default)]
struct Progress {
    /// Why the active version is not the one served.
    problem: Option<String>,
    /// When the catalogue was read last, and how long that took.
    catalogue_read: Option<(Instant, Duration)>,
}

impl Snapshots {
    pub(crate) fn new(
        store: Store,
        models: PathBuf,
        options: SnapshotOptions,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            store,
            models,
            options,
            current: ArcSwapOption::empty(),
            revisions: AtomicU64::new(0),
            progress: Mutex::default(),
            metrics,
        }
    }

    /// The view of now, if one could be loaded yet.
    pub(crate) fn current(&self) -> Option<Arc<Snapshot>> {
        self.current.load_full()
    }

    /// Why requests are not answered by the active version, with the fix; `None` if they are.
    pub(crate) fn problem(&self) -> Option<String> {
        let problem = self.progress(|progress| progress.problem.clone());
        problem.or_else(|| {
            let nothing = self.current.load().is_none();
            nothing.then(|| "nothing has been loaded yet".into())
        })
    }

    /// Looks for a new version and new vectors at short intervals and for a changed catalogue at longer ones, for ever.
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
            Ok(Ok(next)) => {
                if let Some(snapshot) = next {
                    tracing::debug!(
                        model_version = snapshot.version(),
                        videos = snapshot.videos.len(),
                        bytes = snapshot.bytes(),
                        "loaded"
                    );
                    self.metrics.set_snapshot(SnapshotFigures {
                        videos: snapshot.videos.len(),
                        bytes: snapshot.bytes(),
                    });
                    self.current.store(Some(Arc::new(snapshot)));
                }
                self.metrics.snapshot_is_current();
                self.progress(|progress| progress.problem = None);
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "refresh failed; what is loaded stays");
                // Whether the database answers is asked anew by each readiness check.
                if !matches!(error, LoadError::Store(_)) || self.current.load().is_none() {
                    self.progress(|progress| progress.problem = Some(error.advice()));
                }
            }
            Err(_) => tracing::warn!("refresh took too long; what is loaded stays"),
        }
    }

    /// The next view, or `None` if the one held is current.
    async fn next(&self, catalogue_poll: Duration) -> Result<Option<Snapshot>, LoadError> {
        let active = self.store.active_model().await?;
        let version = active.as_ref().map(|record| record.version);
        let held = self.current();
        let Some(held) = held.filter(|held| held.version() == version) else {
            let snapshot = self.load(active, None).await?;
            tracing::info!(model_version = version, "serving another model version");
            return Ok(Some(snapshot));
        };
        let written = match &held.model {
            Some(model) => {
                delta::written(&self.store, model, &held.videos, self.catalogue()).await?
            }
            None => Written::Nothing,
        };
        match written {
            Written::TooMuch => Ok(Some(self.load(active, Some(&held)).await?)),
            _ if self.catalogue_due(catalogue_poll) => match self.describe(&held).await? {
                Some(snapshot) => Ok(Some(snapshot)),
                None => Ok(Some(self.load(active, Some(&held)).await?)),
            },
            Written::Nothing => Ok(None),
            Written::Some(changed) => {
                let (model, videos) = *changed;
                Ok(Some(Snapshot {
                    revision: self.revision(),
                    model: Some(model),
                    videos,
                    popularity: held.popularity.clone(),
                }))
            }
        }
    }

    /// Reads the catalogue again, and with the same vectors as before nothing else.
    async fn describe(&self, held: &Snapshot) -> Result<Option<Snapshot>, LoadError> {
        let Some(model) = &held.model else {
            return Ok(None);
        };
        self.measure_staleness(model.version).await?;
        let vectors = self.store.count_vectors(VectorTable::Videos).await?;
        let same = vectors.contains(&(model.version, model.index.len() as u64));
        if model.index.delta_len() > 0 || !same {
            return Ok(None);
        }
        let started = Instant::now();
        let wanted = Some(held.videos.sorted_ids().to_vec());
        let videos = load::videos(&self.store, wanted, self.catalogue()).await?;
        let popularity = load::popularity(&self.store, &videos).await?;
        self.progress(|progress| progress.catalogue_read = Some((started, started.elapsed())));
        let index = model.index.with_attributes(videos.attributes().clone())?;
        Ok(Some(Snapshot {
            revision: if videos.digest() == held.videos.digest() {
                held.revision
            } else {
                self.revision()
            },
            model: Some(LoadedModel {
                index,
                user_tower: Arc::clone(&model.user_tower),
                ..*model
            }),
            videos,
            popularity,
        }))
    }

    /// Reads everything and builds the index.
    async fn load(
        &self,
        active: Option<ModelRecord>,
        held: Option<&Snapshot>,
    ) -> Result<Snapshot, LoadError> {
        let started = Instant::now();
        let mut vectors = None;
        if let Some(record) = &active {
            self.measure_staleness(record.version).await?;
            let held = held.and_then(|held| held.model.as_ref());
            let tower = held.map(|held| Arc::clone(&held.user_tower));
            vectors = Some(load::vectors(&self.store, &self.models, record, tower).await?);
        }
        let wanted = vectors.as_ref().map(|vectors| vectors.ids.clone());
        let videos = load::videos(&self.store, wanted, self.catalogue()).await?;
        let popularity = load::popularity(&self.store, &videos).await?;
        let model = match vectors {
            Some(vectors) => Some(load::index(vectors, &videos).await?),
            None => None,
        };
        let took = started.elapsed();
        self.progress(|progress| progress.catalogue_read = Some((started, took)));
        Ok(Snapshot {
            revision: self.revision(),
            model,
            videos,
            popularity,
        })
    }

    /// Tells the metrics since when no vector of `version` was written.
    async fn measure_staleness(&self, version: i64) -> Result<(), LoadError> {
        let ages = self.store.vector_ages(VectorTable::Videos).await?;
        if let Some(vectors) = ages.iter().find(|vectors| vectors.version == version) {
            self.metrics.set_embedding_staleness(vectors.age);
        }
        Ok(())
    }

    fn catalogue_due(&self, poll: Duration) -> bool {
        self.progress(|progress| {
            progress
                .catalogue_read
                .is_none_or(|(at, took)| at.elapsed() >= poll.max(REST * took))
        })
    }

    fn catalogue(&self) -> Catalogue {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let today = now.unwrap_or_default().as_secs_f64() / 86_400.0;
        Catalogue {
            groups: self.options.groups,
            fresh_from_day: (today - f64::from(self.options.new_days)) as f32,
        }
    }

    fn revision(&self) -> u64 {
        self.revisions.fetch_add(1, Ordering::Relaxed)
    }

    fn progress<T>(&self, look: impl FnOnce(&mut Progress) -> T) -> T {
        // Each change is a single assignment, so a panic leaves nothing half done.
        look(&mut self.progress.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
