//! The seam through which the log and the committer touch the disk, so that a test can lose power.
//!
//! Only what the durability argument needs is here: append, fsync, atomic publish, fsync of the folder.
//! [`LocalFiles`] is the machine's file system; a fault file system implements the same trait.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::path::Path;

use bytes::Bytes;

/// A file open for appending.
pub trait WritableFile: Send {
    /// Appends all the parts.
    ///
    /// # Errors
    /// The file system's; some bytes may have been written.
    fn append(&mut self, parts: &mut [IoSlice<'_>]) -> io::Result<()>;

    /// Puts what was written on stable storage (`fdatasync`).
    ///
    /// # Errors
    /// The file system's; after one, nothing about the file may be trusted.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the file to this length, bytes.
    ///
    /// # Errors
    /// The file system's.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
}

/// The file operations of the lake.
pub trait Files: Send + Sync + Debug {
    /// Creates the folder and those above it, and puts their names on stable storage.
    ///
    /// # Errors
    /// The file system's.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Names and sizes (bytes) of the files in a folder, in the order of their names.
    ///
    /// # Errors
    /// The file system's.
    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>>;
    /// The whole file.
    ///
    /// # Errors
    /// The file system's.
    fn read(&self, path: &Path) -> io::Result<Bytes>;
    /// A new empty file; `AlreadyExists` if there is one.
    ///
    /// # Errors
    /// The file system's.
    fn create(&self, path: &Path) -> io::Result<Box<dyn WritableFile>>;
    /// An existing file, to append to or cut.
    ///
    /// # Errors
    /// The file system's.
    fn open(&self, path: &Path) -> io::Result<Box<dyn WritableFile>>;
    /// Gives the file a second name, atomically; `AlreadyExists` if the name is taken.
    ///
    /// # Errors
    /// The file system's.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames the file over whatever has the name, atomically.
    ///
    /// # Errors
    /// The file system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes the file.
    ///
    /// # Errors
    /// The file system's.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Puts the folder's names on stable storage.
    ///
    /// # Errors
    /// The file system's.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// Writes the file so that it is there entirely or not at all, also after a power loss.
///
/// # Errors
/// The file system's.
pub(crate) fn write_atomically(files: &dyn Files, temporary: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    match files.remove(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = files.create(temporary)?;
    file.append(&mut [IoSlice::new(content)])?;
    file.sync()?;
    drop(file);
    files.rename(temporary, path)?;
    path.parent().map_or(Ok(()), |dir| files.sync_dir(dir))
}

/// The machine's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalFiles;

impl WritableFile for File {
    fn append(&mut self, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        // `Write::write_all_vectored` is not stable yet.
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match self.write_vectored(parts) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n_bytes) => IoSlice::advance_slices(&mut parts, n_bytes),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
}

impl Files for LocalFiles {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.create_dir_all(parent)?;
        }
        match fs::create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        match dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => self.sync_dir(parent),
            None => Ok(()),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push((name, metadata.len()));
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn read(&self, path: &Path) -> io::Result<Bytes> {
        fs::read(path).map(Bytes::from)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        Ok(Box::new(OpenOptions::new().append(true).create_new(true).open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        Ok(Box::new(OpenOptions::new().append(true).open(path)?))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}
