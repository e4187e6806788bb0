//! The builder of one atomic request.
//!
//! Owns the encoding of values and the first thing that went wrong: setting a property that an object does not have makes
//! the whole request fail when it is sent, so that none of the calls in between has to be checked.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use drm::control::atomic::AtomicModeReq;
use drm::control::{AtomicCommitFlags, Device, RawResourceHandle};

use super::props::{PlaneProp, Property, Props};
use crate::sys::atomic::{OutFence, atomic_commit_with_out_fences};

/// An object lacks a property that the request cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("object {object} has no property {name}")]
pub struct MissingProperty {
    object: RawResourceHandle,
    name: &'static str,
}

/// An atomic request. It borrows the in-fences whose fd numbers it carries.
pub struct Request<'fence> {
    request: AtomicModeReq,
    out_fences: Vec<OutFence>,
    missing: Option<MissingProperty>,
    in_fences: PhantomData<BorrowedFd<'fence>>,
}

impl<'fence> Request<'fence> {
    /// An empty request.
    pub fn new() -> Self {
        Self { request: AtomicModeReq::new(), out_fences: Vec::new(), missing: None, in_fences: PhantomData }
    }

    /// Sets a property. A second value for the same property replaces the first.
    pub fn set<P: Property>(&mut self, props: &Props<P>, prop: P, value: u64) {
        match props.id(prop) {
            Some(id) => self.request.add_raw_property(props.object(), id, value),
            None => {
                let missing = MissingProperty { object: props.object(), name: prop.name() };
                self.missing.get_or_insert(missing);
            }
        }
    }

    /// Sets a property where the object has it.
    pub fn set_if_present<P: Property>(&mut self, props: &Props<P>, prop: P, value: u64) {
        if props.has(prop) {
            self.set(props, prop, value);
        }
    }

    /// Sets a property to what it was when its object was looked at, where it can be set: others may have changed it since.
    pub fn restore<P: Property>(&mut self, props: &Props<P>, prop: P) {
        if let Some(value) = props.initial(prop).filter(|_| props.is_mutable(prop)) {
            self.set(props, prop, value);
        }
    }

    /// Makes the kernel wait for `fence` before it shows the plane's framebuffer. Once per plane: twice is `EINVAL`.
    pub fn in_fence(&mut self, plane: &Props<PlaneProp>, fence: BorrowedFd<'fence>) {
        // A signed property: sign-extended.
        self.set(plane, PlaneProp::InFenceFd, i64::from(fence.as_raw_fd()).cast_unsigned());
    }

    /// Asks for a fence of this commit: a CRTC's `OUT_FENCE_PTR`, a connector's `WRITEBACK_OUT_FENCE_PTR`.
    pub fn out_fence<P: Property>(&mut self, props: &Props<P>, prop: P) {
        match props.id(prop) {
            Some(property) => self.out_fences.push(OutFence { object: props.object(), property }),
            None => self.set(props, prop, 0),
        }
    }

    /// Sends the request; the out-fences come back in the order in which they were asked for.
    ///
    /// # Errors
    /// Those of DRM_IOCTL_MODE_ATOMIC, and [`MissingProperty`] as [`io::ErrorKind::Unsupported`].
    pub fn send(self, device: &impl Device, flags: AtomicCommitFlags) -> io::Result<Vec<Option<OwnedFd>>> {
        if let Some(missing) = self.missing {
            return Err(io::Error::new(io::ErrorKind::Unsupported, missing));
        }
        atomic_commit_with_out_fences(device, flags, self.request, &self.out_fences)
    }
}

impl Default for Request<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("missing", &self.missing).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_set_is_restored_and_what_cannot_is_not_mentioned() {
        let asked = |build: &dyn Fn(&mut Request<'_>)| {
            let mut request = Request::new();
            build(&mut request);
            assert_eq!(request.missing, None);
            format!("{:?}", request.request)
        };
        let plane = |mutable| Props::of(31, &[(PlaneProp::Zpos, 4, mutable), (PlaneProp::Alpha, 9, true)]);
        let restored = |props: &Props<PlaneProp>| asked(&|request| request.restore(props, PlaneProp::Zpos));
        let can = plane(true);
        assert_eq!(restored(&can), asked(&|request| request.set(&can, PlaneProp::Zpos, 4)));
        // The kernel refuses a request with a property that cannot be set, whatever the value.
        assert_eq!(restored(&plane(false)), asked(&|_| ()));
        assert_eq!(restored(&Props::of(31, &[])), asked(&|_| ()));
    }
}
