//! Permissions of the process, from an API server that grants some of them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/api.rs"]
mod api;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use populator_controller::{namespaces::Namespaces, permissions::Permissions};
use serde_json::{Value, json};
use tokio::{sync::watch, time::timeout};

use api::{Api, Asked, refusal};

/// The right that is asked for, in a word.
fn right(asked: &Asked) -> String {
    let attributes = &asked.body["spec"]["resourceAttributes"];
    let text = |name: &str| attributes[name].as_str().unwrap_or("-").to_owned();
    [
        text("verb"),
        text("group"),
        text("resource"),
        text("subresource"),
    ]
    .join(" ")
}

fn answer(asked: &Asked, allowed: bool) -> (u16, Value) {
    let mut review = asked.body.clone();
    review["status"] = json!({ "allowed": allowed });
    (201, review)
}

/// What is learned where all but one right is granted.
async fn without(missing: &'static str) -> Permissions {
    let client = Api::default().client(move |asked| answer(asked, right(asked) != missing));
    Permissions::learn(&client, &Namespaces::default())
        .await
        .unwrap()
}

const ALL: Permissions = Permissions {
    nodes: true,
    logs: true,
    grants: true,
};

#[tokio::test]
async fn rights_are_needed_in_each_namespace_that_is_served() {
    let namespaces: Namespaces = "a,b".parse().unwrap();
    for (refused, logs, grants) in [("", true, true), ("log", false, true), ("-", true, false)] {
        let client = Api::default().client(move |asked| {
            let namespace = &asked.body["spec"]["resourceAttributes"]["namespace"];
            let is_refused =
                namespace == "b" && right(asked).ends_with(refused) && !refused.is_empty();
            // Nothing but nodes is granted in all namespaces.
            let is_everywhere = namespace.is_null() && !right(asked).contains("nodes");
            answer(asked, !is_refused && !is_everywhere)
        });
        let learned = Permissions::learn(&client, &namespaces).await.unwrap();
        assert_eq!(
            (learned.nodes, learned.logs, learned.grants),
            (true, logs, grants),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn each_right_is_asked_for_and_counts() {
    let api = Api::default();
    let client = api.client(|asked| answer(asked, true));
    assert_eq!(
        Permissions::learn(&client, &Namespaces::default())
            .await
            .unwrap(),
        ALL
    );
    let asked = api.take();
    let permissions: Vec<String> = asked.iter().map(right).collect();
    assert_eq!(
        permissions,
        [
            "list  nodes -",
            "watch  nodes -",
            "get  pods log",
            "list gateway.networking.k8s.io referencegrants -",
        ]
    );
    assert!(ALL.warnings().is_empty());

    for (missing, expected, word) in [
        (
            "list  nodes -",
            Permissions {
                nodes: false,
                ..ALL
            },
            "nodes",
        ),
        (
            "watch  nodes -",
            Permissions {
                nodes: false,
                ..ALL
            },
            "nodes",
        ),
        ("get  pods log", Permissions { logs: false, ..ALL }, "logs"),
        (
            "list gateway.networking.k8s.io referencegrants -",
            Permissions {
                grants: false,
                ..ALL
            },
            "ReferenceGrants",
        ),
    ] {
        let found = without(missing).await;
        assert_eq!(found, expected, "{missing}");
        let warnings = found.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains(word), "{warnings:?}");
    }
}

/// A watch that is refused for ever would keep every claim from being served.
#[tokio::test]
async fn what_may_not_be_asked_for_is_done_without() {
    let client = Api::default().client(|_| refusal(403, "Forbidden", "no reviews"));
    let permissions = Permissions::learn(&client, &Namespaces::default())
        .await
        .unwrap();
    assert_eq!(permissions.warnings().len(), 3);
}

/// A process that ended would be started again with a delay of minutes.
#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_is_waited_for() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let client = Api::default().client(move |asked| {
        if count.fetch_add(1, Ordering::Relaxed) < 200 {
            refusal(503, "ServiceUnavailable", "starting")
        } else {
            answer(asked, true)
        }
    });
    let start = tokio::time::Instant::now();
    assert_eq!(
        Permissions::wait_for(&client, &Namespaces::default()).await,
        ALL
    );
    // Every 15 to 30 s in the end.
    let waited = start.elapsed().as_secs();
    assert!((2000..=6000).contains(&waited), "{waited} s");
}

#[tokio::test(start_paused = true)]
async fn a_role_that_is_granted_or_taken_away_is_noticed() {
    let granted = Arc::new(AtomicBool::new(false));
    let is_granted = Arc::clone(&granted);
    let client = Api::default().client(move |asked| {
        let is_of_nodes = right(asked).contains("nodes");
        answer(asked, !is_of_nodes || is_granted.load(Ordering::Relaxed))
    });
    let first = Permissions::learn(&client, &Namespaces::default())
        .await
        .unwrap();
    assert!(!first.nodes);
    let (known, mut permissions) = watch::channel(first);
    let story = async {
        granted.store(true, Ordering::Relaxed);
        permissions.wait_for(|now| now.nodes).await.unwrap();
        granted.store(false, Ordering::Relaxed);
        permissions.wait_for(|now| !now.nodes).await.unwrap();
    };
    tokio::select! {
        () = Permissions::keep_learning(client, Namespaces::default(), known) => {}
        outcome = timeout(Duration::from_mins(5), story) => outcome.unwrap(),
    }
}
