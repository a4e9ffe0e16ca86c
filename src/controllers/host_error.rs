//! Requests to the host cluster that fail, in whichever controller.

use crate::machinery::error::{Class, Classified};

/// Reason of whatever waits for a request to the host cluster, a read or a write.
pub const HOST_CLUSTER_FAILED: &str = "HostClusterFailed";

/// A request to the host cluster failed.
#[derive(thiserror::Error, Debug)]
#[error("{action} in the host cluster")]
pub struct HostError {
    /// What was tried.
    pub action: &'static str,
    /// The failure.
    pub source: kube::Error,
}

impl Classified for HostError {
    fn class(&self) -> Class {
        Class::Retry
    }

    fn reason(&self) -> &'static str {
        HOST_CLUSTER_FAILED
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::{app, member, permission};

    #[test]
    fn every_controller_gives_it_one_reason() {
        let host = || HostError { action: "list Secrets", source: kube::Error::LinesCodecMaxLineLengthExceeded };
        let errors: [Box<dyn Classified>; 3] = [
            Box::new(app::error::Error::from(host())),
            Box::new(member::error::Error::from(host())),
            Box::new(permission::error::Error::from(host())),
        ];
        for error in errors {
            assert_eq!((error.reason(), error.class()), (HOST_CLUSTER_FAILED, Class::Retry), "{error}");
        }
    }
}
