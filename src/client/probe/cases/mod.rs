//! All rules, a file for each protocol or family.

mod commit_timing;
mod content;
mod dmabuf_errors;
mod dmabuf_feedback;
mod fifo;
mod get_release;
mod implicit;
mod presentation;
mod robustness;
mod single_pixel;
mod syncobj_errors;
mod syncobj_semantics;

use super::case::Case;

/// Every case, in the order in which they are run: what may hurt a compositor comes last.
pub(super) fn all() -> impl Iterator<Item = Case> {
    let families: [&[Case]; _] = [
        syncobj_errors::CASES,
        syncobj_semantics::CASES,
        dmabuf_errors::CASES,
        dmabuf_feedback::CASES,
        implicit::CASES,
        content::CASES,
        presentation::CASES,
        single_pixel::CASES,
        get_release::CASES,
        fifo::CASES,
        commit_timing::CASES,
        robustness::CASES,
    ];
    families.into_iter().flatten().copied()
}
