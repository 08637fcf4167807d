//! The files that a policy command is given.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use crate::cli::error::CliError;

/// A text and what to call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub name: String,
    pub text: String,
}

/// Reads a file, or standard input for `-`.
pub fn read(path: &Path) -> Result<Source, CliError> {
    let (name, text) = if path == Path::new("-") {
        let mut text = String::new();
        ("standard input".to_owned(), io::stdin().read_to_string(&mut text).map(|_| text))
    } else {
        (path.display().to_string(), fs::read_to_string(path))
    };
    match text {
        Ok(text) => Ok(Source { name, text }),
        Err(source) => Err(CliError::Read { path: name, source }),
    }
}

/// The files meant: a directory is all `*.yaml`, `*.yml` and `*.json` below it, by name.
pub fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>, CliError> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let before = files.len();
            walk(path, &mut files)
                .map_err(|source| CliError::Read { path: path.display().to_string(), source })?;
            if files.len() == before {
                return Err(CliError::Failed(format!("{}: no .yaml, .yml or .json files", path.display())));
            }
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

fn walk(directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut entries =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    for path in entries {
        // Links to directories are not followed: they may lead in a circle.
        if path.is_dir() && !path.is_symlink() {
            walk(&path, files)?;
        } else if path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_its_documents_by_name() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("b")).unwrap();
        for name in ["c.yml", "a.yaml", "b/x.json", "notes.txt"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let found = expand(&[dir.path().to_owned(), "given.txt".into()]).unwrap();
        let expected = ["a.yaml", "b/x.json", "c.yml"].map(|name| dir.path().join(name));
        assert_eq!(found, [&expected[..], &["given.txt".into()]].concat());
    }

    #[test]
    fn a_directory_without_documents_is_a_mistake() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(expand(&[dir.path().to_owned()]), Err(CliError::Failed(_))));
        assert!(matches!(read(&dir.path().join("no")), Err(CliError::Read { .. })));
    }
}
