use super::*;

fn policy(name: &str) -> String {
    format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: {name}, namespace: default}}\n\
         spec: {{endpointSelector: {{}}, ingress: [{{fromEndpoints: [{{}}]}}]}}\n"
    )
}

fn contents(files: &[(&str, Option<&str>)]) -> Contents {
    files.iter().map(|(path, text)| (PathBuf::from(path), text.map(|text| Ok(text.to_owned())))).collect()
}

/// Policies, and the directory that they are kept in.
fn empty() -> (Policies, tempfile::TempDir) {
    let state = tempfile::tempdir().unwrap();
    (Policies::load(state.path(), Path::new("/p")).unwrap(), state)
}

fn take(policies: &mut Policies, files: &[(&str, Option<&str>)]) {
    let _ = take_in(policies, &contents(files));
}

fn names(policies: &Policies) -> Vec<String> {
    policies.iter().map(|(source, given)| format!("{source} {}", given.document.id.name)).collect()
}

fn error<'p>(policies: &'p Policies, path: &str) -> Option<&'p str> {
    policies.files()[Path::new(path)].error.as_deref()
}

#[test]
fn a_bad_file_keeps_its_last_good_content_and_a_deleted_one_is_gone() {
    let (mut policies, _state) = empty();
    let policies = &mut policies;
    take(policies, &[("/p/a.yaml", Some(&policy("one")))]);
    assert_eq!(names(policies), ["/p/a.yaml one"]);
    take(policies, &[("/p/a.yaml", Some("spec: ["))]);
    assert_eq!(names(policies), ["/p/a.yaml one"]);
    assert!(error(policies, "/p/a.yaml").is_some());
    assert_eq!(policies.refused_files(), [PathBuf::from("/p/a.yaml")]);
    take(policies, &[("/p/a.yaml", Some(&policy("two")))]);
    assert_eq!(names(policies), ["/p/a.yaml two"]);
    assert_eq!(error(policies, "/p/a.yaml"), None);
    assert!(policies.refused_files().is_empty());
    take(policies, &[("/p/a.yaml", None)]);
    assert!(names(policies).is_empty());
}

#[test]
fn a_file_that_was_emptied_holds_what_it_held() {
    for empty in ["", "\n", "  \n\n"] {
        let (mut policies, _state) = with_file(&policy("one"));
        take(&mut policies, &[("/p/a.yaml", Some(empty))]);
        assert_eq!(names(&policies), ["/p/a.yaml one"]);
        assert!(error(&policies, "/p/a.yaml").is_some());
    }
    // A new file may well be empty, and one that says nothing on purpose holds nothing.
    let (policies, _state) = with_file("");
    assert_eq!(error(&policies, "/p/a.yaml"), None);
    let (mut policies, _state) = with_file(&policy("one"));
    take(&mut policies, &[("/p/a.yaml", Some("# nothing"))]);
    assert!(names(&policies).is_empty());
}

/// Policies of one file.
fn with_file(text: &str) -> (Policies, tempfile::TempDir) {
    let (mut policies, state) = empty();
    take(&mut policies, &[("/p/a.yaml", Some(text))]);
    (policies, state)
}

/// Whoever renames a new file over the old one, and whoever truncates and writes: a reader gets a
/// whole content or is told that there is none now.
#[test]
fn a_file_that_is_replaced_while_it_is_read_is_read_whole() {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        time::Duration,
    };

    use nix::sys::signal::{SigHandler, Signal, signal};
    // As the agent does: who opens a file while its lease is held causes one.
    // SAFETY: ignoring a signal installs no handler that could run.
    unsafe { signal(Signal::SIGIO, SigHandler::SigIgn) }.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.yaml");
    let whole = ["one".repeat(40_000), "two".repeat(40_000)];
    fs::write(&path, &whole[0]).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let new = directory.path().join(".a.yaml.new");
            for round in 0.. {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let text = &whole[round / 2 % 2];
                if round % 2 == 0 {
                    fs::write(&new, text).unwrap();
                    fs::rename(&new, &path).unwrap();
                } else {
                    fs::write(&path, text).unwrap();
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let mut texts = Vec::new();
        while texts.len() < 100 {
            texts.extend(read_file(&path).ok().flatten());
        }
        over.store(true, Ordering::Relaxed);
        assert!(texts.iter().all(|text| whole.contains(text)));
    });
}

#[test]
fn a_file_that_was_never_good_has_an_error_and_no_effect() {
    let (mut policies, _state) = empty();
    take(&mut policies, &[("/p/a.yaml", Some("kind: ["))]);
    assert!(names(&policies).is_empty());
    assert!(error(&policies, "/p/a.yaml").is_some());
}

#[test]
fn one_document_in_two_places_is_refused_with_both_named() {
    let one = policy("one");
    let (mut policies, _state) = empty();
    take(&mut policies, &[("/p/a.yaml", Some(&one)), ("/p/b.yaml", Some(&one))]);
    assert_eq!(names(&policies), ["/p/a.yaml one"]);
    let text = error(&policies, "/p/b.yaml").unwrap();
    assert!(text.contains("/p/a.yaml") && text.contains("/p/b.yaml"), "{text}");
    // The other one may have it once the first is gone.
    take(&mut policies, &[("/p/a.yaml", None), ("/p/b.yaml", Some(&one))]);
    assert_eq!(names(&policies), ["/p/b.yaml one"]);
    // The API has its documents for itself, too.
    let (id, given) = policies::parse("request", &policy("two")).unwrap().pop_first().unwrap();
    assert_eq!(policies.source_of(&(*given.document.id).clone(), None), None);
    policies.set_api(id, Some(given));
    take(&mut policies, &[("/p/c.yaml", Some(&policy("two")))]);
    assert!(error(&policies, "/p/c.yaml").unwrap().contains("the API"));
}

#[test]
fn documents_may_swap_files() {
    let (one, two) = (policy("one"), policy("two"));
    let (mut policies, _state) = empty();
    take(&mut policies, &[("/p/a.yaml", Some(&one)), ("/p/b.yaml", Some(&two))]);
    take(&mut policies, &[("/p/a.yaml", Some(&format!("{one}---\n{two}"))), ("/p/b.yaml", Some("# moved"))]);
    assert_eq!(names(&policies), ["/p/a.yaml one", "/p/a.yaml two"]);
    assert!(policies.refused_files().is_empty());
}

#[test]
fn what_was_is_returned_once_a_file() {
    let (mut policies, _state) = empty();
    take(&mut policies, &[("/p/a.yaml", Some(&policy("one")))]);
    let file = policies.files()[Path::new("/p/a.yaml")].clone();
    let same = contents(&[("/p/a.yaml", Some(&policy("one")))]);
    assert!(take_in(&mut policies, &same).is_empty());
    let others = contents(&[("/p/a.yaml", None), ("/p/b.yaml", Some(&policy("one")))]);
    let before = take_in(&mut policies, &others);
    assert_eq!(before, BTreeMap::from([("/p/a.yaml".into(), Some(file)), ("/p/b.yaml".into(), None)]));
}

#[test]
fn editors_files_are_ignored() {
    for other in [".a.yaml.swp", ".#a.yaml", "a.yaml~", "a.yaml.bak", "a.txt", "4913", ".a.yaml"] {
        assert!(!is_policy_file(&Path::new("/p").join(other)), "{other}");
    }
    for good in ["a.yaml", "a.yml", "a.json"] {
        assert!(is_policy_file(&Path::new("/p").join(good)), "{good}");
    }
}

#[test]
fn a_file_that_is_being_written_is_left_alone_until_it_is_closed() {
    use std::io::Write;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.yaml");
    let mut writer = fs::File::create(&path).unwrap();
    write!(writer, "half").unwrap();
    let read = || read_files(list(directory.path()).unwrap());
    let reading = read();
    assert!(reading.contents.is_empty() && reading.being_written.contains(&path));
    write!(writer, " and whole").unwrap();
    drop(writer);
    let reading = read();
    assert_eq!(reading.contents[&path], Some(Ok("half and whole".to_owned())));
    assert!(reading.being_written.is_empty());
    // What is gone is gone, unless all of the directory is.
    let gone = directory.path().join("b.yaml");
    let away = directory.path().join("away/b.yaml");
    let reading = read_files([gone.clone(), away].into());
    assert_eq!(reading.contents, Contents::from([(gone, None)]));
}

/// A pipe that nobody writes into must not stop who reads the directory.
#[test]
fn what_is_no_regular_file_or_too_long_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    nix::unistd::mkfifo(&path("pipe.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::create_dir(path("directory.yaml")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", path("device.yaml")).unwrap();
    std::os::unix::fs::symlink("loop.yaml", path("loop.yaml")).unwrap();
    fs::File::create(path("long.yaml")).unwrap().set_len(LONGEST + 1).unwrap();
    fs::write(path("good.yaml"), "kind: Pod").unwrap();
    let mut reading = read_files(list(directory.path()).unwrap());
    assert_eq!(reading.contents.remove(&path("good.yaml")), Some(Some(Ok("kind: Pod".to_owned()))));
    for (name, reason) in [
        ("pipe.yaml", "no regular file"),
        ("directory.yaml", "no regular file"),
        ("device.yaml", "no regular file"),
        ("loop.yaml", "symbolic links"),
        ("long.yaml", "longer than"),
    ] {
        let found = reading.contents.remove(&path(name));
        let Some(Some(Err(error))) = found else { panic!("{name}: {found:?}") };
        assert!(error.contains(reason), "{name}: {error}");
    }
    assert_eq!(reading, Reading::default());
}

#[test]
fn the_state_directory_brings_back_the_apis_documents_and_the_last_good_files() {
    let (mut policies, state) = empty();
    take(&mut policies, &[("/p/a.yaml", Some(&policy("one"))), ("/p/b.yaml", Some(&policy("three")))]);
    for (id, given) in policies::parse("request", &policy("two")).unwrap() {
        policies.set_api(id.clone(), Some(given));
        policies.save_api(&id).unwrap();
    }
    ["/p/a.yaml", "/p/b.yaml"].iter().for_each(|path| policies.copy_file(Path::new(path)));
    let reload = |policies: Policies| {
        // What is on its way to the disk is there then.
        drop(policies);
        Policies::load(state.path(), Path::new("/p")).unwrap()
    };
    let mut policies = reload(policies);
    assert_eq!(names(&policies), ["api two", "/p/a.yaml one", "/p/b.yaml three"]);
    take(&mut policies, &[("/p/a.yaml", Some("spec: [")), ("/p/b.yaml", None)]);
    ["/p/a.yaml", "/p/b.yaml"].iter().for_each(|path| policies.copy_file(Path::new(path)));
    let id = policies.api().keys().next().unwrap().clone();
    policies.set_api(id.clone(), None);
    policies.save_api(&id).unwrap();
    assert_eq!(names(&reload(policies)), ["/p/a.yaml one"]);
}

/// The copy of the watched `a.yaml` is damaged; what the watched files hold when the agent starts.
fn start_with_a_damaged_copy(copy: &[u8], watched: Option<&str>) -> Result<Vec<String>, AgentError> {
    let (state, directory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(state.path().join(policies::COPIES)).unwrap();
    fs::write(state.path().join(policies::COPIES).join("a.yaml"), copy).unwrap();
    fs::write(directory.path().join("b.yaml"), policy("other")).unwrap();
    if let Some(text) = watched {
        fs::write(directory.path().join("a.yaml"), text).unwrap();
    }
    let mut policies = Policies::load(state.path(), directory.path()).unwrap();
    let changed = read_at_start(directory.path(), &mut policies)?;
    assert!(changed.contains(&directory.path().join("a.yaml")), "the copy is made anew");
    assert!(policies.refused_files().is_empty());
    changed.iter().for_each(|path| policies.copy_file(path));
    let names = policies.iter().map(|(_, given)| given.document.id.name.clone()).collect();
    drop(policies);
    let next = Policies::load(state.path(), directory.path()).unwrap();
    assert!(next.damaged().is_empty(), "it is good at the next start");
    Ok(names)
}

#[test]
fn a_damaged_copy_is_no_matter_where_the_file_is_good_or_gone() {
    for damage in [b"spec: [".as_slice(), b"\xff\xfe", policy("one").replace("ingress", "inres").as_bytes()] {
        let one = policy("one");
        assert_eq!(start_with_a_damaged_copy(damage, Some(&one)).unwrap(), ["one", "other"]);
        assert_eq!(start_with_a_damaged_copy(damage, Some("# nothing")).unwrap(), ["other"]);
        assert_eq!(start_with_a_damaged_copy(damage, None).unwrap(), ["other"]);
    }
}

#[test]
fn a_damaged_copy_beside_a_bad_file_is_an_error_that_names_both() {
    for bad in ["kind: [", "", "\n"] {
        let error = start_with_a_damaged_copy(b"spec: [", Some(bad)).unwrap_err().with_details();
        for word in ["a.yaml: ", "/policy-files/a.yaml", "correct or delete"] {
            assert!(error.contains(word), "{bad:?}: {error}");
        }
    }
}
