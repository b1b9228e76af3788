//! Model versions, and which of them is active.

use super::{Engine, GRACE, Store};
use crate::{
    Activation, ActivationRecord, ModelDetails, ModelRecord, ModelState, NewModel, StoreError,
};
use serde_json::Value;
use std::time::Duration;

#[expect(
    clippy::missing_errors_doc,
    reason = "every operation fails with what `StoreError` lists, for the reasons written there"
)]
impl Store {
    /// A new version number. Ascending and never reused.
    pub async fn next_model_version(&self) -> Result<i64, StoreError> {
        call!(self, self.options.statement_timeout, next_model_version())
    }

    /// Registers a version in state `loading`. Repeating this for the same model is allowed while
    /// it is not active. Another model under the same number is refused: their vectors would be
    /// mixed.
    pub async fn register_model(&self, model: &NewModel) -> Result<(), StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            register_model(self.lease, model)
        )
    }

    /// Changes the state of an inactive version, to any state but active.
    pub async fn set_model_state(&self, version: i64, state: ModelState) -> Result<(), StoreError> {
        if state == ModelState::Active {
            return Err(StoreError::SetActive(version));
        }
        call!(
            self,
            self.options.statement_timeout,
            set_model_state(self.lease, version, state, None)
        )
    }

    /// Marks an inactive version as failed, with `reason`.
    pub async fn fail_model(&self, version: i64, reason: &str) -> Result<(), StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            set_model_state(self.lease, version, ModelState::Failed, Some(reason))
        )
    }

    /// Marks an inactive version as pruned, before its vectors are deleted: a candidate becomes
    /// retired, a loading one failed. Registering it again reverts that.
    pub async fn prune_model(&self, version: i64) -> Result<(), StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            prune_model(self.lease, version)
        )
    }

    /// Records the quality gate's verdict on a version, replacing an earlier one. Registering it
    /// again deletes the verdict.
    pub async fn record_verdict(&self, version: i64, verdict: &Value) -> Result<(), StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            record_verdict(self.lease, version, verdict)
        )
    }

    /// The quality gate's verdict on a version, if there is one.
    pub async fn verdict(&self, version: i64) -> Result<Option<Value>, StoreError> {
        call!(self, self.options.statement_timeout, verdict(version))
    }

    /// Makes a version active and retires the previous one, in one transaction that also records
    /// the operator and the reason. Does nothing if it is active already. Ends the running
    /// experiment, which compared with the previous version, and returns its number, also when the
    /// call is repeated after a lost answer.
    pub async fn activate_model(&self, activation: &Activation) -> Result<Option<i64>, StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            activate_model(self.lease, activation)
        )
    }

    /// All activations, oldest first.
    pub async fn activations(&self) -> Result<Vec<ActivationRecord>, StoreError> {
        call!(self, self.options.statement_timeout, activations())
    }

    /// Everything registered about a version.
    pub async fn model_details(&self, version: i64) -> Result<ModelDetails, StoreError> {
        let mut details = call!(self, self.options.statement_timeout, model_details(version))?;
        details.activations = self.activations().await?;
        details
            .activations
            .retain(|activation| activation.version == version);
        Ok(details)
    }

    /// The active version.
    pub async fn active_model(&self) -> Result<Option<ModelRecord>, StoreError> {
        call!(self, self.options.statement_timeout, active_model())
    }

    /// All registered versions, latest first.
    pub async fn models(&self) -> Result<Vec<ModelRecord>, StoreError> {
        call!(self, self.options.statement_timeout, models())
    }
}
