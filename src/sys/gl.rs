//! The two things done with GL itself: textured rectangles are drawn, and pixels become textures.
//!
//! smithay does both, and makes a GL fence for each texture that it fills and each that it draws, so that contexts can
//! share them. Some drivers flush for a fence; there is one context here, and GL keeps its commands in order. So a pass is
//! one flush, however many surfaces it draws.
//!
//! Follows OpenGL ES 2.0, with GL_EXT_texture_format_BGRA8888 and GL_EXT_unpack_subimage, without which smithay makes no
//! renderer.

use std::ops::Range;

use smithay::{
    backend::{
        allocator::format::has_alpha,
        renderer::{
            Texture as _,
            gles::{Capability, GlesError, GlesFrame, GlesRenderer, GlesTexture, ffi},
        },
    },
    utils::{Buffer, Rectangle, Size},
};

const VERTEX: &str = include_str!("../../shaders/surface.vert");
const FRAGMENT: &str = include_str!("../../shaders/surface.frag");

/// Where `corner` is in both programs.
const CORNER: u32 = 0;

/// A corner of a triangle: x and y on the output in pixels, then x and y in the texture, from 0 to 1.
pub type Corner = [f32; 4];

/// Triangles with one texture.
#[derive(Clone, Debug)]
pub struct Triangles<'a> {
    /// What they show.
    pub texture: &'a GlesTexture,
    /// The texture is one of GL_OES_EGL_image_external.
    pub external: bool,
    /// Its alpha channel says nothing.
    pub opaque: bool,
    /// What is below shines through.
    pub blended: bool,
    /// Their corners in the list of all, three for each.
    pub corners: Range<usize>,
}

/// The programs that draw textured triangles in one context, and are gone with it.
#[derive(Debug)]
pub struct Brush {
    plain: Program,
    /// `None` if the driver has no such textures.
    external: Option<Program>,
    corners: u32,
    instancing: bool,
}

#[derive(Debug)]
struct Program {
    id: u32,
    projection: i32,
    opaque: i32,
}

impl Brush {
    /// Compiles the programs.
    ///
    /// # Errors
    /// [`GlesError`] if GL refuses what every GLES has to take, or the context cannot be made current.
    pub fn new(gles: &mut GlesRenderer) -> Result<Self, GlesError> {
        let instancing = gles.capabilities().contains(&Capability::Instancing);
        gles.with_context(|gl| {
            let plain = Program::new(gl, "#version 100\n")?;
            let external = Program::new(gl, "#version 100\n#define EXTERNAL\n");
            let mut corners = 0;
            // SAFETY: the context is current, and there is room for the one name asked for.
            unsafe { gl.GenBuffers(1, &raw mut corners) };
            Ok(Self { plain, external: external.ok(), corners, instancing })
        })?
    }

    /// Draws into a frame of the same context, in this order. Leaves what smithay sets at the beginning of a frame as it
    /// was.
    ///
    /// # Errors
    /// [`GlesError::GLExtensionNotSupported`] for an external texture without a program for it.
    pub fn draw(
        &self,
        frame: &mut GlesFrame<'_, '_>,
        corners: &[Corner],
        triangles: &[Triangles<'_>],
    ) -> Result<(), GlesError> {
        let projection = *frame.projection();
        let bytes = isize::try_from(size_of_val(corners)).map_err(|_| GlesError::UnexpectedSize)?;
        frame.with_context(|gl| {
            // SAFETY: the context of a frame is current while the frame is there. GL copies `bytes` bytes of the list before
            // BufferData returns, and reads the attribute from that copy only.
            unsafe {
                gl.BindBuffer(ffi::ARRAY_BUFFER, self.corners);
                gl.BufferData(ffi::ARRAY_BUFFER, bytes, corners.as_ptr().cast(), ffi::STREAM_DRAW);
                gl.EnableVertexAttribArray(CORNER);
                gl.VertexAttribPointer(CORNER, 4, ffi::FLOAT, ffi::FALSE, 0, std::ptr::null());
                if self.instancing {
                    gl.VertexAttribDivisor(CORNER, 0);
                }
                gl.ActiveTexture(ffi::TEXTURE0);
            }
            let mut used = None;
            let drawn = triangles.iter().try_for_each(|these| {
                let program = if these.external { self.external.as_ref() } else { Some(&self.plain) };
                let program =
                    program.ok_or(GlesError::GLExtensionNotSupported(&["GL_OES_EGL_image_external"]))?;
                if used.replace(program.id) != Some(program.id) {
                    program.begin(gl, &projection);
                }
                program.draw(gl, these, corners.len());
                Ok(())
            });
            // SAFETY: as above.
            unsafe {
                gl.DisableVertexAttribArray(CORNER);
                gl.BindBuffer(ffi::ARRAY_BUFFER, 0);
                gl.Enable(ffi::BLEND);
            }
            drawn
        })?
    }
}

impl Program {
    fn new(gl: &ffi::Gles2, prefix: &str) -> Result<Self, GlesError> {
        // SAFETY: called with the context current; every string ends with NUL; the objects are GL's own.
        unsafe {
            let vertex = compile(gl, ffi::VERTEX_SHADER, prefix, VERTEX)?;
            let fragment = compile(gl, ffi::FRAGMENT_SHADER, prefix, FRAGMENT)?;
            let id = gl.CreateProgram();
            gl.AttachShader(id, vertex);
            gl.AttachShader(id, fragment);
            gl.BindAttribLocation(id, CORNER, c"corner".as_ptr().cast());
            gl.LinkProgram(id);
            gl.DeleteShader(vertex);
            gl.DeleteShader(fragment);
            let mut linked = 0;
            gl.GetProgramiv(id, ffi::LINK_STATUS, &raw mut linked);
            if linked == 0 {
                gl.DeleteProgram(id);
                return Err(GlesError::ProgramLinkError);
            }
            let uniform = |name: &std::ffi::CStr| gl.GetUniformLocation(id, name.as_ptr().cast());
            let (projection, opaque) = (uniform(c"projection"), uniform(c"opaque"));
            gl.UseProgram(id);
            gl.Uniform1i(uniform(c"picture"), 0);
            gl.UseProgram(0);
            Ok(Self { id, projection, opaque })
        }
    }

    fn begin(&self, gl: &ffi::Gles2, projection: &[f32; 9]) {
        // SAFETY: called with the context current, which has made the program; the matrix has nine numbers.
        unsafe {
            gl.UseProgram(self.id);
            gl.UniformMatrix3fv(self.projection, 1, ffi::FALSE, projection.as_ptr());
        }
    }

    /// Draws with the program that is in use, from the `all` corners that are bound.
    fn draw(&self, gl: &ffi::Gles2, triangles: &Triangles<'_>, all: usize) {
        let Range { start, end } = triangles.corners;
        let range = i32::try_from(start).ok().zip(i32::try_from(end.saturating_sub(start)).ok());
        let Some((first, count)) = range.filter(|_| end <= all) else { return };
        let target = if triangles.external { ffi::TEXTURE_EXTERNAL_OES } else { ffi::TEXTURE_2D };
        // SAFETY: called with the context current; the texture is alive, and of a context that smithay has checked it is
        // of; the corners lie in the buffer.
        unsafe {
            gl.BindTexture(target, triangles.texture.tex_id());
            gl.TexParameteri(target, ffi::TEXTURE_MIN_FILTER, ffi::LINEAR.cast_signed());
            gl.TexParameteri(target, ffi::TEXTURE_MAG_FILTER, ffi::LINEAR.cast_signed());
            // Else a picture that is stretched has its other edge at each edge.
            gl.TexParameteri(target, ffi::TEXTURE_WRAP_S, ffi::CLAMP_TO_EDGE.cast_signed());
            gl.TexParameteri(target, ffi::TEXTURE_WRAP_T, ffi::CLAMP_TO_EDGE.cast_signed());
            gl.Uniform1f(self.opaque, f32::from(u8::from(triangles.opaque)));
            match triangles.blended {
                true => gl.Enable(ffi::BLEND),
                false => gl.Disable(ffi::BLEND),
            }
            gl.DrawArrays(ffi::TRIANGLES, first, count);
            gl.BindTexture(target, 0);
        }
    }
}

/// # Safety
/// The context has to be current.
unsafe fn compile(gl: &ffi::Gles2, kind: u32, prefix: &str, source: &str) -> Result<u32, GlesError> {
    let parts = [prefix, source];
    let starts = parts.map(|part| part.as_ptr().cast());
    let lengths = parts.map(|part| i32::try_from(part.len()).unwrap_or(0));
    // SAFETY: the lengths are those of the strings, which outlive the call.
    unsafe {
        let shader = gl.CreateShader(kind);
        if shader == 0 {
            return Err(GlesError::CreateShaderObject);
        }
        gl.ShaderSource(shader, 2, starts.as_ptr(), lengths.as_ptr());
        gl.CompileShader(shader);
        let mut compiled = 0;
        gl.GetShaderiv(shader, ffi::COMPILE_STATUS, &raw mut compiled);
        if compiled == 0 {
            gl.DeleteShader(shader);
            return Err(GlesError::ShaderCompileError);
        }
        Ok(shader)
    }
}

/// Rows of pixels of four bytes each, blue first, in memory that may be written to at any time by somebody else.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pixels {
    start: *const u8,
    /// From one row to the next, in bytes.
    stride: usize,
    size: Size<i32, Buffer>,
    opaque: bool,
}

impl Pixels {
    /// Rows in a piece of memory of `len` bytes, from an offset on, at a stride: both in bytes. `None` if they do not lie in it.
    ///
    /// # Safety
    /// The memory has to be readable while this is in use.
    pub(super) unsafe fn new(
        memory: *const u8,
        len: usize,
        (offset, stride): (i32, i32),
        size: Size<i32, Buffer>,
        opaque: bool,
    ) -> Option<Self> {
        let [at, stride, width, rows] =
            [offset, stride, size.w, size.h].map(|value| usize::try_from(value).ok());
        let (at, stride, width, rows) = (at?, stride?, width?.checked_mul(4)?, rows?);
        let end = stride.checked_mul(rows.checked_sub(1)?)?.checked_add(width)?.checked_add(at)?;
        if end > len || width > stride {
            return None;
        }
        // SAFETY: `at` lies within the memory, as `end` does.
        Some(Self { start: unsafe { memory.add(at) }, stride, size, opaque })
    }

    /// Copies a part of it, which has to lie in it, to the same place in the texture that is bound.
    ///
    /// # Safety
    /// The context has to be current, and the texture to have this size and format.
    unsafe fn copy(&self, gl: &ffi::Gles2, part: Rectangle<i32, Buffer>) {
        let sub_image = |start: *const u8, y: i32, rows: i32| {
            let (x, width) = (part.loc.x, part.size.w);
            // SAFETY: as the caller vouches; GL reads `rows` rows of `width` pixels behind `start`.
            unsafe {
                gl.TexSubImage2D(
                    ffi::TEXTURE_2D,
                    0,
                    x,
                    y,
                    width,
                    rows,
                    ffi::BGRA_EXT,
                    ffi::UNSIGNED_BYTE,
                    start.cast(),
                );
            }
        };
        let row = |y: i32| {
            let (y, x) = (usize::try_from(y).unwrap_or(0), usize::try_from(part.loc.x).unwrap_or(0));
            // SAFETY: the pixel at x and y is one of those that `new` has checked.
            unsafe { self.start.add(y * self.stride + x * 4) }
        };
        match i32::try_from(self.stride / 4) {
            Ok(pixels) if self.stride.is_multiple_of(4) => {
                // SAFETY: as the caller vouches.
                unsafe { gl.PixelStorei(ffi::UNPACK_ROW_LENGTH, pixels) };
                sub_image(row(part.loc.y), part.loc.y, part.size.h);
                // SAFETY: as above.
                unsafe { gl.PixelStorei(ffi::UNPACK_ROW_LENGTH, 0) };
            }
            // GL counts rows in whole pixels.
            _ => (part.loc.y..part.loc.y + part.size.h).for_each(|y| sub_image(row(y), y, 1)),
        }
    }
}

/// Makes tightly packed pixels a texture: `into`, if that fits.
///
/// # Errors
/// [`GlesError`]
pub fn upload(
    gles: &mut GlesRenderer,
    pixels: &[u8],
    size: Size<i32, Buffer>,
    opaque: bool,
    into: Option<&GlesTexture>,
) -> Result<GlesTexture, GlesError> {
    let layout = (0, size.w.saturating_mul(4));
    // SAFETY: the slice is readable for its length, and outlives `fill`.
    let pixels = unsafe { Pixels::new(pixels.as_ptr(), pixels.len(), layout, size, opaque) };
    fill(gles, pixels.ok_or(GlesError::UnexpectedSize)?, into, &[Rectangle::from_size(size)])
}

/// Makes pixels a texture. Where `into` has their size and format, only what has `changed` is copied.
///
/// # Errors
/// [`GlesError`]
pub(super) fn fill(
    gles: &mut GlesRenderer,
    pixels: Pixels,
    into: Option<&GlesTexture>,
    changed: &[Rectangle<i32, Buffer>],
) -> Result<GlesTexture, GlesError> {
    let bounds = Rectangle::from_size(pixels.size);
    let fits = |texture: &&GlesTexture| texture.size() == pixels.size && is_opaque(texture) == pixels.opaque;
    if let Some(texture) = into.filter(fits) {
        let parts = changed.iter().filter_map(|part| part.intersection(bounds));
        gles.with_context(|gl| copy_into(gl, texture.tex_id(), &pixels, parts))?;
        return Ok(texture.clone());
    }
    let name = gles.with_context(|gl| {
        let name = create(gl, pixels.size);
        copy_into(gl, name, &pixels, [bounds].into_iter());
        name
    })?;
    // SAFETY: the name was made a moment ago in this renderer's context and is nobody else's.
    Ok(unsafe { GlesTexture::from_raw(gles, Some(ffi::BGRA_EXT), pixels.opaque, name, pixels.size) })
}

/// Whether the alpha channel of a texture says nothing.
pub fn is_opaque(texture: &GlesTexture) -> bool {
    texture.format().is_some_and(|format| !has_alpha(format))
}

/// A texture of this size without pixels.
fn create(gl: &ffi::Gles2, size: Size<i32, Buffer>) -> u32 {
    let (mut name, format) = (0, ffi::BGRA_EXT);
    // SAFETY: called with the context current; there is room for the one name, and no pixels are read.
    unsafe {
        gl.GenTextures(1, &raw mut name);
        gl.BindTexture(ffi::TEXTURE_2D, name);
        gl.TexImage2D(
            ffi::TEXTURE_2D,
            0,
            format.cast_signed(),
            size.w,
            size.h,
            0,
            format,
            ffi::UNSIGNED_BYTE,
            std::ptr::null(),
        );
        gl.BindTexture(ffi::TEXTURE_2D, 0);
    }
    name
}

/// Copies parts of the pixels, which lie in them, to a texture of their size and format.
fn copy_into(
    gl: &ffi::Gles2,
    name: u32,
    pixels: &Pixels,
    parts: impl Iterator<Item = Rectangle<i32, Buffer>>,
) {
    // SAFETY: called with the context current, for a texture of this context that is made for such pixels.
    unsafe {
        gl.BindTexture(ffi::TEXTURE_2D, name);
        parts.for_each(|part| pixels.copy(gl, part));
        gl.BindTexture(ffi::TEXTURE_2D, 0);
    }
}
