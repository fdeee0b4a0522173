//! Putting a backup in place of the log of a stopped node.

use std::path::Path;

use anyhow::Context as _;
use eventlog::embedded::BACKUP_MARK;

/// Copies `backup` to `data_dir/log`. Refuses when a log is there already, so that no mail is overwritten.
///
/// # Errors
/// When there is a log, when `backup` is none, or when copying fails.
pub fn restore(backup: &Path, data_dir: &Path) -> anyhow::Result<()> {
    let target = data_dir.join("log");
    if target.exists() {
        anyhow::bail!(
            "{} exists already: stop the node, move that directory away, then restore again (statistics.sqlite may stay; what is missing in it is read from the log)",
            target.display()
        );
    }
    if !backup.is_dir() {
        anyhow::bail!(
            "{} is no directory: give the directory that `mailweir backup` wrote",
            backup.display()
        );
    }
    let mark = backup.join(BACKUP_MARK);
    if !mark.is_file() {
        anyhow::bail!(
            "{} is no whole backup: `mailweir backup` writes {BACKUP_MARK} there last, and it is missing. The backup was interrupted, or this is another directory; give another one",
            backup.display()
        );
    }
    let partial = data_dir.join("log.restoring");
    if partial.exists() {
        std::fs::remove_dir_all(&partial)
            .with_context(|| format!("{} cannot be removed", partial.display()))?;
    }
    copy_tree(backup, &partial)?;
    // The mark says something about the copy, not about the log that goes on from it.
    std::fs::remove_file(partial.join(BACKUP_MARK))?;
    sync_directory(&partial)?;
    std::fs::rename(&partial, &target)
        .with_context(|| format!("{} cannot be put in place", target.display()))?;
    sync_directory(data_dir)
}

fn copy_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("{} cannot be made", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("{} cannot be read", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)
                .with_context(|| format!("{} cannot be copied", entry.path().display()))?;
            std::fs::File::open(&target)?.sync_all()?;
        }
    }
    sync_directory(to)
}

fn sync_directory(path: &Path) -> anyhow::Result<()> {
    std::fs::File::open(path)?.sync_all().with_context(|| format!("{} cannot be synced", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_backup_is_put_in_place() {
        let directory = tempfile::tempdir().expect("a directory");
        let (backup, data_dir) = (directory.path().join("backup"), directory.path().join("data"));
        std::fs::create_dir_all(backup.join("data")).expect("is made");
        std::fs::create_dir_all(&data_dir).expect("is made");
        std::fs::write(backup.join("data/0.jnl"), "mail").expect("is written");
        let refused = restore(&backup, &data_dir).expect_err("it broke off").to_string();
        assert!(refused.contains("no whole backup") && refused.contains(BACKUP_MARK), "{refused}");
        assert_eq!(data_dir.read_dir().expect("reads").count(), 0);
        std::fs::write(backup.join(BACKUP_MARK), "").expect("is written");
        restore(&backup, &data_dir).expect("it is whole");
        assert_eq!(std::fs::read(data_dir.join("log/data/0.jnl")).expect("reads"), b"mail");
        assert!(!data_dir.join("log").join(BACKUP_MARK).exists(), "a log is no backup");
    }
}
