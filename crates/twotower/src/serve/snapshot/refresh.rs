#[cfg(test)]
mod tests;

use super::delta::{self, Written};
use super::load::{self, LoadError, Role};
use super::{Catalogue, CatalogueRead, Snapshot, background};
use crate::serve::limits::Limits;
use crate::serve::metrics::{Metrics, SnapshotFigures};
use arc_swap::ArcSwapOption;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use twotower_core::time::DAY;
use twotower_store::{Arm, Experiment, ModelRecord, Store, StoreError, VectorTable};
use uuid::Uuid;

/// A refresh that takes longer is taken to hang. It is given up, and the next one starts over.
const REFRESH_DEADLINE: Duration = Duration::from_mins(10);

/// Reading the catalogue takes at most one part in this many of the time.
const REST: u32 = 20;

/// The views that requests are answered from, and the means to keep them current.
#[derive(Debug)]
pub(crate) struct Snapshots {
    store: Store,
    models: PathBuf,
    options: SnapshotOptions,
    served: ArcSwapOption<Served>,
    revisions: AtomicU64,
    problems: Mutex<Problems>,
    metrics: Arc<Metrics>,
}

/// Options of views.
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
    challenger: Option<Challenger>,
}

/// The view of an experiment's challenger.
#[derive(Debug, Clone)]
struct Challenger {
    experiment: Experiment,
    snapshot: Arc<Snapshot>,
}

/// Problems with the views, each with its fix.
#[derive(Debug, Default)]
struct Problems {
    /// Why the active version is not served.
    active: Option<String>,
    /// Why the challenger of an experiment is not served.
    challenger: Option<String>,
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
            problems: Mutex::default(),
            metrics,
        }
    }

    /// The view of the active version, once one has been loaded.
    pub(crate) fn current(&self) -> Option<Arc<Snapshot>> {
        let served = self.served.load();
        served.as_ref().map(|served| Arc::clone(&served.active))
    }

    /// The view that `user` is answered from: that of the user's arm while an experiment runs.
    pub(crate) fn of(&self, user: Uuid) -> Option<Arc<Snapshot>> {
        let served = self.served.load();
        let served = served.as_ref()?;
        let snapshot = match &served.challenger {
            Some(it) if it.experiment.arm(user) == Arm::Challenger => &it.snapshot,
            _ => &served.active,
        };
        Some(Arc::clone(snapshot))
    }

    /// Why requests are not answered by the active version, with the fix; `None` if they are.
    pub(crate) fn problem(&self) -> Option<String> {
        let problem = self.lock_problems().active.clone();
        problem.or_else(|| {
            let nothing = self.served.load().is_none();
            nothing.then(|| "nothing has been loaded yet".into())
        })
    }

    /// Why users in the challenger arm of a running experiment are not answered by its current
    /// view, with the fix.
    pub(crate) fn experiment_problem(&self) -> Option<String> {
        self.lock_problems().challenger.clone()
    }

    /// Looks for a new version and new vectors at short intervals, and for a changed catalogue at
    /// longer ones, for ever.
    pub(crate) async fn keep_current(&self, limits: Limits) {
        loop {
            tokio::time::sleep(limits.active_model_poll).await;
            self.refresh(limits.catalogue_poll).await;
        }
    }

    /// Brings the views up to date. If that fails, the old ones stay, and the log says why.
    pub(crate) async fn refresh(&self, catalogue_poll: Duration) {
        // Views are replaced as a whole, so a panic leaves the current one, and the next round
        // starts over.
        let round = background::contained(Box::pin(self.next(catalogue_poll)));
        let refreshed = tokio::time::timeout(REFRESH_DEADLINE, round).await;
        match refreshed.map(|round| round.unwrap_or_else(|panicked| Err(panicked.into()))) {
            Ok(Ok(())) => {
                self.metrics.snapshot_is_current();
                self.lock_problems().active = None;
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "refresh failed; what is loaded stays");
                // Outages are no problem of the view: each readiness check tests the database
                // itself.
                if !error.is_outage() || self.served.load().is_none() {
                    self.lock_problems().active = Some(error.advice(Role::Active));
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
                // Stored before the challenger is loaded: users of the active version need not wait
                // for that.
                self.served.store(Some(Arc::new(Served {
                    active: Arc::clone(&active),
                    challenger: challenger_held(held.as_deref(), &active),
                })));
                active
            }
        };
        let held = challenger_held(held.as_deref(), &active);
        let challenger = self.challenger(&active, held, catalogue_poll).await;
        self.served
            .store(Some(Arc::new(Served { active, challenger })));
        Ok(())
    }

    /// Brings the current view up to date while the view of the active version cannot be loaded, so
    /// that no removed video is recommended meanwhile. The vectors of a pruned version no longer
    /// exist, so its view stays as it is.
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

    /// The view of the challenger in the running experiment of the active version, if there is one.
    /// A problem with the experiment hinders neither the active version nor readiness: it is
    /// reported, and the loaded view of the same experiment stays.
    async fn challenger(
        &self,
        active: &Snapshot,
        held: Option<Challenger>,
        catalogue_poll: Duration,
    ) -> Option<Challenger> {
        let experiment = match self.store.running_experiment().await {
            // If the experiment is against another version than the active one, every user gets the
            // active one.
            Ok(running) => running.filter(|it| it.is_against(active.version())),
            Err(error) => {
                tracing::warn!(%error, "whether an experiment runs cannot be read; what is held of one stays");
                return held;
            }
        };
        let Some(experiment) = experiment else {
            self.lock_problems().challenger = None;
            return None;
        };
        let snapshot = held.as_ref().map(|held| Arc::clone(&held.snapshot));
        let version = experiment.challenger;
        match self
            .challengers_view(version, snapshot, catalogue_poll)
            .await
        {
            Ok(snapshot) => {
                self.lock_problems().challenger = None;
                snapshot.map(|snapshot| Challenger {
                    experiment,
                    snapshot,
                })
            }
            Err(error) => {
                tracing::warn!(%error, "the challenger of the experiment cannot be brought up to date");
                // In another experiment, other users are in the challenger arm.
                let held = held.filter(|held| held.experiment.id == experiment.id);
                if !error.is_outage() || held.is_none() {
                    let instead = match &held {
                        Some(_) => "what was loaded of it before".to_owned(),
                        None => format!(
                            "version {}, which the experiment then compares with itself",
                            experiment.control
                        ),
                    };
                    self.lock_problems().challenger = Some(format!(
                        "experiment {}: {}; until then its users get {instead}",
                        experiment.id,
                        error.advice(Role::Challenger)
                    ));
                }
                held
            }
        }
    }

    /// The next view of an experiment's challenger, or `held` if that is current.
    async fn challengers_view(
        &self,
        version: i64,
        held: Option<Arc<Snapshot>>,
        catalogue_poll: Duration,
    ) -> Result<Option<Arc<Snapshot>>, LoadError> {
        let models = self.store.models().await?;
        let record = models.into_iter().find(|record| record.version == version);
        let record = record.ok_or(StoreError::UnknownModel(version))?;
        let next = self.view(Some(record), held.clone(), catalogue_poll);
        Ok(next.await?.map(Arc::new).or(held))
    }

    /// The next view of a version, or `None` if `held` is current.
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
        let had_another = held.as_ref().is_some_and(|held| held.model.is_some());
        let Some(held) = held.filter(is_held) else {
            let snapshot = self.load(record, None).await?;
            match version {
                None => tracing::info!("no model is active: serving popular videos until one is"),
                Some(version) if had_another => {
                    tracing::info!(model_version = version, "serving another model version");
                }
                Some(version) => tracing::info!(model_version = version, "serving a model version"),
            }
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
                let revision = self.revision();
                Ok(Some(Snapshot {
                    revision,
                    popular_revision: revision,
                    model: Some(model),
                    videos,
                    popularity: held.popularity.clone(),
                    read: held.read,
                }))
            }
        }
    }

    /// Reads the catalogue again, but not the vectors. `None` if everything must be read: without a
    /// model, or if vectors have been added or changed since the index was built.
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
        let same = videos.digest() == held.videos.digest();
        let revision = if same { held.revision } else { self.revision() };
        let as_liked = same && popularity.likes == held.popularity.likes;
        Ok(Some(Snapshot {
            revision,
            popular_revision: if as_liked {
                held.popular_revision
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
        let revision = self.revision();
        Ok(Snapshot {
            revision,
            popular_revision: revision,
            model,
            videos,
            popularity,
            read: CatalogueRead::since(at),
        })
    }

    /// Reports to the metrics how long ago a vector of `version` was last written.
    async fn measure_staleness(&self, version: i64) -> Result<(), LoadError> {
        let ages = self.store.vector_ages(VectorTable::Videos).await?;
        let own = ages.iter().find(|vectors| vectors.version == version);
        if let Some(age) = own.and_then(|vectors| vectors.known_age) {
            self.metrics.set_embedding_staleness(age);
        }
        Ok(())
    }

    fn catalogue(&self) -> Catalogue {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let today = now.unwrap_or_default().as_secs_f64() / DAY.as_secs_f64();
        Catalogue {
            groups: self.options.groups,
            fresh_from_day: (today - f64::from(self.options.new_days)) as f32,
        }
    }

    fn revision(&self) -> u64 {
        self.revisions.fetch_add(1, Ordering::Relaxed)
    }

    fn lock_problems(&self) -> MutexGuard<'_, Problems> {
        // Each change is a single assignment, so a panic leaves no partial one.
        self.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The loaded challenger, if its experiment is against the version `active`; otherwise that
/// experiment is over.
fn challenger_held(held: Option<&Served>, active: &Snapshot) -> Option<Challenger> {
    let challenger = held?.challenger.clone()?;
    let goes_on = challenger.experiment.is_against(active.version());
    goes_on.then_some(challenger)
}
