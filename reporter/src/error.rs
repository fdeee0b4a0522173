//! What can go wrong with a store or a query.

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not now: tried again.
    #[error("the statistics store cannot be used now: {0}")]
    Store(String),
    /// The caller's fault.
    #[error("{0}")]
    Query(String),
    #[error(transparent)]
    Log(#[from] eventlog::LogError),
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Error::Store(error.to_string())
    }
}
