//! The lab's network namespaces and the link from the machine.
//!
//! Everything is made only when missing, so that a half-made network is
//! completed, and everything but the one route and the link lives inside the
//! namespaces: deleting those deletes all of it. The machine's own iptables are
//! never touched.

use std::path::Path;

use anyhow::{Result, anyhow};

use crate::addresses::{self, INSIDE, LAB_RANGE, NETNS, NodeNetwork, OUTSIDE};
use crate::command::run;
use crate::failure::Advice;

/// The machine's end of the link.
const OUTER_DEVICE: &str = "airdock-lab0";
/// The lab's end.
const INNER_DEVICE: &str = "outside";
/// Where namespaces have their names.
const FOLDER: &str = "/run/netns";

/// Whether the lab's first namespace exists.
pub fn exists() -> bool {
    Path::new(FOLDER).join(NETNS).exists()
}

/// Makes the first namespace, its link to the machine and the route to it.
pub fn ensure_first() -> Result<()> {
    refuse_if_taken(&run("ip", &["-o", "-4", "route", "show", "root", LAB_RANGE])?)?;
    ensure_namespace(NETNS)?;
    if !inside_has(NETNS, INNER_DEVICE) || !has_device(OUTER_DEVICE) {
        let _ = run("ip", &["link", "del", OUTER_DEVICE]);
        run("ip", &["link", "add", OUTER_DEVICE, "type", "veth", "peer", "name", INNER_DEVICE, "netns", NETNS])?;
    }
    run("ip", &["addr", "replace", &format!("{OUTSIDE}/30"), "dev", OUTER_DEVICE])?;
    run("ip", &["link", "set", OUTER_DEVICE, "up"])?;
    inside(NETNS, &["addr", "replace", &format!("{INSIDE}/30"), "dev", INNER_DEVICE])?;
    inside(NETNS, &["link", "set", INNER_DEVICE, "up"])?;
    inside(NETNS, &["route", "replace", "default", "via", &OUTSIDE.to_string()])?;
    run("ip", &["route", "replace", LAB_RANGE, "via", &INSIDE.to_string(), "dev", OUTER_DEVICE])?;
    Ok(())
}

/// Makes another node's namespace, linked to the first.
pub fn ensure_node(node: &NodeNetwork) -> Result<()> {
    let Some(uplink) = &node.uplink else { return Ok(()) };
    ensure_namespace(&node.netns)?;
    if !inside_has(NETNS, &uplink.device) || !inside_has(&node.netns, "uplink") {
        let _ = inside(NETNS, &["link", "del", &uplink.device]);
        let peer = ["link", "add", &uplink.device, "type", "veth", "peer", "name", "uplink", "netns", &node.netns];
        inside(NETNS, &peer)?;
    }
    let gateway = uplink.gateway.to_string();
    inside(NETNS, &["addr", "replace", &format!("{gateway}/30"), "dev", &uplink.device])?;
    inside(NETNS, &["link", "set", &uplink.device, "up"])?;
    inside(&node.netns, &["addr", "replace", &format!("{}/30", node.address), "dev", "uplink"])?;
    inside(&node.netns, &["link", "set", "uplink", "up"])?;
    inside(&node.netns, &["route", "replace", "default", "via", &gateway])?;
    inside(NETNS, &["route", "replace", &node.pods, "via", &node.address.to_string()])?;
    Ok(())
}

/// Whether packets between two pods of one bridge pass iptables. Where they do
/// not, a Service answers a pod on the same node only through masquerading.
pub fn bridge_filters() -> bool {
    let key = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    if !Path::new(key).exists() {
        let _ = run("modprobe", &["br_netfilter"]);
    }
    run("nsenter", &[&format!("--net=/run/netns/{NETNS}"), "cat", key]).is_ok_and(|value| value.trim() == "1")
}

/// Deletes the namespaces and with them every device, rule and route.
pub fn remove() -> Result<()> {
    for name in namespaces() {
        run("ip", &["netns", "del", &name])?;
    }
    // `ip netns add` mounts this folder; without a namespace it serves nobody.
    if std::fs::read_dir(FOLDER).is_ok_and(|mut entries| entries.next().is_none()) {
        let _ = run("umount", &[FOLDER]);
        let _ = std::fs::remove_dir(FOLDER);
    }
    if has_device(OUTER_DEVICE) {
        // The kernel removes the pair once the namespace is really gone, which
        // may be just now.
        if let Err(failure) = run("ip", &["link", "del", OUTER_DEVICE])
            && has_device(OUTER_DEVICE)
        {
            return Err(failure);
        }
    }
    Ok(())
}

/// The lab's namespaces that exist.
pub fn namespaces() -> Vec<String> {
    (1..=addresses::MAX_NODES)
        .map(|number| addresses::node(number).netns)
        .filter(|name| Path::new(FOLDER).join(name).exists())
        .collect()
}

fn ensure_namespace(name: &str) -> Result<()> {
    let file = Path::new(FOLDER).join(name);
    // A file without a namespace behind it is what a kill in between leaves.
    if file.exists() && run("nsenter", &[&format!("--net={}", file.display()), "true"]).is_err() {
        let _ = run("umount", &[&file]);
        crate::layout::remove(&file)?;
    }
    if !file.exists() {
        run("ip", &["netns", "add", name])
            .remedy("the lab needs a kernel with network namespaces and the right to make them (CAP_SYS_ADMIN)")?;
    }
    inside(name, &["link", "set", "lo", "up"])?;
    run("nsenter", &[&format!("--net=/run/netns/{name}"), "sysctl", "-qw", "net.ipv4.ip_forward=1"])?;
    Ok(())
}

fn inside(netns: &str, args: &[&str]) -> Result<String> {
    let mut all = vec!["-n", netns];
    all.extend(args);
    run("ip", &all)
}

fn has_device(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
}

fn inside_has(netns: &str, device: &str) -> bool {
    inside(netns, &["link", "show", "dev", device]).is_ok()
}

/// Someone else's route into the range would swallow the lab's packets.
fn refuse_if_taken(routes: &str) -> Result<()> {
    match routes.lines().find(|line| !line.contains(&format!("dev {OUTER_DEVICE}"))) {
        None => Ok(()),
        Some(route) => Err(anyhow!("the lab's address range {LAB_RANGE} is taken: {}", route.trim())
            .remedy("remove that route, or use a machine where the benchmark range of RFC 2544 is free")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_foreign_routes_are_refused() {
        let own = "198.18.0.0/15 via 198.18.255.2 dev airdock-lab0\n198.18.255.0/30 dev airdock-lab0 proto kernel\n";
        for (routes, free) in [("", true), (own, true), ("198.18.0.0/16 dev tun0 scope link\n", false)] {
            assert_eq!(refuse_if_taken(routes).is_ok(), free, "{routes}");
        }
    }
}
