//! Outputs on real hardware: atomic KMS, with a fence at either end of every commit.
//!
//! ```text
//! Slot ── drawn by the renderer ──► Head::commit ── IN_FENCE_FD: the RenderFence ──────► kernel
//!                                       │       ◄── OUT_FENCE_PTR: the ScanoutFence ──────┘ │
//!                                       └ pending ─► on the screen ◄── Head::flipped ◄── flip event
//! ```
//!
//! Owns everything about the device: its tables ([`device`], [`props`], [`modes`], [`formats`], [`routing`]), its memory
//! ([`swapchain`], [`framebuffer`]), its commits ([`head`], [`commit`], [`request`]), its events, its quirks. Does not
//! decide when to commit; that is [`super::frame`]'s. Knows neither Wayland nor the renderer.

pub mod blob;
pub mod commit;
mod cursor;
mod cvt;
pub mod device;
pub mod edid;
pub mod events;
pub mod formats;
pub mod framebuffer;
pub mod head;
pub mod light;
pub mod modes;
pub mod proposal;
pub mod props;
pub mod quirks;
pub mod request;
pub mod routing;
mod scanout;
pub mod session;
mod stack;
pub mod swapchain;
pub mod takeover;
pub mod writeback;
