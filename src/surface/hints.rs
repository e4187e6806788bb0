//! What a client says of how its surface should be presented. Owns the words; what follows from them is the output's.

/// What a surface shows, by its client's word: `wp_content_type_v1.type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Content {
    /// Anything; what clients show that say nothing.
    #[default]
    Unknown,
    /// Still pictures.
    Photo,
    /// Pictures at a rate of their own.
    Video,
    /// What should be shown as soon as possible.
    Game,
}

/// What the client of a surface says of how it should be presented.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// What it shows.
    pub content: Content,
    /// A frame may replace another in the middle of a refresh: `wp_tearing_control_v1`.
    pub tearing: bool,
}
