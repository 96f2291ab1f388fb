//! What the process may do here: asked once, so that what is missing is told once and clearly, and not found
//! out by failing again and again.

use std::time::Duration;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, Client, api::PostParams};
use tokio::time;

/// Rights without which there is less service, but service: Forklift's role grants none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permissions {
    /// To watch nodes.
    pub nodes: bool,
    /// To read pods' logs.
    pub logs: bool,
    /// To read `ReferenceGrant`s.
    pub grants: bool,
}

/// Tries to ask the API server, which may be starting itself.
const TRIES: u32 = 5;
/// Between two tries.
const PAUSE: Duration = Duration::from_secs(2);

struct Question {
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    subresource: Option<&'static str>,
}

impl Permissions {
    /// Asks the API server (`SelfSubjectAccessReview`, which everybody may create).
    ///
    /// # Errors
    /// The API server does not answer, several times in a row.
    pub async fn learn(client: &Client) -> kube::Result<Self> {
        let question = |verb, group, resource, subresource| Question {
            verb,
            group,
            resource,
            subresource,
        };
        let list_nodes = ask(client, question("list", "", "nodes", None)).await?;
        let watch_nodes = ask(client, question("watch", "", "nodes", None)).await?;
        let logs = ask(client, question("get", "", "pods", Some("log"))).await?;
        let group = "gateway.networking.k8s.io";
        let grants = ask(client, question("list", group, "referencegrants", None)).await?;
        Ok(Self {
            nodes: list_nodes && watch_nodes,
            logs,
            grants,
        })
    }

    /// A sentence for each right that is missing: what is lesser then.
    #[must_use]
    pub fn warnings(&self) -> Vec<&'static str> {
        let missing = [
            (
                self.nodes,
                "nodes may not be read: a node that is gone or does not answer is not noticed, and a claim that waits \
                 for it goes on waiting",
            ),
            (
                self.logs,
                "pods' logs may not be read: the progress of a pod whose metrics cannot be reached is unknown",
            ),
            (
                self.grants,
                "ReferenceGrants may not be read: a claim that refers to another namespace is refused",
            ),
        ];
        let missing = missing.into_iter().filter(|(granted, _)| !granted);
        missing.map(|(_, sentence)| sentence).collect()
    }
}

async fn ask(client: &Client, question: Question) -> kube::Result<bool> {
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                verb: Some(question.verb.to_owned()),
                group: Some(question.group.to_owned()),
                resource: Some(question.resource.to_owned()),
                subresource: question.subresource.map(str::to_owned),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let mut tries = 1;
    loop {
        match api.create(&PostParams::default(), &review).await {
            Ok(answer) => return Ok(answer.status.is_some_and(|status| status.allowed)),
            // A cluster that lets nobody ask. All of these can be done without, and a watch that is refused
            // for ever would keep the others from being served.
            Err(kube::Error::Api(status)) if status.code == 403 => return Ok(false),
            Err(error) if tries == TRIES => return Err(error),
            Err(error) => {
                tracing::warn!("the API server does not answer, and is asked again: {error}");
                tries += 1;
                time::sleep(PAUSE).await;
            }
        }
    }
}
