//! The write-ahead log's reader against damaged and torn files.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::ErrorKind;
use crate::files::LocalFiles;
use crate::wal::frame::{encode_frame_head, encode_segment_header};
use crate::wal::segment::{recover, scan, segment_path};
use crate::wal::writer::{Pending, Sink, WalWriter, WriterOptions};
use crate::window::{Lookup, Watermark, Window, load, save};

/// A segment of groups of payloads; each group was durable before the next was written.
fn segment_bytes(first_sequence: u64, groups: &[&[&str]]) -> Vec<u8> {
    let mut bytes = encode_segment_header(first_sequence).to_vec();
    let mut sequence = first_sequence;
    for group in groups {
        let durable_through = sequence - 1;
        for payload in *group {
            let record = record("default", payload);
            bytes.extend(encode_frame_head(sequence, durable_through, &record));
            bytes.extend_from_slice(&record.payload);
            sequence += 1;
        }
    }
    bytes
}

fn payloads(dir: &Path) -> Result<Vec<String>> {
    let mut payloads = Vec::new();
    let found = scan(&LocalFiles, dir, 0, |frame| {
        assert_eq!(frame.sequence, payloads.len() as u64 + 1);
        payloads.push(String::from_utf8(frame.record.payload.to_vec()).unwrap());
        Ok(())
    })?;
    recover(&LocalFiles, dir, &found)?;
    Ok(payloads)
}

#[test]
fn a_torn_tail_is_truncated() {
    let whole = segment_bytes(1, &[&["one", "two"], &["three"]]);
    for len in 0..=whole.len() {
        let dir = TempDir::new().unwrap();
        std::fs::write(segment_path(dir.path(), 1), &whole[..len]).unwrap();
        let first = payloads(dir.path()).unwrap();
        let expected: &[&str] = &["one", "two", "three"];
        assert_eq!(first, expected[..first.len()], "a prefix, cut at {len}");
        assert_eq!(payloads(dir.path()).unwrap(), first, "and the same again after the cut");
    }
}

#[test]
fn a_missing_frame_of_the_last_group_is_a_torn_tail() {
    let dir = TempDir::new().unwrap();
    let mut bytes = segment_bytes(1, &[&["one"], &["two", "three", "four"]]);
    let at = bytes.windows(3).position(|window| window == b"two").unwrap();
    bytes[at] ^= 1;
    std::fs::write(segment_path(dir.path(), 1), bytes).unwrap();
    assert_eq!(
        payloads(dir.path()).unwrap(),
        ["one"],
        "the group was never acknowledged"
    );
}

#[test]
fn a_bad_frame_in_the_middle_is_damage_and_names_file_and_offset() {
    let dir = TempDir::new().unwrap();
    let mut bytes = segment_bytes(1, &[&["one"], &["two"], &["three"]]);
    let at = bytes.windows(3).position(|window| window == b"two").unwrap();
    bytes[at] ^= 1;
    let path = segment_path(dir.path(), 1);
    std::fs::write(&path, bytes).unwrap();
    let error = payloads(dir.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let offset = segment_bytes(1, &[&["one"]]).len();
    assert!(error.message().contains(&path.display().to_string()), "{error}");
    assert!(error.message().contains(&format!("offset {offset},")), "{error}");
}

#[test]
fn a_bad_frame_before_another_segment_is_damage() {
    let dir = TempDir::new().unwrap();
    let bytes = segment_bytes(1, &[&["one"], &["two"]]);
    std::fs::write(segment_path(dir.path(), 1), &bytes[..bytes.len() - 1]).unwrap();
    std::fs::write(segment_path(dir.path(), 3), segment_bytes(3, &[&["three"]])).unwrap();
    assert_eq!(payloads(dir.path()).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn a_missing_segment_is_damage() {
    let dir = TempDir::new().unwrap();
    std::fs::write(segment_path(dir.path(), 1), segment_bytes(1, &[&["one"]])).unwrap();
    std::fs::write(segment_path(dir.path(), 3), segment_bytes(3, &[&["three"]])).unwrap();
    assert_eq!(payloads(dir.path()).unwrap_err().kind(), ErrorKind::Corrupt);
    let found = scan(&LocalFiles, dir.path(), 2, |_| Ok(())).unwrap();
    assert_eq!(
        found.n_frames, 2,
        "unless its requests are in the tables: a trim that was half undone"
    );
}

#[test]
fn a_segment_of_a_newer_format_is_refused() {
    let dir = TempDir::new().unwrap();
    let mut bytes = segment_bytes(1, &[&["one"]]);
    bytes[6] = 2;
    let crc = crc32fast::hash(&bytes[..16]).to_le_bytes();
    bytes[16..20].copy_from_slice(&crc);
    std::fs::write(segment_path(dir.path(), 1), bytes).unwrap();
    let error = payloads(dir.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("upgrade"), "{error}");
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), keep in 0usize..120) {
        let dir = TempDir::new().unwrap();
        let mut content = segment_bytes(1, &[&["one"], &["two"]]);
        content.truncate(keep);
        content.extend(bytes);
        std::fs::write(segment_path(dir.path(), 1), content).unwrap();
        let _ = scan(&LocalFiles, dir.path(), 0, |_| Ok(()));
    }
}

#[derive(Default)]
struct Collected(Mutex<Vec<(u64, Bytes)>>);

impl Sink for Collected {
    fn durable(&self, group: Vec<(u64, Pending)>) {
        self.0.lock().extend(
            group
                .into_iter()
                .map(|(sequence, pending)| (sequence, pending.record.payload)),
        );
    }

    fn failed(&self, _: Vec<Pending>, error: &Error) {
        panic!("{error}");
    }
}

#[test]
fn segments_roll_and_are_trimmed_once_flushed() {
    let dir = TempDir::new().unwrap();
    let options = WriterOptions {
        dir: dir.path().to_owned(),
        group_commit_window: Duration::ZERO,
        segment_bytes: 200,
    };
    let sink = Arc::new(Collected::default());
    let wal = WalWriter::spawn(Arc::new(LocalFiles), options, VecDeque::new(), 1, sink.clone()).unwrap();
    for number in 0..50 {
        let record = record("default", &format!("payload {number}"));
        let hash = record.hash();
        let pending = Pending {
            record,
            rows: Vec::new(),
            hash,
            n_bytes: 0,
        };
        assert!(wal.submit(pending).is_ok());
        // One group a record, so that the sizes are known.
        while sink.0.lock().len() <= number {
            std::thread::yield_now();
        }
    }
    let (n_segments, _) = wal.size();
    assert!(n_segments > 5, "{n_segments}");
    let before = scan(&LocalFiles, dir.path(), 0, |_| Ok(())).unwrap();
    assert_eq!((before.n_frames, before.last_sequence), (50, Some(50)));
    assert_eq!(wal.trim(0).unwrap(), 0);
    assert!(wal.trim(25).unwrap() > 0);
    let mut kept = Vec::new();
    scan(&LocalFiles, dir.path(), 0, |frame| {
        kept.push(frame.sequence);
        Ok(())
    })
    .unwrap();
    assert!(
        kept[0] <= 26 && kept.ends_with(&[49, 50]),
        "nothing above 25 is gone: {kept:?}"
    );
    wal.trim(50).unwrap();
    assert_eq!(wal.size().0, 1, "the segment being written stays");
}

#[test]
fn the_window_remembers_the_last_requests_across_a_save() {
    let dir = TempDir::new().unwrap();
    let mut window = Window::new(3);
    for number in 0..5u8 {
        assert!(matches!(window.look_up([number; 16]), Lookup::New(_)));
        assert_eq!(window.stored([number; 16], u64::from(number) + 1).len(), 1);
    }
    let watermark = Watermark {
        last_sequence: 5,
        flushed: 4,
        last_arrived_ns: 7,
    };
    save(&LocalFiles, dir.path(), &window.encode(watermark)).unwrap();
    let (mut loaded, found) = load(&LocalFiles, dir.path(), 3).unwrap();
    assert_eq!(found, watermark);
    let known: Vec<bool> = (0..5u8).map(|number| loaded.contains(&[number; 16])).collect();
    assert_eq!(known, [false, false, true, true, true]);
    assert!(matches!(loaded.look_up([4; 16]), Lookup::Stored(5)));

    let path = dir.path().join("window");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[50] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = load(&LocalFiles, dir.path(), 3).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}
