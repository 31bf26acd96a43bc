//! Settings as they are resolved, shown and checked.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use spanledger_lake::Keep;

fn resolve(flags: Flags, env: &'static [(&'static str, &'static str)], toml: &str) -> anyhow::Result<Config> {
    let path = PathBuf::from("test.toml");
    let file = parse(&path, toml)?;
    let resolver = Resolver::new(path, move |name| {
        env.iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| (*value).to_owned())
    });
    Config::resolve(flags, file, &resolver)
}

#[test]
fn flag_wins_over_environment_over_file_over_default() {
    let toml = "[storage]\ndata = \"/file\"\n[otlp]\ngrpc = \"127.0.0.1:1\"\nhttp = \"127.0.0.1:2\"\n";
    let flags = Flags {
        data: Some("/flag".into()),
        ..Flags::default()
    };
    let config = resolve(
        flags,
        &[("SPANLEDGER_DATA", "/env"), ("SPANLEDGER_OTLP_GRPC", "127.0.0.1:3")],
        toml,
    )
    .unwrap();
    assert_eq!(
        (config.data(), &config.storage.data.origin),
        (Path::new("/flag"), &Origin::Flag)
    );
    assert_eq!(config.otlp.grpc.value.port(), 3);
    assert_eq!(config.otlp.grpc.origin, Origin::Env("SPANLEDGER_OTLP_GRPC"));
    assert_eq!(config.otlp.http.value.port(), 2);
    assert_eq!(config.otlp.http.origin, Origin::File("test.toml".into()));
    assert_eq!(
        (config.http.address.value, &config.http.address.origin),
        (HTTP_DEFAULT, &Origin::Default)
    );
}

#[test]
fn an_unknown_key_is_refused() {
    for toml in ["[otlp]\ngprc = \"127.0.0.1:1\"\n", "[oltp]\n", "data = \"x\"\n"] {
        let error = resolve(Flags::default(), &[], toml).unwrap_err();
        assert!(error.to_string().contains("unknown field"), "{error}");
        assert_eq!(crate::exit::exit_code(&error), crate::exit::INVALID);
    }
}

#[test]
fn a_variable_that_cannot_be_read_is_named() {
    let error = resolve(Flags::default(), &[("SPANLEDGER_HTTP", "8080")], "").unwrap_err();
    assert!(error.to_string().contains("SPANLEDGER_HTTP"), "{error}");
}

#[test]
fn a_public_address_is_a_problem_and_exits_denied() {
    let flags = Flags {
        http: Some(([0, 0, 0, 0], 8080).into()),
        ..Flags::default()
    };
    let config = resolve(flags, &[], "").unwrap();
    assert_eq!(config.problems().len(), 1);
    assert_eq!(
        crate::exit::exit_code(&config.usable().unwrap_err()),
        crate::exit::DENIED
    );
}

#[test]
fn a_public_address_needs_credentials_and_roles_and_issuers_are_checked() {
    let flags = || Flags {
        http: Some(([0, 0, 0, 0], 8080).into()),
        access: Some(AccessMode::Required),
        ..Flags::default()
    };
    let toml = "[http]\npublic_url = \"https://costs.example/\"\n\
                [roles.lead]\nscopes = [\"sql:read\"]\nteams = [\"search\"]\n";
    let config = resolve(flags(), &[], toml).unwrap();
    assert_eq!(config.problems(), Vec::<String>::new());
    assert_eq!(config.public_url(), Some("https://costs.example"));
    assert!(config.access.roles().unwrap().get("lead").is_some());

    for (toml, expected) in [
        ("[roles.lead]\nscopes = [\"sql:raed\"]\n", "sql:raed"),
        ("[http]\npublic_url = \"costs.example\"\n", "http.public_url"),
        (
            "[http]\npublic_url = \"https://a:b@costs.example\"\n",
            "http.public_url",
        ),
        ("[access]\naudit_retention_days = 0\n", "audit_retention_days"),
        (
            "[[access.oauth.issuers]]\nissuer = \"https://id.example\"\ntenant = \"default\"\ndefault_role = \"boss\"\n",
            "\"boss\"",
        ),
    ] {
        let problems = resolve(flags(), &[], toml).unwrap().problems().join("\n");
        assert!(problems.contains(expected), "{problems}");
    }
    let issuer = "[[access.oauth.issuers]]\nissuer = \"https://id.example\"\ntenant = \"default\"\n";
    let unchecked = resolve(Flags::default(), &[], issuer).unwrap().problems().join("\n");
    assert!(unchecked.contains("access.mode = none"), "{unchecked}");
    for env in ["on", "Required"] {
        let error = Access::resolve(
            None,
            FileAccess::default(),
            FileRoles::default(),
            &Resolver::new("x".into(), move |_| Some(env.to_owned())),
        );
        assert!(error.unwrap_err().to_string().contains("SPANLEDGER_ACCESS"));
    }
}

#[test]
fn one_address_for_two_receivers_is_a_problem_unless_the_port_is_picked() {
    let same = |port| Flags {
        otlp_grpc: Some(loopback(port)),
        otlp_http: Some(loopback(port)),
        ..Flags::default()
    };
    assert_eq!(resolve(same(9), &[], "").unwrap().problems().len(), 1);
    assert!(resolve(same(0), &[], "").unwrap().problems().is_empty());
}

#[test]
fn show_lists_every_setting_once() {
    let config = resolve(Flags::default(), &[], "").unwrap();
    let shown = config.show();
    let mut keys: Vec<_> = shown.iter().map(|line| line.key).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), shown.len());
    assert!(shown.iter().all(|line| line.origin == Origin::Default));
}

#[test]
fn retention_and_noise_are_read_and_checked() {
    let toml = "[retention]\nspans_days = 7\npayloads_days = \"forever\"\n\
                [[noise]]\nrule = \"mine\"\nservice = \"my-*\"\nkeep = 0.5\n";
    let config = resolve(Flags::default(), &[("SPANLEDGER_RETENTION_LOGS_DAYS", "90")], toml).unwrap();
    let options = config.retention.options();
    assert_eq!((options.spans, options.logs), (Keep::Days(7), Keep::Days(90)));
    assert_eq!((options.payloads, options.ledger), (Keep::Forever, Keep::Forever));
    assert_eq!(config.problems(), Vec::<String>::new());
    assert_ne!(config.ingest_limits().unwrap(), Limits::default());
    let shown = config.show();
    let value = |key| {
        shown
            .iter()
            .find(|line| line.key == key)
            .map(|line| line.value.as_str())
    };
    assert_eq!(value("retention.spans_days"), Some("7"));
    assert_eq!(value("noise"), Some("mine keep 0.5, built-in rules"));

    for (toml, expected) in [
        ("[retention]\nspans_days = 1\n", "retention.spans_days = 1"),
        ("[retention]\nobservations_days = 90\n", "does not outlive"),
        ("[[noise]]\nrule = \"x\"\nkeep = 2.0\n", "noise rule x"),
    ] {
        let config = resolve(Flags::default(), &[], toml).unwrap();
        assert!(
            config.problems().join("\n").contains(expected),
            "{:?}",
            config.problems()
        );
        let error = config.usable().unwrap_err();
        assert_eq!(crate::exit::exit_code(&error), crate::exit::INVALID);
    }
    for toml in ["[retention]\nspans_days = \"soon\"\n", "[[noise]]\nrule = \"x\"\n"] {
        assert!(resolve(Flags::default(), &[], toml).is_err(), "{toml}");
    }
}

#[test]
fn log_filter_falls_back_to_rust_log() {
    let config = resolve(Flags::default(), &[("RUST_LOG", "debug")], "[log]\nfilter = \"info\"\n").unwrap();
    assert_eq!(
        (config.log.filter.value.as_str(), config.log.filter.origin),
        ("debug", Origin::Env("RUST_LOG"))
    );
}

#[test]
fn defaults_are_those_of_the_components() {
    let lake = spanledger_lake::LakeOptions::default();
    assert_eq!(lake.flush_interval_ms, FLUSH_INTERVAL_MS_DEFAULT);
    assert_eq!(lake.seal_bytes_max, SEAL_BYTES_MAX_DEFAULT);
    assert_eq!(lake.group_commit_window_us, GROUP_COMMIT_WINDOW_US_DEFAULT);
    assert_eq!(
        spanledger_ingest::Limits::default().body_bytes_max,
        BODY_BYTES_MAX_DEFAULT
    );
}
