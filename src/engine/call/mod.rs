//! One call (work in progress).
pub mod end;
pub mod event;
pub mod notice;
