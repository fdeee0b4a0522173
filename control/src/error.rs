//! What can go wrong, told so that a person knows what to do next.

use std::path::PathBuf;

use eventlog::LogError;

use crate::settings_file::Problem;

/// An error of control. `fix` is what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller's fault: what was asked for makes no sense.
    #[error("{error}")]
    Invalid { error: String, fix: String },
    /// The caller's fault: a settings file with mistakes, all of them.
    #[error("{}", problems_text(.0))]
    Settings(Vec<Problem>),
    /// There is no such thing.
    #[error("{error}")]
    NotFound { error: String, fix: String },
    /// It is not, or no longer, as the caller believes.
    #[error("{error}")]
    Conflict { error: String, fix: String },
    /// Not now.
    #[error("{error}")]
    Unavailable { error: String, fix: String },
    #[error("the cluster key file {path} cannot be used: {detail}")]
    ClusterKey { path: PathBuf, detail: String },
    #[error("{0}")]
    Log(#[from] LogError),
    /// A directory or file that was named cannot be written.
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    /// A bug, or a library that gave up.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    pub fn invalid(error: impl Into<String>, fix: impl Into<String>) -> Self {
        Error::Invalid { error: error.into(), fix: fix.into() }
    }

    pub fn not_found(error: impl Into<String>, fix: impl Into<String>) -> Self {
        Error::NotFound { error: error.into(), fix: fix.into() }
    }

    pub fn conflict(error: impl Into<String>, fix: impl Into<String>) -> Self {
        Error::Conflict { error: error.into(), fix: fix.into() }
    }

    pub fn unavailable(error: impl Into<String>, fix: impl Into<String>) -> Self {
        Error::Unavailable { error: error.into(), fix: fix.into() }
    }

    /// What to do about it; empty where the problems carry their own.
    #[must_use]
    pub fn fix(&self) -> String {
        match self {
            Error::Invalid { fix, .. }
            | Error::NotFound { fix, .. }
            | Error::Conflict { fix, .. }
            | Error::Unavailable { fix, .. } => fix.clone(),
            Error::Settings(_) => "correct the file and apply it again; nothing was changed".into(),
            Error::ClusterKey { .. } => {
                "put the cluster's key file there, readable by mailweir alone; a new cluster makes its own"
                    .into()
            }
            Error::Log(LogError::TooLarge { .. }) => "shorten it: one record holds 1 MiB at most".into(),
            Error::Log(LogError::Unavailable(_)) => {
                "look at `mailweir status`, then try again; it may have been done all the same".into()
            }
            Error::Log(_) => "look at the log of the node".into(),
            Error::File { .. } => "give a directory that mailweir may write to".into(),
            Error::Internal(_) => "please report this as a bug".into(),
        }
    }
}

fn problems_text(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}
