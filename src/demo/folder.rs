//! The demo's folder: deleted before a fresh start, but only where a demo made it.

use std::path::Path;

use crate::exit::{Kind, fail};

/// Marks a folder as the demo's own. Nothing without it is ever deleted.
const MARKER: &str = "DEMO";
const MARKER_TEXT: &str = "made by `spanledger demo`, which deletes this folder when it starts afresh\n";

/// Empties the folder of an earlier demo.
///
/// # Errors
/// Kind invalid for a folder that no demo made, busy for one in use.
pub fn start_fresh(data: &Path) -> anyhow::Result<()> {
    let is_empty = match std::fs::read_dir(data) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => return Err(fail(Kind::Invalid, format!("cannot read {}: {error}", data.display()))),
    };
    if is_empty {
        return Ok(());
    }
    if !data.join(MARKER).is_file() {
        return Err(fail(
            Kind::Invalid,
            format!(
                "{} holds data that no demo made and is not deleted; name another folder with --data, or add the demo to it with --keep",
                data.display()
            ),
        ));
    }
    if is_in_use(data) {
        return Err(fail(
            Kind::Busy,
            format!(
                "another process serves {}; stop it, or name another folder with --data",
                data.display()
            ),
        ));
    }
    std::fs::remove_dir_all(data)
        .map_err(|error| fail(Kind::Invalid, format!("cannot empty {}: {error}", data.display())))
}

/// Marks the folder.
///
/// # Errors
/// Kind invalid where it cannot be written.
pub fn mark(data: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(data)
        .and_then(|()| {
            // A lake that was there before (`--keep`) stays nobody's demo.
            let is_fresh = std::fs::read_dir(data)?.next().is_none();
            if is_fresh {
                std::fs::write(data.join(MARKER), MARKER_TEXT)
            } else {
                Ok(())
            }
        })
        .map_err(|error| {
            fail(
                Kind::Invalid,
                format!(
                    "cannot write {}: {error}; name another folder with --data",
                    data.display()
                ),
            )
        })
}

/// True where a process holds the lake's lock.
pub fn is_in_use(data: &Path) -> bool {
    let Ok(lock) = std::fs::File::open(data.join("LOCK")) else {
        return false;
    };
    matches!(lock.try_lock(), Err(std::fs::TryLockError::WouldBlock))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn only_a_demos_folder_is_deleted() {
        let root = tempfile::tempdir().unwrap();
        let demo = root.path().join("demo");
        start_fresh(&demo).unwrap();
        mark(&demo).unwrap();
        std::fs::write(demo.join("rows"), "x").unwrap();
        start_fresh(&demo).unwrap();
        assert!(!demo.exists());

        let real = root.path().join("real");
        std::fs::create_dir(&real).unwrap();
        std::fs::write(real.join("rows"), "x").unwrap();
        let error = start_fresh(&real).unwrap_err();
        assert_eq!(crate::exit::exit_code(&error), crate::exit::INVALID);
        mark(&real).unwrap();
        assert!(start_fresh(&real).is_err(), "a lake that was kept became a demo's");
        assert!(real.join("rows").is_file());
    }
}
