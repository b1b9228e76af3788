/// Rows of a source query that are left out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeftOut {
    /// Name of the query.
    pub(crate) query: &'static str,
    /// Number of rows with an id that is text but no UUID.
    pub(crate) no_ids: i64,
    /// Number of other rows with an id that is a UUID in a spelling that serving does not look up.
    pub(crate) odd_spellings: i64,
    /// Number of other rows whose time is empty, infinite or outside the years 1970 to 2106.
    pub(crate) odd_times: i64,
}

impl LeftOut {
    /// The counts in the order of the fields.
    pub(crate) fn new(
        query: &'static str,
        (no_ids, odd_spellings, odd_times): (i64, i64, i64),
    ) -> Self {
        Self {
            query,
            no_ids,
            odd_spellings,
            odd_times,
        }
    }
}

/// Logs the number of rows left out per query of a source. Users and texts are not logged.
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
    if let Some(told) = told(|it| it.odd_times) {
        tracing::warn!(
            "rows are left out, since their created_at is empty, infinite or outside the years 1970 to 2106: {told}"
        );
    }
}
