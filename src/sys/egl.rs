//! Making EGL displays, contexts and GL renderers. smithay marks these constructors unsafe; their conditions are kept here,
//! and so is the one kind of context that smithay does not make: one that survives a reset of the GPU.

use std::ffi::{CStr, c_void};
use std::ptr;

use smithay::backend::{
    egl::{
        EGLContext, EGLDisplay, Error, ffi::egl as ffi, get_proc_address, native::EGLNativeDisplay,
        wrap_egl_call_bool, wrap_egl_call_ptr,
    },
    renderer::gles::{GlesError, GlesRenderer, ffi as gl},
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

/// What GL calls the thing that draws: "llvmpipe (LLVM 19.1.7, 256 bits)".
///
/// # Errors
/// If the context cannot be made current.
pub fn renderer_name(gles: &mut GlesRenderer) -> Result<String, GlesError> {
    string(gles, gl::RENDERER)
}

/// One of the strings of glGetString; empty if GL has none to give.
fn string(gles: &mut GlesRenderer, name: u32) -> Result<String, GlesError> {
    gles.with_context(|gl| {
        // SAFETY: the context is current; the answer is null or a string that lives as long as the context.
        unsafe {
            let text = gl.GetString(name);
            (!text.is_null()).then(|| CStr::from_ptr(text.cast()).to_string_lossy().into_owned())
        }
    })
    .map(Option::unwrap_or_default)
}

/// `glFinish`: blocks until the GPU has done everything that this renderer has asked for.
///
/// # Errors
/// If the context cannot be made current.
pub fn finish(gles: &mut GlesRenderer) -> Result<(), GlesError> {
    // SAFETY: the context is current, and glFinish takes nothing.
    gles.with_context(|gl| unsafe { gl.Finish() })
}

/// Why a renderer has no robust context.
#[derive(Debug, thiserror::Error)]
pub enum RobustError {
    /// The driver does not offer it.
    #[error("{0} is not offered")]
    Missing(&'static str),
    /// EGL offers it and fails.
    #[error(transparent)]
    Egl(#[from] Error),
    /// GL fails in it.
    #[error(transparent)]
    Gles(#[from] GlesError),
}

/// What GL says of the GPU since it was last asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// There was no reset.
    None,
    /// This context hung the GPU.
    Guilty,
    /// Another context hung the GPU.
    Innocent,
    /// The GPU was reset for reasons that the driver does not know.
    Unknown,
}

/// `glGetGraphicsResetStatus`, under whichever name the driver has it.
type GetResetStatus = unsafe extern "system" fn() -> u32;

/// The context of a renderer, made with `LOSE_CONTEXT_ON_RESET` (EGL_EXT_create_context_robustness): after a reset of
/// the GPU the driver lets GL calls do nothing, and says so when asked. Without it, drivers may end the process instead.
///
/// Destroys the context when dropped; to be dropped after its renderer.
#[derive(Debug)]
pub struct Robust {
    context: *const c_void,
    reset_status: Option<GetResetStatus>,
    /// Keeps the display from being terminated, which smithay leaves to the maker of a context.
    display: EGLDisplay,
}

/// A renderer on a robust context.
///
/// # Errors
/// [`RobustError`]; a plain context may still work.
pub fn robust_gles(display: &EGLDisplay) -> Result<(GlesRenderer, Robust), RobustError> {
    const EGL_EXTENSION: &str = "EGL_EXT_create_context_robustness";
    if !display.extensions().iter().any(|name| name == EGL_EXTENSION) {
        return Err(RobustError::Missing(EGL_EXTENSION));
    }
    let config = any_config(display)?;
    let attributes = [
        ffi::CONTEXT_CLIENT_VERSION,
        2,
        ffi::CONTEXT_OPENGL_RESET_NOTIFICATION_STRATEGY_EXT,
        ffi::LOSE_CONTEXT_ON_RESET_EXT,
        ffi::NONE,
    ]
    .map(u32::cast_signed);
    let handle = **display.get_display_handle();
    // SAFETY: the display is initialised and outlives the call, the config is one of its own, the list ends with NONE.
    let context = wrap_egl_call_ptr(|| unsafe {
        ffi::CreateContext(handle, config, ffi::NO_CONTEXT, attributes.as_ptr())
    })
    .map_err(Error::CreationFailed)?;
    let mut robust = Robust { context, reset_status: None, display: display.clone() };
    // SAFETY: all three come from this display, which `robust` keeps; the config is never freed before it.
    let context = unsafe { EGLContext::from_raw(handle, config, context) }?;
    let mut gles = gles(context)?;
    robust.reset_status = Some(load_reset_status(&mut gles)?);
    Ok((gles, robust))
}

/// A config that GLES works with. The context never has a surface, so that any will do; smithay wants to know one.
fn any_config(display: &EGLDisplay) -> Result<*const c_void, RobustError> {
    let wanted = [ffi::SURFACE_TYPE, 0, ffi::RENDERABLE_TYPE, ffi::OPENGL_ES2_BIT, ffi::NONE];
    let wanted = wanted.map(u32::cast_signed);
    let handle = **display.get_display_handle();
    let (mut config, mut count) = (ptr::null(), 0);
    // SAFETY: the display is initialised, the list ends with NONE, and there is room for the one config asked for.
    wrap_egl_call_bool(|| unsafe {
        ffi::ChooseConfig(handle, wanted.as_ptr(), &raw mut config, 1, &raw mut count)
    })
    .map_err(Error::ConfigFailed)?;
    if count < 1 {
        return Err(RobustError::Missing("a config"));
    }
    Ok(config)
}

fn load_reset_status(gles: &mut GlesRenderer) -> Result<GetResetStatus, RobustError> {
    const NAMES: [(&str, &str); 2] = [
        ("GL_KHR_robustness", "glGetGraphicsResetStatusKHR"),
        ("GL_EXT_robustness", "glGetGraphicsResetStatusEXT"),
    ];
    let extensions = string(gles, gl::EXTENSIONS)?;
    let offered = NAMES.iter().find(|(name, _)| extensions.split(' ').any(|offered| offered == *name));
    let (_, function) = offered.ok_or(RobustError::Missing("GL_KHR_robustness"))?;
    // SAFETY: the condition is that a context is current; `string` has made it so.
    let address = unsafe { get_proc_address(function) };
    if address.is_null() {
        return Err(RobustError::Missing("glGetGraphicsResetStatus"));
    }
    // SAFETY: the address is that of a function with this signature, as the extension that was found defines it.
    Ok(unsafe { std::mem::transmute::<*const c_void, GetResetStatus>(address) })
}

impl Robust {
    /// What happened to the context of `gles`, which has to be the one that came with this.
    ///
    /// # Errors
    /// If the context cannot be made current.
    pub fn reset_status(&self, gles: &mut GlesRenderer) -> Result<Reset, GlesError> {
        // From the registry of OpenGL ES, GL_KHR_robustness.
        const GUILTY_CONTEXT_RESET: u32 = 0x8253;
        const INNOCENT_CONTEXT_RESET: u32 = 0x8254;
        let Some(reset_status) = self.reset_status else { return Ok(Reset::None) };
        // SAFETY: the function takes nothing and needs a current context, which this one is here.
        let status = gles.with_context(|_| unsafe { reset_status() })?;
        Ok(match status {
            0 => Reset::None,
            GUILTY_CONTEXT_RESET => Reset::Guilty,
            INNOCENT_CONTEXT_RESET => Reset::Innocent,
            _ => Reset::Unknown,
        })
    }
}

impl Drop for Robust {
    fn drop(&mut self) {
        // SAFETY: the context was made on this display, is destroyed only here, and its renderer is gone.
        unsafe { ffi::DestroyContext(**self.display.get_display_handle(), self.context) };
    }
}
