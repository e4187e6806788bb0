//! `wl_output` and xdg-output; the outputs themselves are made where the screens are known.

use smithay::wayland::output::OutputHandler;

use crate::compositor::Compositor;

impl OutputHandler for Compositor {}

smithay::delegate_output!(Compositor);
