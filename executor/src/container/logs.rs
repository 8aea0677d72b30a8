//! A container's log: one JSON object a line, in the form of Docker's json-file driver.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::directory::Container;
use super::error::ContainerError;
use super::state::State;
use super::time::{now, rfc3339};

/// A stream of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Output.
    Stdout,
    /// Errors.
    Stderr,
}

/// One entry: a line, or a piece of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// The text, with its line end if it has one; bytes that are not UTF-8 are replaced.
    pub log: String,
    /// Where it was written.
    pub stream: Stream,
    /// When (RFC 3339).
    pub time: String,
}

/// What `logs` shows.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// Wait for more until the container ends.
    pub follow: bool,
    /// Only so many entries of the end.
    pub tail: Option<usize>,
    /// Only entries of this time (RFC 3339 in UTC) or later.
    pub since: Option<String>,
}

/// A piece of a line longer than this is an entry of its own, as Docker's.
const LONGEST: usize = 16 * 1024;

/// Writes a container's log; clones write to the same one.
#[derive(Debug, Clone)]
pub(super) struct LogWriter {
    file: Arc<Mutex<LogFile>>,
}

#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: File,
    written: u64,
    limit: Option<u64>,
}

impl LogWriter {
    pub(super) fn open(container: &Container) -> Result<Self, ContainerError> {
        let path = container.log();
        let file = open(&path).map_err(ContainerError::file("open", &path))?;
        let written = file.metadata().map_or(0, |meta| meta.len());
        let limit = container.config.log_limit;
        Ok(Self { file: Arc::new(Mutex::new(LogFile { path, file, written, limit })) })
    }

    /// Writers that pass everything on and log it.
    pub(super) fn tee<'a>(&self, out: &'a mut dyn Write, err: &'a mut dyn Write) -> (Tee<'a>, Tee<'a>) {
        let tee = |stream, to| Tee { log: self.clone(), stream, to, line: Vec::new() };
        (tee(Stream::Stdout, out), tee(Stream::Stderr, err))
    }

    fn write(&self, stream: Stream, text: &[u8]) -> io::Result<()> {
        let entry = LogEntry { log: String::from_utf8_lossy(text).into_owned(), stream, time: rfc3339(now()) };
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        let mut log = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // Two files of half the size each: one goes when the other is full.
        if log.limit.is_some_and(|limit| log.written + line.len() as u64 > limit / 2) && log.written > 0 {
            fs::rename(&log.path, log.path.with_extension("1"))?;
            log.file = open(&log.path)?;
            log.written = 0;
        }
        log.file.write_all(&line)?;
        log.written += line.len() as u64;
        Ok(())
    }
}

fn open(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Passes on and logs, line by line.
pub(super) struct Tee<'a> {
    log: LogWriter,
    stream: Stream,
    to: &'a mut dyn Write,
    line: Vec<u8>,
}

impl Write for Tee<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if self.line.ends_with(b"\n") || self.line.len() >= LONGEST {
                // A full disk loses the log, not the container.
                drop(self.log.write(self.stream, &self.line));
                self.line.clear();
            }
        }
        self.to.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl Drop for Tee<'_> {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            drop(self.log.write(self.stream, &self.line));
        }
    }
}

impl super::Containers {
    /// Gives the entries of a container's log, oldest first, until `each` refuses one.
    ///
    /// # Errors
    /// Where the log cannot be read, or `each` says so.
    pub fn logs(
        &self,
        container: &Container,
        options: &LogOptions,
        each: &mut dyn FnMut(LogEntry) -> io::Result<()>,
    ) -> Result<(), ContainerError> {
        let path = container.log();
        let failed = || ContainerError::file("read", &path);
        let old = read_entries(&path.with_extension("1")).map_err(failed())?;
        let mut container = container.clone();
        let Some(mut reader) = open_existing(&path).map_err(failed())? else {
            return Ok(());
        };
        let mut entries = old;
        drain(&mut reader, &mut |entry| {
            entries.push(entry);
            Ok(())
        })
        .map_err(failed())?;
        if let Some(since) = &options.since {
            entries.retain(|entry| entry.time.as_str() >= since.as_str());
        }
        let skip = options.tail.map_or(0, |tail| entries.len().saturating_sub(tail));
        for entry in entries.drain(..).skip(skip) {
            each(entry).map_err(failed())?;
        }
        if !options.follow {
            return Ok(());
        }
        loop {
            // In this order: what was written before the end is still read after it.
            let running = container.refresh().is_ok() && matches!(container.state, State::Running(_));
            drain(&mut reader, each).map_err(failed())?;
            if !running {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
            if replaced(&reader, &path) {
                drain(&mut reader, each).map_err(failed())?;
                if let Some(next) = open_existing(&path).map_err(failed())? {
                    reader = next;
                }
            }
        }
    }
}

fn open_existing(path: &std::path::Path) -> io::Result<Option<BufReader<File>>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => Ok(Some(BufReader::new(other?))),
    }
}

fn read_entries(path: &std::path::Path) -> io::Result<Vec<LogEntry>> {
    let mut entries = Vec::new();
    if let Some(mut reader) = open_existing(path)? {
        drain(&mut reader, &mut |entry| {
            entries.push(entry);
            Ok(())
        })?;
    }
    Ok(entries)
}

/// Whether the path names another file by now.
fn replaced(reader: &BufReader<File>, path: &std::path::Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let inode = |meta: io::Result<fs::Metadata>| meta.map(|meta| meta.ino()).ok();
    inode(reader.get_ref().metadata()) != inode(fs::metadata(path))
}

/// Reads whole entries to the end of the file; a half-written one waits.
fn drain(reader: &mut BufReader<File>, each: &mut dyn FnMut(LogEntry) -> io::Result<()>) -> io::Result<()> {
    use std::io::Seek;
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)?;
        if length == 0 {
            return Ok(());
        }
        if !line.ends_with(b"\n") {
            reader.seek_relative(-i64::try_from(length).unwrap_or(0))?;
            let at = reader.stream_position()?;
            reader.seek(io::SeekFrom::Start(at))?;
            return Ok(());
        }
        // A line that a crash cut short is passed over.
        if let Ok(entry) = serde_json::from_slice(&line) {
            each(entry)?;
        }
    }
}
