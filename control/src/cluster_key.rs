//! The cluster key file: the one secret that is not in the log, because it seals those that are.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use schemas::sealed::ClusterKey;

use crate::Error;

/// Reads the key file, or makes one with mode 0600 when there is none. A file that others may read draws a warning.
///
/// # Errors
/// `ClusterKey`: it cannot be read or made, or holds no key. A damaged file is never replaced: what was sealed with it
/// would be lost.
pub fn load_or_create(path: &Path) -> Result<ClusterKey, Error> {
    let failed = |detail: String| Error::ClusterKey { path: path.to_owned(), detail };
    match std::fs::read_to_string(path) {
        Ok(content) => {
            warn_if_open(path);
            ClusterKey::from_file_content(&content).map_err(|error| failed(error.to_string()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            create(path).map_err(|error| failed(error.to_string()))?;
            // Read back: when two nodes start at once, the file that was there first counts.
            let content = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
            ClusterKey::from_file_content(&content).map_err(|error| failed(error.to_string()))
        }
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Writes a whole file under another name, then gives it the name unless something has it: a crash leaves no half key.
fn create(path: &Path) -> std::io::Result<()> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory)?;
    let mut staged_name = path.as_os_str().to_owned();
    staged_name.push(format!(".{}", std::process::id()));
    let staged = Path::new(&staged_name);
    let _ = std::fs::remove_file(staged); // of a process of the same id that crashed here
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(staged)?;
    file.write_all(ClusterKey::generate().as_bytes())?;
    file.sync_all()?;
    let linked = std::fs::hard_link(staged, path);
    std::fs::remove_file(staged)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    File::open(directory)?.sync_all()
}

fn warn_if_open(path: &Path) {
    if let Ok(meta) = std::fs::metadata(path)
        && meta.permissions().mode() & 0o077 != 0
    {
        tracing::warn!(path = %path.display(), "others may read the cluster key file; chmod 600 it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/cluster.key");
        let first = load_or_create(&path).unwrap();
        let again = load_or_create(&path).unwrap();
        assert_eq!(first.fingerprint(), again.fingerprint());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_key_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cluster.key");
        std::fs::write(&path, "half a k").unwrap();
        let error = load_or_create(&path).unwrap_err();
        assert!(error.to_string().contains("cluster.key"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "half a k");
    }
}
