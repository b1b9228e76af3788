//! Successive halving: which trials are trained, and for how long (Jamieson & Talwalkar, AISTATS
//! 2016), in the rungs of Hyperband (Li et al., JMLR 2018).

/// η: one of this many trials advances to the next rung, which has this many times the epochs.
const ETA: usize = 3;

/// The trial with the present configuration. It always advances, so that it is compared with the
/// best trial after the same number of epochs.
pub(super) const BASELINE: usize = 0;

/// Scores of each trial, one per completed rung; higher is better. `None`: the trial diverged.
pub(super) type Scores = [Vec<Option<f64>>];

/// The next step of a search: train a trial up to a rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// Counted from 0.
    pub(super) rung: usize,
    /// Counted from 0.
    pub(super) trial: usize,
}

/// Numbers of epochs at which trials are compared, ascending: a ninth, a third and all, without
/// duplicates.
pub(super) fn rungs(epochs: usize) -> Vec<usize> {
    let mut rungs = [ETA * ETA, ETA, 1]
        .map(|part| epochs.div_ceil(part))
        .to_vec();
    rungs.dedup();
    rungs
}

/// Number of trials, of `trials` in all, that advance to `rung`: rounded down, as in the papers,
/// but at least one.
pub(super) fn quota(trials: usize, rung: usize) -> usize {
    let part = (0..rung).fold(trials, |trials, _| trials / ETA);
    part.max(1)
}

/// The trials of `rung` in the order in which they run, the most promising first. `None` until the
/// rung before is complete.
pub(super) fn contenders(scores: &Scores, rung: usize) -> Option<Vec<usize>> {
    let Some(before) = rung.checked_sub(1) else {
        return Some((0..scores.len()).collect());
    };
    let all = contenders(scores, before)?;
    let done = all.iter().all(|&trial| scores[trial].len() > before);
    done.then(|| going_on(scores, before, &all))
}

/// Those of `trials` that are good enough for the rung after `rung`, by the scores that are known.
fn going_on(scores: &Scores, rung: usize, trials: &[usize]) -> Vec<usize> {
    let score = |trial: usize| scores[trial].get(rung).copied().flatten();
    let mut ranked: Vec<(usize, f64)> = trials
        .iter()
        .filter_map(|&trial| Some((trial, score(trial)?)))
        .collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let quota = quota(scores.len(), rung + 1);
    ranked
        .iter()
        .enumerate()
        .filter(|&(place, &(trial, _))| place < quota || trial == BASELINE)
        .map(|(_, &(trial, _))| trial)
        .collect()
}

/// The next step of a search with this many rungs; `None` at its end.
pub(super) fn next(scores: &Scores, rungs: usize) -> Option<Step> {
    (0..rungs).find_map(|rung| {
        let trial = contenders(scores, rung)?
            .into_iter()
            .find(|&trial| scores[trial].len() == rung)?;
        Some(Step { rung, trial })
    })
}

/// The trials that may still be trained on. Checkpoints of the others are not needed.
pub(super) fn in_play(scores: &Scores, rungs: usize) -> Vec<usize> {
    let Some(Step { rung, .. }) = next(scores, rungs) else {
        return Vec::new();
    };
    let all = contenders(scores, rung).unwrap_or_default();
    let mut in_play: Vec<usize> = all
        .iter()
        .copied()
        .filter(|&trial| scores[trial].len() == rung)
        .collect();
    if rung + 1 < rungs {
        in_play.extend(going_on(scores, rung, &all));
    }
    in_play
}

/// Trials from best to worst: by the last rung that they completed, then by the score there, then
/// by number. Diverged trials come last.
pub(super) fn ranking(scores: &Scores) -> Vec<usize> {
    let score = |trial: usize| scores[trial].last().copied().flatten();
    let rungs_done = |trial: usize| score(trial).map_or(0, |_| scores[trial].len());
    let mut trials: Vec<usize> = (0..scores.len()).collect();
    // The sort is stable, so that equal trials stay in the order of their numbers.
    trials.sort_by(|&a, &b| {
        let (score_a, score_b) = (score(a).unwrap_or(0.0), score(b).unwrap_or(0.0));
        let longer = rungs_done(b).cmp(&rungs_done(a));
        longer.then(score_b.total_cmp(&score_a))
    });
    trials
}

/// The best trial; `None` if no trial has a score.
pub(super) fn winner(scores: &Scores) -> Option<usize> {
    let best = *ranking(scores).first()?;
    scores[best].last().copied().flatten().map(|_| best)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a search in which trial n scores `score(n, rung)`; returns the trials of each rung in
    /// the order in which they ran.
    fn search(trials: usize, score: impl Fn(usize, usize) -> Option<f64>) -> Vec<Vec<usize>> {
        let mut scores = vec![Vec::new(); trials];
        let mut ran = vec![Vec::new(); 3];
        while let Some(Step { rung, trial }) = next(&scores, 3) {
            assert!(in_play(&scores, 3).contains(&trial));
            scores[trial].push(score(trial, rung));
            ran[rung].push(trial);
        }
        assert!(in_play(&scores, 3).is_empty());
        ran
    }

    #[test]
    fn rungs_are_a_ninth_a_third_and_all() {
        assert_eq!(rungs(20), [3, 7, 20]);
        assert_eq!(rungs(9), [1, 3, 9]);
        assert_eq!(rungs(3), [1, 3]);
        assert_eq!(rungs(1), [1]);
    }

    #[test]
    fn the_best_third_goes_on_and_the_baseline_whatever_its_place() {
        let ran = search(9, |trial, _| Some(trial as f64));
        assert_eq!(ran[0], (0..9).collect::<Vec<_>>());
        assert_eq!(ran[1..], [vec![8, 7, 6, 0], vec![8, 0]]);
        let ran = search(9, |trial, _| Some(-(trial as f64)));
        assert_eq!(ran[1..], [vec![0, 1, 2], vec![0]]);
        let ran = search(27, |trial, _| Some(trial as f64));
        assert_eq!((ran[1].len(), ran[2].len()), (10, 4));
        let ran = search(2, |trial, _| Some(trial as f64));
        assert_eq!(ran[1..], [vec![1, 0], vec![1, 0]]);
    }

    #[test]
    fn a_later_score_counts_more_than_an_earlier_one() {
        let ran = search(9, |trial, rung| {
            Some(if (rung, trial) == (1, 6) {
                9.0
            } else {
                trial as f64
            })
        });
        assert_eq!(ran[2], [6, 0]);
    }

    #[test]
    fn of_equal_trials_the_first_ones_go_on() {
        let ran = search(9, |_, _| Some(0.5));
        assert_eq!(ran[1..], [vec![0, 1, 2], vec![0]]);
        let tied: [Vec<Option<f64>>; 3] = [vec![Some(0.1)], vec![Some(0.5)], vec![Some(0.5)]];
        assert_eq!(ranking(&tied), [1, 2, 0]);
    }

    #[test]
    fn diverged_trials_are_the_worst_and_never_go_on() {
        let ran = search(9, |trial, _| (trial < 2).then_some(trial as f64));
        assert_eq!(ran[1..], [vec![1, 0], vec![1, 0]]);
        let ran = search(4, |_, _| None);
        assert_eq!(ran[1..], [Vec::<usize>::new(), vec![]]);
        let scores: [Vec<Option<f64>>; 4] =
            [vec![None], vec![Some(0.9), None], vec![], vec![Some(0.0)]];
        assert_eq!(ranking(&scores)[0], 3);
        assert_eq!(winner(&scores), Some(3));
        assert_eq!(winner(&scores[..3]), None);
    }

    #[test]
    fn the_best_of_the_last_rung_wins_over_better_scores_before() {
        let scores: [Vec<Option<f64>>; 3] = [
            vec![Some(0.9)],
            vec![Some(0.1), Some(0.2)],
            vec![Some(0.3), Some(0.1)],
        ];
        assert_eq!(ranking(&scores), [1, 2, 0]);
    }

    #[test]
    fn a_trial_that_cannot_go_on_any_more_is_out_of_play_at_once() {
        let scores: Vec<Vec<Option<f64>>> = (0..9)
            .map(|trial| match trial {
                0..6 => vec![Some(f64::from(trial))],
                _ => vec![],
            })
            .collect();
        // Three trials that have to run, the best three, and the baseline.
        assert_eq!(in_play(&scores, 3), [6, 7, 8, 5, 4, 3, 0]);
        assert_eq!(in_play(&scores, 1), [6, 7, 8]);
    }
}
