use std::fs;
use std::path::{Path, PathBuf};

use gauntlet_agent::catalogue::catalogue;
use gauntlet_common::scenario::{ReadOptions, read};

use super::*;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

#[test]
fn reports_are_bounded_and_say_what_they_left_out() {
    let mut text = String::from("schema: gauntlet/v1\nname: x\nphases: [{ name: a, for: 1s }]\n");
    (0..80).for_each(|i| text.push_str(&format!("wrong{i}: 1\n")));
    let problems = read(&text, "test.yaml", &catalogue(), &ReadOptions::default()).unwrap_err();
    assert_eq!(problems.list().len(), 80);
    let shown = render(&problems, Style::Plain);
    assert!(shown.contains("and 30 more") && shown.contains("80 problems in test.yaml"), "{shown}");
    assert!(!shown.contains('\u{1b}'));
    assert!(render(&problems, Style::Colour).contains('\u{1b}'));
}

proptest::proptest! {
    #[test]
    fn no_damage_to_a_file_makes_the_drawing_panic(at in 0usize..5000, len in 0usize..60, put in "[ -~\\n]{0,12}") {
        let mut text = fs::read_to_string(repository("scenarios/production/p1.yaml")).unwrap();
        let at = at.min(text.len());
        text.replace_range(at..(at + len).min(text.len()), &put);
        if let Err(problems) = read(&text, "test.yaml", &catalogue(), &ReadOptions { profile: Some("smoke"), ..ReadOptions::default() }) {
            proptest::prop_assert!(!problems.list().is_empty());
            render(&problems, Style::Plain);
        }
    }
}

#[test]
fn what_is_set_is_held_to_the_bounds_of_the_file() {
    let text = fs::read_to_string(repository("scenarios/production/p1.yaml")).unwrap();
    let told = |set: &[(&str, &str)]| {
        let set: Vec<(String, String)> =
            set.iter().map(|(path, value)| (path.to_string(), value.to_string())).collect();
        let options = ReadOptions { set: &set, ..ReadOptions::default() };
        let problems = read(&text, "p1.yaml", &catalogue(), &options).unwrap_err();
        render(&problems, Style::Plain)
    };
    let longer = told(&[("phases.peak", "7d")]);
    assert!(longer.contains("and a run lasts 7d at most") && longer.contains("--set:1:"), "{longer}");
    let year = told(&[("phases.peak", "366d"), ("phases.warmup", "366d")]);
    assert!(year.contains("and a run lasts 7d at most"), "{year}");
    assert!(told(&[("phases.peak", "99999999999999999999d")]).contains("is longer than a year"));
    assert!(told(&[("workloads.users.timeout", "2m")]).contains("a timeout is 1m at most"));
}

/// Each file has one kind of mistake, and its whole report stands beside it. To see a changed message, set BLESS=1 and read the diff.
#[test]
fn every_mistake_of_the_zoo_gets_its_message() {
    let mut files: Vec<PathBuf> =
        fs::read_dir(repository("scenarios/invalid")).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    assert!(files.len() >= 26, "{}", files.len());
    let mut wrong = Vec::new();
    for path in files {
        let name = path.file_name().unwrap().to_string_lossy().to_string();
        let text = fs::read_to_string(&path).unwrap();
        let rendered = match read(&text, &name, &catalogue(), &ReadOptions::default()) {
            Ok(_) => panic!("{name} reads without a problem"),
            Err(problems) => render(&problems, Style::Plain),
        };
        let rendered: String = rendered.lines().map(|line| format!("{}\n", line.trim_end())).collect();
        let beside = path.with_extension("txt");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&beside, &rendered).unwrap();
        } else if fs::read_to_string(&beside).ok().as_deref() != Some(&rendered) {
            wrong.push(format!("{name} now says:\n{rendered}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
