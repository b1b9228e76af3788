//! What the database says of a user at the moment of a request.

use super::reads::{ReadError, Reads, StateRead};
use crate::serve::circuit_breaker::{Circuit, CircuitBreaker, ProbeInterval};
use crate::serve::error::ApiError;
use crate::serve::limits::Limits;
use crate::serve::replica::{Asked, Sources};
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use twotower_store::UserState;

/// While the circuit is open, one request in this time probes whether the database answers again.
/// No other request waits for it. The interval does not grow: the database itself cancels late
/// reads, so they do not accumulate.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);

/// Reads states, each within its deadline.
#[derive(Debug)]
pub(in crate::serve) struct UserStates {
    reads: Reads,
    hashes: RandomState,
    /// `None` without a soft deadline: an answer then waits for as long as the database may take.
    breaker: Option<Arc<CircuitBreaker>>,
    deadline: Duration,
}

impl UserStates {
    pub(in crate::serve) fn new(sources: &Arc<Sources>, limits: &Limits) -> Self {
        let interval = ProbeInterval {
            first: PROBE_INTERVAL,
            last: PROBE_INTERVAL,
        };
        let breaker = limits
            .soft()
            .map(|soft| Arc::new(CircuitBreaker::new(soft, interval)));
        Self {
            reads: Reads::new(sources, limits, breaker.as_ref()),
            hashes: RandomState::new(),
            breaker,
            deadline: limits.database,
        }
    }

    /// Everything the user has liked, skipped and blocked.
    ///
    /// A read that is too late for its request goes on until its own deadline: to cut it off would
    /// cost the connection, and new connections do not help a slow database.
    ///
    /// # Errors
    /// With a soft deadline [`ReadError::Erased`] or [`ReadError::Late`], after which an answer can
    /// be made without the state. Without one [`ReadError::Erased`], or another error that is the
    /// answer.
    pub(in crate::serve) async fn read(&self, asked: Asked) -> Result<StateRead, ReadError> {
        let Some(breaker) = &self.breaker else {
            let read = timeout(self.deadline, self.reads.state(asked)).await;
            return match read.unwrap_or(Err(ReadError::Late)) {
                Err(ReadError::Late) => Err(ReadError::Unreachable(ApiError::Timeout {
                    stage: "the database",
                })),
                outcome => outcome,
            };
        };
        let circuit = breaker.circuit();
        if matches!(circuit, Circuit::Open { .. }) {
            return Err(ReadError::Late);
        }
        let read = async {
            // Reads of the separate lane do not count in the breaker, and may be late although the
            // database answers again.
            if circuit == Circuit::HalfOpen && self.reads.is_separate(asked.user) {
                self.reads.probe().await?;
            }
            self.reads.state(asked).await
        };
        match timeout(breaker.late_after(), read).await {
            Ok(Ok(known)) => Ok(known),
            Ok(Err(ReadError::Erased)) => Err(ReadError::Erased),
            Ok(Err(_)) | Err(_) => Err(ReadError::Late),
        }
    }

    /// Equal for equal states, for as long as this process runs.
    pub(in crate::serve) fn hash(&self, state: &UserState) -> u64 {
        let mut hasher = self.hashes.build_hasher();
        for ids in [&state.likes, &state.skips] {
            hasher.write_usize(ids.len());
            // Numbers take a third of the work that slices do, each of which is preceded by its
            // length.
            for id in ids {
                hasher.write_u128(id.as_u128());
            }
        }
        state.blocks.hash(&mut hasher);
        hasher.finish()
    }
}
