//! Which parts of the cache go: pure, of what is known of each.

use std::time::Duration;

use super::filter::Filter;
use super::usage::{Kind, Usage};

/// A rule of pruning, with BuildKit's meaning. Without a limit, everything that fits goes.
#[derive(Debug, Clone, Default)]
pub struct Rule {
    /// Whether indexes, and what an image has too, go as well.
    pub all: bool,
    /// What must all hold of a part.
    pub filters: Vec<Filter>,
    /// How long a part must not have been used.
    pub unused_for: Duration,
    /// Bytes of cache that are always kept.
    pub reserved_space: u64,
    /// Bytes of cache above which parts go.
    pub max_used_space: u64,
    /// Bytes that shall be free on the disk.
    pub min_free_space: u64,
}

/// How much the cache may take, where nobody says more exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Always kept.
    pub reserved_space: u64,
    /// The cap.
    pub max_used_space: u64,
    /// Kept free on the disk.
    pub min_free_space: u64,
}

impl Limits {
    /// Of a disk of this size, as BuildKit has them: a tenth reserved, three fifths at most, a fifth free.
    #[must_use]
    pub const fn of_disk(size: u64) -> Self {
        Self { reserved_space: size / 10, max_used_space: size / 5 * 3, min_free_space: size / 5 }
    }

    /// BuildKit's four rules, one after the other.
    #[must_use]
    pub fn rules(&self) -> Vec<Rule> {
        const DAY: u64 = 24 * 3600;
        let capped = Rule {
            reserved_space: self.reserved_space,
            max_used_space: self.max_used_space,
            min_free_space: self.min_free_space,
            ..Rule::default()
        };
        let cheap = [Kind::Local, Kind::CacheMount, Kind::Git];
        vec![
            // What is most easily had again.
            Rule {
                filters: vec![Filter::Kinds(cheap.to_vec())],
                unused_for: Duration::from_secs(2 * DAY),
                max_used_space: 512 * 1000 * 1000,
                ..Rule::default()
            },
            Rule { unused_for: Duration::from_secs(60 * DAY), ..capped.clone() },
            capped.clone(),
            Rule { all: true, ..capped },
        ]
    }
}

impl Rule {
    /// How many bytes stay at most; nothing where there is no limit.
    fn keep(&self, total: u64, free: u64) -> Option<u64> {
        if (self.reserved_space, self.max_used_space, self.min_free_space) == (0, 0, 0) {
            return None;
        }
        let mut keep = if self.max_used_space == 0 { u64::MAX } else { self.max_used_space };
        let missing = self.min_free_space.saturating_sub(free);
        if missing > 0 {
            keep = keep.min(total.saturating_sub(missing));
        } else if self.max_used_space == 0 && self.min_free_space == 0 {
            // `--keep-storage` alone: as little as is reserved.
            keep = 0;
        }
        Some(keep.max(self.reserved_space))
    }
}

/// Which of `parts` go by a rule, in the order in which they go: what was not used for longest first, and of what was
/// used together what lies on top first. A part counts as used when something that lies on it was, so nothing loses
/// what it lies on to its age. `now` is in seconds since 1970, `free` the bytes that the disk has left.
#[must_use]
pub fn choose(parts: &[Usage], rule: &Rule, now: u64, free: u64) -> Vec<usize> {
    let mut total: u64 = parts.iter().filter(|part| !part.shared).map(|part| part.size).sum();
    let keep = rule.keep(total, free);
    // A clock that went back makes nothing old.
    let unused = |part: &Usage| Duration::from_secs(now.saturating_sub(part.last_used));
    let fits = |part: &Usage| {
        part.is_reclaimable()
            && (rule.all || part.kind != Kind::Internal)
            && (rule.unused_for.is_zero() || unused(part) >= rule.unused_for)
            && rule.filters.iter().all(|filter| filter.matches(part))
    };
    let mut order: Vec<usize> = (0..parts.len()).filter(|at| fits(&parts[*at])).collect();
    order.sort_by_key(|at| (parts[*at].last_used, std::cmp::Reverse(parts[*at].depth), *at));
    let needed = order.iter().take_while(|at| {
        let over = keep.is_none_or(|keep| total > keep);
        if over {
            total = total.saturating_sub(parts[**at].size);
        }
        over
    });
    needed.copied().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(size: u64, last_used: u64) -> Usage {
        Usage { size, last_used, ..Usage::default() }
    }

    #[test]
    fn a_cap_takes_the_oldest_until_it_holds() {
        let parts = [part(10, 3), part(10, 1), part(10, 2)];
        let rule = Rule { max_used_space: 15, ..Rule::default() };
        assert_eq!(choose(&parts, &rule, 10, 100), [1, 2]);
        let reserved = Rule { max_used_space: 5, reserved_space: 25, ..Rule::default() };
        assert_eq!(choose(&parts, &reserved, 10, 100), [1]);
        let free = Rule { min_free_space: 112, ..Rule::default() };
        assert_eq!(choose(&parts, &free, 10, 100), [1, 2]);
        let keep = Rule { reserved_space: 10, ..Rule::default() };
        assert_eq!(choose(&parts, &keep, 10, 100), [1, 2]);
        assert_eq!(choose(&parts, &Rule::default(), 10, 100), [1, 2, 0]);
        let enough_free = Rule { min_free_space: 50, ..Rule::default() };
        assert_eq!(choose(&parts, &enough_free, 10, 100), [0; 0]);
    }

    #[test]
    fn what_lies_on_top_goes_first_and_nothing_is_older_than_its_clock() {
        let parts = [part(10, 4), Usage { depth: 1, ..part(10, 4) }];
        assert_eq!(choose(&parts, &Rule::default(), 10, 0), [1, 0]);
        let old = Rule { unused_for: Duration::from_secs(5), ..Rule::default() };
        assert_eq!(choose(&parts, &old, 10, 0), [1, 0]);
        assert_eq!(choose(&parts, &old, 3, 0), [0; 0], "a clock that went back");
    }

    #[test]
    fn the_four_rules_are_buildkits() {
        let rules = Limits::of_disk(1000).rules();
        assert_eq!((rules[2].reserved_space, rules[2].max_used_space, rules[2].min_free_space), (100, 600, 200));
        assert_eq!(rules[0].unused_for, Duration::from_secs(48 * 3600));
        assert_eq!(rules[1].unused_for, Duration::from_secs(60 * 24 * 3600));
        assert_eq!(rules.iter().map(|rule| rule.all).collect::<Vec<_>>(), [false, false, false, true]);
    }

    proptest! {
        /// Against the set model: what is in use or shared stays, a cap holds unless nothing is left to take, no more
        /// goes than must, and nothing goes before something older.
        #[test]
        fn choosing_obeys_the_set_model(
            raw in prop::collection::vec((0u64..50, 0u64..20, any::<bool>(), any::<bool>()), 1..40),
            cap in 1u64..500, unused in 0u64..10,
        ) {
            let make = |(size, last_used, in_use, shared): &(u64, u64, bool, bool)| {
                Usage { in_use: *in_use, shared: *shared, ..part(*size, *last_used) }
            };
            let parts: Vec<Usage> = raw.iter().map(make).collect();
            let rule = Rule { max_used_space: cap, unused_for: Duration::from_secs(unused), ..Rule::default() };
            let gone = choose(&parts, &rule, 20, 1000);
            let may = |part: &Usage| !part.in_use && !part.shared && 20 - part.last_used >= unused;
            let total = |without: &[usize]| -> u64 {
                let counts = |(at, part): &(usize, &Usage)| !part.shared && !without.contains(at);
                parts.iter().enumerate().filter(counts).map(|(_, part)| part.size).sum()
            };
            prop_assert!(gone.iter().all(|at| may(&parts[*at])));
            if let Some((last, before)) = gone.split_last() {
                prop_assert!(total(before) > cap, "the last one needed not go");
                let stays = |at: &usize| !gone.contains(at) && may(&parts[*at]);
                prop_assert!((0..parts.len()).filter(stays).all(|at| parts[at].last_used >= parts[*last].last_used));
            }
            prop_assert!(total(&gone) <= cap || (0..parts.len()).all(|at| gone.contains(&at) || !may(&parts[at])));
        }
    }
}
