//! The mail that a model is trained with.
//!
//! A directory holds either `index.tsv` (path, `ham` or `spam`, and when there are more columns: the name of the corpus,
//! and `train` or `val`), paths relative to it; or the folders `spam` and `ham`, with one message a file, at any depth.

use std::path::{Path, PathBuf};

/// Why a directory cannot be trained with.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    #[error("{path} cannot be read: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{path}, line {line}: expected a path, a tab, and ham or spam")]
    Line { path: PathBuf, line: usize },
    #[error("{0} holds neither index.tsv nor the folders spam and ham")]
    NoCorpus(PathBuf),
    #[error("training needs both kinds of mail, but there are {spam} spam and {ham} ham messages")]
    OneKind { spam: usize, ham: usize },
}

/// One labelled message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    pub path: PathBuf,
    pub is_spam: bool,
    pub corpus: String,
    /// Kept out of training, to measure with.
    pub is_held_out: bool,
}

/// The labelled messages below a directory, in an order that does not depend on the file system.
///
/// # Errors
/// When it cannot be read, or holds no labels.
pub fn list(directory: &Path) -> Result<Vec<Labelled>, CorpusError> {
    let index = directory.join("index.tsv");
    if index.is_file() {
        return from_index(directory, &index);
    }
    let mut messages = Vec::new();
    for (folder, is_spam) in [("ham", false), ("spam", true)] {
        let folder = directory.join(folder);
        if !folder.is_dir() {
            return Err(CorpusError::NoCorpus(directory.to_owned()));
        }
        for path in files(&folder)? {
            let corpus = directory.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
            messages.push(Labelled { path, is_spam, corpus, is_held_out: false });
        }
    }
    Ok(messages)
}

/// The messages that an index names, relative to `directory`.
///
/// # Errors
/// When it cannot be read, or a line has no label.
pub fn from_index(directory: &Path, index: &Path) -> Result<Vec<Labelled>, CorpusError> {
    let text = std::fs::read_to_string(index)
        .map_err(|source| CorpusError::Unreadable { path: index.to_owned(), source })?;
    let mut messages = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
        let mut columns = line.split('\t');
        let (path, label) = (columns.next().unwrap_or_default(), columns.next().unwrap_or_default());
        let is_spam = match label {
            "spam" => true,
            "ham" => false,
            _ => return Err(CorpusError::Line { path: index.to_owned(), line: number + 1 }),
        };
        let corpus = columns.next().unwrap_or_default().to_owned();
        let is_held_out = columns.next() == Some("val");
        messages.push(Labelled { path: directory.join(path), is_spam, corpus, is_held_out });
    }
    Ok(messages)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, CorpusError> {
    let unreadable = |source| CorpusError::Unreadable { path: folder.to_owned(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Replaces the labels of messages by those of a file: path as it ends, tab, `ham` or `spam`.
///
/// # Errors
/// When the file cannot be read.
pub fn correct(messages: &mut [Labelled], corrections: &Path) -> Result<(), CorpusError> {
    for correction in from_index(Path::new(""), corrections)? {
        for message in messages.iter_mut().filter(|m| m.path.ends_with(&correction.path)) {
            message.is_spam = correction.is_spam;
        }
    }
    Ok(())
}

/// Reads one message.
///
/// # Errors
/// When the file cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>, CorpusError> {
    std::fs::read(path).map_err(|source| CorpusError::Unreadable { path: path.to_owned(), source })
}
