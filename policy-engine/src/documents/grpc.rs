//! gRPC rules: Tektin's own, beside Cilium's way to write them as HTTP rules.

use super::{
    cursor::{At, Findings},
    rule::Place,
};
use crate::{
    grpc::{self, GrpcCall},
    model::GrpcRule,
};

/// One item of `rules.grpc`.
pub(super) fn read(at: &At<'_>, place: &Place, f: &mut Findings) -> Option<GrpcRule> {
    let rule = at.object(&["service", "method"], f)?;
    let mut call = GrpcCall::default();
    if let Some(service) = rule.get("service", f)
        && let Some(text) = service.string(f)
    {
        match text.parse() {
            Ok(name) => call.service = name,
            Err(error) => f.problem(&service.path, error.to_string()),
        }
    }
    if let Some(method) = rule.get("method", f)
        && let Some(text) = method.string(f)
    {
        match grpc::method(text) {
            Ok(name) => call.method = name,
            Err(error) => f.problem(&method.path, error.to_string()),
        }
    }
    Some(GrpcRule { origin: place.origin(&at.path), call })
}
