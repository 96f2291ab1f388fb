use super::*;

fn read(variables: &[(&str, &str)]) -> (Settings, Vec<String>) {
    Settings::from_environment(|name| {
        let found = variables.iter().find(|(known, _)| *known == name)?;
        Some(found.1.to_owned())
    })
    .unwrap()
}

#[test]
fn a_kind_is_served_when_its_image_is_set_and_not_empty() {
    let (settings, warnings) = read(&[
        (variable::OVIRT_IMAGE, "registry.example.org/ovirt:1"),
        (variable::OPENSTACK_IMAGE, " "),
    ]);
    assert_eq!(settings.images.keys().collect::<Vec<_>>(), [&Kind::Ovirt]);
    assert_eq!(
        warnings,
        ["OPENSTACK_POPULATOR_IMAGE is not set: OpenstackVolumePopulator is not served"]
    );
}

#[test]
fn forklifts_values_are_taken() {
    let (settings, warnings) = read(&[
        (variable::OVIRT_IMAGE, "a"),
        (variable::OPENSTACK_IMAGE, "b"),
        (variable::MAX_IN_FLIGHT, "7"),
        (variable::CPU_LIMIT, "2"),
        (variable::CPU_REQUEST, "250m"),
        (variable::MEMORY_LIMIT, "2Gi"),
        (variable::MEMORY_REQUEST, "1G"),
        ("no_proxy", ".cluster.local"),
    ]);
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(settings.max_in_flight, 7);
    assert_eq!(settings.cpu, ContainerResources::new("250m", "2"));
    assert_eq!(settings.memory, ContainerResources::new("1G", "2Gi"));
    assert_eq!(settings.environment["no_proxy"], ".cluster.local");
    assert_eq!(settings.placement, Placement::default());
}

#[test]
fn a_proxy_with_a_password_is_not_shown_in_pods() {
    let (settings, warnings) = read(&[
        ("HTTPS_PROXY", "http://user:secret-word@proxy:3128"),
        ("http_proxy", "http://proxy:3128"),
    ]);
    let kept: Vec<&String> = settings.environment.keys().collect();
    assert_eq!(kept, ["http_proxy"]);
    let about: Vec<_> = warnings
        .iter()
        .filter(|one| one.contains("HTTPS_PROXY"))
        .collect();
    assert_eq!(about.len(), 1, "{warnings:?}");
    assert!(!warnings.concat().contains("secret-word"), "{warnings:?}");
}

#[test]
fn service_accounts_are_a_list() {
    let accounts = |text| {
        read(&[(variable::SERVICE_ACCOUNTS, text)])
            .0
            .service_accounts
    };
    assert_eq!(read(&[]).0.service_accounts, None);
    assert_eq!(accounts(""), Some(BTreeSet::new()));
    let two = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
    assert_eq!(accounts(" a, b ,"), Some(two));
}

#[test]
fn a_list_of_hosts_that_cannot_be_read_allows_none() {
    let hosts = |text| read(&[(variable::ALLOWED_HOSTS, text)]);
    assert_eq!(read(&[]).0.allowed_hosts, None);
    for (text, shown) in [
        ("", "none"),
        ("a.example, *.b.example:1", "a.example, *.b.example:1"),
    ] {
        let (settings, warnings) = hosts(text);
        assert_eq!(settings.allowed_hosts.unwrap().to_string(), shown);
        assert!(
            !warnings.concat().contains(variable::ALLOWED_HOSTS),
            "{warnings:?}"
        );
    }
    let (settings, warnings) = hosts("a.example, https://b");
    assert!(!settings.allowed_hosts.unwrap().allow("https://a.example"));
    let warning = warnings
        .iter()
        .find(|one| one.contains(variable::ALLOWED_HOSTS));
    assert!(
        warning.is_some_and(|one| one.contains("\"https://b\"")),
        "{warnings:?}"
    );
}

#[test]
fn the_movers_settings_are_variables() {
    let (settings, warnings) = read(&[
        (variable::OVIRT_IMAGE, "a"),
        (variable::OPENSTACK_IMAGE, "b"),
        ("POPULATOR_VERIFY", "full"),
        ("POPULATOR_LOCKED_WAIT", "1h"),
        ("POPULATOR_LOG_LEVEL", ""),
    ]);
    assert!(warnings.is_empty(), "{warnings:?}");
    let expected = "locked-wait=3600s,verify=full";
    assert_eq!(settings.mover.to_annotation().as_deref(), Some(expected));
}

#[test]
fn one_limit_bounds_all_unless_a_narrow_one_is_set() {
    let total = (variable::MAX_IN_FLIGHT, "40");
    let per_source = (variable::MAX_IN_FLIGHT_PER_SOURCE, "5");
    let per_namespace = (variable::MAX_IN_FLIGHT_PER_NAMESPACE, "7");
    for (variables, expected) in [
        (&[][..], (20, 10, 15)),
        (&[total], (40, 40, 40)),
        (&[per_source], (20, 5, 15)),
        (&[total, per_source], (40, 5, 40)),
        (&[total, per_namespace], (40, 40, 7)),
    ] {
        let (settings, _) = read(variables);
        let limits = (
            settings.max_in_flight,
            settings.max_in_flight_per_source,
            settings.max_in_flight_per_namespace,
        );
        assert_eq!(limits, expected, "{variables:?}");
    }
}

#[test]
fn durations_have_units() {
    for (text, seconds) in [
        ("0", Some(0)),
        ("90s", Some(90)),
        ("5m", Some(300)),
        ("12h", Some(43_200)),
        ("7d", Some(604_800)),
        ("5", None),
        ("", None),
        ("m", None),
        ("1h30m", Some(5400)),
        ("2d1s", Some(172_801)),
        ("30m1h", None),
        ("1m1m", None),
        ("1h30", None),
        ("18446744073709551615s1s", None),
        ("213503982334601d18446744073709551615s", None),
        ("-1s", None),
        ("99999999999999999999s", None),
        ("9999999999999999999d", None),
    ] {
        let expected = seconds.map(Duration::from_secs);
        assert_eq!(duration(text).ok(), expected, "{text}");
    }
    assert_eq!("forever".parse(), Ok(KeepPods::Forever));
    assert_eq!("failed".parse(), Ok(KeepPods::Failed));
    let hour = Duration::from_hours(1);
    assert_eq!("1h".parse(), Ok(KeepPods::For(hour)));
    assert!("always".parse::<KeepPods>().is_err());
}

#[test]
fn nonsense_falls_back_with_a_warning_each() {
    for (name, value) in [
        (variable::MAX_IN_FLIGHT, "0"),
        (variable::MAX_IN_FLIGHT, "-1"),
        (variable::MAX_IN_FLIGHT, "many"),
        (variable::MAX_IN_FLIGHT, ""),
        (variable::MAX_IN_FLIGHT_PER_SOURCE, "0"),
        (variable::START_DEADLINE, "soon"),
        ("POPULATOR_CONNECTIONS", "many"),
        ("POPULATOR_VERIFY", "ful"),
        (variable::CPU_LIMIT, ""),
        (variable::MEMORY_REQUEST, " "),
        (variable::CPU_LIMIT, "0"),
        (variable::CPU_LIMIT, "50m"),
        (variable::CPU_REQUEST, "2"),
        (variable::MEMORY_LIMIT, "512"),
        (variable::MEMORY_LIMIT, "1 GB"),
        (variable::MEMORY_REQUEST, "4Gi"),
    ] {
        let images = [
            (variable::OVIRT_IMAGE, "a"),
            (variable::OPENSTACK_IMAGE, "b"),
        ];
        let (settings, warnings) = read(&[images[0], images[1], (name, value)]);
        assert_eq!(warnings.len(), 1, "{name}={value}: {warnings:?}");
        assert!(warnings[0].contains(name), "{warnings:?}");
        let (expected, _) = read(&images);
        assert_eq!(settings, expected, "{name}={value}");
    }
}

#[test]
fn a_kind_that_is_not_served_is_reported() {
    let (_, warnings) = read(&[
        (variable::OVIRT_IMAGE, "a"),
        (variable::OPENSTACK_IMAGE, "b"),
        (variable::XCOPY_IMAGE, "c"),
    ]);
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("does not serve VSphereXcopyVolumePopulator"));
}

#[test]
fn pauses_double_up_to_the_longest() {
    let backoff = Settings::default().retry.backoff;
    let pauses = [0, 1, 2, 3, 6, u32::MAX].map(|failures| backoff.bound(failures).as_secs());
    assert_eq!(pauses, [10, 10, 20, 40, 300, 300]);
}
