use serde_json::Value;
use serde_pickle::SerOptions;

/// `preprocessing.pkl`: `json` as Python's own dict, list, str, int, float, bool and None, and nothing that would import a
/// module when it is read. Written for Python readers; we never read a pickle.
///
/// Going through JSON makes sure of both: nothing but these types, and the same content as `preprocessing.json`.
pub(super) fn pickle(json: &Value) -> Result<Vec<u8>, serde_pickle::Error> {
    serde_pickle::to_vec(json, SerOptions::new())
}
