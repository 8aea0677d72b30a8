//! The table of contents of an eStargz: one entry a file, and one more for each further chunk of a large one.

use std::collections::BTreeMap;

use serde::Serialize;

use super::EstargzError;
use crate::archive::{Entry, EntryKind};
use crate::digest::Digest;
use crate::fs::Timestamp;
use crate::registry::encode_base64;

/// `stargz.index.json`.
#[derive(Debug, Serialize)]
pub(super) struct Toc {
    pub(super) version: u32,
    pub(super) entries: Vec<TocEntry>,
}

/// A file, or a chunk of one.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TocEntry {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) size: u64,
    #[serde(rename = "modtime", skip_serializing_if = "Option::is_none")]
    modified: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    link_name: String,
    #[serde(skip_serializing_if = "is_none")]
    mode: Option<u32>,
    #[serde(skip_serializing_if = "is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "is_none")]
    gid: Option<u32>,
    /// Of the gzip member that the data begins with.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) offset: u64,
    #[serde(skip_serializing_if = "is_none")]
    dev_major: Option<u32>,
    #[serde(skip_serializing_if = "is_none")]
    dev_minor: Option<u32>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<String, String>,
    /// Of the whole file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) digest: Option<Digest>,
    /// In the file.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) chunk_offset: u64,
    /// Nothing for the last chunk: it reaches to the file's end.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) chunk_size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) chunk_digest: Option<Digest>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
const fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, clippy::ref_option, reason = "the signature that serde asks for")]
const fn is_none(value: &Option<u32>) -> bool {
    value.is_none()
}

impl TocEntry {
    /// What an archive's entry is told as, but for its data.
    ///
    /// # Errors
    /// Where a name is no UTF-8, which JSON cannot say, or the file is sparse: what is stored of it is not the file.
    pub(super) fn new(entry: &Entry) -> Result<Self, EstargzError> {
        let refused = |why| EstargzError::Refused { path: String::from_utf8_lossy(&entry.path).into_owned(), why };
        let text = |bytes: &[u8]| {
            let text = std::str::from_utf8(bytes).map_err(|_| refused("its name is not UTF-8"))?;
            Ok::<String, EstargzError>(text.to_owned())
        };
        let mut toc = Self {
            name: text(&entry.path)?,
            modified: modified(entry.mtime),
            mode: Some(entry.mode),
            uid: Some(entry.uid),
            gid: Some(entry.gid),
            ..Self::default()
        };
        for (key, value) in &entry.xattrs {
            toc.xattrs.insert(text(key)?, encode_base64(value));
        }
        match &entry.kind {
            EntryKind::File { extents: Some(_), .. } => return Err(refused("it is stored as a sparse file")),
            EntryKind::File { size, extents: None } => (toc.kind, toc.size) = ("reg", *size),
            EntryKind::HardLink { target } => (toc.kind, toc.link_name) = ("hardlink", text(target)?),
            EntryKind::Symlink { target } => (toc.kind, toc.link_name) = ("symlink", text(target)?),
            EntryKind::Directory => toc.kind = "dir",
            EntryKind::CharDevice { major, minor } => {
                (toc.kind, toc.dev_major, toc.dev_minor) = ("char", Some(*major), Some(*minor));
            }
            EntryKind::BlockDevice { major, minor } => {
                (toc.kind, toc.dev_major, toc.dev_minor) = ("block", Some(*major), Some(*minor));
            }
            EntryKind::Fifo => toc.kind = "fifo",
        }
        Ok(toc)
    }

    /// A further chunk of a file.
    pub(super) fn chunk(name: &str, chunk_offset: u64) -> Self {
        Self { name: name.to_owned(), kind: "chunk", chunk_offset, ..Self::default() }
    }
}

/// RFC 3339 in UTC, to the nearest second; nothing for 1970-01-01, which stands for an unknown time.
fn modified(time: Timestamp) -> Option<String> {
    let seconds = time.seconds.saturating_add(i64::from(time.nanoseconds >= 500_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years from March, in cycles of 400 years or 146,097 days.
    let shifted = days + 719_468;
    let (cycle, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = cycle * 400 + year + i64::from(month <= 2);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    // The format has years of four digits.
    let sayable = seconds != 0 && (0..=9999).contains(&year);
    sayable.then(|| format!("{year:04}-{month:02}-{date:02}T{h:02}:{m:02}:{s:02}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_date() {
        // As `date -u -d @SECONDS +%FT%TZ` says.
        for (seconds, nanoseconds, text) in [
            (1_700_000_000, 0, "2023-11-14T22:13:20Z"),
            (951_782_400, 499_999_999, "2000-02-29T00:00:00Z"),
            (951_868_799, 500_000_000, "2000-03-01T00:00:00Z"),
            (-1, 0, "1969-12-31T23:59:59Z"),
            (4_102_444_799, 0, "2099-12-31T23:59:59Z"),
        ] {
            assert_eq!(modified(Timestamp { seconds, nanoseconds }).as_deref(), Some(text));
        }
        assert_eq!(modified(Timestamp::EPOCH), None);
        assert_eq!(modified(Timestamp { seconds: i64::MAX / 2, nanoseconds: 0 }), None);
    }
}
