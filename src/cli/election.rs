//! Electing a leader among the replicas of a role.

use clap::Args;

use crate::runtime::leadership::Election;

/// Flags of the election.
#[derive(Args, Clone, Debug)]
pub struct ElectionArgs {
    /// Elect a leader among replicas by a Lease.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub leader_elect: bool,
    /// Unique name of this replica in the election; host name and process id when absent.
    #[arg(long, env = "POD_NAME")]
    pub identity: Option<String>,
}

impl ElectionArgs {
    /// The election by a Lease; nothing when this replica always leads.
    #[must_use]
    pub fn election(self, namespace: String, lease: String) -> Option<Election> {
        let Self { leader_elect, identity } = self;
        let identity = || identity.unwrap_or_else(default_identity);
        leader_elect.then(|| Election { namespace, name: lease, identity: identity() })
    }
}

/// Host name and process id.
fn default_identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}-{}", host.trim(), std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_has_a_name_of_its_own_in_the_election() {
        let election = |leader_elect: bool, identity: Option<&str>| {
            let args = ElectionArgs { leader_elect, identity: identity.map(str::to_owned) };
            args.election("airdock-system".to_owned(), "airdock-controller".to_owned())
        };
        assert!(election(false, Some("one")).is_none());
        let named = election(true, Some("one")).unwrap();
        assert_eq!((named.namespace.as_str(), named.name.as_str()), ("airdock-system", "airdock-controller"));
        assert_eq!(named.identity, "one");
        let process = std::process::id().to_string();
        assert!(election(true, None).unwrap().identity.ends_with(&process));
    }
}
