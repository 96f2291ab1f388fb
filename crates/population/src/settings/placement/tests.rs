use serde_json::{Value, json};

use super::*;

fn read(name: &'static str, value: &str) -> Result<Placement, InvalidPlacement> {
    Placement::from_environment(|asked| (asked == name).then(|| value.to_owned()))
}

#[test]
fn nothing_is_placed_where_nothing_is_set() {
    for value in [None, Some(""), Some(" \n")] {
        let read = Placement::from_environment(|_| value.map(str::to_owned));
        assert_eq!(read, Ok(Placement::default()), "{value:?}");
    }
    let empty = Placement::from_environment(|name| {
        let is_list = [variable::TOLERATIONS].contains(&name);
        let is_word = [
            variable::PRIORITY_CLASS,
            variable::RUNTIME_CLASS,
            variable::IMAGE_PULL_SECRETS,
            variable::CA_BUNDLE,
        ]
        .contains(&name);
        let value = if is_list { "[]" } else { "{}" };
        (!is_word).then(|| value.to_owned())
    });
    assert_eq!(empty, Ok(Placement::default()));
}

#[test]
fn yaml_is_read_as_in_the_spec_of_a_pod_and_so_is_json() {
    let yaml = "
- key: storage.example.org/only
  operator: Exists
- {key: dedicated, value: 'true', effect: NoExecute, tolerationSeconds: 60}
";
    let json = json!([
        {"key": "storage.example.org/only", "operator": "Exists"},
        {"key": "dedicated", "value": "true", "effect": "NoExecute", "tolerationSeconds": 60},
    ]);
    for text in [yaml, &json.to_string()] {
        let read = read(variable::TOLERATIONS, text).unwrap();
        assert_eq!(serde_json::to_value(&read.tolerations).unwrap(), json);
    }
    let everything = read(variable::TOLERATIONS, "[{operator: Exists}]").unwrap();
    assert_eq!(everything.tolerations.len(), 1);

    let read_map = |name| read(name, "{disktype: ssd, example.org/tier: 'true'}").unwrap();
    let map = BTreeMap::from(
        [("disktype", "ssd"), ("example.org/tier", "true")]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
    );
    assert_eq!(read_map(variable::NODE_SELECTOR).node_selector, map);
    assert_eq!(read_map(variable::LABELS).labels, map);
    assert_eq!(read_map(variable::ANNOTATIONS).annotations, map);
    // Commas and equals signs are a part of annotations.
    let networks = read(
        variable::ANNOTATIONS,
        "{example.org/list: 'a=1,b=2', app.kubernetes.io/part-of: x}",
    )
    .unwrap();
    assert_eq!(networks.annotations["example.org/list"], "a=1,b=2");
    assert_eq!(networks.annotations.len(), 2);
}

#[test]
fn an_affinity_of_every_form_is_read() {
    let text = "
nodeAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    nodeSelectorTerms:
    - matchExpressions:
      - {key: disktype, operator: In, values: [ssd, nvme]}
      - {key: example.org/cores, operator: Gt, values: ['8']}
      matchFields:
      - {key: metadata.name, operator: NotIn, values: [node-1]}
  preferredDuringSchedulingIgnoredDuringExecution:
  - {weight: 100, preference: {matchExpressions: [{key: fast, operator: Exists}]}}
podAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
  - {topologyKey: topology.kubernetes.io/zone, labelSelector: {matchLabels: {app: cache}}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
  - weight: 1
    podAffinityTerm:
      topologyKey: kubernetes.io/hostname
      namespaceSelector: {}
      labelSelector:
        matchExpressions:
        - {key: forklift.konveyor.io/populated-claim, operator: Exists}
";
    let affinity = read(variable::AFFINITY, text).unwrap().affinity.unwrap();
    let written = serde_json::to_value(&affinity).unwrap();
    let terms = &written["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
    assert_eq!(
        terms[0]["matchExpressions"][0]["values"],
        json!(["ssd", "nvme"])
    );
    let again = read(variable::AFFINITY, &written.to_string()).unwrap();
    assert_eq!(again.affinity, Some(affinity));
}

#[test]
fn names_are_read() {
    let class = read(variable::PRIORITY_CLASS, " migration.low ").unwrap();
    assert_eq!(class.priority_class.as_deref(), Some("migration.low"));
    let class = read(variable::RUNTIME_CLASS, "kata").unwrap();
    assert_eq!(class.runtime_class.as_deref(), Some("kata"));
    let secrets = read(variable::IMAGE_PULL_SECRETS, "mirror, hub ,").unwrap();
    assert_eq!(secrets.image_pull_secrets, ["mirror", "hub"]);
}

#[test]
fn what_cannot_be_is_refused_with_its_place_and_the_way_out() {
    let long = "x".repeat(64);
    let long_label = format!("{{team: {long}}}");
    for (name, value, message) in [
        (
            variable::TOLERATIONS,
            "[{key: a, tolerationSecond: 5}]",
            "[0].tolerationSecond is unknown; correct its name, or remove it",
        ),
        (
            variable::TOLERATIONS,
            "[{key: a}, {key: b, value: }]",
            "[1].value has no value; give one, or remove it",
        ),
        (
            variable::TOLERATIONS,
            "[{key: a, effect: NoShedule}]",
            "[0].effect is \"NoShedule\"; give one of NoSchedule, PreferNoSchedule, NoExecute",
        ),
        (
            variable::TOLERATIONS,
            "[{key: a, operator: In}]",
            "[0].operator is \"In\"; give one of Equal, Exists",
        ),
        (
            variable::TOLERATIONS,
            "[{key: a}, {value: b}]",
            "[1] has no key; give one, or the operator \"Exists\" to tolerate every taint",
        ),
        (
            variable::TOLERATIONS,
            "[{key: a, operator: Exists, value: b}]",
            "[0] has the operator \"Exists\" and a value; remove one of them",
        ),
        (
            variable::TOLERATIONS,
            "[{key: a, tolerationSeconds: 5}]",
            "[0].tolerationSeconds is for the effect \"NoExecute\" alone; remove it, or give that effect",
        ),
        (
            variable::TOLERATIONS,
            "[{key: a b}]",
            "[0].key is \"a b\", which is no key of a label or an annotation; give one such as \"team\" or \"example.org/team\"",
        ),
        (
            variable::NODE_SELECTOR,
            "{kubernetes.io/os: windows}",
            "kubernetes.io/os is set by the controller; remove it",
        ),
        (
            variable::NODE_SELECTOR,
            "{a: 'b c'}",
            "a is \"b c\", which is no value of a label; give at most 63 letters, digits, \"-\", \"_\" and \".\", with a letter or a digit at both ends",
        ),
        (
            variable::LABELS,
            &long_label,
            &format!(
                "team is \"{long}\", which is no value of a label; give at most 63 letters, digits, \"-\", \"_\" and \".\", with a letter or a digit at both ends"
            ),
        ),
        (
            variable::LABELS,
            "{/team: a}",
            "a key is \"/team\", which is no key of a label or an annotation; give one such as \"team\" or \"example.org/team\"",
        ),
        (
            variable::LABELS,
            "{migration: a}",
            "migration has a meaning for the controller, Forklift or Kubernetes; remove it",
        ),
        (
            variable::PRIORITY_CLASS,
            "system-node-critical",
            "\"system-node-critical\" is for what the cluster itself needs; name a class of your own",
        ),
        (
            variable::PRIORITY_CLASS,
            "High",
            "\"High\" is no name of an object; give lower case letters, digits, \"-\" and \".\"",
        ),
        (
            variable::RUNTIME_CLASS,
            "a,b",
            "\"a,b\" is no name of an object; give lower case letters, digits, \"-\" and \".\"",
        ),
        (
            variable::IMAGE_PULL_SECRETS,
            "a,b c",
            "\"b c\" is no name of an object; give lower case letters, digits, \"-\" and \".\"",
        ),
    ] {
        let error = read(name, value).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("the variable {name}: {message}"),
            "{value}"
        );
    }
}

#[test]
fn an_affinity_that_cannot_be_is_refused_with_its_path() {
    let required = |term: &str| {
        format!(
            "{{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: [{term}]}}}}}}"
        )
    };
    let of_pods = |term: &str| {
        format!("{{podAntiAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: [{term}]}}}}")
    };
    let terms = "nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    let pods = "podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]";
    for (text, message) in [
        ("{nodeAffinty: {}}".to_owned(), "nodeAffinty is unknown; correct its name, or remove it".to_owned()),
        ("{nodeAffinity: }".to_owned(), "nodeAffinity has no value; give one, or remove it".to_owned()),
        (required(""), format!("{terms} is empty; give a term")),
        (
            required("{matchExpressions: [{key: a, operator: in, values: [b]}]}"),
            format!("{terms}[0].matchExpressions[0].operator is \"in\"; give one of In, NotIn, Exists, DoesNotExist, Gt, Lt"),
        ),
        (
            required("{matchExpressions: [{key: a, operator: In}]}"),
            format!("{terms}[0].matchExpressions[0].values has 0 for the operator \"In\"; give at least one value"),
        ),
        (
            required("{matchExpressions: [{key: a, operator: Exists, values: [b]}]}"),
            format!("{terms}[0].matchExpressions[0].values has 1 for the operator \"Exists\"; give no values"),
        ),
        (
            required("{matchExpressions: [{key: a, operator: Gt, values: ['1', '2']}]}"),
            format!("{terms}[0].matchExpressions[0].values has 2 for the operator \"Gt\"; give one value"),
        ),
        (
            "{nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 101, preference: {}}]}}".to_owned(),
            "nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight is 101; give a number from 1 to 100".to_owned(),
        ),
        (
            of_pods("{topologyKey: a, labelSelector: {matchExpressions: [{key: b, operator: Gt, values: ['1']}]}}"),
            format!("{pods}.labelSelector.matchExpressions[0].operator is \"Gt\"; give one of In, NotIn, Exists, DoesNotExist"),
        ),
        (
            of_pods("{topologyKey: '', labelSelector: {}}"),
            format!("{pods}.topologyKey is \"\", which is no key of a label or an annotation; give one such as \"team\" or \"example.org/team\""),
        ),
    ] {
        let error = read(variable::AFFINITY, &text).unwrap_err();
        assert_eq!(error.problem, message, "{text}");
    }
}

/// The parser's own words, with the place that is wrong.
#[test]
fn what_is_no_yaml_or_has_another_type_is_refused_with_its_line() {
    let mapping = "give a mapping such as {disktype: ssd}";
    let list = "give a list such as [{key: dedicated, operator: Exists}]";
    for (name, value, words, form) in [
        (
            variable::TOLERATIONS,
            "{key: a}",
            "line 1, column 1, where \"{key: a}\" is",
            list,
        ),
        (
            variable::TOLERATIONS,
            "[{key: a, effect: NoExecute,\n tolerationSeconds: soon}]",
            "line 2, column 21, where \"soon}]\" is",
            list,
        ),
        (variable::TOLERATIONS, "[{key: a", "line 1", list),
        (
            variable::NODE_SELECTOR,
            "[a]",
            "line 1, column 1, where \"[a]\" is",
            mapping,
        ),
        (
            variable::NODE_SELECTOR,
            "a=b",
            "line 1, column 1, where \"a=b\" is",
            mapping,
        ),
        (
            variable::ANNOTATIONS,
            "{a: b, ä: c, a: d}",
            "line 1, column 14, where \"a: d}\" is",
            mapping,
        ),
        (
            variable::LABELS,
            "{a: [b]}",
            "line 1, column 5, where \"[b]}\" is",
            mapping,
        ),
        (
            variable::AFFINITY,
            "[]",
            "line 1, column 1, where \"[]\" is",
            "as in the spec of a pod",
        ),
    ] {
        let error = read(name, value).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("the variable {name}: ")),
            "{error}"
        );
        assert!(error.contains(words), "{error}");
        assert!(error.ends_with(form), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
    let hostile = format!("{{'a\u{202e}{}': b}}", "x".repeat(5000));
    let error = read(variable::LABELS, &hostile).unwrap_err().to_string();
    assert!(error.len() < 500 && !error.contains('\u{202e}'), "{error}");
    let unknown = format!("[{{{}: b}}]", "x".repeat(5000));
    let error = read(variable::TOLERATIONS, &unknown)
        .unwrap_err()
        .to_string();
    assert!(error.len() < 500, "{error}");
}

#[test]
fn keys_with_a_meaning_of_their_own_are_refused() {
    for key in [
        "plan",
        "vmID",
        "diskID",
        "imageID",
        "pvcName",
        "recreations",
        "forklift.app",
        "app.kubernetes.io/name",
        "forklift.konveyor.io/disk-source",
        "forklift.konveyor.io/anything",
        "konveyor.io/x",
        "kubernetes.io/x",
        "volume.kubernetes.io/selected-node",
        "pv.kubernetes.io/bind-completed",
        "kubectl.kubernetes.io/x",
        "cluster-autoscaler.kubernetes.io/safe-to-evict",
        "k8s.io/x",
        "node.k8s.io/x",
        "kubevirt.io",
        "cdi.kubevirt.io/x",
        "sidecar.istio.io/inject",
        "linkerd.io/inject",
        "karpenter.sh/do-not-disrupt",
        "velero.io/exclude-from-backup",
        "k8s.v1.cni.cncf.io/networks",
    ] {
        for name in [variable::LABELS, variable::ANNOTATIONS] {
            let error = read(name, &json!({key: "x"}).to_string()).unwrap_err();
            let expected = format!(
                "{key} has a meaning for the controller, Forklift or Kubernetes; remove it"
            );
            assert_eq!((error.variable, error.problem), (name, expected));
        }
    }
    for key in [
        "team",
        "app",
        "app.kubernetes.io/part-of",
        "example.org/x",
        "notkubernetes.io/x",
        "kueue.x-k8s.io/queue-name",
        "k8s.ovn.org/x",
        "openshift.io/required-scc",
        "kubernetes.io.example.org/x",
        "prometheus.io/scrape",
    ] {
        let value: Value = json!({key: "x"});
        for name in [variable::LABELS, variable::ANNOTATIONS] {
            assert!(read(name, &value.to_string()).is_ok(), "{key}");
        }
    }
    // A node is chosen by any label.
    let node = read(
        variable::NODE_SELECTOR,
        "{kubernetes.io/arch: amd64, node-role.kubernetes.io/worker: ''}",
    )
    .unwrap();
    assert_eq!(node.node_selector.len(), 2);
}

#[test]
fn a_ca_bundle_is_a_config_map_with_or_without_its_key() {
    for (text, config_map, key) in [
        ("trusted-ca", "trusted-ca", "ca-bundle.crt"),
        (" my.bundle/Root_CA-1.pem ", "my.bundle", "Root_CA-1.pem"),
    ] {
        let found = read(variable::CA_BUNDLE, text).unwrap().ca_bundle.unwrap();
        assert_eq!((&*found.config_map, &*found.key), (config_map, key));
    }
    for text in [
        "Trusted-CA",
        "/ca.crt",
        "trusted-ca/",
        "trusted-ca/..",
        "trusted-ca/.",
        "trusted-ca/..data",
        "trusted-ca/a/b",
        "trusted-ca/a b",
        "$(HOME)",
        "a,b",
        "trusted-ca/\u{202e}x",
    ] {
        let error = read(variable::CA_BUNDLE, text).unwrap_err();
        assert_eq!(error.variable, variable::CA_BUNDLE);
        let shown = format!("{:?} names no ConfigMap", text::plain(text, MOST_SHOWN));
        assert!(error.problem.starts_with(&shown), "{error}");
        assert!(
            error.problem.contains("trusted-ca/ca-bundle.crt"),
            "{error}"
        );
    }
}
