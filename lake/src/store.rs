//! The object store of a local lake: an object that was put is on stable storage.
//!
//! `object_store` 0.13's `LocalFileSystem` never calls fsync, and a hard link can reach the disk before the
//! bytes it names. So a put goes: write to `<data>/tmp`, fsync, hard link (`PutMode::Create`) or rename
//! (`PutMode::Overwrite`) into place, fsync of the folder. Reading and deleting are `LocalFileSystem`'s;
//! listing is too, but in the order of the names, as remote stores list. Multipart uploads and copies are refused: nothing here needs them.

use std::fmt;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::files::Files;

/// Folder of objects that are being written.
pub(crate) const TEMPORARY_DIR: &str = "tmp";

/// A durable object store over one folder.
#[derive(Debug, Clone)]
pub(crate) struct DurableStore {
    inner: LocalFileSystem,
    temporary: PathBuf,
    files: Arc<dyn Files>,
    n_puts: Arc<AtomicU64>,
}

impl DurableStore {
    /// A store rooted at `root`, which exists.
    pub(crate) fn new(root: &std::path::Path, files: Arc<dyn Files>) -> Result<Self> {
        Ok(Self {
            inner: LocalFileSystem::new_with_prefix(root)?,
            temporary: root.join(TEMPORARY_DIR),
            files,
            n_puts: Arc::default(),
        })
    }

    /// Makes the folder for objects being written and empties it of what a crash left.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        self.files.create_dir_all(&self.temporary)?;
        for (name, _) in self.files.list(&self.temporary)? {
            self.files.remove(&self.temporary.join(name))?;
        }
        Ok(())
    }
}

impl fmt::Display for DurableStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DurableStore({})", self.inner)
    }
}

fn put_blocking(
    files: &dyn Files,
    temporary: &std::path::Path,
    path: &std::path::Path,
    payload: &PutPayload,
    overwrite: bool,
) -> io::Result<()> {
    let mut file = files.create(temporary)?;
    let mut parts: Vec<IoSlice<'_>> = payload.iter().map(|part| IoSlice::new(part)).collect();
    file.append(&mut parts)?;
    file.sync()?;
    drop(file);
    let publish = || {
        if overwrite {
            files.rename(temporary, path)
        } else {
            files.hard_link(temporary, path)
        }
    };
    let dir = path.parent();
    match (publish(), dir) {
        (Err(error), Some(dir)) if error.kind() == io::ErrorKind::NotFound => {
            files.create_dir_all(dir)?;
            publish()?;
        }
        (Err(error), Some(dir)) if error.kind() == io::ErrorKind::AlreadyExists => {
            // It may be ours, from an attempt whose last fsync failed: make it durable before saying so.
            files.sync_dir(dir)?;
            return Err(error);
        }
        (result, _) => result?,
    }
    dir.map_or(Ok(()), |dir| files.sync_dir(dir))
}

fn in_order(objects: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
    let sorted = async move {
        let mut objects: Vec<ObjectMeta> = objects.try_collect().await?;
        objects.sort_unstable_by(|left, right| left.location.cmp(&right.location));
        Ok::<_, Error>(futures::stream::iter(objects.into_iter().map(Ok)))
    };
    futures::stream::once(sorted).try_flatten().boxed()
}

fn not_implemented(operation: &str) -> Error {
    Error::NotImplemented {
        operation: operation.to_owned(),
        implementer: "the lake's store".to_owned(),
    }
}

#[async_trait]
impl ObjectStore for DurableStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let overwrite = match opts.mode {
            PutMode::Overwrite => true,
            PutMode::Create => false,
            PutMode::Update(_) => return Err(not_implemented("put with mode update")),
        };
        let path = self.inner.path_to_filesystem(location)?;
        let n_put = self.n_puts.fetch_add(1, Ordering::Relaxed);
        let temporary = self.temporary.join(format!("{n_put}"));
        let files = Arc::clone(&self.files);
        let location = location.to_string();
        tokio::task::spawn_blocking(move || {
            let result = put_blocking(files.as_ref(), &temporary, &path, &payload, overwrite);
            if result.is_err() || !overwrite {
                // A leftover is removed at the next start.
                let _ = files.remove(&temporary);
            }
            match result {
                Ok(()) => Ok(PutResult {
                    e_tag: None,
                    version: None,
                }),
                Err(source) if source.kind() == io::ErrorKind::AlreadyExists => Err(Error::AlreadyExists {
                    path: location,
                    source: source.into(),
                }),
                Err(source) => Err(Error::Generic {
                    store: "lake",
                    source: source.into(),
                }),
            }
        })
        .await?
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(not_implemented("multipart upload"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        in_order(self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        in_order(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(not_implemented("copy"))
    }
}
