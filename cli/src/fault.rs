//! Failure on purpose, for tests of crashes; not in release builds.

use anyhow::{Context as _, bail};
use lap_cache::fault::{self, Effect};
use nix::errno::Errno;

/// `N:kill`, or `N:` and the name of an error: what happens at the N-th transition of what is on disk.
pub(crate) const VARIABLE: &str = "LAP_TEST_FAULT";

/// Tells at the end of the command whether the transition came.
#[derive(Debug)]
pub(crate) struct Told;

/// Makes a transition fail, if that is asked.
pub(crate) fn arm(text: Option<String>) -> anyhow::Result<Option<Told>> {
    let Some(text) = text else { return Ok(None) };
    let (at, effect) = text.split_once(':').with_context(|| format!("{VARIABLE} has no colon"))?;
    let effect = match effect {
        "kill" => Effect::Kill,
        "EIO" => Effect::Fail(Errno::EIO as i32),
        "ENOSPC" => Effect::Fail(Errno::ENOSPC as i32),
        "EDQUOT" => Effect::Fail(Errno::EDQUOT as i32),
        other => bail!("{VARIABLE}: no such effect: {other}"),
    };
    fault::arm(at.parse().with_context(|| format!("{VARIABLE}: no number: {at}"))?, effect);
    Ok(Some(Told))
}

impl Drop for Told {
    fn drop(&mut self) {
        if fault::fired() {
            eprintln!("lap: the test fault came");
        }
    }
}
