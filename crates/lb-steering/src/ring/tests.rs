//! The figures that rings must reach, and the inputs that a ring may depend on.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

const BOTH: [Algorithm; 2] = [Algorithm::Rendezvous, Algorithm::Maglev];

fn pool(set: u32, reals: u32) -> Vec<(IpAddr, u32)> {
    (0..reals)
        .map(|i| {
            (
                IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + (set << 16) + i + 1)),
                100,
            )
        })
        .collect()
}

fn addresses(reals: &[(IpAddr, u32)]) -> Vec<IpAddr> {
    reals.iter().map(|real| real.0).collect()
}

/// The address of each slot.
fn by_address(ring: &[u16], reals: &[(IpAddr, u32)]) -> Vec<Option<IpAddr>> {
    ring.iter()
        .map(|&position| reals.get(usize::from(position)).map(|real| real.0))
        .collect()
}

/// Returns the peak share over the fair share, moves over the moves that a weight change of 10 % needs, and needless
/// moves of a removal: means over 12 pools of 64 reals at 65,536 slots.
fn figures(algorithm: Algorithm) -> (f64, f64, f64) {
    const REALS: u32 = 64;
    const SETS: u32 = 12;
    let slots = algorithm.fixed_slots().unwrap_or(65_536);
    let (mut peak, mut ratio, mut needless) = (0f64, 0.0, 0.0);
    for set in 0..SETS {
        let mut reals = pool(set, REALS);
        let names = addresses(&reals);
        let changed = (set * 7 % REALS) as usize;
        let before = build(algorithm, set.into(), slots, &reals);
        let before_shares = shares(&before, reals.len());
        peak = peak.max(before_shares.iter().copied().fold(0.0, f64::max) * f64::from(REALS));

        reals[changed].1 = 90;
        let after = build(algorithm, set.into(), slots, &reals);
        let must = 1.0 / f64::from(REALS) - 90.0 / (100.0 * f64::from(REALS) - 10.0);
        ratio += moved((&before, &names), (&after, &names)) / must;

        reals[changed].1 = 0;
        let after = build(algorithm, set.into(), slots, &reals);
        needless += moved((&before, &names), (&after, &names)) - before_shares[changed];
    }
    (peak, ratio / f64::from(SETS), needless / f64::from(SETS))
}

#[test]
fn rendezvous_is_even_and_moves_little() {
    let (peak, ratio, needless) = figures(Algorithm::Rendezvous);
    assert!(peak <= 1.04, "largest peak over fair share: {peak}");
    assert!(ratio <= 1.1, "moved over what must move: {ratio}");
    assert!(
        needless <= 0.000_5,
        "moved needlessly by a removal: {needless}"
    );
}

#[test]
fn maglev_is_even() {
    let (peak, ratio, needless) = figures(Algorithm::Maglev);
    assert!(peak <= 1.002, "largest peak over fair share: {peak}");
    // Evenness costs moves; Katran's own table has 2.7 and 0.48 %.
    assert!(ratio < 6.0 && needless < 0.02, "{ratio} {needless}");
}

#[test]
fn katrans_ring_is_even_and_moves_as_katrans() {
    let (peak, ratio, needless) = figures(Algorithm::MaglevKatran);
    assert!(peak <= 1.002, "largest peak over fair share: {peak}");
    // 2.7 and 0.48 % were measured of Katran's own code, with other sets of 64 reals.
    assert!((2.0..3.4).contains(&ratio), "{ratio}");
    assert!((0.003..0.007).contains(&needless), "{needless}");
}

#[test]
fn a_removal_moves_few_slots_of_others() {
    let reals = pool(3, 100);
    let ring = build(Algorithm::Rendezvous, 1, 65_536, &reals);
    for gone in [0, 50, 99] {
        let mut less = reals.clone();
        less.remove(gone);
        let after = build(Algorithm::Rendezvous, 1, 65_536, &less);
        let moved = moved((&ring, &addresses(&reals)), (&after, &addresses(&less)));
        let own = shares(&ring, 100)[gone];
        assert!(
            moved >= own && moved - own < 0.001,
            "{gone}: {moved} for {own}"
        );
    }
}

#[test]
fn shares_follow_weights() {
    for algorithm in BOTH {
        let reals: Vec<_> = pool(0, 3)
            .into_iter()
            .zip([1, 2, 3])
            .map(|((a, _), w)| (a, w))
            .collect();
        let shares = shares(&build(algorithm, 0, default_slots(3), &reals), 3);
        for (share, fair) in shares.iter().zip([1.0 / 6.0, 2.0 / 6.0, 3.0 / 6.0]) {
            assert!(
                (share / fair - 1.0).abs() < 0.05,
                "{algorithm:?}: {share} for {fair}"
            );
        }
    }
}

#[test]
fn reals_without_weight_get_no_slots() {
    for algorithm in BOTH {
        assert!(
            build::<RealId>(algorithm, 0, 256, &[])
                .iter()
                .all(|&slot| slot == NO_REAL)
        );
        let reals: Vec<_> = addresses(&pool(0, 2)).into_iter().zip([0, 0]).collect();
        assert!(
            build(algorithm, 0, 256, &reals)
                .iter()
                .all(|&slot| slot == NO_REAL)
        );
        let reals: Vec<_> = addresses(&pool(0, 2)).into_iter().zip([0, 5]).collect();
        assert!(
            build(algorithm, 0, 256, &reals)
                .iter()
                .all(|&slot| slot == 1)
        );
    }
}

#[test]
fn default_sizes_fit_the_pool() {
    for (reals, slots) in [
        (0, 4_096),
        (3, 4_096),
        (4, 4_096),
        (5, 8_192),
        (10, 16_384),
        (64, 65_536),
        (5_000, 65_536),
    ] {
        assert_eq!(default_slots(reals), slots, "{reals} reals");
    }
}

#[test]
fn checksums_are_fnv1a_over_addresses() {
    // From the definition, computed independently.
    assert_eq!(checksum::<RealId>(&[], &[]), "cbf29ce484222325");
    let reals = [
        IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2)),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ];
    assert_eq!(checksum(&[0, 1, NO_REAL], &reals), "9d8f52501d8e46f3");
    // The checksum depends on the addresses, not on their positions.
    assert_eq!(
        checksum(&[1, 0, NO_REAL], &[reals[1], reals[0]]),
        "9d8f52501d8e46f3"
    );
}

#[test]
fn rings_do_not_change_between_versions() {
    // A change of these sums moves every flow of a fleet that is upgraded one host at a time.
    let reals: Vec<_> = pool(0, 10)
        .into_iter()
        .zip(1..)
        .map(|((a, _), w)| (a, w * 10))
        .collect();
    let sum = |algorithm, slots| checksum(&build(algorithm, 7, slots, &reals), &addresses(&reals));
    assert_eq!(sum(Algorithm::Rendezvous, 4_096), "d280b3199768ad4e");
    assert_eq!(sum(Algorithm::Rendezvous, 65_536), "29669d309d901990");
    assert_eq!(sum(Algorithm::Maglev, 4_096), "13f1eef193df8270");
}

#[test]
fn rings_of_different_sizes_are_compared_by_hash() {
    let names = addresses(&pool(0, 2));
    assert_eq!(moved((&[0, 1], &names), (&[0, 0, 1, 1], &names)), 0.0);
    assert_eq!(moved((&[0, 1], &names), (&[0, 1, 1, 1], &names)), 0.25);
    assert_eq!(moved((&[], &names), (&[0], &names)), 1.0);
    assert_eq!(moved((&[0, NO_REAL], &names), (&[0, NO_REAL], &names)), 0.0);
}

#[test]
fn flows_with_another_hash_stay_by_chance() {
    let [a, b] = [0, 1].map(|set| addresses(&pool(set, 1))[0]);
    assert_eq!(moved_by_hash((&[0, 1], &[a, b]), (&[0, 1], &[a, b])), 0.5);
    assert_eq!(moved_by_hash((&[0, 0], &[a, b]), (&[1, 1], &[b, a])), 0.0);
    assert_eq!(moved_by_hash((&[0, 1], &[a, b]), (&[0], &[a])), 0.5);
    assert_eq!(moved_by_hash((&[0], &[a]), (&[0], &[b])), 1.0);
}

fn any_reals() -> impl Strategy<Value = Vec<(IpAddr, u32)>> {
    let address = prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
        any::<u128>().prop_map(|bits| IpAddr::V6(bits.into())),
    ];
    let weight = prop_oneof![Just(0u32), 1..=3u32, 1..=65_535u32];
    proptest::collection::btree_map(address, weight, 0..40)
        .prop_map(|reals| reals.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_order_of_reals_does_not_matter(
        (reals, shuffled) in any_reals().prop_flat_map(|reals| (Just(reals.clone()), Just(reals).prop_shuffle())),
        seed: u64,
        size in 8u32..=13,
    ) {
        for algorithm in [Algorithm::Rendezvous, Algorithm::Maglev, Algorithm::MaglevKatran] {
            let slots = algorithm.fixed_slots().unwrap_or(1 << size);
            let one = build(algorithm, seed, slots, &reals);
            let other = build(algorithm, seed, slots, &shuffled);
            prop_assert_eq!(by_address(&one, &reals), by_address(&other, &shuffled));
            prop_assert_eq!(
                checksum(&one, &addresses(&reals)),
                checksum(&other, &addresses(&shuffled))
            );
        }
    }

    #[test]
    fn only_reals_with_weight_get_slots_and_none_too_many(reals in any_reals(), seed: u64, size in 8u32..=13) {
        let slots = 1u32 << size;
        let total: u64 = reals.iter().map(|real| u64::from(real.1)).sum();
        for algorithm in BOTH {
            let ring = build(algorithm, seed, slots, &reals);
            prop_assert_eq!(ring.len(), slots as usize);
            for (share, (_, weight)) in shares(&ring, reals.len()).into_iter().zip(&reals) {
                prop_assert!(*weight > 0 || share == 0.0);
                if algorithm == Algorithm::Rendezvous && total > 0 {
                    let fair = (f64::from(*weight) * f64::from(slots) / total as f64).ceil();
                    prop_assert!(share * f64::from(slots) <= fair + 1.25 * fair.sqrt());
                }
            }
            prop_assert_eq!(total == 0, ring.contains(&NO_REAL));
        }
    }

    #[test]
    fn seeds_make_different_rings(seed: u64) {
        let reals = pool(0, 8);
        for algorithm in BOTH {
            prop_assert_ne!(build(algorithm, seed, 4_096, &reals), build(algorithm, seed ^ 1, 4_096, &reals));
        }
    }
}
