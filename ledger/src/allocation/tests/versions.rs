//! Versions of the rules in a data folder.

use super::super::file::read;
use super::super::store::{ImportedBy, RuleStore};
use crate::error::ErrorKind;

const FIRST: &str = "[[rules]]\nname = \"ci\"\nmatch = { api_key = \"ci-*\" }\nset = { team = \"platform\" }\n";
const SECOND: &str = "# moved\n[[rules]]\nname = \"ci\"\nmatch = { api_key = \"ci-*\" }\nset = { team = \"tools\" }\n\
                      [[shared]]\nname = \"seats\"\namount = 10\n";

fn by() -> ImportedBy {
    ImportedBy {
        user: Some("ann".into()),
        at_ns: 1_795_003_200_000_000_000,
        file: "rules.toml".into(),
    }
}

#[test]
fn an_import_is_a_new_version_with_a_diff_and_the_old_one_stays() {
    let data = tempfile::tempdir().unwrap();
    let store = RuleStore::new(data.path());
    assert_eq!(store.current_rules().unwrap().version(), "v0");
    let dry = store.import(read("rules", FIRST).unwrap(), &by(), true).unwrap();
    assert!(dry.version.is_some() && store.current().unwrap().is_none());
    let first = store.import(read("rules", FIRST).unwrap(), &by(), false).unwrap();
    let second = store.import(read("rules", SECOND).unwrap(), &by(), false).unwrap();
    let id = second.version.unwrap();
    assert!(id.starts_with("v2-"), "{id}");
    assert_eq!(
        second.diff.to_text(9),
        "~ rule ci: api_key ci-* -> team=platform\n     now: api_key ci-* -> team=tools\n\
         + shared cost seats: 10 USD per month, proportional to cost\n"
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
            .join("\n")
            + "\n"
    );
    assert_eq!(store.current_rules().unwrap().version(), id);
    // Only a comment differs.
    let same = store
        .import(read("rules", &SECOND.replace("moved", "said")).unwrap(), &by(), false)
        .unwrap();
    assert_eq!(same.version, None);
    assert_eq!(store.use_version("v1").unwrap(), first.version.unwrap());
    let rules = store.current_rules().unwrap();
    assert_eq!(
        (rules.rules()[0].sets_text(), rules.shared().len()),
        ("team=platform".into(), 0)
    );
    assert_eq!(store.versions().unwrap().len(), 2);
    assert_eq!(store.use_version("v0").unwrap(), "v0");
    assert!(store.current_rules().unwrap().rules().is_empty());
    assert_eq!(store.version("v9").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn files_keep_their_places_and_an_empty_one_takes_itself_out() {
    let data = tempfile::tempdir().unwrap();
    let store = RuleStore::new(data.path());
    let rule = |name: &str| format!("[[rules]]\nname = \"{name}\"\nset = {{ team = \"{name}\" }}\n");
    let import = |name: &str, text: &str| store.import(read(name, text).unwrap(), &by(), false);
    import("a", &rule("one")).unwrap();
    import("b", &rule("two")).unwrap();
    import("a", &rule("three")).unwrap();
    let names = || -> Vec<String> {
        let rules = store.current_rules().unwrap();
        rules.rules().iter().map(|rule| rule.name.clone()).collect()
    };
    assert_eq!(names(), ["three", "two"]);
    assert!(
        import("c", &rule("two"))
            .unwrap_err()
            .message()
            .contains("two rules are named two")
    );
    import("a", "").unwrap();
    assert_eq!(names(), ["two"]);
}

#[test]
fn a_version_that_was_changed_is_corrupt() {
    let data = tempfile::tempdir().unwrap();
    let store = RuleStore::new(data.path());
    let id = store
        .import(read("rules", FIRST).unwrap(), &by(), false)
        .unwrap()
        .version
        .unwrap();
    let path = data.path().join("allocation").join(format!("{id}.json"));
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("platform", "growth12")).unwrap();
    let error = store.current_rules().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("was changed"), "{error}");
}
