//! The host cluster: brought up part by part, each part only when it is not
//! there, so that `up` on a running lab repairs it.

pub mod api;
pub mod base;
pub mod control_plane;
pub mod down;
pub mod node;
pub mod state;
pub mod up;
