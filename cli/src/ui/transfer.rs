//! All transfers in one line, above the bars of each.

use std::time::Duration;

use lap_solver::event::Action;

use super::model::{Model, Part};
use super::seconds;
use super::table::bytes;

/// `[+] 2/5 layers, 45MB of 83MB, 6.1MB/s, 6.2s left`; nothing where there are not several.
pub(super) fn summary(model: &Model, at: Duration) -> Option<String> {
    let moves = |part: &&Part| {
        matches!(part.action, Action::Download | Action::Upload | Action::Extract) && part.total.unwrap_or(0) > 0
    };
    let parts: Vec<&Part> = model.parts.values().filter(moves).collect();
    let began = parts.iter().map(|part| part.started).min().filter(|_| parts.len() > 1)?;
    // What is being unpacked has come.
    let is_there = |part: &Part| part.done || part.action == Action::Extract;
    let moved = |part: &Part| {
        let total = part.total.unwrap_or(0);
        if is_there(part) { total } else { part.current.min(total) }
    };
    let total = parts.iter().fold(0u64, |sum, part| sum.saturating_add(part.total.unwrap_or(0)));
    let now = parts.iter().fold(0u64, |sum, part| sum.saturating_add(moved(part)));
    let done = parts.iter().filter(|part| part.done).count();
    let mut text = format!("[+] {done}/{} layers, {} of {}", parts.len(), bytes(now), bytes(total));
    let passed = at.saturating_sub(began).as_secs_f64();
    let rate = now as f64 / passed;
    // In the first moments a rate says nothing.
    if passed >= 0.5 && rate >= 1.0 && now < total {
        let left = Duration::from_secs_f64(((total - now) as f64 / rate).min(1e6));
        text.push_str(&format!(", {}/s, {} left", bytes(rate as u64), seconds(left)));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use lap_solver::event::Event;

    use super::*;

    #[test]
    fn several_transfers_are_summed() {
        let mut model = Model::default();
        let mut tell = |id: &str, action, current, total, done, at| {
            let event = Event::Progress { id: id.to_owned(), action, vertex: None, current, total, done };
            model.fold(event, Duration::from_secs(at));
            summary(&model, Duration::from_secs(at))
        };
        assert_eq!(tell("a", Action::Download, 0, Some(10_000_000), false, 0), None, "one is its own summary");
        assert_eq!(tell("name", Action::Resolve, 0, None, true, 0), None);
        assert_eq!(tell("e", Action::Exists, 0, Some(5), true, 0), None);
        let text = tell("b", Action::Download, 0, Some(30_000_000), false, 0).unwrap();
        assert_eq!(text, "[+] 0/2 layers, 0B of 40MB");
        let text = tell("a", Action::Download, 10_000_000, Some(10_000_000), false, 5).unwrap();
        assert_eq!(text, "[+] 0/2 layers, 10MB of 40MB, 2MB/s, 15.0s left");
        let text = tell("a", Action::Extract, 10_000_000, Some(10_000_000), true, 10).unwrap();
        assert_eq!(text, "[+] 1/2 layers, 10MB of 40MB, 1MB/s, 30.0s left");
        let text = tell("b", Action::Extract, 1, Some(30_000_000), false, 20).unwrap();
        assert_eq!(text, "[+] 1/2 layers, 40MB of 40MB");
    }
}
