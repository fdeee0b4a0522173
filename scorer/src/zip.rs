//! The names of the files in a ZIP archive, from its central directory (PKWARE APPNOTE 4.3.12), nothing unpacked.

/// Names read of one archive.
const MAX_NAMES: usize = 10_000;
const END_OF_DIRECTORY: &[u8] = b"PK\x05\x06";
const DIRECTORY_ENTRY: &[u8] = b"PK\x01\x02";
/// The end record has a comment of up to 64 KiB behind it.
const MAX_COMMENT_BYTES: usize = 65_535;

/// `true` for what starts as a ZIP archive does.
#[must_use]
pub fn is_zip(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(END_OF_DIRECTORY)
}

/// Names in the central directory; empty when there is none. The directory is also found when its archive has bytes
/// before it (a self-extracting one), and read entry by entry when the end record is false.
#[must_use]
pub fn names(archive: &[u8]) -> Vec<String> {
    let window_at = archive.len().saturating_sub(MAX_COMMENT_BYTES + 22);
    let Some(end) = memchr::memmem::rfind(&archive[window_at..], END_OF_DIRECTORY).map(|n| window_at + n)
    else {
        return Vec::new();
    };
    let claimed = u32_at(archive, end + 12).map_or(0, |size| size as usize);
    let start = end.checked_sub(claimed).filter(|start| archive[*start..].starts_with(DIRECTORY_ENTRY));
    let Some(mut at) = start.or_else(|| memchr::memmem::find(&archive[..end], DIRECTORY_ENTRY)) else {
        return Vec::new();
    };
    let mut names = Vec::new();
    while names.len() < MAX_NAMES && archive[at..].starts_with(DIRECTORY_ENTRY) {
        let (Some(name), Some(extra), Some(comment)) =
            (u16_at(archive, at + 28), u16_at(archive, at + 30), u16_at(archive, at + 32))
        else {
            break;
        };
        let name_at = at + 46;
        let Some(bytes) = archive.get(name_at..name_at + name) else { break };
        names.push(String::from_utf8_lossy(bytes).into_owned());
        at = name_at + name + extra + comment;
        if at >= archive.len() {
            break;
        }
    }
    names
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An archive of empty files.
    pub(crate) fn archive(files: &[&str]) -> Vec<u8> {
        let (mut body, mut directory) = (Vec::new(), Vec::new());
        for file in files {
            let name_len = (file.len() as u16).to_le_bytes();
            let at = (body.len() as u32).to_le_bytes();
            body.extend(b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0");
            body.extend([0; 12]);
            body.extend(name_len);
            body.extend([0; 2]);
            body.extend(file.as_bytes());
            directory.extend(b"PK\x01\x02\x14\0\x14\0\0\0\0\0\0\0\0\0");
            directory.extend([0; 12]);
            directory.extend(name_len);
            directory.extend([0; 12]);
            directory.extend(at);
            directory.extend(file.as_bytes());
        }
        let at = body.len() as u32;
        body.extend(&directory);
        body.extend(b"PK\x05\x06\0\0\0\0");
        body.extend((files.len() as u16).to_le_bytes());
        body.extend((files.len() as u16).to_le_bytes());
        body.extend((directory.len() as u32).to_le_bytes());
        body.extend(at.to_le_bytes());
        body.extend([0; 2]);
        body
    }

    #[test]
    fn names_are_read_from_the_directory() {
        let zip = archive(&["a.txt", "dir/b.exe"]);
        assert!(is_zip(&zip));
        assert_eq!(names(&zip), ["a.txt", "dir/b.exe"]);
        // a false size of the directory hides nothing
        let mut lying = zip.clone();
        let size_at = lying.len() - 10;
        lying[size_at] = 1;
        assert_eq!(names(&lying), ["a.txt", "dir/b.exe"]);
        assert!(names(b"PK\x03\x04").is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(mut tail in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut zip = archive(&["a.txt"]);
            zip.append(&mut tail);
            let _ = names(&zip);
            let mut cut = archive(&["a.txt", "b"]);
            cut.truncate(tail.len());
            let _ = names(&cut);
        }

        #[test]
        fn a_damaged_archive_is_read(at in 0usize..200, byte: u8) {
            let mut zip = archive(&["a.txt", "b.exe"]);
            let at = at % zip.len();
            zip[at] = byte;
            let _ = names(&zip);
        }
    }
}
