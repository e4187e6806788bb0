//! An error in one line, with what caused it; and why a Wayland connection has ended. Must not know what an error means.

use std::{error::Error, iter::successors};

use wayland_client::Connection;

/// The error and what caused it, from the outside in, with a colon between them.
pub fn chain(error: &dyn Error) -> String {
    let causes = successors(error.source(), |cause| (**cause).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// The protocol error that ended the connection, in the compositor's own words, or else what else is known.
pub fn how_it_ended(connection: &Connection, otherwise: &str) -> String {
    connection.protocol_error().map_or_else(|| otherwise.to_owned(), |error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] Middle);

    #[derive(Debug, thiserror::Error)]
    #[error("middle")]
    struct Middle(#[source] io::Error);

    #[test]
    fn every_cause_is_named_once() {
        let error = Outer(Middle(io::Error::other("inner")));
        assert_eq!(chain(&error), "outer: middle: inner");
    }
}
