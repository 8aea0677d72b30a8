//! The history of a stage, which shares that of the stage it stands on: a chain of stages costs what its lines do.

use std::sync::Arc;

use lap_solver::intent::HistoryIntent;

/// Entries, after those of the stage below.
#[derive(Debug, Clone, Default)]
pub(super) struct Chain {
    below: Option<Arc<Self>>,
    own: Vec<HistoryIntent>,
}

impl Chain {
    pub(super) const fn new(own: Vec<HistoryIntent>) -> Self {
        Self { below: None, own }
    }

    pub(super) fn push(&mut self, entry: HistoryIntent) {
        self.own.push(entry);
    }

    /// Splits into a part that two stages share and an empty one on top of it.
    pub(super) fn share(&mut self) -> Self {
        if !self.own.is_empty() {
            let own = std::mem::take(self);
            self.below = Some(Arc::new(own));
        }
        Self { below: self.below.clone(), own: Vec::new() }
    }

    /// All entries, first ones first.
    pub(super) fn entries(&self) -> Vec<HistoryIntent> {
        let mut links = vec![self];
        while let Some(below) = links.last().and_then(|link| link.below.as_deref()) {
            links.push(below);
        }
        links.into_iter().rev().flat_map(|link| link.own.iter().cloned()).collect()
    }
}

impl Drop for Chain {
    /// One link after the other: a long chain must not be dropped by recursion.
    fn drop(&mut self) {
        let mut next = self.below.take();
        while let Some(mut link) = next.and_then(Arc::into_inner) {
            next = link.below.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_share_what_is_below_them() {
        let entry = |text: &str| {
            let entry = lap_solver::image::History { created_by: Some(text.to_owned()), ..Default::default() };
            HistoryIntent { entry, vertex: None }
        };
        let texts = |chain: &Chain| {
            chain.entries().iter().map(|entry| entry.entry.created_by.clone().unwrap()).collect::<Vec<_>>()
        };
        let mut base = Chain::new(vec![entry("a")]);
        let (mut one, mut two) = (base.share(), base.share());
        one.push(entry("b"));
        two.push(entry("c"));
        base.push(entry("d"));
        assert_eq!((texts(&one), texts(&two)), (vec!["a".into(), "b".into()], vec!["a".into(), "c".into()]));
        assert_eq!(texts(&base), ["a", "d"]);
        for _ in 0..100_000 {
            one = one.share();
            one.push(entry("x"));
        }
        assert_eq!(one.entries().len(), 100_002);
    }
}
