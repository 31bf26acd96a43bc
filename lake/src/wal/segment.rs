//! Reading the log back: which frames are there, where a torn tail starts, and what is damage.
//!
//! [`scan`] reads one segment after the other and hands out frames in sequence; it never holds more than
//! one segment. It changes nothing: cutting the torn tail is [`recover`]'s, which a read-only look does not do.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use super::frame::{self, Frame, SEGMENT_HEADER_LEN, SegmentHeader};
use crate::error::{Context, Error, Result};
use crate::files::Files;

const SEGMENT_SUFFIX: &str = ".wal";

/// A segment file of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) first_sequence: u64,
    pub(crate) size_bytes: u64,
}

/// What a scan found besides the frames.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Segments with at least one frame, oldest first.
    pub(crate) segments: VecDeque<Segment>,
    /// Files whose end (or whole) was never acknowledged: path and the length to keep, 0 to remove.
    pub(crate) torn: Vec<(PathBuf, u64)>,
    /// Frames read.
    pub(crate) n_frames: u64,
    /// Highest sequence in the log.
    pub(crate) last_sequence: Option<u64>,
}

/// The path of the segment that starts with this sequence.
pub(crate) fn segment_path(dir: &Path, first_sequence: u64) -> PathBuf {
    dir.join(format!("{first_sequence:020}{SEGMENT_SUFFIX}"))
}

/// Hands every intact frame to `each`, oldest first. Sequences up to `covered` are in the tables: segments of
/// theirs may be missing, for after a power loss a trim may have been undone for some and not for others.
///
/// # Errors
/// `Corrupt` where a frame that was acknowledged is not intact, naming file and offset; `Invalid` for a
/// segment of a newer format; what `each` returns.
pub(crate) fn scan(
    files: &dyn Files,
    dir: &Path,
    covered: u64,
    mut each: impl FnMut(Frame) -> Result<()>,
) -> Result<Scan> {
    let mut paths: Vec<(PathBuf, u64)> = files
        .list(dir)
        .or_internal(|| format!("cannot list the write-ahead log {}", dir.display()))?
        .into_iter()
        .filter(|(name, _)| name.ends_with(SEGMENT_SUFFIX))
        .map(|(name, size)| (dir.join(name), size))
        .collect();
    paths.sort_unstable();
    let mut result = Scan::default();
    // Where the frames stopped making sense, until a later segment shows whether that matters.
    let mut bad: Option<(PathBuf, usize)> = None;
    for (path, size_bytes) in paths {
        let bytes = files
            .read(&path)
            .or_internal(|| format!("cannot read the log segment {}", path.display()))?;
        let first_sequence = match frame::decode_segment_header(&bytes) {
            SegmentHeader::Valid { first_sequence } => first_sequence,
            SegmentHeader::NewerVersion(version) => {
                return Err(Error::invalid(format!(
                    "log segment {} has format {version}, written by a newer spanledger: upgrade to open this lake",
                    path.display()
                )));
            }
            SegmentHeader::Invalid => {
                if let Some((found, _)) = frame::find_frame(&bytes, 0)
                    && found.durable_through >= result.last_sequence.map_or(found.sequence, |last| last + 1)
                {
                    return Err(damaged(&path, 0));
                }
                bad.get_or_insert_with(|| (path.clone(), 0));
                result.torn.push((path, 0));
                continue;
            }
        };
        let expected_first = result.last_sequence.map_or(first_sequence, |last| last + 1);
        let gap_is_covered = expected_first < first_sequence && first_sequence <= covered + 1;
        if expected_first != first_sequence && !gap_is_covered {
            // The frames in between were acknowledged, for segments are started only then.
            let (path, offset) = bad.unwrap_or((path, SEGMENT_HEADER_LEN));
            return Err(damaged(&path, offset));
        }
        let mut expected = first_sequence;
        let mut offset = SEGMENT_HEADER_LEN;
        while offset < bytes.len() {
            match frame::decode_frame(&bytes, offset) {
                Some((found, end)) if found.sequence == expected => {
                    each(found)?;
                    result.n_frames += 1;
                    result.last_sequence = Some(expected);
                    expected += 1;
                    offset = end;
                }
                _ => break,
            }
        }
        if offset < bytes.len() {
            let mut from = offset;
            while let Some((later, end)) = frame::find_frame(&bytes, from) {
                if later.durable_through >= expected {
                    return Err(damaged(&path, offset));
                }
                from = end;
            }
            bad = Some((path.clone(), offset));
            let keep = if expected == first_sequence { 0 } else { offset as u64 };
            result.torn.push((path.clone(), keep));
        }
        if expected > first_sequence {
            result.segments.push_back(Segment {
                path,
                first_sequence,
                size_bytes: size_bytes.min(offset as u64),
            });
        } else if offset >= bytes.len() {
            result.torn.push((path, 0));
        }
    }
    Ok(result)
}

fn damaged(path: &Path, offset: usize) -> Error {
    Error::corrupt(format!(
        "log segment {} is damaged at offset {offset}, in a part that was acknowledged: restore the file, or move it away to open the lake without its requests",
        path.display()
    ))
}

/// Cuts what [`scan`] found torn, so that it is never read again.
///
/// # Errors
/// The file system's.
pub(crate) fn recover(files: &dyn Files, dir: &Path, scan: &Scan) -> Result<()> {
    for (path, keep) in &scan.torn {
        let cut = || {
            if *keep == 0 {
                files.remove(path)
            } else {
                let mut file = files.open(path)?;
                file.truncate(*keep)?;
                file.sync()
            }
        };
        cut().or_internal(|| format!("cannot cut the torn tail of {}", path.display()))?;
    }
    if scan.torn.is_empty() {
        return Ok(());
    }
    files
        .sync_dir(dir)
        .or_internal(|| format!("cannot sync the folder {}", dir.display()))
}
