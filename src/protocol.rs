//! fencepost's own Wayland protocol, for both sides: `protocols/fencepost-debug-v1.xml`, which documents it.
//!
//! Owns nothing: wayland-scanner makes the code. Must not know who speaks it.

#[allow(
    dead_code,
    missing_docs,
    non_camel_case_types,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_code,
    unused_imports,
    unused_variables,
    clippy::all,
    clippy::too_many_lines,
    reason = "generated"
)]
mod generated {
    pub mod client {
        use wayland_client;
        use wayland_client::protocol::*;

        pub mod __interfaces {
            use wayland_client::protocol::__interfaces::*;
            wayland_scanner::generate_interfaces!("./protocols/fencepost-debug-v1.xml");
        }
        use self::__interfaces::*;

        wayland_scanner::generate_client_code!("./protocols/fencepost-debug-v1.xml");
    }

    pub mod server {
        use wayland_server;
        use wayland_server::protocol::*;

        pub mod __interfaces {
            use wayland_server::protocol::__interfaces::*;
            wayland_scanner::generate_interfaces!("./protocols/fencepost-debug-v1.xml");
        }
        use self::__interfaces::*;

        wayland_scanner::generate_server_code!("./protocols/fencepost-debug-v1.xml");
    }
}

pub use generated::{client, server};

/// The version of the global.
pub const VERSION: u32 = 1;

/// What the name of the Wayland socket is followed by in that of the socket where the global is offered.
pub const SOCKET_SUFFIX: &str = "-debug";

/// How many events an answer has at most: with a snapshot of the largest size, as many as have been seen to fit into a socket that
/// is empty.
pub const EVENTS: usize = 128;
