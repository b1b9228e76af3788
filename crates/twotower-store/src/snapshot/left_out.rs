/// Rows of a query of a source that are left out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeftOut {
    /// The query.
    pub(crate) query: &'static str,
    /// Rows of which an id is a text that is no UUID.
    pub(crate) no_ids: i64,
    /// The others, of which an id is a UUID, spelled as serving looks for none.
    pub(crate) odd_spellings: i64,
}

/// Says how many rows of each query of a source are left out. Whose, and what stands there instead of an id, is nothing for a log.
pub(crate) fn tell_left_out(rows: &[LeftOut]) {
    let told = |count: fn(&LeftOut) -> i64| {
        let told: Vec<String> = rows
            .iter()
            .filter(|it| count(it) > 0)
            .map(|it| format!("{} of {}", count(it), it.query))
            .collect();
        (!told.is_empty()).then(|| told.join(", "))
    };
    if let Some(told) = told(|it| it.no_ids) {
        tracing::warn!("rows are left out, since an id in them is a text that is no UUID: {told}");
    }
    if let Some(told) = told(|it| it.odd_spellings) {
        tracing::warn!(
            "rows are left out, since an id in them is spelled with letters of both cases, or with hyphens where none are as a rule, and no \
             index finds it so: {told}. Set them right (UPDATE … SET id = lower(replace(id, '-', '')), by the names of your table), or let the \
             SELECT of [source] do it (lower(replace(member, '-', '')) AS user_id, with an index over that)"
        );
    }
}
