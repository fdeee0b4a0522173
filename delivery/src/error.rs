//! What keeps delivery from running.

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the resolver cannot be set up: {0}; set delivery.dns_servers")]
    Resolver(String),
    #[error("{path}: {problem}")]
    Roots { path: std::path::PathBuf, problem: String },
    #[error(transparent)]
    Log(#[from] eventlog::LogError),
}
