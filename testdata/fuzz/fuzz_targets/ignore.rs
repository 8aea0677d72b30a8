#![no_main]
//! Any ignore file and path: asking and walking give the same answer. They are split at the first zero byte.

use lap_frontend::ignore;
use lap_solver::pattern::{MatchInfo, Matcher, match_name};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let split = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (text, path) = data.split_at(split);
    let (text, path) = (String::from_utf8_lossy(text), String::from_utf8_lossy(path));
    let path = lap_solver::path::clean(path.trim_matches(['/', '\0']));
    drop(match_name(&text, &path));
    let Ok(matcher) = Matcher::new(&ignore::parse(&text)) else { return };
    let (mut info, mut walked) = (MatchInfo::default(), false);
    for end in path.match_indices('/').map(|(at, _)| at).chain([path.len()]) {
        (walked, info) = matcher.matches_using_parents(&path[..end], &info);
        let _below = matcher.may_reinclude_below(&path[..end]);
    }
    assert_eq!(walked, matcher.matches(&path));
});
