//! `tektin policy delete`, and how to say which documents are meant.

use clap::Args;

use super::apply::show;
use crate::{
    api::{ApplyResult, route},
    cli::{
        client::{Client, with_query},
        error::CliError,
        output::Out,
    },
};

/// Take documents out of force
///
/// Documents of watched files come back with the file; remove the file instead.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tektin policy delete web
  tektin policy delete default/web --kind CiliumNetworkPolicy
  tektin policy delete --namespace staging
  tektin policy delete --all")]
pub struct Delete {
    #[command(flatten)]
    selector: SelectorArgs,
    /// All documents that came through the API
    #[arg(long, conflicts_with_all = ["named", "name", "namespace", "kind"])]
    all: bool,
}

/// Which documents; what is not given matches all.
#[derive(Args, Debug)]
pub struct SelectorArgs {
    /// A document's name
    #[arg(value_name = "[NAMESPACE/]NAME", conflicts_with = "name")]
    pub named: Option<String>,
    /// A document's name
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Its namespace
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy or NetworkPolicy
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
}

impl SelectorArgs {
    fn is_empty(&self) -> bool {
        self.named.is_none() && self.name.is_none() && self.namespace.is_none() && self.kind.is_none()
    }

    /// `route` with the selector as its query.
    pub fn path(&self, route: &str) -> Result<String, CliError> {
        let (namespace, name) = match self.named.as_deref().map(|named| named.split_once('/').ok_or(named)) {
            Some(Ok((namespace, _))) if self.namespace.as_deref().is_some_and(|given| given != namespace) => {
                return Err(CliError::Usage("the name's namespace differs from --namespace".to_owned()));
            }
            Some(Ok((namespace, name))) => (Some(namespace), Some(name)),
            Some(Err(name)) => (self.namespace.as_deref(), Some(name)),
            None => (self.namespace.as_deref(), self.name.as_deref()),
        };
        Ok(with_query(route, &[("kind", self.kind.as_deref()), ("namespace", namespace), ("name", name)]))
    }
}

impl Delete {
    pub async fn run(self, client: &Client, out: &Out) -> Result<(), CliError> {
        if self.selector.is_empty() && !self.all {
            return Err(CliError::Usage("say which documents, or --all".to_owned()));
        }
        let result: ApplyResult = client.delete_with_answer(&self.selector.path(route::POLICIES)?).await?;
        show(&result, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(named: Option<&str>, namespace: Option<&str>) -> SelectorArgs {
        SelectorArgs {
            named: named.map(str::to_owned),
            name: None,
            namespace: namespace.map(str::to_owned),
            kind: None,
        }
    }

    #[test]
    fn a_name_may_carry_its_namespace() {
        assert_eq!(args(Some("a/b"), None).path("/p").unwrap(), "/p?namespace=a&name=b");
        assert_eq!(args(Some("b"), Some("a")).path("/p").unwrap(), "/p?namespace=a&name=b");
        assert_eq!(args(Some("b"), None).path("/p").unwrap(), "/p?name=b");
        assert!(matches!(args(Some("a/b"), Some("c")).path("/p"), Err(CliError::Usage(_))));
    }
}
