//! Layers with the times of a reproducible image.
//!
//! Why not when a layer is made: the epoch would have to be part of every key (a new commit would run everything
//! again), or a layer found in the cache would carry the epoch of an older build and the digest depend on what the
//! store had seen. So steps keep the times they made, records and keys never hear of an epoch, and an image that is
//! to be reproducible is put together from twins of the layers: the same entries, other times, stored as a layer
//! like any other. The price is the data of the layers a second time, for those builds that ask.
//!
//! A later time than the epoch becomes the epoch (as `SOURCE_DATE_EPOCH` asks). That alone would not do: a step that
//! ran last week left times that are earlier than an epoch of today. So every layer remembers when its step ran, and
//! a time of that span is the clock's, not the content's: it becomes the epoch too.

use std::io::{self, Write as _};

use lap_solver::digest::Key;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::apply::Applier;
use super::commit::Making;
use super::{LayerError, LayerFile, LayerInfo, Origin, layer_path, stream, tree};
use crate::archive::Limits;
use crate::digest::{Digest, Sha256Stream};
use crate::fs::{self, NewDirectory, Timestamp};
use crate::store::Store;

/// When a step ran: nanoseconds since 1970, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span {
    /// Before the first file was made.
    pub from: i128,
    /// After the last one.
    pub to: i128,
}

/// Modification times as a reproducible image has them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Times {
    /// Seconds since 1970; no time is later.
    epoch: i64,
    /// When the steps of the build ran, sorted.
    ran: Vec<Span>,
}

impl Times {
    /// Nothing later than `epoch` (seconds since 1970), nothing of the time when steps ran.
    #[must_use]
    pub fn new(epoch: i64, ran: impl IntoIterator<Item = Span>) -> Self {
        let mut ran: Vec<Span> = ran.into_iter().collect();
        ran.sort_unstable();
        ran.dedup();
        Self { epoch, ran }
    }

    fn of(&self, time: Timestamp) -> Timestamp {
        let epoch = Timestamp { seconds: self.epoch, nanoseconds: 0 };
        let at = nanoseconds(time);
        if at > nanoseconds(epoch) || self.ran.iter().any(|span| (span.from..=span.to).contains(&at)) {
            epoch
        } else {
            time
        }
    }
}

pub(super) fn nanoseconds(time: Timestamp) -> i128 {
    i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds)
}

impl Store {
    /// When the step ran that made a layer; nothing for a layer from outside.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn layer_ran(&self, diff_id: &Digest) -> Result<Option<Span>, LayerError> {
        Ok(self.layer_file(diff_id)?.and_then(|file| file.ran))
    }

    /// The twin of a layer made here that has `times`; the layer itself where that changes nothing.
    ///
    /// # Errors
    /// [`LayerError::Missing`] and [`LayerError::Foreign`] where the layer was not made here; else where it cannot be
    /// read or the twin not be written.
    pub fn retimed(&self, diff_id: &Digest, times: &Times) -> Result<LayerInfo, LayerError> {
        let hex = Key::of("retimed", &(diff_id, times)).to_hex();
        let memo = format!("records/retimed/{}/{hex}.json", &hex[..2]);
        let known = self.read_file(&memo)?.and_then(|bytes| serde_json::from_slice::<Digest>(&bytes).ok());
        if let Some(twin) = known
            && let Some(info) = self.layer(&twin)?
        {
            return Ok(info);
        }
        let info = self.retime(diff_id, times)?;
        let json = format!("{:?}", info.diff_id.to_string());
        self.write_file(&memo, json.as_bytes(), false)?;
        Ok(info)
    }

    fn retime(&self, diff_id: &Digest, times: &Times) -> Result<LayerInfo, LayerError> {
        let file = self.layer_file(diff_id)?.ok_or(LayerError::Missing { diff_id: *diff_id })?;
        let Origin::Made { root_entry } = file.origin else { return Err(LayerError::Foreign { diff_id: *diff_id }) };
        let path = format!("{}/fs", layer_path(diff_id));
        let root = fs::open_beneath(self.dir(), path.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut nodes = if root_entry { vec![tree::root_node(&root)?] } else { Vec::new() };
        nodes.extend(tree::walk(&root, self.mode().opaque_xattr())?);
        let mut changed = false;
        for node in &mut nodes {
            let time = times.of(node.metadata.mtime);
            // A whiteout has no time in an archive.
            changed |= time != node.metadata.mtime && !node.metadata.is_whiteout();
            node.metadata.mtime = time;
        }
        if !changed {
            return Ok(file.info);
        }

        let made = Making::new(self)?;
        fs::make_directory(&made.dir, b"fs", NewDirectory::ROOT_0755)?;
        let twin = fs::open_dir_at(&made.dir, b"fs")?;
        let (reader, writer) = io::pipe().map_err(LayerError::Write)?;
        let (written, applied) = std::thread::scope(|scope| {
            let writing = scope.spawn(|| {
                let mut out = Sha256Stream::new(io::BufWriter::with_capacity(1 << 20, writer));
                let summary = stream::write_tar(&root, &nodes, &mut out)?;
                out.flush().map_err(LayerError::Write)?;
                let (_, diff_id, tar_size) = out.finish();
                Ok::<_, LayerError>((summary, diff_id, tar_size))
            });
            let mut reader = reader;
            let applied = Applier::layer(twin, self.mode(), None).run(&mut reader, Limits::default());
            // The writer ends when nobody reads any more.
            let drained = applied.is_ok().then(|| io::copy(&mut reader, &mut io::sink()));
            drop(reader);
            let written = writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (written, applied.and_then(|done| drained.transpose().map(|_| done).map_err(LayerError::Read)))
        });
        // Where both failed, the reader's error is the cause: a closed pipe says nothing.
        let (done, (summary, diff_id, tar_size)) = (applied?, written?);
        let (entries, bytes, skipped) = (summary.entries, summary.bytes, done.skipped);
        let (content_id, privileged) = (file.info.content_id, file.info.privileged);
        let info = LayerInfo { diff_id, content_id, tar_size, entries, bytes, skipped, privileged };
        made.publish(self, LayerFile { ran: None, ..LayerFile::now(self, info, Origin::Made { root_entry }) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Mode;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    #[test]
    fn later_times_and_the_clocks_become_the_epoch() {
        let at = |seconds, nanoseconds| Timestamp { seconds, nanoseconds };
        let span = |from: i128, to: i128| Span { from: from * 1_000_000_000, to: to * 1_000_000_000 };
        let times = Times::new(100, [span(50, 60)]);
        for (before, after) in [
            (at(0, 5), at(0, 5)),
            (at(49, 999_999_999), at(49, 999_999_999)),
            (at(50, 0), at(100, 0)),
            (at(60, 0), at(100, 0)),
            (at(60, 1), at(60, 1)),
            (at(100, 0), at(100, 0)),
            (at(100, 1), at(100, 0)),
            (at(-5, 0), at(-5, 0)),
        ] {
            assert_eq!(times.of(before), after, "{before:?}");
        }
    }

    fn layer(store: &Store, touch: impl Fn(&std::path::Path)) -> LayerInfo {
        let workspace = store.workspace().unwrap();
        let upper = workspace.upper();
        std::fs::create_dir(upper.join("d")).unwrap();
        std::fs::write(upper.join("d/f"), "data").unwrap();
        std::fs::hard_link(upper.join("d/f"), upper.join("g")).unwrap();
        std::os::unix::fs::symlink("f", upper.join("d/l")).unwrap();
        let old = std::fs::File::create(upper.join("old")).unwrap();
        old.set_modified(UNIX_EPOCH + Duration::from_secs(1_000)).unwrap();
        touch(&upper);
        store.commit(workspace, &[], false).unwrap().unwrap()
    }

    #[test]
    fn twins_of_equal_content_are_one_layer_whenever_it_was_made() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path(), Mode::Root).unwrap();
        let one = layer(&store, |_| ());
        std::thread::sleep(Duration::from_millis(20));
        let two = layer(&store, |_| ());
        assert_ne!(one.diff_id, two.diff_id);
        let ran = |info: &LayerInfo| store.layer_ran(&info.diff_id).unwrap().unwrap();
        let ahead = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64 + 1_000;
        for epoch in [2_000, ahead] {
            let times = Times::new(epoch, [ran(&one), ran(&two)]);
            let twins = [&one, &two].map(|info| store.retimed(&info.diff_id, &times).unwrap());
            assert_eq!(twins[0].diff_id, twins[1].diff_id);
            assert_eq!(twins[0].content_id, one.content_id);
            let fs = store.layer_dir(&twins[0].diff_id).join("fs");
            let seconds = |name: &str| {
                let modified = fs.join(name).symlink_metadata().unwrap().modified().unwrap();
                modified.duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
            };
            assert_eq!([seconds("d"), seconds("d/f"), seconds("d/l"), seconds("old")], [epoch, epoch, epoch, 1_000]);
            // The twin is a layer like any other.
            assert_eq!(store.write_tar(&twins[0].diff_id, io::sink()).unwrap(), twins[0].tar_size);
            assert_eq!(store.retimed(&one.diff_id, &times).unwrap(), twins[0]);
            assert_eq!(store.retimed(&twins[0].diff_id, &times).unwrap(), twins[0]);
        }
    }
}
