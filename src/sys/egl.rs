//! Making EGL displays and GL renderers. smithay marks these constructors unsafe; their conditions are kept here.

use smithay::backend::{
    egl::{EGLContext, EGLDisplay, Error, native::EGLNativeDisplay},
    renderer::gles::{GlesError, GlesRenderer},
};

/// The EGL display of a native platform.
///
/// # Errors
/// Those of `eglGetPlatformDisplay` and `eglInitialize`.
pub fn display<N: EGLNativeDisplay + 'static>(native: N) -> Result<EGLDisplay, Error> {
    // SAFETY: the condition is that nobody terminates the display behind smithay's back; every EGL display of this
    // process is made here.
    unsafe { EGLDisplay::new(native) }
}

/// A GLES renderer on a context of its own.
///
/// # Errors
/// If the context cannot be made current or its GLES is too old.
pub fn gles(context: EGLContext) -> Result<GlesRenderer, GlesError> {
    // SAFETY: the condition is that the context is not active in another thread; it is moved in here, and the
    // compositor has one thread.
    unsafe { GlesRenderer::new(context) }
}
