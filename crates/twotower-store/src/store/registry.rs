//! Versions of models, and which of them readers see.

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
    /// A number that no model has had; ascending, whatever the clock says.
    pub async fn next_model_version(&self) -> Result<i64, StoreError> {
        call!(self, self.options.statement_timeout, next_model_version())
    }

    /// Registers a version in state `loading`; again for the same model is allowed while it is not active. Another model under a number
    /// that is taken is refused: vectors of the first would pass for the second's.
    pub async fn register_model(&self, model: &NewModel) -> Result<(), StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            register_model(self.lease, model)
        )
    }

    /// Changes the state of a version that is not active, to anything but active.
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

    /// Gives up a version that is not active; `reason` is kept with it.
    pub async fn fail_model(&self, version: i64, reason: &str) -> Result<(), StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            set_model_state(self.lease, version, ModelState::Failed, Some(reason))
        )
    }

    /// Says of a version that is not active that its vectors are gone, before they are: a candidate becomes retired, one that is
    /// loading failed. Registering it again takes that back.
    pub async fn prune_model(&self, version: i64) -> Result<(), StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            prune_model(self.lease, version)
        )
    }

    /// Keeps what the quality gate said of a version, in place of what it said before. Registering it again forgets it.
    pub async fn record_verdict(&self, version: i64, verdict: &Value) -> Result<(), StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            record_verdict(self.lease, version, verdict)
        )
    }

    /// What the quality gate said of a version, if it was asked and there is such a version.
    pub async fn verdict(&self, version: i64) -> Result<Option<Value>, StoreError> {
        call!(self, self.options.statement_timeout, verdict(version))
    }

    /// Makes a version the one that readers see and retires the previous one, in one transaction that also records by whom
    /// and why. Nothing happens if it is active already. An experiment that runs ends with it, since it compared with the previous
    /// version; its number is returned, also by another call after the answer to the first one was lost.
    pub async fn activate_model(&self, activation: &Activation) -> Result<Option<i64>, StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            activate_model(self.lease, activation)
        )
    }

    /// Every activation there was, oldest first.
    pub async fn activations(&self) -> Result<Vec<ActivationRecord>, StoreError> {
        call!(self, self.options.statement_timeout, activations())
    }

    /// Everything that is registered of a version.
    pub async fn model_details(&self, version: i64) -> Result<ModelDetails, StoreError> {
        let mut details = call!(self, self.options.statement_timeout, model_details(version))?;
        details.activations = self.activations().await?;
        details
            .activations
            .retain(|activation| activation.version == version);
        Ok(details)
    }

    /// The version that readers see.
    pub async fn active_model(&self) -> Result<Option<ModelRecord>, StoreError> {
        call!(self, self.options.statement_timeout, active_model())
    }

    /// All registered versions, the latest first.
    pub async fn models(&self) -> Result<Vec<ModelRecord>, StoreError> {
        call!(self, self.options.statement_timeout, models())
    }
}
