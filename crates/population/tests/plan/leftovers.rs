//! What a mover says it could not remove at the source, beside its success.

use contract::{Exit, Termination};
use population::plan::{Event, EventType};

use crate::support::{
    PlanCase, ago, bound, complete, done, failed, now, rebound, replaced, running, succeeded, words,
};

const WARNING: &str =
    "the disk is copied, and left in the cloud: volume v-1; remove it with --cleanup";

/// The same, whose mover adds a warning to what it says.
fn warned(mut case: PlanCase) -> PlanCase {
    let ended = case.pod().ended.get_or_insert_with(complete);
    let mut report: Termination = serde_json::from_str(&ended.message).unwrap();
    report.warning = Some(WARNING.to_owned());
    ended.message = serde_json::to_string(&report).unwrap();
    case
}

fn told(case: &PlanCase) -> Vec<Event> {
    let events = case.plan().events.into_iter();
    events
        .filter(|event| event.reason == "PopulatorLeftovers")
        .collect()
}

#[test]
fn what_is_left_at_the_source_is_told_until_the_work_is_cleaned_up() {
    for base in [succeeded, rebound, bound] {
        let (silent, case) = (base(), warned(base()));
        assert_eq!(
            told(&case),
            [Event::warning("PopulatorLeftovers", WARNING)],
            "{:?}",
            case.plan()
        );
        assert_eq!(told(&case)[0].event_type, EventType::Warning);
        assert_eq!(told(&silent), []);
        // It changes nothing else: the disk is there.
        let (expected, plan) = (silent.plan(), case.plan());
        assert_eq!(words(&plan), words(&expected));
        assert_eq!(plan.actions, expected.actions);
        assert_eq!(plan.status, expected.status);
    }
    assert_eq!(told(&warned(done())), []);
}

#[test]
fn a_warning_counts_only_beside_a_complete_copy_of_this_claims_disk() {
    type Change = fn(&mut PlanCase);
    let changes: [(&str, Change); 5] = [
        ("another disk", replaced),
        ("the claim is being deleted", |case| {
            case.world.claim.terminating = true;
        }),
        ("the temporary claim is being deleted", |case| {
            case.temporary().terminating = Some(now());
        }),
        ("a pod for an earlier temporary claim", |case| {
            case.pod().temporary_claim = Some("earlier".into());
        }),
        ("not all is copied", |case| {
            let ended = case.pod().ended.as_mut().unwrap();
            let mut report: Termination = serde_json::from_str(&ended.message).unwrap();
            report.copied_bytes -= 1;
            ended.message = serde_json::to_string(&report).unwrap();
        }),
    ];
    for (name, change) in changes {
        let mut case = warned(succeeded());
        assert_eq!(told(&case).len(), 1, "{name}");
        change(&mut case);
        assert_eq!(told(&case), [], "{name}");
    }
    let mut message = Termination::new(Exit::SourceUnavailable, "no");
    message.warning = Some(WARNING.to_owned());
    let message = serde_json::to_string(&message).unwrap();
    assert_eq!(told(&failed(30, &message)), []);
    assert_eq!(told(&running()), []);
}

#[test]
fn the_message_of_an_event_is_one_line_of_bounded_length() {
    let mut case = warned(succeeded());
    let ended = case.pod().ended.as_mut().unwrap();
    let mut report: Termination = serde_json::from_str(&ended.message).unwrap();
    report.warning = Some(format!("left\n{}", "x".repeat(3000)));
    ended.message = serde_json::to_string(&report).unwrap();
    ended.at = Some(ago(1));
    let [event] = &told(&case)[..] else {
        panic!("{:?}", case.plan());
    };
    assert!(event.message.len() <= 1024 && !event.message.contains('\n'));
}
