use super::*;

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn from(source: &str) -> Egress {
    Egress::from_source(&url(source), Allow::default()).unwrap()
}

/// Which of the addresses a host may be reached by.
fn admitted(egress: &Egress, host: &str, addresses: &[&str]) -> Vec<String> {
    let addresses = addresses
        .iter()
        .map(|address| (address.parse::<IpAddr>().unwrap(), 443).into())
        .collect();
    let host = url(&format!("https://{host}")).host().unwrap().to_owned();
    match egress.admit(&host, addresses) {
        Ok(kept) => kept.iter().map(|one| one.ip().to_string()).collect(),
        Err(error) => {
            assert_eq!(error.kind(), Kind::Redirect);
            testkit::plain::assert_plain(&error.chain());
            Vec::new()
        }
    }
}

const SPECIAL: [(&str, Place); 22] = [
    ("127.0.0.1", Place::Loopback),
    ("127.255.0.9", Place::Loopback),
    ("::1", Place::Loopback),
    ("::ffff:127.0.0.1", Place::Loopback),
    ("::127.0.0.1", Place::Loopback),
    ("64:ff9b::7f00:1", Place::Loopback),
    ("169.254.169.254", Place::LinkLocal),
    ("169.254.0.1", Place::LinkLocal),
    ("::ffff:a9fe:a9fe", Place::LinkLocal),
    ("64:ff9b::a9fe:a9fe", Place::LinkLocal),
    ("2002:a9fe:a9fe::1", Place::LinkLocal),
    ("fe80::1", Place::LinkLocal),
    ("febf::1", Place::LinkLocal),
    ("fd00:ec2::254", Place::Metadata),
    ("100.100.100.200", Place::Metadata),
    ("168.63.129.16", Place::Metadata),
    ("0.0.0.0", Place::Unspecified),
    ("0.1.2.3", Place::Unspecified),
    ("::", Place::Unspecified),
    ("224.0.0.1", Place::Multicast),
    ("255.255.255.255", Place::Multicast),
    ("ff02::1", Place::Multicast),
];

const ORDINARY: [&str; 7] = [
    "10.0.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "1.1.1.1",
    "fd00::1",
    "2001:db8::1",
    "::ffff:10.0.0.1",
];

#[test]
fn a_server_leads_to_ordinary_addresses_alone() {
    let egress = from("https://source.example");
    for (address, place) in SPECIAL {
        assert_eq!(Place::of(address.parse().unwrap()), place, "{address}");
        assert_eq!(
            admitted(&egress, "other.example", &[address]).len(),
            0,
            "{address}"
        );
        // The others of its addresses stay.
        let mixed = [address, "10.0.0.1"];
        assert_eq!(admitted(&egress, "other.example", &mixed), ["10.0.0.1"]);
    }
    for address in ORDINARY {
        assert_eq!(admitted(&egress, "other.example", &[address]), [address]);
    }
}

#[test]
fn addresses_that_are_written_out_are_known_behind_a_proxy_too() {
    let egress = from("http://source.example");
    for is_proxied in [false, true] {
        for to in [
            "http://169.254.169.254/latest/meta-data",
            "http://127.0.0.1:8080/",
            // All spellings of 127.0.0.1 and 169.254.169.254.
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0xa9fea9fe/",
            "http://[::ffff:169.254.169.254]/",
            "http://[::1]/",
            "http://[fd00:ec2::254]/",
            "http://0/",
        ] {
            let error = egress.check(&url(to), is_proxied).unwrap_err();
            assert_eq!(error.kind(), Kind::Redirect, "{to}");
            assert!(!error.was_sent());
        }
        egress.check(&url("http://10.0.0.1/"), is_proxied).unwrap();
        egress
            .check(&url("http://other.example/"), is_proxied)
            .unwrap();
    }
    for to in ["http://localhost/", "http://a.localhost./"] {
        assert!(egress.check(&url(to), true).is_err(), "{to}");
    }
}

#[test]
fn a_source_of_a_special_kind_leads_to_its_own_kind() {
    let egress = from("http://127.0.0.1:5000");
    egress
        .check(&url("http://127.0.0.1:5000/v3"), false)
        .unwrap();
    for (to, follows) in [
        ("http://127.0.0.2:9292/", true),
        ("http://[::1]/", true),
        ("http://169.254.169.254/", false),
        ("http://10.0.0.1/", true),
    ] {
        assert_eq!(egress.check(&url(to), false).is_ok(), follows, "{to}");
    }
    // By its name.
    let egress = from("http://source.example");
    assert_eq!(admitted(&egress, "other.example", &["127.0.0.1"]).len(), 0);
    assert_eq!(admitted(&egress, "source.example", &["127.0.0.1"]).len(), 1);
    assert_eq!(admitted(&egress, "other.example", &["::1"]), ["::1"]);
}

#[test]
fn a_name_whose_address_changes_opens_nothing() {
    for answers in [
        // Ordinary at first, then special.
        &[&["10.0.0.1"][..], &["169.254.169.254"]][..],
        // Special at first, then ordinary: the first answer had no server behind it.
        &[&["169.254.169.254"], &["10.0.0.1"], &["169.254.169.254"]],
        // One special kind, then another.
        &[&["127.0.0.1"], &["169.254.169.254"]],
        // Both at a time.
        &[&["10.0.0.1", "169.254.169.254"]],
        &[&["169.254.169.254", "10.0.0.1"], &["169.254.169.254"]],
    ] {
        let egress = from("http://source.example");
        let mut kept = Vec::new();
        for addresses in answers {
            kept = admitted(&egress, "source.example", addresses);
        }
        assert!(!kept.contains(&"169.254.169.254".to_owned()), "{answers:?}");
        let there = admitted(&egress, "other.example", &["169.254.169.254"]);
        assert_eq!(there.len(), 0, "{answers:?}");
    }
}

#[test]
fn https_leads_to_https_unless_it_is_allowed() {
    let (https, http) = (url("https://other.example/"), url("http://other.example/"));
    for (source, plain_http, follows) in [
        ("https://source.example", false, false),
        ("https://source.example", true, true),
        ("http://source.example", false, true),
    ] {
        let allow = Allow {
            plain_http,
            ..Allow::default()
        };
        let egress = Egress::from_source(&url(source), allow).unwrap();
        assert!(egress.check(&https, false).is_ok());
        let to_http = egress.check(&http, false);
        assert_eq!(to_http.is_ok(), follows, "{source}");
        if let Err(error) = to_http {
            assert_eq!(error.kind(), Kind::Redirect);
            assert!(error.to_string().contains("--allow-plain-http"), "{error}");
            testkit::plain::assert_plain(&error.chain());
        }
    }
}

#[test]
fn local_targets_may_be_allowed() {
    let allow = Allow {
        local_targets: true,
        ..Allow::default()
    };
    let egress = Egress::from_source(&url("http://source.example"), allow).unwrap();
    for (address, _) in SPECIAL {
        assert_eq!(admitted(&egress, "other.example", &[address]).len(), 1);
    }
    egress.check(&url("http://169.254.169.254/"), true).unwrap();
}

#[test]
fn user_information_is_refused_everywhere() {
    for text in [
        "https://joe@host/",
        "https://joe:hunter2@host/",
        "http://:hunter2@host/",
    ] {
        for egress in [from("https://host"), Egress::anywhere()] {
            let error = egress.check(&url(text), false).unwrap_err();
            assert!(!error.chain().contains("hunter2"), "{error}");
            assert!(
                error.to_string().contains("belong into the secret"),
                "{error}"
            );
        }
        assert!(Egress::from_source(&url(text), Allow::default()).is_err());
    }
}
