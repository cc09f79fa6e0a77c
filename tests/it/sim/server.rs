//! The API server: one object, its versions, and what a watch has brought of them so far. Who writes and why never comes
//! in.

use std::sync::Arc;

use fota::api::{FINALIZER, FirmwareRollout, FirmwareRolloutStatus};
use fota::controller::world::WriteError;

/// The object through time.
#[derive(Debug)]
pub struct Server {
    /// Every version, the present one last; none: there was no object.
    history: Vec<Option<Arc<FirmwareRollout>>>,
    version: u64,
}

impl Server {
    pub fn new(object: FirmwareRollout) -> Self {
        let mut server = Self { history: Vec::new(), version: 0 };
        server.put(object);
        server
    }

    /// The object as it is.
    pub fn current(&self) -> Option<&Arc<FirmwareRollout>> {
        self.history.last().and_then(Option::as_ref)
    }

    /// The number of the present version.
    pub fn newest(&self) -> usize {
        self.history.len() - 1
    }

    /// The object as of a version.
    pub fn at(&self, number: usize) -> Option<Arc<FirmwareRollout>> {
        self.history[number].clone()
    }

    /// Keeps a new version; an object that is being deleted goes with its last finalizer.
    pub fn put(&mut self, mut object: FirmwareRollout) -> Arc<FirmwareRollout> {
        self.version += 1;
        object.metadata.resource_version = Some(self.version.to_string());
        let held = object.metadata.finalizers.iter().flatten().count() > 0;
        let kept = object.metadata.deletion_timestamp.is_none() || held;
        let object = Arc::new(object);
        self.history.push(kept.then(|| object.clone()));
        object
    }

    /// The object, if a write that was decided upon an older one may change it.
    fn writable(&self, based_on: &FirmwareRollout) -> Result<FirmwareRollout, WriteError> {
        let current = self.current().ok_or(WriteError::Gone)?;
        let (ours, theirs) = (&based_on.metadata, &current.metadata);
        // Without a version nothing is compared, as in the real one.
        let newer = ours.resource_version.is_some() && ours.resource_version != theirs.resource_version;
        if ours.uid != theirs.uid || newer { Err(WriteError::Conflict) } else { Ok((**current).clone()) }
    }

    pub fn write_status(
        &mut self,
        based_on: &FirmwareRollout,
        status: &FirmwareRolloutStatus,
    ) -> Result<Arc<FirmwareRollout>, WriteError> {
        let mut object = self.writable(based_on)?;
        object.status = Some(status.clone());
        Ok(self.put(object))
    }

    pub fn set_finalizer(
        &mut self,
        based_on: &FirmwareRollout,
        present: bool,
    ) -> Result<Arc<FirmwareRollout>, WriteError> {
        let mut object = self.writable(based_on)?;
        let finalizers = object.metadata.finalizers.get_or_insert_default();
        finalizers.retain(|f| f != FINALIZER);
        if present {
            finalizers.push(FINALIZER.to_owned());
        }
        Ok(self.put(object))
    }

    /// A user's edit of metadata or spec.
    pub fn edit(&mut self, change: impl FnOnce(&mut FirmwareRollout)) {
        let Some(current) = self.current() else { return };
        let mut object = (**current).clone();
        change(&mut object);
        if object.spec != current.spec || object.metadata.deletion_timestamp != current.metadata.deletion_timestamp {
            object.metadata.generation = object.metadata.generation.map(|g| g + 1);
        }
        self.put(object);
    }
}
