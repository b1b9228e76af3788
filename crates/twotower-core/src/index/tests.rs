use super::*;
use crate::kernel;
use crate::recommend::{Scored, top_k};
use proptest::prelude::*;
use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::collections::BTreeSet;

const TERMS: u32 = 9;

/// `n` unit vectors in a few loose clusters, some of them twice, so that there are ties.
fn vectors(n: usize, dim: usize, random: &mut Pcg64Mcg) -> Embeddings {
    clustered(n, dim, (5, 0.6), random)
}

/// `n` unit vectors in `clusters` clusters of this `width`, some of them twice.
fn clustered(
    n: usize,
    dim: usize,
    (clusters, width): (usize, f32),
    random: &mut Pcg64Mcg,
) -> Embeddings {
    let mut rows = Embeddings::new(dim);
    let centres: Vec<f32> = (0..clusters * dim)
        .map(|_| random.random_range(-1.0..1.0))
        .collect();
    for n in 0..n {
        if n > 0 && random.random_range(0..6) == 0 {
            let twin = rows.row(random.random_range(0..n)).to_vec();
            rows.push(&twin).unwrap();
            continue;
        }
        let centre = random.random_range(0..clusters) * dim;
        let mut row: Vec<f32> = centres[centre..centre + dim]
            .iter()
            .map(|x| x + random.random_range(-width..width))
            .collect();
        let norm = kernel::dot(&row, &row).sqrt();
        if norm < 1e-3 {
            row.fill(0.0);
            row[0] = 1.0;
        } else {
            for x in &mut row {
                *x /= norm;
            }
        }
        rows.push(&row).unwrap();
    }
    rows
}

/// Terms from one that a fifth of the videos carry to one that hardly any does; a price in whole
/// tens and a time, both sometimes missing.
fn row(random: &mut Pcg64Mcg) -> Row {
    let terms = (0..TERMS).filter(|&term| random.random_range(0..5 * (1 << term)) < 4);
    let terms = terms.collect();
    let number = |random: &mut Pcg64Mcg| {
        let value = random.random_range(-1..100);
        (value >= 0).then_some(f64::from(value / 10 * 10))
    };
    Row {
        terms,
        numbers: vec![number(random), number(random)],
    }
}

fn attributes(rows: &[Row]) -> Attributes {
    let pairs = (0u32..)
        .zip(rows)
        .flat_map(|(position, row)| row.terms.iter().map(move |&term| (term, position)));
    let number = |column: usize| rows.iter().map(move |row| row.numbers[column]);
    let columns = vec![
        Column::floats(number(0).map(|value| value.map(|value| value as f32))),
        Column::integers(number(1).map(|value| value.map(|value| value as i64))),
    ];
    let postings = Postings::new(rows.len(), TERMS as usize, pairs);
    Attributes::new(rows.len(), postings, columns).unwrap()
}

fn filter(random: &mut Pcg64Mcg) -> Filter {
    let terms = |random: &mut Pcg64Mcg| {
        let count = random.random_range(0..3);
        (0..count)
            .map(|_| random.random_range(0..TERMS + 1))
            .collect()
    };
    let condition = |random: &mut Pcg64Mcg| match random.random_range(0..3) {
        0 => Condition::AnyOf(terms(random)),
        1 => Condition::NoneOf(terms(random)),
        _ => {
            let from = f64::from(random.random_range(-2..10)) * 10.0;
            Condition::Between {
                column: random.random_range(0..2),
                values: from..=from + f64::from(random.random_range(0..8)) * 10.0,
            }
        }
    };
    let conditions = random.random_range(0..4);
    Filter {
        conditions: (0..conditions).map(|_| condition(random)).collect(),
    }
}

/// The videos that an index should contain.
struct Catalogue {
    vectors: Vec<Vec<f32>>,
    rows: Vec<Row>,
}

impl Catalogue {
    fn passes(&self, position: usize, filter: &Filter) -> bool {
        let row = &self.rows[position];
        filter.conditions.iter().all(|condition| match condition {
            Condition::AnyOf(terms) => terms.iter().any(|term| row.terms.contains(term)),
            Condition::NoneOf(terms) => !terms.iter().any(|term| row.terms.contains(term)),
            Condition::Between { column, values } => row
                .numbers
                .get(*column)
                .copied()
                .flatten()
                .is_some_and(|value| values.contains(&value)),
        })
    }

    /// The definition: score all, filter, sort.
    fn best(&self, query: &[f32], request: &Search<'_>) -> Vec<Scored> {
        let scores: Vec<f32> = self
            .vectors
            .iter()
            .map(|vector| kernel::dot(query, vector))
            .collect();
        let excluded: BTreeSet<u32> = request.exclude.iter().copied().flatten().copied().collect();
        let out: Vec<bool> = (0..scores.len())
            .map(|position| {
                excluded.contains(&(position as u32))
                    || request
                        .filter
                        .is_some_and(|filter| !self.passes(position, filter))
            })
            .collect();
        top_k(&scores, &out, request.k)
    }
}

/// An index after some changes, and what it should contain.
fn grown(
    n: usize,
    dim: usize,
    options: &IndexOptions,
    random: &mut Pcg64Mcg,
) -> (Index, Catalogue) {
    let base = vectors(n, dim, random);
    let mut catalogue = Catalogue {
        vectors: (0..n).map(|n| base.row(n).to_vec()).collect(),
        rows: (0..n).map(|_| row(random)).collect(),
    };
    let mut index = Index::new(base, attributes(&catalogue.rows), options).unwrap();
    for _ in 0..random.random_range(0..3) {
        let added = vectors(random.random_range(0..9), dim, random);
        let others = vectors(random.random_range(0..9), dim, random);
        let len = catalogue.vectors.len();
        let changed: Vec<(u32, &[f32])> = (0..if len == 0 { 0 } else { others.len() })
            .map(|n| (random.random_range(0..len) as u32, others.row(n)))
            .collect();
        for (position, vector) in &changed {
            catalogue.vectors[*position as usize] = vector.to_vec();
        }
        for n in 0..added.len() {
            catalogue.vectors.push(added.row(n).to_vec());
            catalogue.rows.push(Row::default());
        }
        let mut rows = Vec::new();
        for position in 0..catalogue.vectors.len() {
            if random.random_range(0..if position < len { 20 } else { 2 }) == 0 {
                rows.push((position as u32, row(random)));
            }
        }
        for (position, row) in &rows {
            catalogue.rows[*position as usize] = row.clone();
        }
        index = index.with_changes(&changed, &added, &rows).unwrap();
    }
    assert_eq!(index.len(), catalogue.vectors.len());
    (index, catalogue)
}

fn options(kind: IndexKind, margin: f32) -> IndexOptions {
    IndexOptions {
        kind,
        margin,
        seed: 1,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_search_is_scoring_everything_filtering_and_sorting(
        (n, dim) in (0usize..400, 1usize..70), inverted in any::<bool>(), seed in any::<u64>(),
    ) {
        let random = &mut Pcg64Mcg::seed_from_u64(seed);
        let kind = if inverted { IndexKind::Inverted } else { IndexKind::Exact };
        // With a margin that leaves no list out, the search through lists is exact as well.
        let (index, catalogue) = grown(n, dim, &options(kind, 1e6), random);
        let scratch = &mut Scratch::default();
        for _ in 0..6 {
            let query: Vec<f32> = (0..dim).map(|_| random.random_range(-1.0..1.0)).collect();
            let liked: Vec<u32> = (0..random.random_range(0..n + 1)).map(|_| random.random_range(0..n as u32 + 20)).collect();
            let filter = filter(random);
            for filter in [None, Some(&filter)] {
                let request = Search {
                    k: random.random_range(0..40),
                    exclude: &[&liked, &[0, 3]],
                    filter,
                    exact: random.next_u32().is_multiple_of(2),
                };
                let found = index.search(&query, &request, scratch).unwrap();
                prop_assert_eq!(found, catalogue.best(&query, &request), "{:?}", request);
            }
        }
        for (position, vector) in catalogue.vectors.iter().enumerate() {
            prop_assert_eq!(index.vector(position as u32), vector);
        }
    }

    #[test]
    fn those_that_pass_are_those_that_the_filter_says_of_one_after_the_other(
        n in 0usize..400, repeats in 1usize..80, seed in any::<u64>(),
    ) {
        let random = &mut Pcg64Mcg::seed_from_u64(seed);
        let (index, catalogue) = grown(n, 2, &options(IndexKind::Exact, 0.0), random);
        for _ in 0..6 {
            // Repeated conditions have the same meaning, but cost more when videos are asked about
            // one at a time.
            let said = filter(random).conditions;
            let filter = Filter { conditions: said.iter().cycle().take(said.len() * repeats).cloned().collect() };
            let passing = index.attributes().passing(&filter);
            let expected: Vec<u32> = (0..index.len() as u32).filter(|&position| catalogue.passes(position as usize, &filter)).collect();
            prop_assert_eq!(passing.iter().collect::<Vec<_>>(), &expected[..], "{:?}", said);
            prop_assert_eq!((passing.len(), passing.is_empty()), (expected.len(), expected.is_empty()));
            let predicate = index.attributes().predicate(&filter);
            for position in 0..index.len() as u32 + 70 {
                prop_assert_eq!(passing.contains(position), predicate(position));
            }
            let query = [0.6, 0.8];
            let request = Search { k: 30, filter: Some(&filter), ..Search::default() };
            let found = index.search(&query, &request, &mut Scratch::default()).unwrap();
            prop_assert_eq!(found, catalogue.best(&query, &request));
        }
    }

    #[test]
    fn inverted_lists_find_as_many_as_there_are_and_give_true_scores(
        (n, dim) in (1usize..400, 1usize..40), margin in -1f32..4.0, seed in any::<u64>(),
    ) {
        let random = &mut Pcg64Mcg::seed_from_u64(seed);
        let (index, catalogue) = grown(n, dim, &options(IndexKind::Inverted, margin), random);
        let scratch = &mut Scratch::default();
        let query: Vec<f32> = (0..dim).map(|_| random.random_range(-1.0..1.0)).collect();
        let liked: Vec<u32> = (0..n as u32).filter(|_| random.random_range(0..10) < 7).collect();
        let filter = filter(random);
        let request = Search { k: random.random_range(1..30), exclude: &[&liked], filter: Some(&filter), exact: false };
        let (found, best) = (index.search(&query, &request, scratch).unwrap(), catalogue.best(&query, &request));
        prop_assert_eq!(found.len(), best.len());
        prop_assert!(found.is_sorted_by(|a, b| a.best_first(b).is_lt()));
        for scored in found {
            let score = kernel::dot(&query, &catalogue.vectors[scored.item as usize]);
            prop_assert_eq!(scored.score.to_bits(), score.to_bits());
            prop_assert!(!liked.contains(&scored.item) && catalogue.passes(scored.item as usize, &filter));
        }
    }
}

proptest! {
    // More videos than the minimum effort covers, so that single lists are looked into.
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn beyond_the_minimum_effort_lists_are_looked_into_as_the_margin_says(
        (n, dim) in (4_000usize..7_000, 1usize..12), margin in -1f32..4.0, leaves_none_out in any::<bool>(), seed in any::<u64>(),
    ) {
        let random = &mut Pcg64Mcg::seed_from_u64(seed);
        let margin = if leaves_none_out { 1e6 } else { margin };
        let (index, catalogue) = grown(n, dim, &options(IndexKind::Inverted, margin), random);
        let scratch = &mut Scratch::default();
        let filter = filter(random);
        for share_excluded in [0, 50, 99] {
            let query: Vec<f32> = (0..dim).map(|_| random.random_range(-1.0..1.0)).collect();
            let excluded: Vec<u32> = (0..n as u32).filter(|_| random.random_range(0..100) < share_excluded).collect();
            for filter in [None, Some(&filter)] {
                let request = Search { k: random.random_range(1..10), exclude: &[&excluded], filter, exact: false };
                let (found, best) = (index.search(&query, &request, scratch).unwrap(), catalogue.best(&query, &request));
                if leaves_none_out {
                    prop_assert_eq!(&found, &best);
                }
                prop_assert_eq!(found.len(), best.len());
                prop_assert!(found.is_sorted_by(|a, b| a.best_first(b).is_lt()));
                for scored in found {
                    let score = kernel::dot(&query, &catalogue.vectors[scored.item as usize]);
                    prop_assert_eq!(scored.score.to_bits(), score.to_bits());
                    prop_assert!(!excluded.contains(&scored.item));
                    prop_assert!(filter.is_none_or(|filter| catalogue.passes(scored.item as usize, filter)));
                }
            }
        }
    }
}

#[test]
fn lists_are_the_same_whatever_the_number_of_threads() {
    let vectors = Arc::new(vectors(3000, 24, &mut Pcg64Mcg::seed_from_u64(5)));
    let build = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(|| {
            let vectors = Arc::clone(&vectors);
            Index::new(
                vectors,
                Attributes::none(3000),
                &options(IndexKind::Inverted, 3.0),
            )
            .unwrap()
        })
    };
    let (one, three) = (build(1), build(3));
    assert_eq!(one.base.codes.as_slice(), three.base.codes.as_slice());
    let order = |index: &Index| {
        index
            .base
            .order
            .as_ref()
            .map(|order| order.position_of.clone())
    };
    assert_eq!(order(&one), order(&three));
}

#[test]
fn lists_look_into_few_videos_and_find_most() {
    let random = &mut Pcg64Mcg::seed_from_u64(9);
    let rows = clustered(20_000, 32, (100, 0.3), random);
    let queries: Vec<Vec<f32>> = (0..50).map(|n| rows.row(n * 7).to_vec()).collect();
    let index = Index::new(
        rows,
        Attributes::none(20_000),
        &IndexOptions {
            kind: IndexKind::Inverted,
            ..IndexOptions::default()
        },
    )
    .unwrap();
    let scratch = &mut Scratch::default();
    let recall = index
        .recall(queries.iter().map(Vec::as_slice), 10, scratch)
        .unwrap();
    assert!(recall > 0.99, "{recall}");
    assert!(scratch.work().scanned < 10_000, "{:?}", scratch.work());
}

#[test]
fn queries_that_are_none_are_refused() {
    let rows = Embeddings::from_rows(2, vec![0.6, 0.8, 1.0, 0.0]).unwrap();
    let index = Index::new(rows, Attributes::none(2), &IndexOptions::default()).unwrap();
    let scratch = &mut Scratch::default();
    let request = Search {
        k: 3,
        ..Search::default()
    };
    let mut refused = |query: &[f32]| index.search(query, &request, scratch).unwrap_err();
    assert_eq!(
        refused(&[1.0]),
        SearchError::Dimension {
            expected: 2,
            actual: 1
        }
    );
    assert_eq!(
        refused(&[1.0, f32::NAN]),
        SearchError::NotFinite { component: 1 }
    );
    assert!(matches!(refused(&[1e38, 1e38]), SearchError::Norm { .. }));
    let filter = Filter {
        conditions: vec![Condition::Between {
            column: 0,
            values: 0.0..=1.0,
        }],
    };
    let filtered = Search {
        filter: Some(&filter),
        ..request
    };
    assert_eq!(
        index.search(&[1.0, 0.0], &filtered, scratch).unwrap_err(),
        SearchError::Filter(AttributesError::Column {
            column: 0,
            columns: 0
        })
    );
    assert!(index.attributes().passing(&filter).is_empty());
    // A refused search leaves nothing behind.
    let found = index.search(&[0.0, 0.0], &request, scratch).unwrap();
    assert_eq!(
        found.iter().map(|scored| scored.item).collect::<Vec<_>>(),
        [0, 1]
    );
}

#[test]
fn changes_that_do_not_fit_are_refused() {
    let rows = Embeddings::from_rows(2, vec![0.6, 0.8, 1.0, 0.0]).unwrap();
    let build = |videos| {
        Index::new(
            rows.clone(),
            Attributes::none(videos),
            &IndexOptions::default(),
        )
    };
    assert_eq!(
        build(3).unwrap_err(),
        IndexError::Length {
            attributes: 3,
            vectors: 2
        }
    );
    let index = build(2).unwrap();
    let none = Embeddings::new(2);
    assert_eq!(
        index
            .with_changes(&[(2, &[1.0, 0.0])], &none, &[])
            .unwrap_err(),
        IndexError::Position {
            position: 2,
            len: 2
        }
    );
    assert!(matches!(
        index.with_changes(&[(1, &[1.0, 1.0])], &none, &[]),
        Err(IndexError::Embedding { position: 1, .. })
    ));
    assert!(matches!(
        index.with_changes(&[(1, &[1.0])], &none, &[]),
        Err(IndexError::Embedding { position: 1, .. })
    ));
    let other = Embeddings::from_rows(1, vec![1.0]).unwrap();
    assert!(matches!(
        index.with_changes(&[], &other, &[]),
        Err(IndexError::Added(_))
    ));
    let row = |position, numbers| {
        (
            position,
            Row {
                terms: vec![],
                numbers,
            },
        )
    };
    assert!(matches!(
        index.with_changes(&[], &none, &[row(2, vec![])]),
        Err(IndexError::Attributes(AttributesError::Position { .. }))
    ));
    assert!(matches!(
        index.with_changes(&[], &none, &[row(0, vec![None])]),
        Err(IndexError::Attributes(AttributesError::Numbers { .. }))
    ));
}
