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

/// A request's path in the form in which proxies judge it, or why they refuse the request.
///
/// # Errors
/// The path is one that servers are known to read differently, or none at all.
pub fn path_as_judged(path: &str) -> Result<String, String> {
    // `OPTIONS *` asks about the server as a whole.
    if path == "*" {
        return Ok(path.to_owned());
    }
    l7_parsers::path::normalize(path)
        .map(Into::into)
        .map_err(|error| format!("{path:?}: the proxy refuses such a request (400): {error}"))
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
    fn paths_are_judged_as_proxies_judge_them() {
        for (path, judged) in [("/public/%2e%2e//a?b=..", "/a?b=.."), ("*", "*"), ("/v1", "/v1")] {
            assert_eq!(path_as_judged(path), Ok(judged.to_owned()));
        }
        for refused in ["v1", "/a%2fb", "/a\\b"] {
            assert!(path_as_judged(refused).unwrap_err().contains("refuses"), "{refused}");
        }
    }

    #[test]
    fn a_directory_without_documents_is_a_mistake() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(expand(&[dir.path().to_owned()]), Err(CliError::Failed(_))));
        assert!(matches!(read(&dir.path().join("no")), Err(CliError::Read { .. })));
    }
}
