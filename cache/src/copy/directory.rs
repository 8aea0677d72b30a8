//! skopeo's directories (`dir:`): `manifest.json`, blobs under the digits of their digests, further manifests of an index
//! as `<digits>.manifest.json`, and a file that says so.

use std::collections::BTreeSet;
use std::path::Path;

use lap_solver::event::Events;

use super::folder::{Added, Folder};
use super::plan::Plan;
use super::source::Source;
use super::{CopyError, in_parallel};
use crate::digest::Digest;
use crate::export::archive::report;

/// The file that tells such a directory, and what it says.
const VERSION: (&str, &[u8]) = ("version", b"Directory Transport Version: 1.1\n");

/// Writes an image. One that was there before is replaced; any other directory must be empty.
pub(super) fn write(source: &Source, plan: &Plan, path: &Path, events: &Events) -> Result<(), CopyError> {
    let added = Added::default();
    let folder = Folder::make(path, &added)?;
    let before = folder.names()?;
    let is_ours =
        || folder.read(VERSION.0, 1 << 10).is_ok_and(|text| text.starts_with(b"Directory Transport Version:"));
    if !before.is_empty() && !is_ours() {
        return Err(CopyError::Occupied { path: path.display().to_string() });
    }
    in_parallel(&plan.blobs, |blob| {
        let digest = blob.digest;
        let mut reader = plan.open(blob, source)?;
        folder.put(&digest.hex(), &mut reader, &added).map_err(|source| CopyError::Blob { digest, source })?;
        report(&digest, blob.descriptor.size(), events);
        Ok(())
    })?;
    let below = |digest: &Digest| format!("{}.manifest.json", digest.hex());
    for item in &plan.below {
        folder.put_bytes(&below(&item.digest), &item.bytes, &added)?;
    }
    folder.put_bytes(VERSION.0, VERSION.1, &added)?;
    folder.put_bytes("manifest.json", &plan.root.bytes, &added)?;
    folder.sync()?;
    added.keep();
    let mut ours: BTreeSet<String> = BTreeSet::from([VERSION.0.to_owned(), "manifest.json".to_owned()]);
    ours.extend(plan.blobs.iter().map(|blob| blob.digest.hex()));
    ours.extend(plan.below.iter().map(|item| below(&item.digest)));
    // Of the image that was there before, as skopeo does.
    before.iter().filter(|name| !ours.contains(*name)).for_each(|name| folder.remove(name));
    Ok(())
}
