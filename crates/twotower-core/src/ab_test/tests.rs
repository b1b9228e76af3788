use super::*;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

fn close(a: f64, b: f64, tolerance: f64) {
    assert!((a - b).abs() <= tolerance * b.abs().max(1e-300), "{a} {b}");
}

fn sums(pairs: &[(f64, f64)]) -> RatioSums {
    let mut sums = RatioSums::default();
    for &(numerator, denominator) in pairs {
        sums.push(numerator, denominator);
    }
    sums
}

#[test]
fn erfc_is_the_tabled_one() {
    for (x, expected) in [
        (0.0, 1.0),
        (0.5, 0.479_500_122_186_953_5),
        (1.0, 0.157_299_207_050_285_13),
        (2.0, 0.004_677_734_981_047_266),
        (2.499_999, 0.000_406_954_2),
        (2.5, 0.000_406_952_017_444_958_9),
        (4.0, 1.541_725_790_028_002e-8),
        (6.0, 2.151_973_671_249_891e-17),
    ] {
        close(erfc(x), expected, 1e-5);
    }
}

#[test]
fn with_one_impression_a_user_it_is_the_formula_of_proportions() {
    let pairs: Vec<_> = (0..1000)
        .map(|n| (f64::from(u8::from(n % 5 == 0)), 1.0))
        .collect();
    let estimate = sums(&pairs).estimate().unwrap();
    close(estimate.value, 0.2, 1e-12);
    close(
        estimate.standard_error,
        (0.2_f64 * 0.8 / 999.0).sqrt(),
        1e-9,
    );
    let (low, high) = estimate.interval();
    close(
        high - low,
        2.0 * 1.959_963_984_540_054 * estimate.standard_error,
        1e-12,
    );
    // 2 d² p (1 − p) / δ²; with d = 2.8 for one look it is the rule of thumb with 16. Here d is
    // 3.627 + 0.842, by the boundary for this many users.
    let needed = estimate.users_needed(0.05).unwrap() as f64;
    close(needed, 2.0 * 4.468_f64.powi(2) * 0.16 / 0.0001, 0.01);
}

#[test]
fn a_ratio_by_hand() {
    // Ratio 6 / 12; residuals x − y/2: 0, 0.5, −0.5, 0 with variance 0.5 / 3.
    let estimate = sums(&[(1.0, 2.0), (2.0, 3.0), (1.0, 3.0), (2.0, 4.0), (0.0, 0.0)]);
    let estimate = estimate.estimate().unwrap();
    close(estimate.value, 0.5, 1e-12);
    close(
        estimate.standard_error,
        (0.5_f64 / 3.0 / 4.0).sqrt() / 3.0,
        1e-9,
    );
    assert_eq!(estimate.users, 4);
    assert!(sums(&[(1.0, 1.0)]).estimate().is_none());
}

#[test]
fn users_who_see_much_do_not_make_it_surer() {
    let pairs: Vec<_> = (0..500).map(|n| (f64::from(n % 3), 4.0)).collect();
    let tenfold: Vec<_> = pairs.iter().map(|&(x, y)| (10.0 * x, 10.0 * y)).collect();
    let (one, ten) = (sums(&pairs).estimate(), sums(&tenfold).estimate());
    close(
        one.unwrap().standard_error,
        ten.unwrap().standard_error,
        1e-9,
    );
}

#[test]
fn differences_and_splits() {
    let estimate = |value, standard_error| Estimate {
        value,
        standard_error,
        users: 100,
    };
    let found = Difference::between(&estimate(0.12, 0.006), &estimate(0.10, 0.008)).unwrap();
    close(found.value, 0.02, 1e-9);
    close(found.standard_error, 0.01, 1e-9);
    // Two standard errors.
    close(found.p_value, 0.045_500_263_896_358_4, 1e-9);
    close(found.users, 100.0, 1e-12);
    // With few users, or while nothing varies, there is no result.
    let few = Estimate {
        users: 29,
        ..estimate(0.12, 0.006)
    };
    for (challenger, control) in [
        (estimate(0.0, 0.0), estimate(0.0, 0.0)),
        (few, estimate(0.10, 0.008)),
        (estimate(0.10, 0.008), few),
    ] {
        assert!(Difference::between(&challenger, &control).is_none());
    }
    assert_eq!(estimate(0.5, 0.0).users_needed(0.05), None);
    assert_eq!(estimate(0.5, 1e-9).users_needed(0.05), Some(FEWEST_USERS));
}

#[test]
fn splits_are_judged_exactly_however_few_users_there_are() {
    let p_value = |control, challenger, share| {
        let ratio = SampleRatio::of(control, challenger, share);
        ratio.unwrap().p_value
    };
    // 1 − 0.99⁵⁰ − 50 · 0.01 · 0.99⁴⁹ − 1225 · 0.01² · 0.99⁴⁸; a normal distribution would give
    // 0.0004.
    close(p_value(47, 3, 0.01), 0.013_817_3, 1e-5);
    // Of ten tosses none or all are heads: 2 / 1024. Nothing is likelier than 5 and 5.
    close(p_value(10, 0, 0.5), 2.0 / 1024.0, 1e-9);
    close(p_value(0, 10, 0.5), 2.0 / 1024.0, 1e-9);
    close(p_value(5, 5, 0.5), 1.0, 1e-9);
    // One of three is 3 · ¼ · (¾)², the likeliest with none: (¾)³, both 27/64.
    close(p_value(2, 1, 0.25), 1.0, 1e-9);
    close(p_value(1, 2, 0.25), 10.0 / 64.0, 1e-9);
    // With many users it is the normal distribution with half a user taken off: erfc(49.5 / √(10100
    // / 4) / √2).
    close(p_value(5000, 5100, 0.5), 0.324_6, 1e-3);
    assert!(!SampleRatio::of(5000, 5100, 0.5).unwrap().is_suspicious());
    assert!(SampleRatio::of(5000, 5500, 0.5).unwrap().is_suspicious());
    assert!(p_value(0, 10_000_000, 0.01) > 0.0);
    assert!(SampleRatio::of(0, 0, 0.5).is_none());
}

#[test]
fn a_small_arm_is_as_unsure_as_the_large_one_makes_it() {
    let estimate = |value, standard_error, users| Estimate {
        value,
        standard_error,
        users,
    };
    // One hit of 100 where ten are expected, beside 900 users with 90: by its own variance it would
    // be ten standard errors off.
    let (few, many) = (estimate(0.01, 0.01, 100), estimate(0.1, 0.01, 900));
    let found = Difference::between(&few, &many).unwrap();
    // (100² · 0.01² + 900² · 0.01²) / (100 · 900)
    close(found.standard_error, (82.0_f64 / 90_000.0).sqrt(), 1e-9);
    close(found.users, 180.0, 1e-9);
    let same = Difference::between(&many, &few).unwrap();
    close(same.standard_error, found.standard_error, 1e-12);
    // An arm without a hit is as uncertain as the other arm would be with as many users.
    let none = Difference::between(&estimate(0.0, 0.0, 100), &many).unwrap();
    close(none.standard_error, 0.03, 1e-9);
    // An arm that varies more than the other is as uncertain as by itself.
    let wild = Difference::between(&estimate(0.01, 0.1, 100), &many).unwrap();
    close(wild.standard_error, 0.01_f64.hypot(0.1), 1e-9);
}

#[test]
fn a_difference_at_any_time_by_hand() {
    let difference = |value| Difference {
        value,
        standard_error: 0.01,
        users: 50.0,
        p_value: 0.0,
    };
    // V = τ² = 0.0001: √2 · exp(−θ² / 4V).
    for (value, expected) in [
        (0.01, 1.0),
        (0.03, 2_f64.sqrt() * (-2.25_f64).exp()),
        (-0.04, 2_f64.sqrt() * (-4_f64).exp()),
    ] {
        let found = difference(value).at_any_time();
        close(found.p_value, expected, 1e-9);
        // 2 V (2 ln 20 + ln 2)
        close(found.high - value, 0.036_563_948_713_638, 1e-9);
        close(value - found.low, 0.036_563_948_713_638, 1e-9);
    }
    // At the end of the interval the probability is 5 %.
    let at_end = difference(0.036_563_948_713_638).at_any_time();
    close(at_end.p_value, ALPHA, 1e-9);
    // Standard errors that are required, as the documentation says.
    for (users, expected) in [(30.0, 4.15), (35.0, 4.0), (400.0, 3.03), (1e6, 4.0)] {
        close(boundary(users), expected, 0.01);
    }
}

/// Users differ in their rates of likes and in how much they are shown.
fn a_user(random: &mut Pcg64Mcg, rate: f64) -> (f64, f64) {
    let shown = random.random_range(1..20);
    let own = rate * 2.0 * random.random::<f64>();
    let liked = (0..shown).filter(|_| random.random::<f64>() < own).count();
    (liked as f64, f64::from(shown))
}

/// Experiments with one look for each of `users`, the numbers of users in the arms at that look.
struct Looks<'a> {
    rates: [f64; 2],
    users: &'a [[usize; 2]],
}

/// In how many of 400 experiments at least one look finds a difference: by the ordinary test, and
/// by the one for any time.
fn told(looks: &Looks<'_>) -> [usize; 2] {
    let mut random = Pcg64Mcg::seed_from_u64(7);
    let mut told = [0; 2];
    for _ in 0..400 {
        let mut arms = [RatioSums::default(); 2];
        let mut held = [0; 2];
        let mut tells = [false; 2];
        for users in looks.users {
            for which in 0..2 {
                for _ in held[which]..users[which] {
                    let (liked, shown) = a_user(&mut random, looks.rates[which]);
                    arms[which].push(liked, shown);
                }
            }
            held = *users;
            let [control, challenger] = arms.map(|arm| arm.estimate().unwrap());
            if let Some(found) = Difference::between(&challenger, &control) {
                tells[0] |= found.p_value < ALPHA;
                tells[1] |= found.at_any_time().p_value < ALPHA;
            }
        }
        for (told, tells) in told.iter_mut().zip(tells) {
            *told += usize::from(tells);
        }
    }
    told
}

/// Looks from 30 users in the smaller arm on, each with a tenth more than the one before. The
/// control has `times` as many.
fn often(most: usize, times: usize) -> Vec<[usize; 2]> {
    let smaller = std::iter::successors(Some(30_usize), |&users| Some(users + users.div_ceil(10)));
    let smaller = smaller.take_while(|&users| users <= most);
    smaller.map(|users| [times * users, users]).collect()
}

#[test]
fn who_looks_often_is_not_told_of_differences_that_are_none() {
    // Rare events and arms of different sizes are the hardest: with 30 users there are three likes
    // in one arm. The ordinary test finds differences in far more than 20 of 400 experiments.
    for (rate, most, times) in [
        (0.1, 1000, 1),
        (0.01, 1000, 1),
        (0.01, 300, 4),
        (0.03, 150, 19),
    ] {
        let users = often(most, times);
        let rates = [rate; 2];
        let [ordinary, at_any_time] = told(&Looks {
            rates,
            users: &users,
        });
        let what = format!("{ordinary} and {at_any_time} of {rate}, {times} to 1");
        assert!(users.len() >= 15 && ordinary > 40, "{what}");
        assert!(at_any_time <= 20, "{what}");
    }
}

/// The table of docs/configuration.md.
#[test]
fn differences_are_told_whether_large_or_small() {
    for (rates, most, least) in [
        ([0.14, 0.28], 66, 280),
        ([0.14, 0.28], 100, 380),
        ([0.1, 0.15], 300, 370),
        ([0.2, 0.22], 3_000, 330),
    ] {
        let users = often(most, 1);
        let [_, found] = told(&Looks {
            rates,
            users: &users,
        });
        assert!(found >= least, "{found} of {rates:?} with {most}");
    }
}

#[test]
fn users_needed_find_what_they_are_to_find() {
    let mut random = Pcg64Mcg::seed_from_u64(3);
    let mut sums = RatioSums::default();
    for _ in 0..20_000 {
        let (liked, shown) = a_user(&mut random, 0.2);
        sums.push(liked, shown);
    }
    let estimate = sums.estimate().unwrap();
    for relative in [0.1, 0.2] {
        let needed = estimate.users_needed(relative).unwrap() as usize;
        let rates = [0.2, 0.2 * (1.0 + relative)];
        let [_, found] = told(&Looks {
            rates,
            users: &[[needed; 2]],
        });
        // 320 of 400 with a standard deviation of 8; slightly fewer, because the higher rate varies
        // more.
        assert!((280..=345).contains(&found), "{found} with {needed}");
    }
    assert_eq!(estimate.users_needed(0.0), None);
}
