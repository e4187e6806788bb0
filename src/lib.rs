//! fencepost: a Wayland compositor that is the reference for buffer synchronisation on Linux.
//!
//! ```text
//! wl_surface.commit ─► surface/ validate ─► queue ─► fence/ wait ─► ready ─► latch ─► render/ pass ─► RenderFence
//!     (wayland/)        points+buffer      FIFO      materialised,                                    │ IN_FENCE_FD
//!                                                    signalled                                        ▼
//! release ◄── fence/release ◄── buffer/lease: every consumer adds its fence ◄───────── output/kms commit ─► ScanoutFence
//!                                                                                                     OUT_FENCE_PTR
//! ```
//!
//! The modules follow the data. ARCHITECTURE.md has the layers, the invariants and where things are.

pub mod buffer;
pub mod caps;
pub mod client;
pub mod compositor;
pub mod errors;
pub mod fence;
pub mod halves;
pub mod input;
pub mod logging;
pub mod output;
pub mod overlay;
pub mod protocol;
pub mod render;
pub mod shell;
pub mod surface;
pub mod sys;
pub mod trace;
pub mod watch;
pub mod wayland;
