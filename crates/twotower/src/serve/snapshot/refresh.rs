use super::delta::{self, Written};
use super::load::{self, LoadError};
use super::{Catalogue, CatalogueRead, Snapshot, background};
use crate::serve::limits::Limits;
use crate::serve::metrics::{Metrics, SnapshotFigures};
use arc_swap::ArcSwapOption;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use twotower_store::{Arm, Experiment, ModelRecord, Store, VectorTable};
use uuid::Uuid;

/// A refresh that takes longer hangs: it is given up, and the next one starts over.
const REFRESH_DEADLINE: Duration = Duration::from_mins(10);

/// Reading the catalogue takes at most one part in so many of the time.
const REST: u32 = 20;

/// The views that requests are answered from, and what keeps them current.
#[derive(Debug)]
pub(crate) struct Snapshots {
    store: Store,
    models: PathBuf,
    options: SnapshotOptions,
    served: ArcSwapOption<Served>,
    revisions: AtomicU64,
    /// Why the active version is not the one served.
    problem: Mutex<Option<String>>,
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

/// The view of the active version, and that of its challenger while an experiment runs.
#[derive(Debug, Clone)]
struct Served {
    active: Arc<Snapshot>,
    challenger: Option<(Experiment, Arc<Snapshot>)>,
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
            served: ArcSwapOption::empty(),
            revisions: AtomicU64::new(0),
            problem: Mutex::default(),
            metrics,
        }
    }

    /// The active view, if one could be loaded yet.
    pub(crate) fn current(&self) -> Option<Arc<Snapshot>> {
        let served = self.served.load();
        served.as_ref().map(|served| Arc::clone(&served.active))
    }

    /// The view that `user` is answered from: that of their arm while an experiment runs.
    pub(crate) fn of(&self, user: Uuid) -> Option<Arc<Snapshot>> {
        let served = self.served.load();
        let served = served.as_ref()?;
        let snapshot = match &served.challenger {
            Some((experiment, challenger)) if experiment.arm(user) == Arm::Challenger => challenger,
            _ => &served.active,
        };
        Some(Arc::clone(snapshot))
    }

    /// Why requests are not answered by the active version, with the fix; `None` if they are.
    pub(crate) fn problem(&self) -> Option<String> {
        let problem = self.lock_problem().clone();
        problem.or_else(|| {
            let nothing = self.served.load().is_none();
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

    /// Brings the views up to date. If that fails, the old ones stay and the log says why.
    pub(crate) async fn refresh(&self, catalogue_poll: Duration) {
        // Views are swapped whole, so that a panic leaves the one that is held, and the next round starts over.
        let round = background::contained(Box::pin(self.next(catalogue_poll)));
        let refreshed = tokio::time::timeout(REFRESH_DEADLINE, round).await;
        match refreshed.map(|round| round.unwrap_or_else(|panicked| Err(panicked.into()))) {
            Ok(Ok(())) => {
                self.metrics.snapshot_is_current();
                *self.lock_problem() = None;
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "refresh failed; what is loaded stays");
                // Whether the database answers is asked anew by each readiness check.
                if !matches!(error, LoadError::Store(_)) || self.served.load().is_none() {
                    *self.lock_problem() = Some(error.advice());
                }
            }
            Err(_) => tracing::warn!("refresh took too long; what is loaded stays"),
        }
    }

    async fn next(&self, catalogue_poll: Duration) -> Result<(), LoadError> {
        let active = self.store.active_model().await?;
        let held = self.served.load_full();
        let held_active = held.as_ref().map(|held| Arc::clone(&held.active));
        let next = match self.view(active, held_active, catalogue_poll).await {
            Ok(next) => next,
            Err(error) => {
                if let Some(held) = held {
                    self.keep(&held, catalogue_poll).await;
                }
                return Err(error);
            }
        };
        let active = match (next, &held) {
            (None, Some(held)) => Arc::clone(&held.active),
            (None, None) => return Ok(()),
            (Some(snapshot), _) => {
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
                let active = Arc::new(snapshot);
                // Before the challenger is seen to: users of the active version need not wait for that.
                self.served.store(Some(Arc::new(Served {
                    active: Arc::clone(&active),
                    challenger: held.as_ref().and_then(|held| held.challenger.clone()),
                })));
                active
            }
        };
        let held = held.and_then(|held| held.challenger.clone());
        let challenger = self.challenger(&active, held.clone(), catalogue_poll).await;
        // An experiment is no reason to be without the active version, nor not to be ready.
        let challenger = challenger.unwrap_or_else(|error| {
            tracing::warn!(%error, "the challenger of the experiment cannot be brought up to date");
            held
        });
        self.served
            .store(Some(Arc::new(Served { active, challenger })));
        Ok(())
    }

    /// Brings the view that is held up to date where the active version's cannot be had: until that is there, no video is recommended
    /// that is gone. Vectors of a version that was pruned are gone themselves: what is held then stays as it is.
    async fn keep(&self, held: &Served, catalogue_poll: Duration) {
        let Some(version) = held.active.version() else {
            return;
        };
        let next = async {
            let models = self.store.models().await?;
            let record = models.into_iter().find(|record| record.version == version);
            match record.filter(|record| record.pruned_at_us.is_none()) {
                Some(record) => {
                    let held = Some(Arc::clone(&held.active));
                    self.view(Some(record), held, catalogue_poll).await
                }
                None => Ok(None),
            }
        };
        match next.await {
            Ok(Some(snapshot)) => self.served.store(Some(Arc::new(Served {
                active: Arc::new(snapshot),
                challenger: held.challenger.clone(),
            }))),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "the version that is held cannot be brought up to date");
            }
        }
    }

    /// The view of the challenger of the active version's experiment, if one runs.
    async fn challenger(
        &self,
        active: &Snapshot,
        held: Option<(Experiment, Arc<Snapshot>)>,
        catalogue_poll: Duration,
    ) -> Result<Option<(Experiment, Arc<Snapshot>)>, LoadError> {
        let running = self.store.running_experiment().await?;
        // Of one against a version that is not the active one any more, everybody gets that.
        let Some(experiment) = running.filter(|it| it.is_against(active.version())) else {
            return Ok(None);
        };
        let version = experiment.challenger;
        let models = self.store.models().await?;
        let Some(record) = models.into_iter().find(|record| record.version == version) else {
            return Ok(None);
        };
        let held = held.map(|(_, snapshot)| snapshot);
        let next = self
            .view(Some(record), held.clone(), catalogue_poll)
            .await?;
        let snapshot = next.map(Arc::new).or(held);
        Ok(snapshot.map(|snapshot| (experiment, snapshot)))
    }

    /// The next view of a version, or `None` if the one held is current.
    async fn view(
        &self,
        record: Option<ModelRecord>,
        held: Option<Arc<Snapshot>>,
        catalogue_poll: Duration,
    ) -> Result<Option<Snapshot>, LoadError> {
        let version = record.as_ref().map(|record| record.version);
        let is_held = |held: &Arc<Snapshot>| match (&held.model, &record) {
            (Some(model), Some(record)) => model.is_of(record),
            (None, None) => true,
            _ => false,
        };
        let Some(held) = held.filter(is_held) else {
            let snapshot = self.load(record, None).await?;
            tracing::info!(model_version = version, "serving another model version");
            return Ok(Some(snapshot));
        };
        let written = delta::written(&self.store, &held, self.catalogue()).await?;
        let due = held.read.at.elapsed() >= catalogue_poll.max(REST * held.read.took);
        match written {
            Written::TooMuch => Ok(Some(self.load(record, Some(&held)).await?)),
            _ if due => match self.describe(&held).await? {
                Some(snapshot) => Ok(Some(snapshot)),
                None => Ok(Some(self.load(record, Some(&held)).await?)),
            },
            Written::Nothing => Ok(None),
            Written::Some(changed) => {
                let (model, videos) = *changed;
                Ok(Some(Snapshot {
                    revision: self.revision(),
                    model: Some(model),
                    videos,
                    popularity: held.popularity.clone(),
                    read: held.read,
                }))
            }
        }
    }

    /// Reads the catalogue again, and with the same vectors as before nothing else.
    async fn describe(&self, held: &Snapshot) -> Result<Option<Snapshot>, LoadError> {
        let Some(model) = &held.model else {
            return Ok(None);
        };
        let at = Instant::now();
        self.measure_staleness(model.version).await?;
        let stamp = self
            .store
            .vectors_stamp(VectorTable::Videos, model.version)
            .await?;
        if model.index.delta_len() > 0 || stamp != model.stamp {
            return Ok(None);
        }
        let wanted = Some(held.videos.sorted_ids().to_vec());
        let videos = load::videos(&self.store, wanted, self.catalogue()).await?;
        let popularity = load::popularity(&self.store, &videos).await?;
        let index = model.index.with_attributes(videos.attributes().clone())?;
        Ok(Some(Snapshot {
            revision: if videos.digest() == held.videos.digest() {
                held.revision
            } else {
                self.revision()
            },
            model: Some(model.with_index(index, model.read_at())),
            videos,
            popularity,
            read: CatalogueRead::since(at),
        }))
    }

    /// Reads everything and builds the index.
    async fn load(
        &self,
        record: Option<ModelRecord>,
        held: Option<&Snapshot>,
    ) -> Result<Snapshot, LoadError> {
        let at = Instant::now();
        let mut vectors = None;
        if let Some(record) = &record {
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
        Ok(Snapshot {
            revision: self.revision(),
            model,
            videos,
            popularity,
            read: CatalogueRead::since(at),
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

    fn lock_problem(&self) -> MutexGuard<'_, Option<String>> {
        // Each change is a single assignment, so a panic leaves nothing half done.
        self.problem.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::snapshot::videos::VideosBuilder;
    use crate::serve::snapshot::{LoadedModel, Popularity};
    use serde_json::json;
    use std::sync::atomic::AtomicI64;
    use twotower_core::embedding::Embeddings;
    use twotower_core::feature::Video;
    use twotower_core::index::{Attributes, Index, IndexOptions};
    use twotower_core::tower::UserTower;
    use twotower_store::{
        Activation, ActivationKind, ConnectOptions, EmbeddingRow, NewModel, VideoFacts,
    };

    const VECTOR: [f32; 2] = [0.6, 0.8];

    async fn write(store: &Store, ids: &[Uuid]) {
        let videos = ids.iter().map(|&id| Video {
            id,
            ..Video::default()
        });
        store
            .write_videos(&videos.collect::<Vec<_>>())
            .await
            .unwrap();
        let rows = ids.iter().map(|&id| EmbeddingRow {
            id,
            fingerprint: 0,
            vector: &VECTOR,
        });
        let rows: Vec<_> = rows.collect();
        store
            .write_embeddings(VectorTable::Videos, 1, &rows)
            .await
            .unwrap();
    }

    /// With version 1 active, and these videos.
    async fn store(ids: &[Uuid]) -> Store {
        let store = Store::connect("sqlite::memory:", ConnectOptions::default());
        let store = store.await.unwrap();
        store.migrate().await.unwrap();
        let model = NewModel {
            version: 1,
            embedding_dim: VECTOR.len(),
            cut_off_us: None,
            snapshot_sha256: "ab".into(),
            hyperparameters: json!({}),
            metrics: json!({}),
            manifest_sha256: "cd".into(),
            erasures_seen: None,
        };
        store.register_model(&model).await.unwrap();
        write(&store, ids).await;
        let activation = Activation {
            version: 1,
            kind: ActivationKind::Loaded,
            by: "ann".into(),
            reason: "first".into(),
            forced: false,
        };
        store.activate_model(&activation).await.unwrap();
        store
    }

    /// As no other code makes it: of `ids`, the index has the first alone, so that who compares the vector of another one panics.
    fn broken(ids: &[Uuid], catalogue: Catalogue) -> Snapshot {
        let mut builder = VideosBuilder::new(None, catalogue);
        for &id in ids {
            builder.push(&VideoFacts {
                id,
                ..VideoFacts::default()
            });
        }
        let vectors = Embeddings::from_rows(VECTOR.len(), VECTOR.to_vec()).unwrap();
        let index = Index::new(vectors, Attributes::none(1), &IndexOptions::default());
        let tower = UserTower::zeros(vec![1.0], 0.5, 1, VECTOR.len());
        Snapshot {
            revision: 0,
            model: Some(LoadedModel {
                version: 1,
                manifest_sha256: "cd".into(),
                user_tower: Arc::new(tower),
                index: index.unwrap(),
                read_at_us: AtomicI64::new(0),
                stamp: (0, 0),
            }),
            videos: builder.finish().unwrap(),
            popularity: Popularity::default(),
            read: CatalogueRead::since(Instant::now()),
        }
    }

    #[tokio::test]
    async fn a_panic_over_new_vectors_has_everything_read_again() {
        let ids = [1, 2].map(Uuid::from_u128);
        let store = store(&ids).await;
        let options = SnapshotOptions {
            groups: false,
            new_days: 0,
        };
        let snapshots = Snapshots::new(store.clone(), "none".into(), options, Arc::default());
        snapshots.served.store(Some(Arc::new(Served {
            active: Arc::new(broken(&ids, snapshots.catalogue())),
            challenger: None,
        })));
        // The catalogue is never due, so that what is read is read for the vectors.
        let poll = Duration::MAX;
        snapshots.refresh(poll).await;
        assert_eq!(snapshots.problem(), None);
        let held = snapshots.current().unwrap();
        let model = held.model.as_ref().unwrap();
        assert_eq!((model.index.len(), model.index.delta_len()), (2, 0));
        // And the rounds go on.
        let third = Uuid::from_u128(3);
        write(&store, &[third]).await;
        snapshots.refresh(poll).await;
        let held = snapshots.current().unwrap();
        let model = held.model.as_ref().unwrap();
        assert_eq!((model.index.len(), model.index.delta_len()), (3, 1));
        assert_eq!(held.videos.position(third), Some(2));
        assert_eq!(held.vector(2), Some(&VECTOR[..]));
    }
}
