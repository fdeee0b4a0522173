//! What ends a scorer. What may pass by (an unavailable log, a lost partition) is tried again and ends nothing.

/// An error of the scorer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log was closed under it.
    #[error("the scorer cannot go on: {0}")]
    Log(#[from] eventlog::LogError),
    /// Nobody can be asked.
    #[error("the resolver cannot be set up: {0}; set delivery.dns_servers")]
    Resolver(String),
    /// A member of the group panicked: a defect.
    #[error("a scorer task died: {0}")]
    Task(#[from] tokio::task::JoinError),
}
