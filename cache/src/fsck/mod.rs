//! Checking the store, and mending it.
//!
//! Everything in the store is looked at, from below upwards: its own files, blobs, layers, what is remembered of
//! steps and builds, images and containers. What looks wrong is looked at once more while nobody prunes, so that
//! what goes away meanwhile is no finding. Mending removes what is broken and worth nothing, which the next build or
//! pull brings again, and sets aside what may be somebody's. What is intact is never removed.
//!
//! *Damage* is what no crash of this program or of the machine leaves. *Leftovers* are what it does leave, by
//! design: nobody believes them, and other commands get rid of them too.

mod content;
mod documents;
mod images;
mod layout;
mod mend;

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;

use crate::digest::Digest;
use crate::image::ImageError;
use crate::store::{Mode, Store};

use mend::Mend;

/// How to check.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Read and hash every blob and layer.
    pub deep: bool,
    /// Mend what is found.
    pub repair: bool,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Left by a crash, and harmless.
    Leftover,
    /// Something that must not be.
    Damage,
}

/// What becomes of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// It is removed.
    Remove,
    /// It is moved to `lost+found` in the store.
    SetAside,
    /// It is written anew.
    Rewrite,
    /// It is left to the user.
    Leave,
}

/// Whether it was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing was to be done.
    Found,
    /// Mended.
    Repaired,
    /// It could not be mended.
    Left {
        /// Why.
        because: String,
    },
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What sort of thing: `blob`, `layer`, `record`, `image`, `container`, `index`, `file`, `temporary`, ...
    pub kind: &'static str,
    /// Where it lies below the store; for an image its name.
    pub path: String,
    /// What is wrong with it.
    pub problem: String,
    /// How bad it is.
    pub severity: Severity,
    /// What becomes of it.
    pub remedy: Remedy,
    /// Whether that was done.
    pub outcome: Outcome,
}

/// How many things were looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Blobs.
    pub blobs: u64,
    /// Layers.
    pub layers: u64,
    /// Layers whose data there was nothing to compare with, in a deep check.
    pub unverified_layers: u64,
    /// Small files: records of steps and builds, indexes.
    pub records: u64,
    /// Names of images, and images without one.
    pub images: u64,
    /// Containers.
    pub containers: u64,
}

/// What a check came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What was looked at.
    pub checked: Checked,
    /// What was found, in the order of looking.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether there is no damage; leftovers are none.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity == Severity::Leftover)
    }

    /// Whether all damage that was found is mended.
    #[must_use]
    pub fn is_mended(&self) -> bool {
        let bad = |finding: &&Finding| finding.severity == Severity::Damage;
        self.findings.iter().filter(bad).all(|finding| finding.outcome == Outcome::Repaired)
    }
}

/// Checks the store at `root`, which must be there.
///
/// # Errors
/// Where it is no store, of another version or mode, or cannot be read at all.
pub fn check(root: &Path, mode: Mode, options: Options) -> Result<Report, ImageError> {
    let mut scan = Scan {
        store: Store::open_damaged(root, mode)?,
        options,
        report: Report::default(),
        lost_blobs: BTreeSet::new(),
        lost_layers: BTreeSet::new(),
    };
    scan.layout(mode)?;
    scan.temporaries()?;
    scan.blobs()?;
    scan.layers()?;
    scan.documents()?;
    scan.images()?;
    scan.containers()?;
    Ok(scan.report)
}

/// A check under way.
struct Scan {
    store: Store,
    options: Options,
    report: Report,
    /// Damaged: as good as missing for whoever needs them.
    lost_blobs: BTreeSet<Digest>,
    lost_layers: BTreeSet<Digest>,
}

/// Something wrong, and how to mend it.
#[derive(Debug)]
struct Fault {
    kind: &'static str,
    path: String,
    problem: String,
    severity: Severity,
    mend: Mend,
}

impl Fault {
    fn damage(kind: &'static str, path: impl Into<String>, problem: impl Into<String>, mend: Mend) -> Self {
        Self { kind, path: path.into(), problem: problem.into(), severity: Severity::Damage, mend }
    }

    fn leftover(kind: &'static str, path: impl Into<String>, problem: impl Into<String>, mend: Mend) -> Self {
        Self { severity: Severity::Leftover, ..Self::damage(kind, path, problem, mend) }
    }
}

impl Scan {
    /// Looks at something; where that finds a fault, looks again while nobody prunes, and mends it if that is asked.
    /// Answers whether there is one.
    fn look(&mut self, look: impl Fn(&Self) -> Result<Option<Fault>, ImageError>) -> Result<bool, ImageError> {
        match look(self)? {
            None => Ok(false),
            Some(_) => self.look_again(look),
        }
    }

    fn look_again(&mut self, look: impl Fn(&Self) -> Result<Option<Fault>, ImageError>) -> Result<bool, ImageError> {
        // A store that cannot be written can still be looked at.
        let alone = self.store.alone();
        let alone = if self.options.repair { Some(alone?) } else { alone.ok() };
        let Some(fault) = look(self)? else { return Ok(false) };
        let outcome = if self.options.repair { self.mend(&fault.mend) } else { Outcome::Found };
        drop(alone);
        let Fault { kind, path, problem, severity, mend } = fault;
        self.report.findings.push(Finding { kind, path, problem, severity, remedy: mend.remedy(), outcome });
        Ok(true)
    }
}
