use serde_json::Value;
use serde_pickle::SerOptions;

/// `preprocessing.pkl`: `json` as Python's dict, list, str, int, float, bool and None, with nothing
/// that imports a module on reading. For Python readers; we never read a pickle.
///
/// Converting from JSON guarantees both: only these types, and the same content as
/// `preprocessing.json`.
pub(super) fn pickle(json: &Value) -> Result<Vec<u8>, serde_pickle::Error> {
    serde_pickle::to_vec(json, SerOptions::new())
}
