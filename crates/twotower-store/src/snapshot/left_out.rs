/// Says how many rows of each query of a source are left out. Whose, and what stands there instead of an id, is nothing for a log.
pub(crate) fn tell_left_out(rows: &[(&'static str, i64)]) {
    let told: Vec<String> = rows
        .iter()
        .filter(|(_, rows)| *rows > 0)
        .map(|(query, rows)| format!("{rows} of {query}"))
        .collect();
    if !told.is_empty() {
        tracing::warn!(
            "rows are left out, since an id in them is a text that is no UUID: {}",
            told.join(", ")
        );
    }
}
