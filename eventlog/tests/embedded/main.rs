//! What the embedded engine must do beyond the conformance suite: survive being killed and a disk that fails, give
//! copies of itself, open quickly.

mod backup;
mod child;
mod crash;
mod disk;
mod lives;
mod opening;
mod unread;
