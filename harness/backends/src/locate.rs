//! Where the binaries of this machine are. Looks only; starts nothing.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Folders that are often not in `PATH`. A star stands for all versions beside each other, the
/// newest first.
const USUAL_PLACES: [&str; 9] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/usr/local/pgsql/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
    "/home/linuxbrew/.linuxbrew/bin",
];

/// The first executable file with one of these names, in `PATH` and then in the usual places.
pub(crate) fn binary(names: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .collect();
    folders.extend(USUAL_PLACES.iter().flat_map(|place| expand(place)));
    names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|file| is_executable(file))
}

pub(crate) fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Expands the one component that holds a star, newest version first.
fn expand(place: &str) -> Vec<PathBuf> {
    let Some(star) = place.find('*') else {
        return vec![PathBuf::from(place)];
    };
    let parent_ends = place[..star].rfind('/').unwrap_or(0);
    let (parent, prefix) = (&place[..parent_ends], &place[parent_ends + 1..star]);
    let rest = place[star + 1..].trim_start_matches('/');
    let mut versions: Vec<(u64, PathBuf)> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = name.strip_prefix(prefix)?;
            let major = version
                .split(|c: char| !c.is_ascii_digit())
                .next()?
                .parse()
                .unwrap_or(0);
            Some((major, entry.path().join(rest)))
        })
        .collect();
    versions.sort_by(|a, b| b.cmp(a));
    versions.into_iter().map(|(_, folder)| folder).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_beside_each_other_are_tried_newest_first_by_number() {
        let root = tempfile::tempdir().unwrap();
        for version in ["9", "15", "100"] {
            fs::create_dir_all(root.path().join(version).join("bin")).unwrap();
        }
        let found = expand(&format!("{}/*/bin", root.path().display()));
        let expected: Vec<_> = ["100", "15", "9"]
            .iter()
            .map(|version| root.path().join(version).join("bin"))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_file_that_cannot_be_executed_is_not_a_binary() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(!is_executable(file.path()));
        assert!(!is_executable(Path::new("/nonexistent")));
        assert!(is_executable(Path::new("/bin/sh")));
    }
}
