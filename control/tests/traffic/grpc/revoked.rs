//! A change of policy, and calls that are open when it comes.

use futures::{StreamExt, stream};
use tonic::{Code, Request};

use super::{
    messages::{OutputRequest, Wanted, wanted},
    stage::{Stage, policy, start_go},
    streams::{Call, within},
    tonic_client::{Client, Mode},
};
use crate::netlab::eventually;

const BEFORE: &[(&str, &str)] = &[("client", "grpc: [{service: grpc.testing.TestService}]")];
const AFTER: &[(&str, &str)] = &[(
    "client",
    "grpc: [{service: grpc.testing.TestService, method: EmptyCall}, \
     {service: grpc.testing.TestService, method: StreamingOutputCall}]",
)];

/// What a client is told whose call ends in the middle.
const ENDED: &str = "Access denied: the policy has changed";

#[test]
fn an_open_call_ends_where_a_change_of_policy_denies_it() {
    let stage = Stage::new(BEFORE, start_go);
    let from = stage.client("client");
    within(async {
        let mut client = Client::connect(&from.ns, stage.v4(), Mode::Allowed).await;
        let mut answered = Call::begin(&client).await;
        // Its server sleeps before it says anything.
        let sleeps = OutputRequest {
            response_parameters: vec![Wanted { size: 1, interval_us: 30_000_000 }],
            ..wanted(&[])
        };
        let mut other = client.again();
        let unanswered = other.begin(Request::new(stream::iter([sleeps]).chain(stream::pending())));
        // It goes on for as long as its client reads.
        let kept = client.ask(wanted(&[1 << 16; 256])).await;
        let mut kept = kept.expect("a response").into_inner();
        assert!(kept.message().await.expect("a message").is_some());

        let change = async {
            // The unanswered one has begun by then: what was sent after it has its answer.
            let outcome = client.case("empty_unary").await;
            assert!(outcome.starts_with("empty_unary: Ok "), "{outcome}");
            stage.lab.apply(&policy(AFTER));
        };
        let (unanswered, ()) = futures::join!(unanswered, change);

        let status = unanswered.expect_err("no answer");
        assert_eq!((status.code(), status.message()), (Code::PermissionDenied, ENDED), "{status:?}");
        let status = answered.from.message().await.expect_err("no end but this");
        assert_eq!((status.code(), status.message()), (Code::PermissionDenied, ENDED), "{status:?}");

        // The connection and its other calls live on.
        for (case, outcome) in [("empty_unary", "Ok "), ("large_unary", "PermissionDenied \"Access denied\"")]
        {
            let told = client.case(case).await;
            assert!(told.starts_with(&format!("{case}: {outcome}")), "{told}");
        }
        let mut messages = 1;
        while kept.message().await.expect("a message").is_some() {
            messages += 1;
        }
        assert_eq!(messages, 256);
    });
    let ended = eventually("records of the two", || {
        let mut records = stage.records(from, "denied");
        records.retain(|one| one["grpc"]["method"] == "FullDuplexCall");
        (records.len() >= 2).then_some(records)
    });
    for record in &ended {
        assert_eq!(record["grpc"]["service"], "grpc.testing.TestService", "{record}");
        assert_eq!(record["grpc"]["status"], 7, "{record}");
        assert_eq!(record["grpc"]["messages_from_client"], 1, "{record}");
        assert!(record["rule"].as_str().is_some_and(|rule| rule.contains("default/server")), "{record}");
    }
    let answers: Vec<_> = ended.iter().map(|one| one["grpc"]["messages_from_server"].clone()).collect();
    assert!(answers.contains(&0.into()) && answers.contains(&1.into()), "{ended:?}");
}
